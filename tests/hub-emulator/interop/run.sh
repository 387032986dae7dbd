#!/usr/bin/env bash
# Microsoft's Node device SDK against the hub emulator, over AMQP and over WebSocket. The SDK dials 5671 and 443
# whatever it is told, so both run in a network namespace of their own. Needs node, npm (once, for the SDK) and
# iproute2, curl and jq; root, or user namespaces.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

if [ "${1:-}" != inside ]; then
  [ -d "$here/node_modules/azure-iot-device-amqp" ] || npm ci --prefix "$here" --no-audit --no-fund --loglevel=error
  target=$(cargo metadata --format-version 1 --no-deps --manifest-path "$here/../Cargo.toml" |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  cargo build --quiet --locked --manifest-path "$here/../Cargo.toml"
  namespace=(unshare --net)
  [ "$(id -u)" = 0 ] || namespace=(unshare --user --map-root-user --net)
  exec "${namespace[@]}" "$here/run.sh" inside "$target/debug/hub-emulator"
fi

ip link set lo up
folder=$(mktemp -d)
hub=''
trap '[ -z "$hub" ] || kill "$hub"; rm -rf "$folder"' EXIT
head -c 32 /dev/urandom | base64 -w0 >"$folder/key"
"$2" --port 5671 --https-port 443 --dir "$folder" --device "roof=$folder/key" >"$folder/ports" &
hub=$!
for _ in $(seq 100); do [ -s "$folder/ports" ] && break; sleep 0.1; done
control=$(sed 's/.*"control":\([0-9]*\).*/\1/' "$folder/ports")
timeout 120 node "$here/device.js" "$control" "$folder/ca.pem" "$folder/key" || {
  echo "run.sh: the hub's last events:" >&2
  curl -s "http://127.0.0.1:$control/events" | jq -c '.[-12:][]' >&2
  exit 1
}
