#!/usr/bin/env bash
# Brings many weather stations to one package and configuration: a canary first, then batches in parallel.
#
#   deploy/fleet.sh [options] HOSTS
#
#   HOSTS             a file: one ssh destination a line, the canary first; # begins a comment
#   --package PATH    the package, or a folder with one per architecture; default: target/package
#   --config FILE     configuration for all of them; default: each keeps its own
#   --provision DIR   gives DIR/HOST (a connection string, if there is such a file) to each host; --dps: by the service
#   --canaries N      hosts that go alone before all others (1)
#   --batch N         hosts at the same time (10)
#   --failures N      failed hosts after which no further batch starts (0); a failed canary always stops
#   --timeout S       seconds a station has to become healthy (180)
#   --offline         do not expect the hub to accept (stations that reach it rarely)
#   --state DIR       what was done, for resuming, and the report (./fleet)
#   --dry-run         says what each host needs and changes nothing
#
# A station is healthy when it answers `status --json` with the version of the package, has taken a new reading since, and
# the hub has accepted a message since. One that does not become healthy goes back to its previous package and configuration
# and is checked again, for what was well before. Interrupted, it goes on where it stopped when started again with the same
# package and configuration. At the end a table, and DIR/report.json. Status 0: every host is done. Needs jq here.
#
# A station that is well when the timeout ends, and only has nothing new to show yet, is waited for longer: by
# telemetry.readings_per_message (above 1) times sensor.interval, and by two intervals where these are longer than the timeout.
# Its log in DIR says for how long.
set -euo pipefail
# What the stations say, and how far they are, is nobody else's affair.
umask 077
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

hosts_file='' package=$here/../target/package config='' secrets='' dps=no canaries=1 batch=10 failures=0 timeout=180 hub=yes state=fleet
while [ $# -gt 0 ]; do
    case "$1" in
    --package) package=${2:?--package needs a path} && shift ;;
    --config) config=${2:?--config needs a file} && shift ;;
    --provision) secrets=${2:?--provision needs a folder} && shift ;;
    --dps) dps=yes ;;
    --canaries) canaries=${2:?--canaries needs a number} && shift ;;
    --batch) batch=${2:?--batch needs a number} && shift ;;
    --failures) failures=${2:?--failures needs a number} && shift ;;
    --timeout) timeout=${2:?--timeout needs seconds} && shift ;;
    --offline) hub=no ;;
    --state) state=${2:?--state needs a folder} && shift ;;
    --dry-run) dry_run=yes ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 64 ;;
    *) [ -z "$hosts_file" ] || { usage >&2 && exit 64; }
        hosts_file=$1 ;;
    esac
    shift
done
[ -n "$hosts_file" ] || { usage >&2 && exit 64; }
command -v jq >/dev/null || fail "needs jq: apt-get install jq"
[ -r "$hosts_file" ] || fail "cannot read $hosts_file: expected one ssh destination a line"
mapfile -t hosts < <(sed 's/#.*//; s/[[:space:]]//g; /^$/d' "$hosts_file")
[ "${#hosts[@]}" -gt 0 ] || fail "$hosts_file names no host"
twice=$(printf '%s\n' "${hosts[@]}" | sort | uniq -d | head -1)
[ -z "$twice" ] || fail "$hosts_file names $twice twice"
[ -e "$package" ] || fail "no package at $package: build one with deploy/build.sh"
[ -z "$config" ] || [ -r "$config" ] || fail "cannot read $config"

mkdir -p "$state"
state=$(cd "$state" && pwd)
exec 9>"$state/lock"
flock -n 9 || fail "another fleet.sh works with $state"

# What this roll-out is: a host that is done for it is skipped when the script runs again.
if [ -d "$package" ]; then packages=("$package"/weather-station_*.deb); else packages=("$package"); fi
[ -r "${packages[0]}" ] || fail "no package in $package: build one with deploy/build.sh"
rollout=$(cat "${packages[@]}" ${config:+"$config"} | sha256sum | cut -c1-16)

# A file name for a host: ssh://pi@x:22 has slashes. Different hosts must not share one.
slot() { printf '%s/%s' "$state" "$(printf '%s' "$1" | tr -c 'A-Za-z0-9._@-' '_')-$(printf '%s' "$1" | cksum | cut -d' ' -f1)"; }

