#!/usr/bin/env bash
# fleet.sh, interrupted, killed, and cut off from its hosts, which are folders: ssh, dpkg, apt-get, systemctl and the station are played.
# What is tried is what the scripts decide; that the real ones behave so is fleet.sh's and ssh.sh's affair. Needs no root.
# shellcheck disable=SC2016,SC2119,SC2120  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_packages jq bsdextrautils

# shellcheck source=tests/field/played.sh
. tests/field/played.sh

# --- an interrupt ---
begin_and_hang() {
    anew ash
    touch "$PLAY/ash/hang"
    deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/new.deb" "$run/list" >"$run/interrupted" 2>&1 &
    roller=$!
    # The played apt-get, which install.sh waits for.
    until_true 20 test -s "$PLAY/ash/hanging"
}
alive() { [ -e "/proc/$1" ] && ! grep -q "^State:.Z" "/proc/$1/status"; } # a zombie waits for its parent only
for signal in TERM HUP; do # the second: the terminal is gone
    begin_and_hang
    kill -s "$signal" "$roller"
    status=0
    wait "$roller" || status=$?
    prove "$signal ends fleet.sh with status 130" test "$status" = 130
    refuse "and the installation with it" alive "$(cat "$PLAY/ash/hanging")"
    refuse "no install.sh runs on" pgrep -f "install.sh --package $run/new.deb"
    prove "it leaves a report" jq -e '.complete | not' "$run/state/report.json"
    rm "$PLAY/ash/hang"
    prove "started again it completes" fleet
done
begin_and_hang
{ kill -KILL "$roller"; wait "$roller" || true; } 2>/dev/null # bash's own words about it
refuse "where fleet.sh is killed, and what it began works on, a second one" timeout 60 deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/new.deb" "$run/list"
prove "does not work beside that" said 'another fleet.sh works'
rm "$PLAY/ash/hang"
kill "$(cat "$PLAY/ash/hanging")"
prove "until it is over" until_true 60 flock -n "$run/state/lock" true
prove "which it was to its end" fleet
prove "so that nothing was left to do" said 'ash: done before'
anew ash
unread() { fleet 2>/dev/full; }
prove "where nobody can read what it says, as behind a terminal that is gone, it goes on" unread

# --- cut while dpkg worked ---
anew ash beech cherry dogwood elder
kept=fleet-$(sha256sum <"$run/new.deb" | cut -c1-16)
for word in ash=unpacked beech=half-configured cherry=half-installed dogwood=config-files elder=unpacked; do
    name=${word%=*}
    touch "$PLAY/$name/deaf-2.0"
    echo 2.0-1 >"$PLAY/$name/version"
    echo "${word#*=}" >"$PLAY/$name/word"
    # What the attempt that was cut has kept. On elder it was an install.sh, which keeps nothing but current.deb.
    case $name in ash | beech | cherry)
        mkdir "$PLAY/$name/cache/$kept"
        cp "$PLAY/$name/cache/current.deb" "$PLAY/$name/cache/$kept/back.deb"
        cp "$PLAY/$name/etc/station.toml" "$PLAY/$name/cache/$kept/" ;;
    esac
done
refuse "the same command again, and the station does not become healthy" fleet --canaries 5
for name in ash beech cherry elder; do
    prove "$name went back" is "$name" back 'back on 1.0-1'
    prove "$name runs its version" runs "$name" 1.0-1
done
prove "what was removed before is removed again" is dogwood back 'not installed before'

# --- a fresh host, cut after its installation ---
fresh() { # NAME...
    anew "$@"
    local name
    for name in "$@"; do rm -r "${PLAY:?}/$name/version" "$PLAY/$name/cache" "${PLAY:?}/$name/etc"; touch "$PLAY/$name/deaf-2.0"; done
}
fresh ash beech
deploy/fleet.sh --state "$run/state" --canaries 2 --timeout 60 --package "$run/new.deb" "$run/list" >"$run/interrupted" 2>&1 &
roller=$!
prove "both have the package" until_true 20 test -s "$PLAY/ash/cache/current.deb" -a -s "$PLAY/beech/cache/current.deb"
kill -TERM "$roller"
wait "$roller" || true
# On beech the power went before it was noted which package that is.
mv "$PLAY/beech/cache/current.deb" "$PLAY/beech/cache/new.deb"
refuse "the same command again, and the stations do not become healthy" fleet --canaries 2
for name in ash beech; do
    prove "$name is as fresh as it was" is "$name" back 'not installed before'
    refuse "$name has no package" test -e "$PLAY/$name/version"
done
fresh ash
prove "somebody installs another version" deploy/install.sh --package "$run/old.deb" ash
mkdir -p "$PLAY/ash/cache/$kept"
touch "$PLAY/ash/cache/$kept/none"
refuse "on a host that was fresh when it was cut" fleet
prove "that is what it goes back to" is ash back 'back on 1.0-1'
anew ash
echo 2.0-1 >"$PLAY/ash/version"
rm "$PLAY/ash/cache/current.deb"
mkdir "$PLAY/ash/cache/$kept"
refuse "the package was there before, without install.sh" fleet
prove "and is not removed" is ash failed 'no way back: 2.0-1'

# --- what goes on over there when the connection is gone ---
anew ash
touch "$PLAY/ash/goes-on"
echo 2 >"$PLAY/ash/fails" # before and after apt-get update
refuse "an installation that fails here, and goes on over there" fleet
prove "the way back" is ash back 'back on 1.0-1'
awaited() { sed -n '/^ended/,$p' "$PLAY/ash/log" | grep -q 'apt-get install.*/back.deb'; }
prove "waits for its end" awaited
impatient() { grep -v 'apt-get update' "$PLAY/ash/log" | grep '^apt-get' | grep -v -- '-o DPkg::Lock::Timeout='; }
refuse "and every apt-get for the lock of dpkg" impatient

finish
