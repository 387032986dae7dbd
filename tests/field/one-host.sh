#!/usr/bin/env bash
# install.sh, provision.sh and uninstall.sh against a host that is a folder: ssh, dpkg, apt-get, systemctl and the station are played.
# What is tried is what the scripts decide; that the real ones behave so is ssh.sh's affair. Quick, needs no root.
# shellcheck disable=SC2016,SC2119,SC2120  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_packages jq bsdextrautils

# shellcheck source=tests/field/played.sh
. tests/field/played.sh

# --- one installation at a time, of a package that is whole ---
host ash
(flock 9; sleep 1; echo ended >"$PLAY/ash/log") 9>"$PLAY/ash/cache/lock" &
until_true 20 sh -c '! flock -n "$1" true' sh "$PLAY/ash/cache/lock"
prove "install.sh while another works there" deploy/install.sh --package "$run/new.deb" ash
prove "waits as well" grep -q 'apt-get install' <(sed -n '/^ended/,$p' "$PLAY/ash/log")
echo 30000 >"$PLAY/ash/cut"
refuse "half a package" deploy/install.sh --package "$run/old.deb" ash
prove "is told" said 'did not arrive whole'
prove "and not installed" runs ash 2.0-1
host ash
echo 30000 >"$PLAY/ash/lost"
deploy/install.sh --package "$run/new.deb" ash >"$run/first" 2>&1 </dev/null &
first=$!
prove "a connection is lost within a package, and over there it is waited for" until_true 20 test -s "$PLAY/ash/waits"
# This side alone: what was begun over there goes on.
pkill -KILL -P "$first"
kill -KILL "$first"
wait "$first" 2>/dev/null || true
prove "another installation does not wait for it" timeout 60 deploy/install.sh --package "$run/new.deb" ash
prove "and is done" runs ash 2.0-1
halves() { find "$PLAY/ash/cache" -name 'arriving.*'; }
prove "half a package lies there meanwhile" test -n "$(halves)"
kill "$(cat "$PLAY/ash/waits")"
none_left() { [ -z "$(halves)" ]; }
prove "and goes with its connection" until_true 20 none_left
touch -d '2 days ago' "$PLAY/ash/cache/arriving.old"
touch "$PLAY/ash/cache/arriving.new"
prove "the next installation" deploy/install.sh --package "$run/old.deb" ash
prove "takes away what a power cut has left of an old one, and nothing that may still arrive" diff <(halves) <(echo "$PLAY/ash/cache/arriving.new")

# --- install.sh and provision.sh ---
host ash
prove "install.sh" deploy/install.sh --package "$run/new.deb" ash
deb 2.0-1 "$run/rebuilt.deb"
prove "a rebuilt package of the same version" deploy/install.sh --package "$run/rebuilt.deb" ash
prove "is installed" diff <(sha256sum <"$run/rebuilt.deb") "$PLAY/ash/installed"
touch "$PLAY/ash/page-off"
prove "a station whose page is off: install.sh is content with an active unit" deploy/install.sh --package "$run/new.deb" ash
prove "and says so" said 'its page is off'
provision() { deploy/provision.sh ash <<<'played'; }
prove "provision.sh as well" provision
prove "and says that it could not see the hub accept" said 'in the journal'
rm "$PLAY/ash/page-off"
echo 3 >"$PLAY/ash/old-answers"
prove "provision.sh over another identity" provision
prove "waits for the new one" test "$(cat "$PLAY/ash/old-answers")" -lt 0

# --- a configuration that is in place is in force ---
host ash
echo 'another configuration' >"$run/another.toml"
configured() { deploy/install.sh --package "$run/old.deb" --config "$run/another.toml" ash; }
restarts() { [ "$(grep -c 'systemctl restart' "$PLAY/ash/log")" = "$1" ]; }
touch "$PLAY/ash/no-restart"
refuse "a restart that fails" configured
prove "is told" said 'not in force.*could not be restarted'
prove "with the configuration in place, once more" configured
prove "it is made up for" restarts 2
prove "and again" configured
prove "nothing is restarted" restarts 2
for status in 255 64 78; do
    host ash
    echo "$status" >"$PLAY/ash/check-status"
    refuse "a check that ends with $status" configured
    prove "lets no configuration through" grep -qx 'the configuration' "$PLAY/ash/etc/station.toml"
    refuse "and none lies beside it" test -e "$PLAY/ash/etc/station.toml.new"
