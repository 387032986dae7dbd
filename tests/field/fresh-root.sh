#!/usr/bin/env bash
# Both commands of the README in a clean Debian 12 root with nothing but Rust. Needs root, apt mirrors and crates.io.
#
#   tests/field/fresh-root.sh [demo|tests|both]      without a word: both
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_root
need_packages debootstrap git

what=${1:-both}
root=$(overlay fresh "$(base bookworm-plain bookworm)")
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/tmp"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
mount -t sysfs sysfs "$root/sys"
cp /etc/resolv.conf "$root/etc/resolv.conf"

# Nothing but Rust: the toolchain of this machine is copied in (rustup would download the same one), and cargo's
# downloads are shared so that the test measures this project and not crates.io.
toolchain=$(rustc --print sysroot)
mkdir -p "$root/opt/rust" "$root/root/.cargo/registry" "$root/work"
cp -a "$toolchain/." "$root/opt/rust/"
mount --bind "${CARGO_HOME:-$HOME/.cargo}/registry" "$root/root/.cargo/registry"
for file in config.toml config; do
    [ ! -e "${CARGO_HOME:-$HOME/.cargo}/$file" ] || cp "${CARGO_HOME:-$HOME/.cargo}/$file" "$root/root/.cargo/"
done
# What the machine needs to reach registries (proxies, certificates) is not part of the claim.
# Not where Debian keeps its own: the package ca-certificates, which the tests install, would write over them.
certificates=/opt/certificates.crt
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp /etc/ssl/certs/ca-certificates.crt "$root$certificates"
git ls-files -z | xargs -0 tar -c | tar -x -C "$root/work"

mapfile -t proxies < <(env | grep -iE '^(https?|no)_proxy=' || true)
inside() {
    chroot "$root" env -i HOME=/root PATH=/opt/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=$certificates NODE_EXTRA_CA_CERTS=$certificates \
        "${proxies[@]}" sh -c "cd /work && $1"
}
stays() { # runs a command of the README word for word, with its output kept
    inside "$1" >"$cache/fresh-root.$2.log" 2>&1 || { tail -n 30 "$cache/fresh-root.$2.log"; return 1; }
}
commands() { sed -n '/^## Two commands/,/^## /s/^\(deploy\/demo.sh\|tests\/run.sh\)  *#.*/\1/p' README.md; }
prove "the README shows the two commands" test "$(commands | paste -sd' ')" = "deploy/demo.sh tests/run.sh"
refuse "the root has no compiler, no TPM library and no swtpm before" inside 'command -v gcc || command -v swtpm || command -v git || exit 1'
case $what in demo | both) prove "deploy/demo.sh --seconds 20 in a clean root" stays 'deploy/demo.sh --seconds 20' demo ;; esac
case $what in tests | both) prove "tests/run.sh in a clean root" stays 'tests/run.sh' tests ;; esac
finish
