#!/usr/bin/env bash
# Installs what the tests need and runs them all.
#
#   tests/run.sh         the everyday proof: format, lints, tests, the demo, peers, browser (under 30 minutes)
#   tests/run.sh --all   also the slow ones: clean root, package, fleet, boxed machines, long benches (under 80)
#
# Works on a fresh Debian 12 machine with Rust; needs root or sudo for missing system packages only. --all needs root
# (machines in namespaces) and amd64 (their packages are).
set -euo pipefail
cd "$(dirname "$0")/.."

all=''
case ${1:-} in
  '') ;;
  --all) all=yes; export WEATHER_STATION_SLOW=1 ;;
  -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "run.sh: unknown argument '$1' (try --help)" >&2; exit 64 ;;
esac
if [ -n "$all" ] && { [ "$(id -u)" != 0 ] || [ "$(dpkg --print-architecture)" != amd64 ]; }; then
  echo "run.sh: --all works as root on amd64 only: it boots machines in namespaces, of amd64 packages" >&2
  exit 1
fi

# --- what the tests need --------------------------------------------------------------------------------
packages=(
  gcc libc6-dev pkg-config libtss2-dev # to build
  swtpm swtpm-tools tpm2-tools         # a TPM, and somebody else's tools for it
  curl jq openssl ca-certificates      # to ask and to read
  shellcheck chromium python3          # scripts, the page in a real browser, small peers
  nodejs npm                           # Microsoft's own SDK as a peer
  systemd                              # systemd-analyze on the unit
  iproute2 openssh-server bsdextrautils # network namespaces, deployment over ssh, its table
)
[ -z "$all" ] || packages+=(debootstrap mmdebstrap e2fsprogs lintian)
absent=()
for package in "${packages[@]}"; do
  case $package in nodejs) command -v node >/dev/null && continue ;; npm) command -v npm >/dev/null && continue ;; esac
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || absent+=("$package")
done
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
if [ ${#absent[@]} -gt 0 ]; then
  echo "==> installing ${absent[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${absent[@]}" >/dev/null
fi
if ! getent hosts localhost >/dev/null; then
  # An installed Debian has it; a bare debootstrapped root has not, and other people's peers look it up.
  echo "==> adding localhost to /etc/hosts"
  echo '127.0.0.1 localhost' | "${as_root[@]}" tee -a /etc/hosts >/dev/null
fi

passed=0 failed=0 failures=() child='' beside=()
trap 'kill $child "${beside[@]%%:*}" 2>/dev/null || true; exit 130' INT TERM
limited() { # COMMAND...: begins it. What hangs is ended with all that it started, fails, and so has a name
  # A shell has what runs beside it ignore two signals, which the scripts want to hear.
  timeout --kill-after 30 2400 env --default-signal=INT,QUIT "$@" &
}
ended() { # NAME STATUS HOW: remembers what failed
  if [ "$2" = 0 ]; then
    passed=$((passed + 1)); printf '==> %s: ok (%s)\n' "$1" "$3"
  else
    failed=$((failed + 1)); failures+=("$1"); printf '==> %s: FAILED (%s)\n' "$1" "$3"
  fi
}
run() { # NAME COMMAND...: times it, keeps going
  local name=$1 at=$SECONDS status=0; shift
  printf '\n==> %s\n' "$name"
  limited "$@"; child=$!
  wait "$child" || status=$?
  child=''
  ended "$name" "$status" "$((SECONDS - at)) s"
}
begin() { # NAME COMMAND...: for what waits more than it works; `join` shows what it said
  local log; log=$(mktemp)
  printf '\n==> %s: begun beside what follows\n' "$1"
  limited "${@:2}" >"$log" 2>&1
  beside+=("$!:$log:$1")
}
join() {
  local one process log name status
  for one in "${beside[@]}"; do
    IFS=: read -r process log name <<<"$one"
    status=0; wait "$process" || status=$?
    printf '\n==> %s\n' "$name"
    cat "$log"; rm "$log"
    ended "$name" "$status" "beside the others"
  done
  beside=()
}

scripts() {
  # Not `git ls-files`: a machine with nothing but Rust may have the files without git.
  { find deploy tests -name '*.sh' -not -path '*/node_modules/*' -print0; find .ci -name run -print0 2>/dev/null; } | xargs -0 shellcheck -x
}
export -f scripts

# Most tests wait more than they work.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) * 2))}
cargo_test=(cargo test --workspace --locked --quiet)

if [ -z "$all" ]; then
  run "format" cargo fmt --all --check
  run "shell scripts" bash -c scripts
  run "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
  run "tests" "${cargo_test[@]}" --no-fail-fast
  run "the page in Chromium" "${cargo_test[@]}" --test showcase -- --ignored the_page_in_a_real_browser
  run "the station's frames, read by rhea" "${cargo_test[@]}" --test wire -- --ignored
  run "Microsoft's Node SDK and the emulator" tests/hub-emulator/interop/run.sh
  run "the unit, its sandbox and the wiring diagram" tests/field/unit.sh
  run "roll-outs over played hosts" tests/field/rollout.sh
  run "roll-outs that are cut short" tests/field/cut.sh
  run "one played host" tests/field/one-host.sh
  run "the demo, 20 seconds" deploy/demo.sh --seconds 20
  run "figures, generous margins" tests/bench.sh --gate
  echo
  echo "Left to --all: long kills, power cuts and soak, 20 stations with the provisioning service; packages, deployment, fleet, clean root, boxed machines, long bench."
else
  # All that this script does without --all is done in the clean root, and not here once more: of the tests only those
  # that have more to do when there is time.
  run "tests that have slow parts" "${cargo_test[@]}" --no-fail-fast --test store --test crash --test faults --test tpm -- --skip twenty_stations
  # They wait more than they work: beside the packages. The twenty give the hub ten minutes to be gone for good.
  begin "twenty stations and the provisioning service" "${cargo_test[@]}" --test tpm -- twenty_stations
  begin "figures: the card, and a thousand stations" tests/bench.sh --long device fleet
  begin "what the boxed machines need is fetched" bash -c 'tests/box/fetch.sh amd64 && tests/box/fetch.sh arm64'
  run "the packages are built" deploy/build.sh --install-needs
  run "the package in clean roots and with systemd" tests/field/package.sh
  run "installed, provisioned and removed over ssh" tests/field/ssh.sh
  run "a card that sets itself up" tests/field/card.sh
  run "a fleet, with each host broken in its way" tests/field/fleet.sh
  join
  run "both README commands in a clean Debian" tests/field/fresh-root.sh
  # Each keeps one processor busy.
  begin "a Raspberry Pi in a box" tests/box/pi.sh
  run "power cuts in a boxed machine" tests/box/power.sh
  join
  # Not `size`, which builds everything anew.
  run "figures, the slow rows" tests/bench.sh --long append start recovery page steady drain wire
fi

echo
[ $failed -eq 0 ] || printf 'FAILED: %s\n' "${failures[@]}"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
