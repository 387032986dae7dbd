#!/usr/bin/env bash
# fleet.sh over several booted machines with their own systemd, sshd and network namespace: a good roll-out, a bad package,
# one host broken in each way, an interruption. Needs root and apt mirrors.
# shellcheck disable=SC2016  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_root
need_packages debootstrap iproute2 openssh-client swtpm jq bsdextrautils

names=(alder birch cedar doum elder fir)
deb=$(package amd64)
version=$(dpkg-deb --field "$deb" Version)
upstream=${version%-*}
network
hub "${names[@]}"
number=0
for name in "${names[@]}"; do
    number=$((number + 1))
    machine "$name" $number
    tpm "$name" $number
    printf '%s\n' "$tcti" >"$run/$name.tcti"
done

# --- before: every host runs the present version, each with its own configuration and identity ---
mkdir -p "$run/secrets"
configure() { # NAME SOURCE: the host's own configuration
    printf '[sensor]\nsource = "%s"\ninterval = "1s"\n[identity]\ntcti = "%s"\n[hub]\ntransport = "amqp"\nca_file = "/etc/weather-station/ca.pem"\n' \
        "$2" "$(cat "$run/$1.tcti")" >"$run/$1.toml"
}
printf '%s # the canary\n' "${names[0]}" >"$run/hosts"
printf '%s\n' "${names[@]:1}" >>"$run/hosts"
for name in "${names[@]}"; do
    cp "$run/$name.string" "$run/secrets/$name"
    on "$name" 'mkdir -p /etc/weather-station && cat > /etc/weather-station/ca.pem' <"$run/hub/ca.pem"
    configure "$name" simulated
done
fleet() { deploy/fleet.sh --state "$run/state" --timeout 40 "$@"; }
result() { jq -r --arg host "$1" '.hosts[] | select(.host == $host) | .result' "$run/state/report.json"; }
detail() { jq -r --arg host "$1" '.hosts[] | select(.host == $host) | .detail' "$run/state/report.json"; }
is() { [ "$(result "$1")" = "$2" ] || { jq -c '.hosts[] | [.host, .result, .detail]' "$run/state/report.json"; return 1; }; }
at() { on "$1" dpkg -s weather-station | grep -qx "Version: $2"; }
status() { on "$1" weather-station status --json | jq -er "$2"; }

# The configuration is per host here, so the first installation is install.sh's; later roll-outs leave it alone.
first() { deploy/install.sh --package "$deb" --config "$run/$1.toml" "$1"; }
for name in "${names[@]}"; do prove "$name: first installation" first "$name"; done

# --- nothing is touched by a dry run ---
prove "a dry run looks at every host" fleet --dry-run --package "$deb" "$run/hosts"
prove "a dry run names versions" said "alder: $version -> $version"

# --- a good roll-out, with identities ---
other_version "$deb" "$upstream-2" "$run/good_amd64.deb"
prove "a good package reaches all hosts" fleet --package "$run/good_amd64.deb" --provision "$run/secrets" --batch 3 "$run/hosts"
cp "$run/output" "$run/good.log"
prove "the report is complete" jq -e '.complete and .total == 6 and .counts.done == 6' "$run/state/report.json"
for name in "${names[@]}"; do
    prove "$name: new version" at "$name" "$upstream-2"
    prove "$name: online with its own identity" status "$name" 'select(.cloud.state == "online" and .identity.deviceId == "'"$name"'")'
done
canary_first() { [ "$(grep -n 'alder: done' "$run/good.log" | head -1 | cut -d: -f1)" -lt "$(grep -n 'birch: started' "$run/good.log" | head -1 | cut -d: -f1)" ]; }
prove "the canary was done before the next host began" canary_first
parallel() { [ "$(grep -n 'cedar: started' "$run/good.log" | cut -d: -f1)" -lt "$(grep -n 'birch: done' "$run/good.log" | cut -d: -f1)" ]; }
prove "the hosts of a batch ran at the same time" parallel
prove "progress was shown" grep -q '^\[6/6\]' "$run/good.log"
prove "a table was printed" grep -Eq '^alder +done' "$run/good.log"
prove "again: everything is done before" fleet --package "$run/good_amd64.deb" --provision "$run/secrets" "$run/hosts"
none_worked_on() { [ "$(grep -c 'done before' "$run/again")" = 6 ]; }
cp "$run/output" "$run/again"
prove "again: no host was worked on" none_worked_on

