# shellcheck shell=bash
# What install.sh, provision.sh, uninstall.sh, fleet.sh and card.sh share: running a command on the target, which is this
# machine or a host over ssh, as root there. Knows of weather stations only how to read what they say in `status`, and how their
# packages are called.

# A terminal that is gone is no reason to stop half-way.
say() { printf '%s\n' "$*" >&2 || true; }
fail() {
    say "${0##*/}: $*"
    exit 1
}
usage() {
    # The comment at the top of the script is its help.
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
}

target='' # ssh destination; empty: this machine
dry_run=no
ssh_options=(-o ConnectTimeout=15 -o ServerAliveInterval=15 -o ServerAliveCountMax=4)
[ -z "${WEATHER_STATION_SSH_CONFIG:-}" ] || ssh_options+=(-F "$WEATHER_STATION_SSH_CONFIG")

where() { printf '%s' "${target:-this machine}"; }

# One word for a POSIX shell on the other side.
quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

# on_target COMMAND-LINE: runs it with the caller's standard input.
on_target() {
    if [ -z "$target" ]; then
        sh -c "$1"
    else
        ssh "${ssh_options[@]}" -- "$target" "$1"
    fi
}

# One ssh connection for the whole run, closed by close_target.
open_target() {
    work=$(mktemp -d)
    trap close_target EXIT
    if [ -n "$target" ]; then
        ssh_options+=(-o ControlMaster=auto -o "ControlPath=$work/%C" -o ControlPersist=60)
    fi
    local id
    id=$(on_target 'id -u' </dev/null) || fail "could not reach $(where): expected a shell there (try: ssh $target true)"
    as_root=''
    if [ "$id" != 0 ]; then
        as_root='sudo -n '
        on_target 'sudo -n true' </dev/null ||
            fail "on $(where) the user is neither root nor may run sudo without a password. This asks for it once: $(allow_sudo)"
    fi
}
# What gives the user root without a password; a new Raspberry Pi OS does not. The mode is the one that visudo asks for.
allow_sudo() {
    # shellcheck disable=SC2016  # expanded there
    local rule='echo "$(id -un) ALL=(ALL) NOPASSWD: ALL" | sudo install -m 440 /dev/stdin /etc/sudoers.d/010_weather-station'
    if [ -n "$target" ]; then printf "ssh -t %s '%s'" "$target" "$rule"; else printf 'sudo %s' "$0"; fi
}
close_target() {
    [ -z "$target" ] || ssh "${ssh_options[@]}" -O exit -- "$target" 2>/dev/null || true
    rm -rf "$work"
}

# root COMMAND-LINE: as root, with the caller's standard input. Looks, never changes: runs in a dry run as well.
root() { on_target "${as_root}sh -c $(quote "$1")"; }

# newest_package FOLDER ARCHITECTURE: the one that was built last, or nothing.
newest_package() { find "$1" -maxdepth 1 -name "weather-station_*_$2.deb" -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2-; }

# page_is_off FILE: what `weather-station status` said there is that nobody can ask it, by configuration. The unit is then all
# that can be looked at.
page_is_off() { grep -q 'showcase.listen` is empty' "$1"; }

# without_setup_code FILE: what `weather-station status` said there, for a log or a screen. The code opens the TPM form.
without_setup_code() { sed '/^setup code /d' "$1"; }

# patience HUB TIMEOUT: from the document of `status --json` the seconds beyond TIMEOUT in which a well station may still have
# nothing new to show: a message that is not full waits readings_per_message intervals (HUB: "yes" where the hub's acceptance is
# asked for), the next reading may take an interval, which counts twice, and it counts as stored after store.max_loss only. A
# document of an older version has no such keys.
patience() {
    jq --arg hub "$1" --argjson timeout "$2" '
        # "90s", "1m 30s 500ms", "1day": as humantime writes them.
        def seconds: [scan("([0-9]+)([a-z]+)") | (.[0] | tonumber) *
            (if .[1] == "ms" then 0.001 else {s: 1, m: 60, h: 3600, d: 86400}[.[1][:1]] // 0 end)] | add // 0;
        (.configuration["sensor.interval"].value // "0s" | seconds) as $interval
        | (.configuration["telemetry.readings_per_message"].value // 1) as $readings
        | (.configuration["store.max_loss"].value // "0s" | seconds)
            + (if $hub == "yes" and $readings > 1 then $readings * $interval else 0 end)
            + (if 2 * $interval > $timeout then 2 * $interval else 0 end)
        | ceil'
}

# For a remote command that installs or removes: one at a time, until its end, for what has begun goes on over there when its
# connection has broken. `settled` is for one that looks, and changes nothing. apt_waits: for apt and dpkg, whoever runs them.
alone='flock -n 9 || { echo "waiting for another installation that is at work there" >&2; flock -w 900 9; } ||
        { echo "another installation is at work there" >&2; exit 1; }'
# shellcheck disable=SC2034  # read by the scripts
exclusive="mkdir -p /var/cache/weather-station || exit 1
    exec 9>/var/cache/weather-station/lock
    $alone
    export DEBIAN_FRONTEND=noninteractive"
# shellcheck disable=SC2034
settled="[ -e /var/cache/weather-station/lock ] || exit 0
    exec 9</var/cache/weather-station/lock
    $alone"
apt_waits='-o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0'
# The configuration is dpkg's conffile: a changed one stays (confold), an unchanged one follows the package (confdef).
# --reinstall: apt sees no difference in a rebuilt package of the version that is installed.
# shellcheck disable=SC2034
apt_install="apt-get install -y --reinstall --allow-downgrades --no-install-recommends $apt_waits \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root"

# change WHAT COMMAND-LINE: a step that changes the target; a dry run only tells it.
change() {
    if [ "$dry_run" = yes ]; then
        say "would $1"
        return 0
    fi
    say "$1"
    root "$2"
}
