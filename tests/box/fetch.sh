#!/usr/bin/env bash
# Fetches QEMU and Debian's kernels from bookworm-backports into target/box, without installing anything on this machine.
#
#   tests/box/fetch.sh amd64|arm64
set -euo pipefail
cd "$(dirname "$0")/../.."
architecture=${1:?amd64 or arm64}
box=$PWD/target/box
mkdir -p "$box"
exec 9>"$box/fetch.lock"
flock 9
[ ! -e "$box/.fetched-$architecture" ] || exit 0

# A private apt: its own sources, lists and cache, so that the machine's own configuration stays as it is; and without
# its lock, for nothing is installed and somebody else may be installing.
mkdir -p "$box/apt/lists/partial" "$box/apt/archives/partial"
cat >"$box/apt/sources.list" <<'APT'
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main
deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main
APT
private() {
    local command=$1
    shift
    "$command" -o Dir::Etc::sourcelist="$box/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o Dir::State::lists="$box/apt/lists" -o Dir::Cache="$box/apt" -o Debug::NoLocking=1 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64 "$@"
}
private apt-get update -qq

# QEMU with what it needs and this machine lacks: apt knows from this machine's own status what is there already, and that is
# used where it lies.
rm -rf "$box/archives-$architecture"
mkdir -p "$box/archives-$architecture/partial"
case $architecture in
amd64) emulator=qemu-system-x86 kernel=linux-image-amd64 extra=(busybox-static) ;;
arm64) emulator=qemu-system-arm kernel=linux-image-arm64:arm64 extra=(busybox-static:arm64) ;;
*) exit 64 ;;
esac
private apt-get install -y -qq --download-only --no-install-recommends -t bookworm-backports \
    -o Dir::Cache::archives="$box/archives-$architecture" "$emulator" >/dev/null
mkdir -p "$box/qemu"
for deb in "$box/archives-$architecture"/*.deb; do dpkg-deb -x "$deb" "$box/qemu"; done

# The kernel: the image that the metapackage of backports names today, unmodified.
image=$(private apt-cache depends -t bookworm-backports "$kernel" | sed -n 's/.*Depends: //p' | head -1)
rm -rf "$box/kernel-$architecture"
mkdir -p "$box/kernel-$architecture"
(
    cd "$box/kernel-$architecture"
    private apt-get download -qq -t bookworm-backports "$image"
    private apt-get download -qq "${extra[@]}"
    for deb in *.deb; do dpkg-deb -x "$deb" .; done
)
# For the raspi3b: libraries and swtpm for arm64, only unpacked. An empty status file makes apt take the whole closure.
if [ "$architecture" = arm64 ]; then
    : >"$box/apt/no-status"
    private apt-get install -y -qq --download-only --no-install-recommends -o Dir::State::status="$box/apt/no-status" \
        -o APT::Architecture=arm64 -o Dir::Cache::archives="$box/archives-arm64" swtpm:arm64 libtss2-esys-3.0.2-0:arm64 libtss2-tcti-device0:arm64 \
        libtss2-tctildr0:arm64 libtss2-mu0:arm64 >/dev/null
    mkdir -p "$box/sysroot-arm64"
    for deb in "$box/archives-arm64"/*_arm64.deb; do dpkg-deb -x "$deb" "$box/sysroot-arm64"; done
fi
touch "$box/.fetched-$architecture"