done
echo 1 >"$PLAY/ash/check-status"
prove "one that finds a fault of the station itself does" configured

host ash
echo armhf >"$PLAY/ash/architecture"
refuse "a 32-bit system" deploy/install.sh --package "$run" ash
prove "is told that it needs another" said '64-bit'

# --- uninstall.sh ---
host ash
prove "uninstall.sh --purge" deploy/uninstall.sh --purge ash
refuse "says nothing of readings elsewhere where there are none" said 'stay'
host ash
printf '[sensor]\ninterval = "1m"\n[store]\n  path = "/srv/weather/readings.db" # a disk of its own\n' >"$PLAY/ash/etc/station.toml"
prove "uninstall.sh --purge of a station with its store elsewhere" deploy/uninstall.sh --purge ash
prove "names it" said '/srv/weather/readings.db.*stay'
host ash
rm "$PLAY/ash/version"
(flock 9; sleep 1; echo 2.0-1 >"$PLAY/ash/version") 9>"$PLAY/ash/cache/lock" &
installer=$!
until_true 20 sh -c '! flock -n "$1" true' sh "$PLAY/ash/cache/lock"
prove "uninstall.sh while another installs there" deploy/uninstall.sh ash
wait "$installer"
refuse "removes what that has brought" test -e "$PLAY/ash/version"
host ash
for lost in 'dpkg -s' 'status --json' station.toml 'apt-get purge'; do
    echo "$lost" >"$PLAY/ash/breaks"
    refuse "uninstall.sh --purge, and the connection breaks at $lost" deploy/uninstall.sh --purge ash
    prove "does not look like a machine without a station" said 'could not'
done
rm "$PLAY/ash/breaks"
prove "where it does not break" deploy/uninstall.sh --purge ash
refuse "nothing is there afterwards" test -e "$PLAY/ash/version"
refuse "and nothing was installed or removed without the lock" grep 'without the lock' "$PLAY/ash/log"

# --- the key in a file ---
host ash
kept=$PLAY/ash/etc/device.connection-string
key=$(head -c 32 /dev/urandom | base64 -w0)
good="HostName=hub;DeviceId=new;SharedAccessKey=$key"
to_key_file() { printf '%s' "$1" | deploy/provision.sh --force --to-key-file ash; }
holds() { [ "$(cat "$kept")" = "$1" ] && [ "$(stat -c %a "$kept")" = 600 ] && ! test -e "$kept.new"; }
prove "a device's connection string goes into the key file" to_key_file "$good"
prove "as it is, for its owner only" holds "$good"
for bad in "" "HostName=hub;SharedAccessKeyName=owner;SharedAccessKey=$key" "DeviceId=new;SharedAccessKey=$key" "HostName=hub;DeviceId=new" \
    "HostName=;DeviceId=new;SharedAccessKey=$key" "HostName=hub;DeviceId=;SharedAccessKey=$key" "HostName=hub;DeviceId=new;SharedAccessKey=" \
    "HostName=hub;DeviceId=new;SharedAccessKey=not a key" "${good%?}" "$good;ModuleId=m" "$good;DeviceId=twice" "$good
$good"; do
    refuse "refused: ${bad//"$key"/KEY}" to_key_file "$bad"
    prove "it is said what was expected" said 'HostName=<hub>;DeviceId=<device>;SharedAccessKey=<base64>'
    refuse "the key is not said" grep -qF "$key" "$run/output"
    prove "the file is as it was" holds "$good"
done
other="HostName=hub;DeviceId=other;SharedAccessKey=$key"
# The string is whole, and only its end mark is missing.
echo $((${#other} + 1)) >"$PLAY/ash/cut"
refuse "a connection that breaks" to_key_file "$other"
prove "is told" said 'did not arrive whole'
prove "and changes nothing" holds "$good"
rm "$PLAY/ash/cut"
other=" SharedAccessKey = $key ; DeviceId=new;hostname=hub; "
prove "blanks, case and order as the station takes them" to_key_file "$other"
prove "are put straight" holds "$good"
rm "$kept"
prove "a file that Windows saved, with its mark before the first letter" to_key_file "$(printf '\357\273\277%s\r\n' "$good")"
prove "as well" holds "$good"
touch "$PLAY/ash/no-account"
refuse "a file that cannot be given to the station" to_key_file "$good"
prove "leaves nothing behind" holds "$good"
finish
