#!/usr/bin/env bash
# fleet.sh against hosts that are folders: ssh, dpkg, apt-get, systemctl and the station are played.
# What is tried is what the scripts decide; that the real ones behave so is fleet.sh's and ssh.sh's affair. Quick, needs no root.
# shellcheck disable=SC2016,SC2119,SC2120  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_packages jq bsdextrautils

# shellcheck source=tests/field/played.sh
. tests/field/played.sh

# --- a dry run ---
anew ash beech
prove "a roll-out over both" fleet
prove "both are done" jq -e '.counts.done == 2' "$run/state/report.json"
touch "$PLAY/beech/gone"
prove "a dry run with a host that is gone" fleet --dry-run
prove "it says that the host cannot be reached" said 'beech: could not reach beech'
prove "and forgets nothing of what was done" fleet
prove "both were done before" said 'beech: done before'

# --- a user who may not become root ---
anew ash
echo 1000 | tee "$PLAY/ash/id" >"$PLAY/ash/no-sudo"
refuse "a user whose sudo asks for a password" fleet
prove "what sudo said and what helps are on one line of the table" said "^ash .*sudo: a password is required; .*: ssh -t ash 'echo .*/etc/sudoers.d/"
prove "and in the report" is ash failed 'sudo: a password is required'
rm "$PLAY/ash/no-sudo"
prove "one whose sudo does not" fleet

# --- who is a canary ---
anew ash beech cherry dogwood
prove "the canary alone" fleet --canaries 1 --failures 9
host beech && host cherry && host dogwood
rm "$run"/state/beech* "$run"/state/cherry* "$run"/state/dogwood*
touch "$PLAY/beech/gone"
refuse "on a resume with the canary done a host of the first batch fails" fleet --failures 9 --batch 1
prove "it stops nothing" is cherry 'done'
anew ash beech cherry
touch "$PLAY/ash/gone"
refuse "a canary that fails" fleet --failures 9
prove "stops all" is beech 'not started'

# --- how long a station may take ---
patience() { # INTERVAL READINGS HUB TIMEOUT [MAX-LOSS]: what fleet.sh makes of these
    jq -n --arg interval "$1" --argjson readings "$2" --arg loss "${5:-0s}" \
        '{configuration: {"sensor.interval": {value: $interval}, "telemetry.readings_per_message": {value: $readings}, "store.max_loss": {value: $loss}}}' |
        (. deploy/common.sh && patience "$3" "$4")
}
added() { # SECONDS INTERVAL READINGS [HUB [MAX-LOSS]]: beyond a timeout of 180
    local seconds
    seconds=$(patience "$2" "$3" "${4:-yes}" 180 "${5:-0s}")
    [ "$seconds" = "$1" ] || { echo "it is $seconds"; return 1; }
}
prove "a reading a minute, each sent at once: the timeout is enough" added 0 1m 1
prove "twenty in a message: twenty intervals more" added 1200 1m 20
prove "not where no acceptance is asked for" added 0 1m 20 no
prove "a reading every hour: two intervals more" added 7200 1h 1
prove "both" added 25200 1h 5
prove "a day" added 172800 1d 1
prove "an interval in several parts" added 226 '1m 15s 250ms' 3
prove "readings that may wait in memory: as long as they may" added 600 1m 1 no 10m
prove "and then for a full message" added 1500 1m 20 yes 5m
prove "a document of an older version" bash -c '[ "$(. deploy/common.sh && patience yes 180 <<<"{}")" = 0 ]'
anew ash
echo 5 >"$PLAY/ash/slow"
echo 20 >"$PLAY/ash/readings"
prove "a station whose first message is full after the timeout is healthy" fleet
prove "its log says that it was waited for" grep -q 'its configuration takes up to 40 seconds more' "$run"/state/ash*.log
open_to_others() { find "$run/state" -perm /077 | grep .; }
refuse "others may not read what the stations said" open_to_others
refuse "no setup code is in there" grep -r 'setup code' "$run/state"
prove "though there is what the station said" grep -q '^identity  *new at hub' "$run"/state/ash*.log
anew ash
echo 9 >"$PLAY/ash/slow"
refuse "where each reading is sent at once, as late a message is a failure" fleet
prove "the reason" is ash back 'the hub has accepted no new reading'
anew ash
touch "$PLAY/ash/drowsy"
prove "a station that answers once within the timeout is looked at once more" fleet
anew ash
echo failing >"$PLAY/ash/sensor"
echo 1000 >"$PLAY/ash/readings"
refuse "a fault is not waited for" timeout 60 deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/new.deb" "$run/list"
prove "it went back within the timeout" is ash back 'sensor failing'

# --- the way back ---
anew ash
echo failing >"$PLAY/ash/sensor"
refuse "a station whose sensor was dead before does not become healthy" fleet
prove "it went back" is ash back 'not well before either'
prove "to its version" runs ash 1.0-1
anew ash
touch "$PLAY/ash/deaf-2.0"
refuse "a new version that does not answer" fleet
prove "went back, and takes readings" is ash back 'taking readings'
echo 'a repair' >"$PLAY/ash/etc/station.toml"
refuse "once more, after a repair" fleet
prove "what was repaired in between is not undone by going back" grep -qx 'a repair' "$PLAY/ash/etc/station.toml"
anew ash
touch "$PLAY/ash/full"
refuse "room for half a package" fleet
prove "failed before anything was changed" is ash failed 'could not keep the present state'
prove "still on its version" runs ash 1.0-1
rm "$PLAY/ash/full"
prove "with room again it is brought up" fleet