# --- a bad package: its program is not the version that the package says ---
other_version "$deb" 9.0.0-1 "$run/bad_amd64.deb"
refuse "a bad package fails" fleet --package "$run/bad_amd64.deb" --timeout 15 "$run/hosts"
prove "the canary went back" is alder back
prove "the report says why" grep -q 'expected 9.0.0' <(detail alder)
prove "the canary runs the previous version" at alder "$upstream-2"
prove "the canary goes on, online" until_true 30 status alder 'select(.cloud.state == "online")'
for name in "${names[@]:1}"; do
    prove "$name was not touched" is "$name" 'not started'
    prove "$name is on its version" at "$name" "$upstream-2"
done

# --- one host broken in each way, the others go on ---
other_version "$deb" "$upstream-3" "$run/next_amd64.deb"
on birch 'systemctl stop ssh.socket ssh.service' || true                                                  # cannot be reached
on cedar 'sed -i "s/simulated/bme280/" /etc/weather-station/station.toml; systemctl restart weather-station' # has no sensor
# Has room for half a package beside the one that it keeps.
on doum "cd / && cp -p /var/cache/weather-station/current.deb /root/ && mount -t tmpfs -o size=$(($(stat -c %s "$deb") * 3 / 2)) full /var/cache/weather-station && cp -p /root/current.deb /var/cache/weather-station/"
on elder 'sed -i "s/^ca_file.*/ca_file = \"\"/" /etc/weather-station/station.toml; systemctl restart weather-station' # trusts no hub
on fir 'mv /usr/bin/deb-systemd-helper /usr/bin/deb-systemd-helper.away; printf "#!/bin/sh\nkill -9 \$PPID\n" > /usr/bin/deb-systemd-helper; chmod +x /usr/bin/deb-systemd-helper' # its maintainer scripts die
refuse "with broken hosts the roll-out is not complete" fleet --package "$run/next_amd64.deb" --timeout 20 --failures 9 --batch 6 "$run/hosts"
prove "the sound host is done" is alder 'done'
prove "unreachable: failed" is birch failed
prove "unreachable: the reason" grep -q 'Connection refused; could not reach birch' <(detail birch)
prove "no sensor: went back" is cedar back
prove "no sensor: the reason" grep -qi 'sensor' <(detail cedar)
prove "no sensor: the previous version is back" at cedar "$upstream-2"
prove "no room: failed before anything was changed" is doum failed
prove "no room: the reason" grep -q 'could not keep the present state' <(detail doum)
prove "no room: still on its version" at doum "$upstream-2"
prove "no trust in the hub: went back" is elder back
prove "no trust in the hub: the reason" grep -q 'hub' <(detail elder)
prove "no trust in the hub: the previous version is back, taking readings" status elder 'select(.sensor.state == "ok")'
prove "broken scripts: not done" test "$(result fir)" != 'done'
prove "broken scripts: the reason" grep -q 'installation failed' <(detail fir)

# --- repaired, the same command finishes the rest ---
ip netns exec "$bridge-2" nsenter -t "$(pgrep -P "$(cat "$run/birch/pid")" | head -1)" -a systemctl start ssh.service
on cedar 'sed -i "s/bme280/simulated/" /etc/weather-station/station.toml; systemctl restart weather-station'
on doum 'umount /var/cache/weather-station'
on elder 'sed -i "s|^ca_file.*|ca_file = \"/etc/weather-station/ca.pem\"|" /etc/weather-station/station.toml; systemctl restart weather-station'
on fir 'mv /usr/bin/deb-systemd-helper.away /usr/bin/deb-systemd-helper'
# Interrupted in the middle of it first.
deploy/fleet.sh --state "$run/state" --timeout 60 --package "$run/next_amd64.deb" --batch 2 "$run/hosts" >"$run/interrupted" 2>&1 &
roller=$!
until_true 60 grep -q 'birch: started' "$run/interrupted" || true
until_true 30 pgrep -f "install.sh --package $run/next_amd64.deb" || true
kill -TERM "$roller"
status=0
wait "$roller" || status=$?
prove "an interrupted roll-out ends with status 130" test "$status" = 130
refuse "an interrupted roll-out leaves no installation running" pgrep -f "install.sh --package $run/next_amd64.deb"
prove "an interrupted roll-out leaves a report" jq -e '.complete | not' "$run/state/report.json"
prove "started again, it goes on and completes" fleet --timeout 60 --package "$run/next_amd64.deb" --batch 6 "$run/hosts"
prove "the host that was done stays done" said 'alder: done before'
for name in "${names[@]}"; do prove "$name: version $upstream-3" at "$name" "$upstream-3"; done

# --- nothing was lost on the way ---
until_true 60 verify "$run/record" || true
without_one "$run/record" >"$run/short"
refuse "verify sees that one is missing" verify "$run/short"
prove "every reading of every station reached the hub" verify "$run/record"
finish
