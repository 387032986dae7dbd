#!/usr/bin/env bash
# Removes the weather station, here or on a host over ssh. Running it again changes nothing.
#
#   deploy/uninstall.sh [--dry-run] [--purge] [HOST]
#
#   --purge  deletes the configuration and ALL READINGS as well; without it both stay for the next installation. Readings that
#            [store] path puts outside of /var/lib/weather-station stay, and are named
#
# The identity in the TPM stays either way; remove it first with `weather-station provision --clear`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

action=remove
while [ $# -gt 0 ]; do
    case "$1" in
    --dry-run) dry_run=yes ;;
    --purge) action=purge ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 64 ;;
    *) [ -z "$target" ] || { usage >&2 && exit 64; }
        target=$1 ;;
    esac
    shift
done
exec </dev/null
open_target

# What cannot be asked, or is being installed, must not look like a machine without a station.
unasked="could not ask $(where) what is installed there: nothing is removed"
root "$settled" || fail "what is installed on $(where) changes at present"
# dpkg's last word of three: installed, config-files (removed, configuration kept), not-installed, or nothing.
state=$(root 'dpkg -s weather-station 2>/dev/null | grep "^Status:" || true') || fail "$unasked"
case "$action:${state##* }" in
*: | *:not-installed | remove:config-files)
    say "weather-station is not installed on $(where)"
    exit 0
    ;;
esac
if [ "$action" = purge ]; then
    said=$(root 'weather-station status --json 2>/dev/null || true') || fail "$unasked"
    pending=$(tr -d ' \n' <<<"$said" | sed -n 's/.*"pending":\([0-9]*\).*/\1/p')
    # As the running station says, or the configuration of one that does not run.
    path=$(sed -n '/"store.path"/,/}/s/.*"value": *"\(.*\)".*/\1/p' <<<"$said")
    [ -n "$path" ] || path=$(root 'cat /etc/weather-station/station.toml 2>/dev/null || true' |
        sed -n "/^ *\[store\]/,/^ *\[/s/^[[:space:]]*path *= *[\"']\([^\"']*\)[\"'].*/\1/p") || fail "$unasked"
    case $path in
    '' | /var/lib/weather-station/*) what='are deleted now' ;;
    *) what='stay there' && say "the readings in $path are outside of /var/lib/weather-station and stay, with what lies beside them: delete them yourself" ;;
    esac
    [ "${pending:-0}" = 0 ] || say "warning: $pending readings were never accepted by the hub and $what"
fi
change "$action weather-station" "$exclusive
    apt-get $action -y $apt_waits weather-station >/dev/null" || fail "weather-station could not be removed from $(where) (see above)"
[ "$action" = purge ] || say "configuration and readings stay (/etc/weather-station, /var/lib/weather-station); --purge deletes them"