# record HOST RESULT DETAIL: atomically, so that an interrupted run leaves no half a file. A dry run says it and keeps what
# earlier runs have recorded.
record() {
    local file
    if [ "$dry_run" = yes ]; then
        say "$1: $3"
        return
    fi
    file=$(slot "$1").json
    jq -n --arg host "$1" --arg rollout "$rollout" --arg result "$2" --arg detail "$3" --arg before "${before:-}" --arg after "${after:-}" \
        --argjson seconds $((SECONDS - begun)) '$ARGS.named' >"$file.new"
    mv "$file.new" "$file"
}
result_of() { jq -r --arg rollout "$rollout" 'select(.rollout == $rollout) | .result' "$(slot "$1").json" 2>/dev/null || true; }

progress() {
    local done=0 host
    for host in "${hosts[@]}"; do case "$(result_of "$host")" in done | failed | back | lost) done=$((done + 1)) ;; esac; done
    say "[$done/${#hosts[@]}] $*"
}

# --- one host; runs in its own process, its output in HOST.log ---
status_json() { root 'weather-station status --json' </dev/null 2>/dev/null; }

no_reading='no new reading since it started' not_accepted='the hub has accepted no new reading'
# healthy VERSION: waits until the station is; says in $why what is missing. $hub and $sensor: whether it is asked for these.
healthy() {
    local first now end=$((SECONDS + timeout)) first_sequence='' first_accepted='' longer=0
    why='it does not answer "weather-station status --json"'
    while true; do
        if [ "$SECONDS" -ge "$end" ]; then
            # Once, and only for what takes its time in a well station: a fault is not waited for.
            case "$why" in "$no_reading" | "$not_accepted") ;; *) return 1 ;; esac
            [ "$longer" -gt 0 ] || return 1
            say "well, but $why: its configuration takes up to $longer seconds more"
            end=$((end + longer)) longer=0
        fi
        if now=$(status_json) && jq -e . >/dev/null 2>&1 <<<"$now"; then
            if [ -z "$first_sequence" ]; then
                first=$now
                first_sequence=$(jq -r '.store.lastSequence' <<<"$first")
                first_accepted=$(jq -r '.cloud.lastAcceptedSequence // 0' <<<"$first")
                longer=$(patience "$hub" "$timeout" <<<"$first")
            fi
            why=$(jq -r --arg version "$1" --arg hub "$hub" --arg sensor "$sensor" --argjson sequence "$first_sequence" --argjson accepted "$first_accepted" \
                --arg no_reading "$no_reading" --arg not_accepted "$not_accepted" '
                if .version != $version then "it runs version \(.version), expected \($version)"
                elif $sensor == "yes" and .sensor.state != "ok" then "sensor \(.sensor.state): \(.sensor.reason // "no reason given")"
                elif $sensor == "yes" and .store.lastSequence <= $sequence then $no_reading
                elif $hub == "yes" and .cloud.state != "online" then "hub: \(.cloud.state), \(.cloud.reason // "no reason given")"
                elif $hub == "yes" and (.cloud.lastAcceptedSequence // 0) <= $accepted then $not_accepted
                else "" end' <<<"$now")
            [ -n "$why" ] || return 0
        fi
        sleep 2
    done
}

one_host() {
    local host=$1 begun=$SECONDS before='' after='' why='' sensor=yes file architecture wanted installed=0
    target=$host
    ssh_options+=(-o BatchMode=yes)
    if ! (open_target) >/dev/null 2>&1; then
        record "$host" failed "unreachable by ssh, or no root there"
        return
    fi
    open_target
    before=$(root 'dpkg -s weather-station 2>/dev/null' </dev/null | sed -n 's/^Status: .* installed$/installed/p; s/^Version: //p' | paste -sd' ' | sed -n 's/^installed //p' || true)
    architecture=$(on_target 'dpkg --print-architecture' </dev/null || true)
    file=$package
    [ ! -d "$package" ] || file=$(find "$package" -maxdepth 1 -name "weather-station_*_$architecture.deb" -printf '%T@ %p\n' | sort -rn | head -1 | cut -d' ' -f2-)
    if [ -z "$file" ]; then
        record "$host" failed "no package for ${architecture:-an unknown architecture}"
        return
    fi
    wanted=$(dpkg-deb --field "$file" Version)
    if [ "$dry_run" = yes ]; then
        say "$host: ${before:-nothing} -> $wanted${config:+, configuration}"
        return
    fi
    # The way back is made before anything is changed: the package that is installed, the configuration in force, and how the
    # station was. An interrupted attempt has made it already, and must not overwrite it with what that attempt installed.
    # It counts only when all of it is on the disk: a full disk must not leave half a package under that name.
    if ! root "
        set -e
        [ -d /etc/weather-station ] && [ ! -e /var/cache/weather-station/fleet-$rollout ] || exit 0
        mkdir -p /var/cache/weather-station
        cd /var/cache/weather-station
        rm -rf fleet-*
        mkdir fleet-new
        [ ! -e /etc/weather-station/station.toml ] || cp -p /etc/weather-station/station.toml fleet-new/
        [ ! -e current.deb ] || cp -p current.deb fleet-new/back.deb
        weather-station status --json > fleet-new/status.json 2>/dev/null || true
        sync -f fleet-new
        mv fleet-new fleet-$rollout" </dev/null; then
        record "$host" failed "could not keep the present state (disk full or read-only?)"
        return
    fi
    if [ -n "$before" ]; then
        if ! root "test -e /var/cache/weather-station/fleet-$rollout/back.deb" </dev/null; then
            record "$host" failed "no way back: $before was not installed by install.sh or fleet.sh; run deploy/install.sh with that version first"
            return
        fi
        # After an interrupted attempt dpkg may name the new version already.
        before=$(root "dpkg-deb --field /var/cache/weather-station/fleet-$rollout/back.deb Version" </dev/null)
    fi
    record "$host" working "installing $wanted"

    why=''
    # Half an hour: a host that answers but hangs must not hold its batch for ever. `timeout` makes a process group of its own,
    # which an interrupt of this host's group does not reach: it is passed on, and the installation's end waited for.
    trap 'jobs -p | xargs -r kill -TERM; wait; exit 143' INT TERM
    timeout --kill-after=20 1800 "$here/install.sh" --package "$file" ${config:+--config "$config"} "$host" &
    wait $! || installed=$?
    trap - INT TERM
    if [ "$installed" != 0 ]; then
        why="installation failed (see $(basename "$(slot "$host")").log)"
    elif [ "$dps" = yes ] && ! "$here/provision.sh" --dps "$host"; then
        why='provisioning by the service failed'
    elif [ -n "$secrets" ] && [ -r "$secrets/$host" ] && ! provision_once "$host"; then
        why='provisioning failed'
    elif healthy "${wanted%-*}"; then
        after=$wanted
        record "$host" 'done' "healthy"
        return
    fi

    # --- back ---
    local first=$why
    say "going back: $first"
    if [ -z "$before" ]; then
        if root 'DEBIAN_FRONTEND=noninteractive apt-get remove -y weather-station >/dev/null' </dev/null; then
            record "$host" back "$first; removed again, as it was not installed before"
        else
            record "$host" lost "$first; and could not be removed again"
        fi
        return
    fi
    # Going back heals what the new version broke, not what was broken before: of a station whose sensor was dead no reading is
    # asked, and of none that the hub accepts (a dead network). Where it is not known how the station was, its sensor counts.
    hub=no
    if root "cat /var/cache/weather-station/fleet-$rollout/status.json" </dev/null 2>/dev/null | jq -e '.sensor.state != "ok"' >/dev/null 2>&1; then sensor=no; fi
    # What was kept has done its work then: a later attempt must not go back beyond what somebody repaired in between.
    if ! root "
        set -e
        cd /var/cache/weather-station/fleet-$rollout
        DEBIAN_FRONTEND=noninteractive dpkg --force-downgrade --force-confold -i back.deb
        [ ! -e station.toml ] || cp -p station.toml /etc/weather-station/station.toml
        cp -p back.deb ../back.deb
        mv ../back.deb ../current.deb
        systemctl restart weather-station.service
        cd ..
        rm -rf fleet-$rollout" </dev/null; then
        record "$host" lost "$first; and the way back failed"
        return
    fi
    after=$before
    if ! healthy "${before%-*}"; then
        record "$host" lost "$first; back on $before, but: $why"
    elif [ "$sensor" = yes ]; then
        record "$host" back "$first; back on $before and taking readings"
    else
        record "$host" back "$first; back on $before, with the sensor that was not well before either"
    fi
}

# A station that already has this identity refuses another only with --force: an interrupted run must not fail on that.
provision_once() {
    local present wanted
    present=$(root 'weather-station provision --show' </dev/null 2>/dev/null | sed -n 's/^\(host\|device id\)  *//p' | paste -sd/ || true)
    wanted=$(sed -n 's/^\(.*;\)\{0,1\}HostName=\([^;]*\).*/\2/p' "$secrets/$1")/$(sed -n 's/^\(.*;\)\{0,1\}DeviceId=\([^;]*\).*/\2/p' "$secrets/$1")
    if [ "$present" = "$wanted" ]; then
        say "the identity is in place already"
        return 0
    fi
    "$here/provision.sh" --connection-string-file "$secrets/$1" "$1"
}

# --- all hosts ---
report() {
    local host
    for host in "${hosts[@]}"; do
        jq -c --arg rollout "$rollout" 'select(.rollout == $rollout)' "$(slot "$host").json" 2>/dev/null |
            grep . || jq -cn --arg host "$host" --arg rollout "$rollout" '{host: $host, rollout: $rollout, result: "not started", detail: "", before: "", after: "", seconds: 0}'
    done | jq -s --arg rollout "$rollout" '{rollout: $rollout, hosts: ., total: length,
        counts: (group_by(.result) | map({key: .[0].result, value: length}) | from_entries), complete: all(.result == "done")}' >"$state/report.json.new"
    mv "$state/report.json.new" "$state/report.json"
}
table() {
    jq -r '.hosts[] | [.host, .result, (.before | if . == "" then "-" else . end), (.after | if . == "" then "-" else . end), "\(.seconds) s", .detail] | @tsv' "$state/report.json" |
        { printf 'host\tresult\tbefore\tafter\ttime\tdetail\n'; cat; } | column -t -s "$(printf '\t')"
}