# --- not too far back ---
anew ash
prove "a roll-out" fleet
echo 'a change since' >"$PLAY/ash/etc/station.toml"
rm -r "$run/state"
echo 99999 >"$PLAY/ash/slow"
refuse "the same from another folder, while the hub is away" fleet
prove "undoes nothing of the first" is ash back 'back on 2.0-1'
prove "nor what was changed since" grep -qx 'a change since' "$PLAY/ash/etc/station.toml"
anew ash
echo 1.5-1 >"$PLAY/ash/version"
touch "$PLAY/ash/deaf-2.0"
refuse "a version that came without install.sh" fleet
prove "is not taken for the one before" is ash failed 'no way back: 1.5-1'
prove "and stays" runs ash 1.5-1
anew ash
rm "$PLAY/ash/cache/current.deb"
refuse "no package to go back to" fleet
prove "says what helps" is ash failed 'run deploy/install.sh with that version first'
prove "that" deploy/install.sh --package "$run/old.deb" ash
prove "helps" fleet
anew ash
rm -r "$PLAY/ash/version" "$PLAY/ash/cache" "$PLAY/ash/etc"
echo 2 >"$PLAY/ash/fails"
refuse "a fresh host that cannot install" fleet
prove "has lost nothing" is ash back 'nothing was installed'

# --- identities ---
mkdir -p "$run/secrets"
printf 'HostName=hub;DeviceId=new;SharedAccessKey=%s' "$(head -c 32 /dev/urandom | base64 -w0)" >"$run/secrets/ash"
anew ash
touch "$PLAY/ash/no-hub"
prove "--offline: an identity that no hub accepts yet is in place" timeout 60 deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/new.deb" --offline --provision "$run/secrets" "$run/list"
prove "and the host is done" is ash 'done'
provisioned() { [ "$(grep -c 'provision --connection-string-file' "$PLAY/$1/log")" = "$2" ]; } # NAME TIMES
anew ash beech
prove "a roll-out without identities" fleet
prove "the same with them" fleet --provision "$run/secrets"
prove "works on the hosts that get one only" said 'beech: done before'
prove "and brings it, though they were done" provisioned ash 1
prove "once more with them" fleet --provision "$run/secrets"
prove "there is nothing to do" said 'ash: done before'
printf 'HostName=hub;DeviceId=new;SharedAccessKey=%s' "$(head -c 32 /dev/urandom | base64 -w0)" >"$run/secrets/ash"
prove "another key for the same name" fleet --provision "$run/secrets"
prove "is brought as well" provisioned ash 2
prove "the provisioning service for those that are done" fleet --dps
prove "is asked" grep -q 'provision --dps' "$PLAY/beech/log"
refuse "the key is in no record" grep -rqF "$(sed 's/.*SharedAccessKey=//' "$run/secrets/ash")" "$run/state" "$PLAY/ash/log"
anew ash
echo 99999 >"$PLAY/ash/slow"
prove "a roll-out that asks for no hub" fleet --offline
refuse "is not done for one that does" fleet
prove "and the hub does not accept" is ash back 'the hub has accepted no new reading'
anew ash beech
touch "$PLAY/ash/no-hub"
printf '[identity]\nsource = "key-file"\n' >"$PLAY/ash/etc/station.toml"
prove "a station with its key in a file and no identity for it here" fleet --provision "$run/nothing"
rm -r "$run/state"
refuse "one for a TPM" timeout 60 deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/old.deb" --provision "$run/secrets" "$run/list"
prove "is refused" is ash failed 'provision.sh --to-key-file'
prove "before anything was changed" runs ash 2.0-1
refuse "and so it is where the new configuration says so" fleet --provision "$run/secrets" --config "$PLAY/ash/etc/station.toml"
prove "at once" said 'provision.sh --to-key-file'

# --- a station that cannot be asked ---
anew ash
touch "$PLAY/ash/page-off"
refuse "a station whose page is off" fleet
prove "is left alone, with the reason" is ash failed 'its page is off'
refuse "nothing was changed there" grep -q apt-get "$PLAY/ash/log"
anew ash
printf '[showcase]\nlisten = ""\n' >"$run/silent.toml"
refuse "a configuration that turns the page off" fleet --config "$run/silent.toml"
prove "is taken back" is ash back 'its page is off'
anew ash
kept=$PLAY/ash/cache/fleet-$(cat "$run/new.deb" "$run/silent.toml" | sha256sum | cut -c1-16)
mkdir "$kept"
cp "$PLAY/ash/cache/current.deb" "$kept/back.deb"
cp "$PLAY/ash/etc/station.toml" "$kept/"
cp "$run/new.deb" "$PLAY/ash/cache/current.deb"
cp "$run/silent.toml" "$PLAY/ash/etc/station.toml"
echo 2.0-1 >"$PLAY/ash/version"
refuse "the same, cut when it was in force and started again" fleet --config "$run/silent.toml"
prove "is taken back as well" is ash back 'back on 1.0-1 and taking readings'
prove "with its configuration" grep -qx 'the configuration' "$PLAY/ash/etc/station.toml"
printf '[showcase]\nlisten = "127.0.0.1:8080"\n' >"$run/open.toml"
anew ash beech
for name in ash beech; do cp "$run/silent.toml" "$PLAY/$name/etc/station.toml"; done
touch "$PLAY/beech/deaf-2.0"
refuse "a configuration that turns the page on" fleet --canaries 2 --config "$run/open.toml"
prove "is let through" is ash 'done'
prove "and where it does no good, what was there before is back" is beech back 'back on 1.0-1, with its page off as before'
prove "as it was" grep -q 'listen = ""' "$PLAY/beech/etc/station.toml"

finish
