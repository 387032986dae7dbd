#!/usr/bin/env bash
# The unit file and the scripts, without starting anything: quick.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
# shellcheck source=tests/box/guest.sh
. tests/box/guest.sh
need_packages systemd shellcheck python3 jq

# It prints its marks only where the locale has them.
security() { LC_ALL=C.UTF-8 systemd-analyze security --offline=true --no-pager "$1"; }
rating() { security deploy/weather-station.service | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p'; }
rated=$(rating)
prove "systemd-analyze security rates the unit 1.5 or better ($rated)" awk -v r="$rated" 'BEGIN { exit !(r > 0 && r <= 1.5) }'

# Everything that the tool marks must be talked about in the unit's comments, by the name the tool uses.
explained() { # UNIT
    local setting settings missing=0
    settings=$(security "$1" | awk '$1 == "✗" { print $2 }' | sed -E 's/.*=~\(?//; s/[=\/].*//; s/AF_\(INET.*/AF_INET/')
    [ -n "$settings" ] || { echo "nothing is marked, so nothing was looked at"; return 1; }
    for setting in $settings; do
        grep '^#' "$1" | grep -q -- "$setting" || { echo "no comment on $setting"; missing=1; }
    done
    return $missing
}
prove "what the rating marks is explained in a comment" explained deploy/weather-station.service
# A check that cannot fail is a defect: the same check must see what is not explained.
mkdir "$run/unexplained"
sed '/^#/d' deploy/weather-station.service >"$run/unexplained/weather-station.service"
refuse "that sees a unit without comments" explained "$run/unexplained/weather-station.service"
prove "by its settings" said '^no comment on '

# verify wants the program at its place: in a copy, where any program stands in for it.
mkdir -p "$run/units"
sed 's|^ExecStart=/usr/bin/weather-station|ExecStart=/bin/true|; /^Documentation=/d' deploy/weather-station.service >"$run/units/weather-station.service"
sed '/^Documentation=/d' deploy/weather-station.slice >"$run/units/weather-station.slice"
verified() {
    local said
    said=$(systemd-analyze verify --man=no "$run/units/weather-station.service" "$run/units/weather-station.slice" 2>&1) || { echo "$said"; return 1; }
    if grep -E "$run/units|weather-station\." <<<"$said"; then return 1; fi
}
prove "systemd-analyze verify has nothing to say about unit and slice" verified
# A check that cannot fail is a defect: the same check must see a broken unit.
sed -i 's/^WatchdogSec=.*/WatchdogSec=soon/' "$run/units/weather-station.service"
refuse "verify sees a broken unit" verified

has() { grep -qx -- "$1" deploy/weather-station.service; }
for line in Type=notify Restart=on-failure RestartPreventExitStatus=78 StartLimitIntervalSec=0 WatchdogSec=60s User=weather-station \
    'Environment=TSS2_LOG=all+NONE' DevicePolicy=closed 'DeviceAllow=char-i2c rw' 'DeviceAllow=/dev/tpmrm0 rw' Wants=dev-tpmrm0.device; do
    prove "the unit says $line" has "$line"
done
refuse "the unit does not require the TPM" grep -q '^Requires=' deploy/weather-station.service
refuse "the unit does not forbid adjtimex (ProtectClock)" grep -qx 'ProtectClock=yes' deploy/weather-station.service

for group in i2c tss; do
    prove "the account joins $group" grep -qx "m weather-station $group" deploy/package/weather-station.sysusers
done
prove "sysusers accepts its file" systemd-sysusers --dry-run --root="$run" "$PWD/deploy/package/weather-station.sysusers"
# The boxed machines' look at the dates in the hub's record: it must see a wrong one, and that there is none at all.
record() { # TIME...: lines as the emulator writes them, a body being text
    local time
    for time in "$@"; do
        jq -nc --arg time "$time" '{index: 0, device: "box", body: ({time: $time, currentTemperature: 15.0, sequence: 1} | tojson)}'
        jq -nc --arg time "$time" '{index: 1, device: "box", body: ([{time: $time, currentTemperature: 15.0}] | tojson)}'
    done
    jq -nc '{index: 2, device: "box", body: ({time: "1970-01-01T00:00:10.000Z", event: "started"} | tojson)}, {index: 3, device: "box", body: {base64: "AAA="}}'
}
now=$(date -u +%Y-%m-%dT%H:%M:%S.250Z)
record "$now" >"$run/record"
prove "readings of today are rightly dated" dated "$run/record"
record "$now" 1970-01-01T00:01:00.000Z >"$run/record"
refuse "a reading of 1970 is seen" dated "$run/record"
prove "and shown" said 1970
record >"$run/record"
refuse "a record without a reading is no proof" dated "$run/record"
echo '{"body": ' >"$run/record"
refuse "a record that cannot be read is none either" dated "$run/record"
# What the closing `verify` of the others is tried with: the first reading is gone, also where it came twice, and events stay.
printf '{"messageId":"s-run-%s"}\n' e1 1 2 1 e2 >"$run/record"
prove "a record without its first reading has all but that" diff <(without_one "$run/record") <(printf '{"messageId":"s-run-%s"}\n' e1 2 e2)
# A refusal is the command's own word.
for status in 124 126 127 255; do
    prove "status $status is not taken for a refusal" grep -q '^FAILED' <(refuse "played" sh -c "exit $status")
done
prove "status 1 is" grep -q '^ok' <(refuse "played" false)

# build.sh --install-needs on a machine with nothing: apt, dpkg, curl and what it downloads are played, and tell in which order they came.
clean=$run/clean
mkdir -p "$clean/bin" "$clean/home"
for tool in bash sh cat chmod dirname grep mkdir sed test xargs; do ln -s "$(command -v "$tool")" "$clean/bin/$tool"; done
played() { cat >"$clean/bin/$1" && chmod +x "$clean/bin/$1"; }
played dpkg <<'SH'
#!/bin/sh
echo amd64
SH
played dpkg-query <<'SH'
#!/bin/sh
for package in "$@"; do :; done
grep -q "^apt-get install.* ${package%:*}\( \|$\)" "$HOME/order" && echo installed
SH
played apt-get <<'SH'
#!/bin/sh
echo "apt-get $*" >>"$HOME/order"
SH
played curl <<'SH'
#!/bin/sh
echo curl >>"$HOME/order"
echo 'mkdir -p "$HOME/.cargo/bin" && printf "#!/bin/sh\necho cargo \"\$@\" >>\"\$HOME/order\"\n" >"$HOME/.cargo/bin/cargo" && chmod +x "$HOME/.cargo/bin/cargo"'
SH
: >"$clean/home/order"
cp -r --parents deploy/build.sh "$clean"
prove "build.sh --install-needs gets through on a clean machine" env -i HOME="$clean/home" PATH="$clean/bin" "$clean/deploy/build.sh" --install-needs amd64
before() { [ "$(grep -n -m1 "$1" "$clean/home/order" | cut -d: -f1)" -lt "$(grep -n -m1 "$2" "$clean/home/order" | cut -d: -f1)" ]; }
prove "curl and certificates come before Rust" before '^apt-get install.* curl ca-certificates' '^curl'
prove "and cargo is found as soon as rustup has put it where it does" before '^curl' '^cargo build'

# run.sh --all, where it could not get through: id and dpkg are played.
mkdir "$run/elsewhere"
elsewhere() { # COMMAND ANSWER: another user, or another machine
    printf '#!/bin/sh\necho %s\n' "$2" >"$run/elsewhere/$1"
    chmod +x "$run/elsewhere/$1"
    timeout 20 env PATH="$run/elsewhere:$PATH" tests/run.sh --all
}
refuse "run.sh --all refuses who is not root" elsewhere id 1000
prove "at once, and says so" said 'as root on amd64'
rm "$run/elsewhere/id"
refuse "and another machine" elsewhere dpkg arm64
prove "as well" said 'as root on amd64'

refuse "demo.sh: no wait is silenced as a whole, with the reason that it gives" grep -n 'wait_until .*2>' deploy/demo.sh

mapfile -t scripts < <(find deploy tests/field tests/box -name '*.sh' 2>/dev/null; find deploy/package/scripts -type f)
prove "shellcheck is content with ${#scripts[@]} scripts" shellcheck -x "${scripts[@]}"
prove "wiring diagram and pin table are what their source says" hardware/wiring.py --check
finish
