#!/usr/bin/env bash
# Brings many weather stations to one package and configuration: a canary first, then batches in parallel.
#
#   deploy/fleet.sh [options] HOSTS
#
#   HOSTS             a file: one ssh destination a line, the canary first; # begins a comment
#   --package PATH    the package, or a folder with one per architecture; default: target/package
#   --config FILE     configuration for all of them; default: each keeps its own
#   --provision DIR   gives DIR/HOST (a connection string, if there is such a file) to each host's TPM; --dps: by the service.
#                     A host that is done is provisioned again when that file has been written again
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
# and is checked again, for what was well before. One whose page is off is left alone without --config: nobody can ask it.
# Interrupted, it goes on where it stopped when started again with the same package, configuration and identities.
# At the end a table, and DIR/report.json. Status 0: every host is done. Needs jq here.
#
# A station that is well when the timeout ends, and only has nothing new to show yet, is waited for longer: by
# telemetry.readings_per_message (above 1) times sensor.interval, by two intervals where these are longer than the timeout, and by
# store.max_loss. Its log in DIR says for how long.
set -euo pipefail
# What the stations say, and how far they are, is nobody else's affair.
umask 077
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

hosts_file='' package=$here/../target/package config='' secrets='' dps=no canaries=1 batch=10 failures=0 timeout=180 hub=yes offline=() state=fleet
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
    --offline) hub=no offline=(--offline) ;;
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
# What an interrupt has just ended may hold it for a moment.
flock -w 3 9 || fail "another fleet.sh works with $state, or what one has begun is not over yet"

# What this roll-out is: a host that is done for it is skipped when the script runs again.
if [ -d "$package" ]; then packages=("$package"/weather-station_*.deb); else packages=("$package"); fi
[ -r "${packages[0]}" ] || fail "no package in $package: build one with deploy/build.sh"
rollout=$(cat "${packages[@]}" ${config:+"$config"} | sha256sum | cut -c1-16)

# What each host is to get beyond package and configuration: one that was done without that is not done. Of an identity only what
# changes whenever its file is written, for nothing that is made of a key belongs in a record.
declare -A asked=()
for host in "${hosts[@]}"; do
    asked[$host]="$dps ${offline[*]} $([ -z "$secrets" ] || stat -L --format '%i %s %.9Y %.9Z' -- "$secrets/$host" 2>/dev/null || true)"
done

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
    jq -n --arg host "$1" --arg rollout "$rollout" --arg asked "${asked[$1]}" --arg result "$2" --arg detail "$3" --arg before "${before:-}" \
        --arg after "${after:-}" --argjson seconds $((SECONDS - begun)) '$ARGS.named' >"$file.new"
    mv "$file.new" "$file"
}
# recorded HOST FILTER: from what is recorded of it for this roll-out; nothing where there is none.
recorded() {
    jq -rc --arg rollout "$rollout" --arg asked "${asked[$1]}" "select(.rollout == \$rollout and .asked == \$asked) | $2" "$(slot "$1").json" 2>/dev/null || true
}
result_of() { recorded "$1" .result; }

progress() {
    local done=0 host
    for host in "${hosts[@]}"; do case "$(result_of "$host")" in done | failed | back | lost) done=$((done + 1)) ;; esac; done
    say "[$done/${#hosts[@]}] $*"
}

# shellcheck source=deploy/fleet-host.sh
. "$here/fleet-host.sh"
if [ -n "$config" ] && grep -Eq "$key_file" "$config"; then
    for host in "${hosts[@]}"; do ! provisioned "$host" || fail "$host by $config: $not_in_tpm"; done
fi

# --- all hosts ---
report() {
    local host
    for host in "${hosts[@]}"; do
        recorded "$host" . | grep . || jq -cn --arg host "$host" --arg rollout "$rollout" '{host: $host, rollout: $rollout, result: "not started", detail: "", before: "", after: "", seconds: 0}'
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
    trap - INT TERM HUP
    local process
    for process in "${running[@]}"; do kill -- "-$process" 2>/dev/null || true; done
    wait
    report
    say "interrupted; start again with the same arguments to go on"
    exit 130
}
trap stop INT TERM HUP

failed=0
run_batch() {
    local host
    running=()
    # Each host's work is a process group of its own: an interrupt ends all of it, not only its shell.
    set -m
    for host in "$@"; do
        (
            # The lock stays open in here: as long as something works on a host, no other fleet.sh may. (ssh closes it by itself.)
            trap - INT TERM HUP
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
