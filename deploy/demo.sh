#!/usr/bin/env bash
# The whole station on one machine, with nothing faked but the weather: recorded weather in a register-level
# BME280, a TPM 2.0 (swtpm), a hub with TLS that checks every token, and the page.
#
#   deploy/demo.sh               runs until Ctrl-C
#   deploy/demo.sh --seconds 20  ends by itself; status 0 only if nothing was lost
#
# Needs Rust (cargo) and, for missing system packages, root or sudo. Everything it makes is in a temporary
# folder and target/; everything it starts, it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=0
while [ $# -gt 0 ]; do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    --seconds=*) seconds=${1#*=}; shift ;;
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "demo.sh: unknown argument '$1' (try --help)" >&2; exit 64 ;;
  esac
done
case $seconds in '' | *[!0-9]*) echo "demo.sh: --seconds takes a whole number, not '$seconds'" >&2; exit 64 ;; esac
if [ "$seconds" -gt 0 ] && [ "$seconds" -lt 15 ]; then
  echo "demo.sh: the show (hub stopped, station killed) needs --seconds 15 or more" >&2; exit 64
fi

say() { printf '%s\n' "$*"; }
step() { printf '\n==> %s\n' "$*"; }

# --- what the machine must have -------------------------------------------------------------------------
packages=(
  "gcc:builds the C part of SQLite"
  "libc6-dev:C headers for it"
  "pkg-config:finds the TPM library"
  "libtss2-dev:the TPM 2.0 library"
  "swtpm:a TPM 2.0 in software, in place of the chip"
  "tpm2-tools:tries to take the key out of it"
  "curl:reads the station's page"
  "jq:reads JSON"
)
absent=()
for entry in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "${entry%%:*}" 2>/dev/null | grep -q 'ok installed' || absent+=("$entry")
done
if [ ${#absent[@]} -gt 0 ]; then
  step "System packages that are missing"
  printf '  %s\n' "${absent[@]/:/: }"
  as_root=()
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${absent[@]%%:*}" >/dev/null
fi
command -v cargo >/dev/null || { echo "demo.sh: cargo is not there: install Rust from https://rustup.rs" >&2; exit 1; }

step "Building (the first time takes some minutes)"
cargo build --release --workspace --bins
target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)/release
station=$target/weather-station emulator=$target/hub-emulator

# --- a folder, and an end -------------------------------------------------------------------------------
dir=$(mktemp -d "${TMPDIR:-/tmp}/weather-station-demo.XXXXXX")
tpm_pid='' hub_pid='' station_pid='' stopped=''
end_process() { # PID: asks, waits, insists
  [ -n "$1" ] || return 0
  kill -TERM "$1" 2>/dev/null || return 0
  for _ in $(seq 120); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done
  kill -KILL "$1" 2>/dev/null || true
}
cleanup() {
  trap '' INT TERM
  end_process "$station_pid"; end_process "$hub_pid"; end_process "$tpm_pid"
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'stopped=yes' INT TERM

# Children live in sessions of their own, so that Ctrl-C reaches this script alone and the end is in order.
start() { # LOG COMMAND...: sets `started`
  local log=$1; shift
  setsid "$@" >>"$log" 2>&1 </dev/null &
  started=$!
}
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
wait_until() { # WHAT COMMAND...
  local what=$1; shift
  for _ in $(seq 150); do "$@" && return 0; sleep 0.1; done
  echo "demo.sh: $what did not come up; the end of its log:" >&2; tail -n 5 "$dir"/*.log >&2; exit 1
}

# --- the TPM: ports in pairs, the second one for control ------------------------------------------------
mkdir "$dir/tpm"
start_tpm() {
  local try
  for try in $(seq 20); do
    tpm_port=$((20000 + (RANDOM % 10000) * 2))
    listening "$tpm_port" && continue
    listening "$((tpm_port + 1))" && continue
    start "$dir/tpm.log" swtpm socket --tpm2 --tpmstate "dir=$dir/tpm" \
      --server "type=tcp,port=$tpm_port,bindaddr=127.0.0.1" \
      --ctrl "type=tcp,port=$((tpm_port + 1)),bindaddr=127.0.0.1" --flags not-need-init,startup-clear
    tpm_pid=$started
    for _ in $(seq 50); do
      listening "$tpm_port" && return 0
      kill -0 "$tpm_pid" 2>/dev/null || break
      sleep 0.1
    done
  done
  echo "demo.sh: no TPM after $try tries:" >&2; tail -n 5 "$dir/tpm.log" >&2; exit 1
}
start_tpm
tcti="swtpm:host=127.0.0.1,port=$tpm_port"

# --- the hub --------------------------------------------------------------------------------------------
device=demo-station hub_port=0 web_port=0 control_port=0
( umask 077; head -c 32 /dev/urandom | base64 >"$dir/device.key" )
start_hub() {
  : >"$dir/hub.json"
  setsid "$emulator" --dir "$dir/hub" --port "$hub_port" --https-port "$web_port" --control "$control_port" \
    --device "$device=$dir/device.key" --record "$dir/messages.jsonl" >"$dir/hub.json" 2>>"$dir/hub.log" </dev/null &
  hub_pid=$!
  wait_until "the hub" test -s "$dir/hub.json"
  # -e: a name that the emulator does not print ends the demo, instead of moving the port at the next start.
  hub_port=$(jq -er .port "$dir/hub.json")
  web_port=$(jq -er .httpsPort "$dir/hub.json")
  control_port=$(jq -er .control "$dir/hub.json")
}
start_hub

# --- the station ----------------------------------------------------------------------------------------
page_port=8080
while listening "$page_port"; do page_port=$((20000 + RANDOM % 20000)); done
cat >"$dir/station.toml" <<EOF
[station]
altitude = 4.0
[sensor]
source = "simulated"
interval = "1s"
trace = "$PWD/tests/data/jfk-2013-11.csv"
speed = 60
[identity]
tcti = "$tcti"
[hub]
transport = "amqp"
port = $hub_port
websocket_port = $web_port
ca_file = "$dir/hub/ca.pem"
[store]
path = "$dir/readings.db"
[showcase]
listen = "127.0.0.1:$page_port"
EOF
weather_station() { "$station" --config "$dir/station.toml" "$@"; }
start_station() {
  RUNTIME_DIRECTORY=$dir WEATHER_STATION_LOG=debug start "$dir/station.log" "$station" --config "$dir/station.toml" run
  station_pid=$started
  # -s without -S: curl alone is silent, and what wait_until says is heard.
  wait_until "the station" curl -fs -o /dev/null "http://127.0.0.1:$page_port/api/status"
}
cpu_ticks() { sed 's/.*) //' "/proc/$station_pid/stat" | awk '{print $12 + $13}'; }
status() { curl -fsS --max-time 2 "http://127.0.0.1:$page_port/api/status" 2>/dev/null || echo '{}'; }

step "A random key goes into the TPM"
weather_station provision --host localhost --device-id "$device" --key-file "$dir/device.key"
start_station
step "The station runs: http://127.0.0.1:$page_port/  (Ctrl-C ends it)"
say "    files: $dir"

show() {
  status | jq -r --arg t "$1" 'if .version then
    "\($t)s  \(.sensor.lastReading.currentTemperature // "-") degC  \(.sensor.lastReading.currentHumidity // "-") %RH  " +
    "\(.sensor.lastReading.currentPressure // "-") kPa   stored \(.store.lastSequence)  pending \(.store.pending)  hub \(.cloud.state)"
    else "\($t)s  (the station does not answer)" end'
}
try_to_steal() {
  step "Trying to take the key out of the TPM"
  export TPM2TOOLS_TCTI=$tcti TSS2_LOG=all+NONE
  local taken=0
  for attempt in "tpm2_unseal -c 0x81000100" "tpm2_duplicate -C 0x81000001 -c 0x81000100 -G null -r $dir/d.priv -s $dir/d.seed"; do
    # shellcheck disable=SC2086 # the words of the attempt are meant to split
    if timeout 10 $attempt >"$dir/attempt.log" 2>&1; then taken=1; say "    $attempt: THE KEY CAME OUT"; else say "    ${attempt%% -*}: refused"; fi
  done
  if grep -qF "$(cat "$dir/device.key")" "$dir/station.log" "$dir/hub.log" "$dir/station.toml"; then
    taken=1; say "    the key is in a log"
  fi
  return $taken
}

begin=$SECONDS hub_back='' stolen=0 ticks_before=0 taken_before=0
hub_stop_at=4 kill_at=11
while [ -z "$stopped" ]; do
  elapsed=$((SECONDS - begin))
  [ "$seconds" -gt 0 ] && [ $elapsed -ge "$seconds" ] && break
  if [ $elapsed -ge $hub_stop_at ] && [ $hub_stop_at -gt 0 ]; then
    step "The hub goes away for 5 s"; hub_stop_at=0
    end_process "$hub_pid"; hub_pid=''; hub_back=$((elapsed + 5))
  fi
  if [ -n "$hub_back" ] && [ $elapsed -ge "$hub_back" ]; then
    step "The hub is back"; hub_back=''; start_hub
  fi
  if [ $elapsed -ge $kill_at ] && [ $kill_at -gt 0 ]; then
    step "The station is killed (SIGKILL) and started again"; kill_at=0
    kill -KILL "$station_pid"; wait "$station_pid" 2>/dev/null || true
    start_station
    try_to_steal || stolen=1
    ticks_before=$(cpu_ticks) taken_before=$(status | jq -r '.sensor.taken // 0')
    step "And on it goes"
  fi
  show "$elapsed"
  sleep 1 || true
done

# --- the end: in order, then the sum --------------------------------------------------------------------
step "Ending"
[ -n "$hub_pid" ] || start_hub
rss=$(awk '/VmRSS/ {print $2}' "/proc/$station_pid/status")
ticks=$(($(cpu_ticks) - ticks_before))
taken=$(($(status | jq -r '.sensor.taken // 0') - taken_before))
deadline=$((SECONDS + 10))
while [ "$(status | jq -r '.store.pending // 1')" -gt 1 ] && [ $SECONDS -lt $deadline ]; do sleep 0.2; done
end_process "$station_pid"; wait "$station_pid" && ended=0 || ended=$?
station_pid=''

weather_station export --format json >"$dir/stored.jsonl"
sampled=$(grep -c 'DEBUG sampled' "$dir/station.log" || true)
stored=$(wc -l <"$dir/stored.jsonl")
# A reading a second: the SIGKILL can meet one on its way to the disk. More, or fewer sampled than stored, is wrong.
unstored=$((sampled - stored))
jq -r '"\(.storeId) \(.sequence)"' "$dir/stored.jsonl" | sort -u >"$dir/stored"
jq -r '(.messageId // .["message-id"]) as $id | .body | fromjson? // . | select(.sequence) | "\(.storeId) \(.sequence) \($id)"' \
  "$dir/messages.jsonl" | sort >"$dir/received"
cut -d ' ' -f 1,2 "$dir/received" | sort -u >"$dir/accepted"
accepted=$(wc -l <"$dir/accepted")
# What was stored in the last two seconds may still be on its way.
newest=$(jq -r '.sequence' "$dir/stored.jsonl" | tail -n 1)
missing=$(comm -23 "$dir/stored" "$dir/accepted" | awk -v newest="${newest:-0}" '$2 <= newest - 2' | wc -l)
holes=$(awk 'NR > 1 && $2 != last + 1 {n++} {last = $2} END {print n + 0}' <(sort -k2n "$dir/stored"))
# A message that was sent again is the same one: the same reading under the same id.
duplicates=$(($(wc -l <"$dir/received") - $(cut -d ' ' -f 3 "$dir/received" | sort -u | wc -l)))
renamed=$(sort -u "$dir/received" | cut -d ' ' -f 1,2 | uniq -d | wc -l)
say "$sampled sampled, $stored stored, $accepted accepted, $missing missing, $duplicates duplicates with the same message-id"
say "resident memory $((rss / 1024)).$((rss % 1024 * 10 / 1024)) MB, CPU per reading $((ticks * 1000 / $(getconf CLK_TCK) / (taken > 0 ? taken : 1))) ms (debug log on), $renamed readings under two message-ids"
weather_station verify "$dir/messages.jsonl" || missing=1
# The same record without its first reading: a verdict that is always "complete" proves nothing.
first=$(grep -m 1 -o '"messageId":"[^"]*-[0-9]*"' "$dir/messages.jsonl" || true)
grep -vF -- "$first" "$dir/messages.jsonl" >"$dir/short.jsonl" || true
if weather_station verify "$dir/short.jsonl" >/dev/null; then say "verify does not see a missing reading"; missing=1; fi
if [ "$missing" -ne 0 ] || [ "$holes" -ne 0 ] || [ "$renamed" -ne 0 ] || [ "$stolen" -ne 0 ] || [ "$ended" -ne 0 ] || [ "$stored" -eq 0 ] ||
  [ "$unstored" -lt 0 ] || [ "$unstored" -gt 1 ]; then
  say "FAILED: $unstored sampled and not stored, $missing missing, $holes holes, $renamed under two message-ids, key taken: $stolen, station ended with $ended"
  cp "$dir/station.log" "${TMPDIR:-/tmp}/weather-station-demo.log" && say "the station's log: ${TMPDIR:-/tmp}/weather-station-demo.log"
  exit 1
fi
say "Nothing lost, the key stayed where it is."
