#!/usr/bin/env bash
# Gives the weather station its identity, here or on a host over ssh. The key travels over standard input only:
# it is never an argument, an environment variable or a file on the way.
#
#   deploy/provision.sh [--force] [--offline] HOST < connection-string
#   deploy/provision.sh [--force] [--offline] --connection-string-file FILE [HOST]
#   deploy/provision.sh [--force] [--offline] --host HUB --device-id DEVICE --key-file FILE [HOST]
#   deploy/provision.sh --dps [HOST]               by the Device Provisioning Service ([provisioning] id_scope is set)
#   deploy/provision.sh --show-enrollment [HOST]   what the Device Provisioning Service wants to know of this TPM
#   deploy/provision.sh --to-key-file [...]        a station without a TPM (identity.source = "key-file")
#
#   HOST       anything ssh takes; without it, or as `-`, this machine
#   FILE       may be - for standard input (the default)
#   --force    replaces another identity
#   --offline  does not wait for the hub (a station that reaches it rarely)
#
# Needs root there, or sudo without a password. Then waits up to 90 seconds for the hub to accept the station
# under this device and host. Status 0: it has, or need not (--offline), or the station does not run or cannot be asked.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

mode=string
secret=-
hub='' device='' force='' key_file=no offline=no
while [ $# -gt 0 ]; do
    case "$1" in
    --force) force=' --force' ;;
    --offline) offline=yes ;;
    --connection-string-file) secret=${2:?--connection-string-file needs a file} && shift ;;
    --key-file) mode=key secret=${2:?--key-file needs a file} && shift ;;
    --host) hub=${2:?--host needs a name} && shift ;;
    --device-id) device=${2:?--device-id needs a name} && shift ;;
    --dps) mode=dps ;;
    --show-enrollment) mode=enrollment ;;
    --to-key-file) key_file=yes ;;
    -h | --help) usage && exit 0 ;;
    -) ;;
    -*) usage >&2 && exit 64 ;;
    *) [ -z "$target" ] || { usage >&2 && exit 64; }
        target=$1 ;;
    esac
    shift
done
if [ "$mode" = key ] && { [ -z "$hub" ] || [ -z "$device" ]; }; then fail "--key-file needs --host and --device-id as well"; fi
[ "$mode" != key ] || [ "$key_file" = no ] || fail "--to-key-file takes a connection string, not a bare key"
if [ "$secret" = - ]; then
    if [ -t 0 ] && { [ "$mode" = string ] || [ "$mode" = key ]; }; then say "waiting for the secret on standard input (end with Ctrl-D)"; fi
    secret=/dev/stdin
fi
# The secret is on descriptor 3 from here on, so that no other command can read it by mistake.
case "$mode" in
string | key) exec 3<"$secret" ;;
esac
exec </dev/null
open_target

file=/etc/weather-station/device.connection-string
# What the target does with --to-key-file: the text from standard input becomes $file only when it is a device's connection string,
# by the same rules as the station's own (status 65: it is not), and whole: a connection that breaks looks there like the end of the
# input, and half a key like a shorter one, so the end is marked. It tidies up itself, for nobody may be left to ask it to.
receive=$(
    cat <<'SH'
text=$(cat)
case $text in
*"
end") ;;
*) echo "the connection string did not arrive whole" >&2 && exit 1 ;;
esac
text=${text#"$(printf '\357\273\277')"} # Windows marks a file as UTF-8 there
text=$(printf '%s\n' "$text" | sed '$d' | sed '/^[[:space:]]*$/d')
parts() { printf '%s\n' "$text" | tr ';' '\n' | sed 's/^[[:space:]]*//; s/[[:space:]]*$//; s/ *= */=/; /^$/d'; }
one() { [ "$(parts | grep -icE "^$1\$")" = 1 ]; }
key='([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)'
[ "$(printf '%s\n' "$text" | wc -l)" = 1 ] && [ "$(parts | wc -l)" = 3 ] &&
    one 'HostName=[^[:space:]]+' && one 'DeviceId=[^[:space:]]+' && one "SharedAccessKey=$key" || exit 65
value() { parts | sed -n "s/^$1=//Ip"; }
umask 077
trap 'rm -f "$file.new"' EXIT
trap 'exit 1' HUP INT PIPE TERM
# Created with its final owner and mode before the first byte of the key is in it; on the disk before it replaces a good one.
rm -f "$file.new" && : >"$file.new" && chown weather-station:weather-station "$file.new" &&
    printf 'HostName=%s;DeviceId=%s;SharedAccessKey=%s\n' "$(value HostName)" "$(value DeviceId)" "$(value SharedAccessKey)" >"$file.new" &&
    sync "$file.new" && mv "$file.new" "$file" && sync "${file%/*}"
SH
)
case "$mode" in
enrollment)
    root 'weather-station provision --show-enrollment'
    exit 0
    ;;
