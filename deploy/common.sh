# shellcheck shell=bash
# What install.sh, provision.sh, uninstall.sh and fleet.sh share: running a command on the target, which is this machine
# or a host over ssh, as root there. Knows one thing of weather stations: what one says whose page is off.

say() { printf '%s\n' "$*" >&2; }
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
            fail "on $(where) the user is neither root nor may run sudo without a password"
    fi
}
close_target() {
    [ -z "$target" ] || ssh "${ssh_options[@]}" -O exit -- "$target" 2>/dev/null || true
    rm -rf "$work"
}

# root COMMAND-LINE: as root, with the caller's standard input. Looks, never changes: runs in a dry run as well.
root() { on_target "${as_root}sh -c $(quote "$1")"; }

# page_is_off FILE: what `weather-station status` said there is that nobody can ask it, by configuration. The unit is then all
# that can be looked at.
page_is_off() { grep -q 'showcase.listen` is empty' "$1"; }

# change WHAT COMMAND-LINE: a step that changes the target; a dry run only tells it.
change() {
    if [ "$dry_run" = yes ]; then
        say "would $1"
        return 0
    fi
    say "$1"
    root "$2"
}
