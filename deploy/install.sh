#!/usr/bin/env bash
# Installs the weather station's package, here or on a host over ssh. Running it again changes nothing.
#
#   deploy/install.sh [--dry-run] [--package FILE|FOLDER] [--config FILE] [HOST]
#
#   HOST       anything ssh takes (pi@weather, ssh://pi@weather:2222, a name of your ssh configuration); without it this machine
#   --package  the package, or a folder that holds one for the target's architecture; default: target/package
#   --config   becomes /etc/weather-station/station.toml, after the station itself has checked it; the old one is kept
#              beside it as station.toml.previous
#   --dry-run  says what would be done and changes nothing
#
# Needs root there, or sudo without a password. Dependencies come from the target's Debian mirrors.
# The package that was installed before is kept in /var/cache/weather-station for a way back.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

package=$here/../target/package
config=''
while [ $# -gt 0 ]; do
    case "$1" in
    --dry-run) dry_run=yes ;;
    --package) package=${2:?--package needs a file or folder} && shift ;;
    --config) config=${2:?--config needs a file} && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 64 ;;
    *) [ -z "$target" ] || { usage >&2 && exit 64; }
        target=$1 ;;
    esac
    shift
done
[ -z "$config" ] || [ -r "$config" ] || fail "cannot read the configuration $config"
open_target

# --- which package ---
architecture=$(on_target 'dpkg --print-architecture' </dev/null) || fail "$(where) has no dpkg: expected Debian or Raspberry Pi OS"
if [ -d "$package" ]; then
    file=$(newest_package "$package" "$architecture")
    case $architecture in
    arm64 | amd64) ;;
    *) [ -n "$file" ] || fail "$(where) is $architecture: the station needs a 64-bit system (arm64, or amd64), and there is no package for another" ;;
    esac
    [ -n "$file" ] || fail "no package for $architecture in $package: build one with deploy/build.sh $architecture"
else
    file=$package
fi
[ -r "$file" ] || fail "cannot read the package $file"
made_for=$(dpkg-deb --field "$file" Architecture)
[ "$made_for" = "$architecture" ] || fail "$file is for $made_for, but $(where) is $architecture"
version=$(dpkg-deb --field "$file" Version)

# --- the package: compared as a whole, so that a rebuilt package of the same version is noticed; current.deb is what the
# last run installed, and it counts only while dpkg still has that version and finds its files unchanged ---
root "$settled" </dev/null || fail "what is installed on $(where) changes at present"
wanted="$version $(sha256sum <"$file")"
# shellcheck disable=SC2016  # expanded there
present=$(root 'dpkg -s weather-station 2>/dev/null | grep -q "^Status: .* installed" &&
    [ -z "$(dpkg --verify weather-station | grep -v " c /etc/")" ] &&
    echo "$(dpkg -s weather-station | sed -n "s/^Version: //p") $(sha256sum < /var/cache/weather-station/current.deb)"' </dev/null 2>/dev/null || true)
if [ "$wanted" = "$present" ]; then
    say "weather-station $version is installed already"
else
    name=$(basename "$file")
    # The package arrives under a name of its own, and nobody waits for it: where this machine is gone in the middle, sshd over there
    # learns of that after hours. A connection that breaks looks there like the end of the package: hence the sum. From new.deb to
    # current.deb no other installation comes between. What is a day old is of a power cut.
    change "install weather-station $version (copy $name to $(where))" "
        mkdir -p /var/cache/weather-station && cd /var/cache/weather-station || exit 1
        find . -maxdepth 1 -name 'arriving.*' -mmin +1440 -delete
        arriving=\$(mktemp arriving.XXXXXX) || exit 1
        trap 'rm -f \"\$arriving\"' EXIT
        cat >\"\$arriving\" || exit 1
        [ \"\$(sha256sum <\"\$arriving\")\" = '${wanted#* }' ] || { echo 'the package did not arrive whole' >&2; exit 1; }
        $exclusive
        mv \"\$arriving\" new.deb || exit 1
        chmod 755 . && chmod 644 new.deb
        # An installation that was interrupted (power, network) is finished first.
        dpkg --configure -a >/dev/null 2>&1 || true
        install() { $apt_install ./new.deb; }
        { install || { apt-get update && install; }; } >install.log 2>&1 || { tail -n 20 install.log >&2; exit 1; }
        [ ! -e current.deb ] || mv current.deb previous.deb
        mv new.deb current.deb" <"$file" || fail "the package could not be installed on $(where)"
fi

# --- the configuration ---
restart_due=/var/cache/weather-station/restart-due
restart="[ ! -d /run/systemd/system ] || systemctl restart weather-station.service; rm -f $restart_due"
not_restarted="the configuration is not in force on $(where), for the station could not be restarted (see above): run this again"
if [ -n "$config" ]; then
    if root 'cmp -s - /etc/weather-station/station.toml' <"$config"; then
        say "the configuration is in place already"
    else
        if [ "$dry_run" = no ]; then
            # Exit status 78 of the station: the configuration is wrong, said before any device is opened.
            root 'umask 022; cat > /etc/weather-station/station.toml.new' <"$config"
            status=0
            root 'weather-station --config /etc/weather-station/station.toml.new check' </dev/null >"$work/check" 2>&1 || status=$?
            # 1: something else than the configuration is not well, a sensor for instance. Any other was no check (255: ssh).
            if [ "$status" != 0 ] && [ "$status" != 1 ]; then
                root 'rm -f /etc/weather-station/station.toml.new' </dev/null || true
                cat "$work/check" >&2
                [ "$status" != 78 ] || fail "the station refuses $config; the old configuration stays"
                fail "$config could not be checked on $(where) (status $status); the old configuration stays"
            fi
        fi
        # One command, which goes on over there when the connection breaks. Until the station has it, `restart-due` says so.
        change "put $config into place and restart the station" "
            set -e
            trap '' HUP PIPE
            mkdir -p ${restart_due%/*}
            : >$restart_due
            cd /etc/weather-station
            [ ! -e station.toml ] || cp -p station.toml station.toml.previous
            mv station.toml.new station.toml
            $restart" </dev/null || fail "$not_restarted"
    fi
fi
if root "test -e $restart_due" </dev/null; then
    change "restart the station, as an earlier run did not" "set -e; $restart" </dev/null || fail "$not_restarted"
fi

# --- running ---
if ! root 'test -d /run/systemd/system' </dev/null; then
    say "no systemd runs on $(where): the station is installed, not started"
    exit 0
fi
if ! root 'systemctl is-active --quiet weather-station.service' </dev/null; then
    change "start the station" 'systemctl enable --quiet --now weather-station.service' </dev/null
fi
[ "$dry_run" = no ] || exit 0

# The unit is Type=notify: start and restart came back when the store was open. The page answers a moment later.
for _ in $(seq 30); do
    if root 'weather-station status' </dev/null >"$work/status" 2>&1; then
        without_setup_code "$work/status"
        exit 0
    fi
    if page_is_off "$work/status" && root 'systemctl is-active --quiet weather-station.service' </dev/null; then
        say "the station is active on $(where); its page is off (showcase.listen), so it cannot be asked more: journalctl -u weather-station"
        exit 0
    fi
    root 'systemctl is-active --quiet weather-station.service' </dev/null || break
    sleep 1
done
without_setup_code "$work/status" >&2
root 'systemctl status --no-pager --lines=10 weather-station.service' </dev/null >&2 || true
fail "the station is installed on $(where) but does not answer"
