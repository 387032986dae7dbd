#!/usr/bin/env bash
# Measures the station on this machine, each figure beside its peer or its limit in the same run. No network: it
# runs in a network namespace of its own, because Microsoft's SDK dials 5671 whatever it is told.
#
#   tests/bench.sh          a few minutes
#   tests/bench.sh --long   also the slow rows (1,000,000 pending; 1,000 stations coming back at once; device
#                           bytes and the life of a card, as root only); ends with 1 as --gate does
#   tests/bench.sh --gate   short; ends with 1 if a ratio is far off (part of tests/run.sh)
#
# Words after that name topics (size append start recovery page device fleet steady drain wire): these alone.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
  case ${1:-} in
    -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    --long | --gate) ;;
    -*) echo "bench.sh: unknown argument '$1' (try --help)" >&2; exit 64 ;;
  esac
  interop=tests/hub-emulator/interop
  [ -d $interop/node_modules/azure-iot-device-amqp ] || npm ci --prefix $interop --no-audit --no-fund --loglevel=error
  program=$(cargo bench --quiet --locked --workspace --bench figures --no-run --message-format=json |
    jq -r 'select(.target.name? == "figures" and .executable) | .executable')
  # After the bench, which leaves a program with the features of the tests: this is the one that is shipped.
  cargo build --quiet --release --locked --package weather-station --bins
  target=$(cargo metadata --format-version 1 --no-deps | jq -r .target_directory)
  # Its own mounts as well: the private device of `device` is gone with the bench, however that ends.
  namespace=(unshare --net --mount)
  [ "$(id -u)" = 0 ] || namespace=(unshare --user --map-root-user --net --mount)
  exec "${namespace[@]}" "$0" inside "$program" "$target/release/weather-station" "$@"
fi

ip link set lo up
exec "$2" "$3" "${@:4}"