running=()
stop() {
    trap - INT TERM
    local process
    for process in "${running[@]}"; do kill -- "-$process" 2>/dev/null || true; done
    wait
    report
    say "interrupted; start again with the same arguments to go on"
    exit 130
}
trap stop INT TERM

failed=0
run_batch() {
    local host
    running=()
    # Each host's work is a process group of its own: an interrupt ends all of it, not only its shell.
    set -m
    for host in "$@"; do
        (
            trap - INT TERM
            exec 9>&-
            one_host "$host"
        ) >"$(slot "$host").log" 2>&1 &
        running+=($!)
        progress "$host: started"
    done
    set +m
    local place=0
    for host in "$@"; do
        wait "${running[$place]}" || true
        place=$((place + 1))
        case "$(result_of "$host")" in
        'done') ;;
        *) failed=$((failed + 1))
            case "$(result_of "$host")" in failed | back | lost) ;; *) begun=$SECONDS record "$host" lost "the work on it ended unexpectedly (see its log)" ;; esac ;;
        esac
        progress "$host: $(jq -r '"\(.result), \(.detail)"' "$(slot "$host").json")"
    done
    running=()
    report
}

if [ "$dry_run" = yes ]; then
    for host in "${hosts[@]}"; do
        if ! (one_host "$host"); then say "$host: could not be looked at"; fi
    done
    exit 0
fi

# The canaries are the first hosts of the file; those that an earlier run has finished are not waited for again.
waiting=() pending_canaries=0 place=0
for host in "${hosts[@]}"; do
    if [ "$(result_of "$host")" = 'done' ]; then progress "$host: done before"; else
        waiting+=("$host")
        [ "$place" -ge "$canaries" ] || pending_canaries=$((pending_canaries + 1))
    fi
    place=$((place + 1))
done
while [ "${#waiting[@]}" -gt 0 ]; do
    size=$batch canary=no
    if [ "$pending_canaries" -gt 0 ]; then size=$pending_canaries canary=yes pending_canaries=0; fi
    now=("${waiting[@]:0:$size}")
    waiting=("${waiting[@]:$size}")
    run_batch "${now[@]}"
    if [ "$failed" -gt "$failures" ] || { [ "$canary" = yes ] && [ "$failed" -gt 0 ]; }; then
        [ "${#waiting[@]}" = 0 ] || say "stopped: $failed failed; ${#waiting[@]} hosts are not touched"
        break
    fi
done
report
table
jq -e .complete "$state/report.json" >/dev/null