dps) root "weather-station provision --dps$force" | tee "$work/provisioned" ;;
key) root "weather-station provision --host $(quote "$hub") --device-id $(quote "$device") --key-file -$force" <&3 | tee "$work/provisioned" 3<&- ;;
string)
    if [ "$key_file" = no ]; then
        root "weather-station provision --connection-string-file -$force" <&3 | tee "$work/provisioned" 3<&-
    else
        if [ -z "$force" ] && root "test -s $file"; then fail "$(where) has an identity in $file already: use --force to replace it"; fi
        arrived=0
        { cat <&3 && printf '\nend\n'; } | root "file=$file; $receive" 3<&- || arrived=$?
        case $arrived in
        0) ;;
        65) fail "what arrived on $(where) is no connection string of a device: expected, on one line,
    HostName=<hub>;DeviceId=<device>;SharedAccessKey=<base64>
as the portal shows it for the device (that of the hub has no DeviceId). Nothing has changed there" ;;
        *) fail "the key file on $(where) could not be written, or the connection broke (see above); the one before is untouched" ;;
        esac
        say "the identity is in $file; the configuration needs [identity] source = \"key-file\", key_file = \"$file\""
        # Device and host, never the key, in the words of `weather-station provision`.
        # shellcheck disable=SC2016  # expanded there
        root "file=$file; "'part() { sed -n "s/^\(.*;\)\{0,1\}$1=\([^;]*\).*/\2/p" "$file"; }
            echo "it is $(part DeviceId) at $(part HostName)"' >"$work/provisioned"
        if root 'systemctl is-active --quiet weather-station.service'; then root 'systemctl restart weather-station.service'; fi
    fi
    ;;
esac
exec 3<&-

if [ "$offline" = yes ]; then
    say "the identity is in place"
    exit 0
fi
root 'test -d /run/systemd/system && systemctl is-active --quiet weather-station.service' || exit 0
# A running station is online by its old key's token for up to a minute; one that starts anew, by the new key or not at all. With a
# key file it was restarted above.
[ "$key_file" = yes ] || root 'systemctl restart weather-station.service'
name=$(sed -n 's/^.* is \([^ ]* at [^ ]*\)$/\1/p' "$work/provisioned" | tail -n 1)
for _ in $(seq 45); do
    if root 'weather-station status' >"$work/status" 2>&1; then
        if grep '^identity ' "$work/status" | grep -qF "${name:+ $name }(" && grep -q '^cloud  *online' "$work/status"; then
            say "the hub has accepted the station"
            exit 0
        fi
    elif page_is_off "$work/status"; then
        say "the identity is in place and the station active; its page is off (showcase.listen), so whether the hub accepts it is in the journal: journalctl -u weather-station"
        exit 0
    fi
    sleep 2
done
without_setup_code "$work/status" >&2
say "the identity is in place, but the hub has not accepted the station as ${name:-it} within 90 seconds (see above)"
exit 1
