# shellcheck shell=bash
# Machines for the deployment tests: clean Debian roots from debootstrap, each booted with its own systemd as process 1
# and its own sshd, in namespaces of this machine (processes, mounts, network, host name). Needs root and apt mirrors.
# Everything is under target/field; everything started here is ended by machines_end.

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=$repository/target/field
run=$(mktemp -d "${TMPDIR:-/tmp}/field.XXXXXX")
bridge=ws$$
host_address=10.77.$(($$ % 200 + 20)).1
passed=0 failed=0
started=()
machines=()

# --- what a test says ---
ok() {
    passed=$((passed + 1))
    printf 'ok      %s\n' "$*"
}
not_ok() {
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$*"
}
# prove SENTENCE COMMAND...: the sentence is true if the command succeeds; its output is shown when it does not.
prove() {
    local sentence=$1 status=0
    shift
    if [ "$1" = said ]; then
        "$@" || status=$?
    else
        "$@" >"$run/output" 2>&1 </dev/null || status=$?
    fi
    if [ "$status" = 0 ]; then ok "$sentence"; else
        not_ok "$sentence (status $status)"
        sed 's/^/        | /' "$run/output" | tail -n 25
    fi
}
# said PATTERN: the last command that was proved (or refused) said so.
said() { grep -q -- "$1" "$run/output"; }
# The opposite: the command must fail, by its own word: one that ran out of time, cannot be run, is not there or was not
# reached by ssh has refused nothing.
refuse() {
    local sentence=$1 status=0
    shift
    "$@" >"$run/output" 2>&1 </dev/null || status=$?
    case $status in
    0 | 124 | 126 | 127 | 255)
        not_ok "$sentence (status $status)"
        sed 's/^/        | /' "$run/output" | tail -n 25
        ;;
    *) ok "$sentence" ;;
    esac
}
# until_true SECONDS COMMAND...: bounded polling.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1 </dev/null; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.3
    done
}
finish() {
    printf '%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}

# --- what must be on this machine ---
need_packages() (
    # Two tests may begin at the same time, and apt waits for nobody who reads its lists.
    mkdir -p "$cache"
    exec 9>"$cache/packages.lock"
    flock 9
    absent=()
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || absent+=("$package")
    done
    [ "${#absent[@]}" = 0 ] && return
    # A service that is started with its package must not inherit the lock.
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${absent[@]}" >/dev/null; } 9>&-
)
need_root() {
    [ "$(id -u)" = 0 ] || { echo "${0##*/}: needs root (namespaces, chroot)" >&2; exit 1; }
}

# base NAME SUITE PACKAGES: a debootstrapped root, made once and never changed afterwards; prints its folder.
base() {
    local folder=$cache/$1
    mkdir -p "$cache"
    exec 8>"$cache/$1.lock"
    flock 8
    if [ ! -e "$folder/.complete" ]; then
        # An interrupted debootstrap leaves /proc and /sys mounted in there.
        awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | tac | xargs -r -n1 umount
        rm -rf --one-file-system "$folder"
        debootstrap --variant=minbase ${3:+--include="$3"} "$2" "$folder" http://deb.debian.org/debian >"$cache/$1.log" 2>&1 ||
            { tail -n 5 "$cache/$1.log" >&2; return 1; }
        rm -f "$folder"/etc/machine-id "$folder"/var/cache/apt/archives/*.deb
        touch "$folder/.complete"
    fi
    exec 8>&-
    printf '%s\n' "$folder"
}
# What a station's machine has before the station: systemd, sshd, and the libraries the package depends on.
station_base() {
    base bookworm-station bookworm systemd,systemd-sysv,dbus,udev,kmod,iproute2,openssh-server,ca-certificates,libtss2-esys-3.0.2-0,libtss2-tctildr0,libtss2-mu0,libtss2-tcti-device0,tpm-udev,init-system-helpers,procps
}

# overlay NAME BASE: a root that can be changed, over a base that stays clean; prints its folder.
overlay() {
    local folder=$run/$1
    mkdir -p "$folder/upper" "$folder/work" "$folder/root"
    mount -t overlay overlay -o "lowerdir=$2,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
    printf '%s\n' "$folder/root"
}

# network: a bridge with this machine at $host_address.
network() {
    ip link add "$bridge" type bridge
    ip addr add "$host_address/24" dev "$bridge"
    ip link set "$bridge" up
    ssh-keygen -q -t ed25519 -N '' -f "$run/key"
    : >"$run/ssh_config"
    export WEATHER_STATION_SSH_CONFIG=$run/ssh_config
}

# machine NAME NUMBER: a booted machine that ssh knows by NAME.
machine() {
    local name=$1 number=$2 root address
    root=$(overlay "$name" "$(station_base)")
    address=${host_address%.1}.$((number + 10))
    mkdir -p "$root/root/.ssh"
    cp "$run/key.pub" "$root/root/.ssh/authorized_keys"
    chmod -R go= "$root/root/.ssh"
    echo "$name" >"$root/etc/hostname"
    printf '127.0.0.1 localhost %s\n' "$name" >"$root/etc/hosts"
    ln -sf /dev/null "$root/etc/systemd/system/systemd-udev-trigger.service"
    cat >>"$run/ssh_config" <<SSH
Host $name
  HostName $address
  User root
  IdentityFile $run/key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
SSH
    ip netns add "$bridge-$number"
    ip link add "$bridge.$number" type veth peer name eth0 netns "$bridge-$number"
    ip link set "$bridge.$number" master "$bridge" up
    ip -n "$bridge-$number" addr add "$address/24" dev eth0
    ip -n "$bridge-$number" link set eth0 up
    ip -n "$bridge-$number" link set lo up
    machines+=("$number")
    machine_boot "$name" "$number"
}
machine_boot() {
    ip netns exec "$bridge-$2" unshare --pid --fork --kill-child --mount --uts --ipc --cgroup \
        bash "$repository/tests/field/boot.sh" "$run/$1/root" >"$run/$1/console" 2>&1 </dev/null &
    started+=($!)
    echo $! >"$run/$1/pid"
    if ! until_true 60 on "$1" true; then
        echo "machine $1 does not answer ssh:" >&2
        tail -n 20 "$run/$1/console" >&2
        return 1
    fi
}
# machine_kill NAME: as if the plug were pulled (the page cache is this machine's, so nothing written is lost).
machine_kill() {
    kill -KILL "$(cat "$run/$1/pid")" 2>/dev/null || true
    wait "$(cat "$run/$1/pid")" 2>/dev/null || true
}
# on NAME COMMAND...: over ssh; two minutes at most ($on_limit), so that a machine that hangs ends in a failure and not in a wait.
on() {
    local name=$1
    shift
    timeout --foreground "${on_limit:-120}" ssh -F "$run/ssh_config" -o ConnectTimeout=30 -o ServerAliveInterval=15 "$name" "$@"
}

# hub DEVICE...: the emulator at $host_address, its authority in $run/hub/ca.pem, a connection string in $run/DEVICE.string.
hub() {
    local device emulator arguments=()
    emulator=$(binary hub-emulator) # not below: a build takes longer than the wait for the ports
    mkdir -p "$run/hub"
    for device in "$@"; do
        head -c 32 /dev/urandom | base64 -w0 >"$run/$device.key"
        arguments+=(--device "$device=$run/$device.key")
        printf 'HostName=%s;DeviceId=%s;SharedAccessKey=%s' "$host_address" "$device" "$(cat "$run/$device.key")" >"$run/$device.string"
    done
    "$emulator" --address "$host_address" --name "$host_address" --dir "$run/hub" --record "$run/record" \
        --port 5671 --https-port 443 "${arguments[@]}" >"$run/hub/ports" 2>"$run/hub/log" &
    started+=($!)
    until_true 20 test -s "$run/hub/ports" || { cat "$run/hub/log" >&2; return 1; }
}
# tpm NAME NUMBER: a TPM for that machine, reached over the network; $tcti says how.
tpm() {
    local port=$((23000 + $2 * 2))
    mkdir -p "$run/$1.tpm"
    swtpm socket --tpm2 --tpmstate "dir=$run/$1.tpm" --server "type=tcp,port=$port,bindaddr=$host_address" \
        --ctrl "type=tcp,port=$((port + 1)),bindaddr=$host_address" --flags not-need-init,startup-clear >"$run/$1.tpm/log" 2>&1 &
    started+=($!)
    # shellcheck disable=SC2034  # read by the tests; not printed, for what a subshell starts nobody ends
    tcti=swtpm:host=$host_address,port=$port
}

# binary NAME: one of this repository's programs for tests, built where it is not.
binary() {
    cargo build --quiet --locked --manifest-path "$repository/Cargo.toml" --package "$1" --bins >&2 || return 1
    echo "${CARGO_TARGET_DIR:-$repository/target}/debug/$1"
}
# verify FILE: what the program in the package says of the hub's record.
verify() {
    # shellcheck disable=SC2154  # the test's own package
    [ -e "$run/program" ] || dpkg-deb -x "$deb" "$run/program"
    "$run/program/usr/bin/weather-station" verify "$1"
}
# without_one FILE: the hub's record without its first reading, however often that came: verify must not call this complete.
without_one() {
    local reading
    reading=$(grep -m 1 -o '"messageId":"[^"]*-[0-9]*"' "$1") || return 1
    grep -vF -- "$reading" "$1"
}
# package ARCHITECTURE: the newest package, built when there is none or when something that goes into it is newer.
package() {
    local file newer=''
    file=$(newest_package "$1")
    if [ -n "$file" ]; then
        newer=$(cd "$repository" && find Cargo.toml Cargo.lock src deploy/package deploy/model deploy/*.rs deploy/*.toml deploy/*.service deploy/*.slice \
            -type f -newer "$file" -print -quit)
    fi
    if [ -z "$file" ] || [ -n "$newer" ]; then
        echo "building the package for $1: ${newer:-nothing}${newer:+ is newer than the one} there is" >&2
        "$repository/deploy/build.sh" "$1" >&2
        file=$(newest_package "$1")
    fi
    echo "package: $(basename "$file"), made $((($(date +%s) - $(stat -c %Y "$file")) / 60)) minutes ago" >&2
    printf '%s\n' "$file"
}
newest_package() {
    { find "$repository/target/package" -name "weather-station_*_$1.deb" -printf '%T@ %p\n' 2>/dev/null || true; } | sort -rn | head -1 | cut -d' ' -f2-
}
# other_version PACKAGE VERSION FILE [SED-SCRIPT [PATH]]: the same package under another version, its configuration (or PATH)
# changed by the script.
other_version() {
    local folder
    folder=$(mktemp -d "$run/deb.XXXXXX")
    dpkg-deb -R "$1" "$folder"
    sed -i "s/^Version: .*/Version: $2/" "$folder/DEBIAN/control"
    if [ -n "${4:-}" ]; then
        sed -i "$4" "$folder/${5:-etc/weather-station/station.toml}"
        (cd "$folder" && find etc usr -type f -printf '%p\0' | xargs -0 md5sum >DEBIAN/md5sums)
    fi
    dpkg-deb --root-owner-group -b "$folder" "$3" >/dev/null
}

machines_end() {
    local process number
    exec 2>/dev/null # bash's own words about killed jobs
    for process in "${started[@]}"; do kill -KILL "$process" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for number in "${machines[@]}"; do
        ip link del "$bridge.$number" 2>/dev/null || true
        ip netns del "$bridge-$number" 2>/dev/null || true
    done
    ip link del "$bridge" 2>/dev/null || true
    # Mounts below $run in the order opposite to their making; a busy one would otherwise be deleted through.
    awk -v run="$run/" 'index($2, run) == 1 { print $2 }' /proc/mounts | tac | xargs -r -n1 umount -l
    if ! grep -q " $run/" /proc/mounts; then rm -rf --one-file-system "$run"; fi
}
trap machines_end EXIT
