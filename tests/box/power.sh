#!/usr/bin/env bash
# A whole station in a box, amd64: QEMU with Debian's unmodified kernel, systemd, the package installed by install.sh, a TPM
# (tpm-tis, swtpm), a live BME280 (i2c-tiny-usb), the hub over TLS; and its power is cut, again and again, over a disk that
# loses what was not flushed. Needs root and apt mirrors; nothing of QEMU is installed on this machine.
#
#   tests/box/power.sh [CUTS]      10 by default
# shellcheck disable=SC2016  # what the guest shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
# shellcheck source=tests/box/guest.sh
. tests/box/guest.sh
need_root
need_packages debootstrap kmod cpio e2fsprogs openssh-client jq curl swtpm python3 zstd
tests/box/fetch.sh amd64 >&2
cuts=${1:-10}
deb=$(package amd64)

guest_image
guest_hub station
sensor_start
disk_start
guest_boot

# --- from a bare machine to a station ---
printf '[station]\naltitude = 120.0\n[sensor]\nbus = "/dev/i2c-0"\ninterval = "1s"\n[hub]\ntransport = "amqp"\nport = %s\nwebsocket_port = %s\nca_file = "/etc/weather-station/ca.pem"\n[showcase]\nlisten = "0.0.0.0:8080"\n' \
    "$amqp_port" "$https_port" >"$run/station.toml"
on box 'mkdir -p /etc/weather-station && cat > /etc/weather-station/ca.pem' <"$run/hub/ca.pem"
prove "install.sh installs the package and starts the station" deploy/install.sh --package "$deb" --config "$run/station.toml" box
prove "the udev rule of the package gives /dev/i2c-0 to the group i2c" on box '[ "$(stat -c %G:%a /dev/i2c-0)" = i2c:660 ]'
prove "the BME280 is read through the kernel's driver" soon 180 '.sensor.state == "ok"'
prove "provision.sh puts the identity into the TPM and the hub accepts" bash -c "deploy/provision.sh box < '$run/station.string'"
prove "the station is online" soon 180 '.cloud.state == "online"'
on box weather-station check 2>&1 | sed 's/^/        | /' || true
on box weather-station check --json >"$run/check" || true
for name in configuration sensor tpm clock disk hub; do
    # This machine has no NTP: its clock is plausible, which is a warning.
    prove "check: $name in order" jq -e --arg name "$name" \
        '.checks | map(select(.name == $name)) | length == 1 and (.[0].status == "ok" or ($name == "clock" and .[0].status == "warning"))' "$run/check"
done

# --- the sandbox, on the running unit ---
rated=$(on box systemd-analyze security --no-pager weather-station.service | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
prove "systemd-analyze rates the running unit 1.5 or better ($rated)" awk -v r="$rated" 'BEGIN { exit !(r > 0 && r <= 1.5) }'
main='$(systemctl show -p MainPID --value weather-station)'
# As root, so that it is the sandbox that refuses and not the mode of a file: in the unit's mount namespace, and as a process of
# its control group.
inside() { on box "nsenter -t $main -m sh -c '$1'"; }
in_group() { on box "sh -c 'echo \$\$ > /sys/fs/cgroup\$(systemctl show -p ControlGroup --value weather-station)/cgroup.procs && : $1'"; }
prove "root can write to /usr on this machine" on box 'echo > /usr/x && rm /usr/x'
for path in /usr/x /etc/x /var/lib/x /root/x /boot/x; do
    refuse "within the unit not even root can write $path" inside "echo > $path"
    prove "because it is read-only there" said 'Read-only file system'
done
prove "the store's folder can be written, by the station's account" \
    on box "nsenter -t $main -m setpriv --reuid weather-station --regid weather-station --init-groups sh -c 'echo > /var/lib/weather-station/x && rm /var/lib/weather-station/x'"
for device in /dev/tpm0 /dev/vda /dev/kmsg; do
    prove "root can open $device on this machine" on box ": < $device"
    refuse "in the unit's control group not even root can" in_group "< $device"
    prove "because the group may not" said 'Operation not permitted'
done
for device in /dev/tpmrm0 /dev/i2c-0; do prove "$device is open to it" in_group "<> $device"; done

# --- the watchdog ---
on box 'mkdir -p /run/systemd/system/weather-station.service.d && printf "[Service]\nWatchdogSec=6s\n" > /run/systemd/system/weather-station.service.d/test.conf && systemctl daemon-reload && systemctl restart weather-station'
soon 180 '.sensor.state == "ok"' || true
before=$(on box systemctl show -p MainPID --value weather-station)
on box "kill -STOP $before"
restarted() { [ "$(on box systemctl show -p MainPID --value weather-station)" -gt 0 ] && [ "$(on box systemctl show -p NRestarts --value weather-station)" = 1 ]; }
prove "a stopped process is found by the watchdog and started again" until_true 180 restarted
prove "the journal says it was the watchdog" on box 'journalctl -u weather-station | grep -q "Watchdog timeout"'
quiet() { sleep 15; [ "$(on box systemctl show -p NRestarts --value weather-station)" = 1 ]; }
prove "a healthy station feeds it" quiet

# --- unplugged and back ---
pid() { on box systemctl show -p MainPID --value weather-station; }
before=$(pid)
sensor unplug
prove "sensor unplugged: the status says so" soon 180 '.sensor.state != "ok" and .sensor.reason != null'
sensor plug
prove "sensor plugged in again: read again" soon 180 '.sensor.state == "ok"'
sensor fault absent
prove "the chip silent: the status says so" soon 180 '.sensor.state != "ok"'
sensor fault none
prove "the chip back: read again" soon 180 '.sensor.state == "ok"'
tpm_driver=$(on box 'ls -d /sys/bus/*/drivers/tpm_tis | head -1')
tpm_device=$(on box "ls $tpm_driver | grep -v -e module -e uevent -e bind | head -1")
on box "echo $tpm_device > $tpm_driver/unbind"
hub_restart
# The reason comes with a fresh sign-in: the restarted hub has made the old token void.
prove "TPM unplugged: the station records on and says what it misses" soon 180 '.cloud.state != "online" and .sensor.state == "ok" and ((.cloud.reason // "") + (.identity.reason // "") | test("tpm"; "i"))'
on box "echo $tpm_device > $tpm_driver/bind"
# The kernel may give the chip a new number; the station looks for the old name. This is also the proof that a node which
# appears after the unit has started may be opened (DeviceAllow=char-tpm, not only the node).
on box 'for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /dev/tpmrm0 ] || [ -e /dev/tpmrm1 ] && break; sleep 0.5; done; [ -e /dev/tpmrm0 ] || mv /dev/tpmrm1 /dev/tpmrm0; ls -l /dev/tpmrm*' | sed 's/^/        | /'
prove "TPM back: online again" soon 300 '.cloud.state == "online"'
same() { [ "$(pid)" = "$before" ]; }
prove "none of this restarted the station" same

# --- the power ---
on box 'rm -r /run/systemd/system/weather-station.service.d; systemctl daemon-reload'
total_seen=0 total_lost=0 control_lost=0
for cut in $(seq "$cuts"); do
    watch_start
    sleep "$((RANDOM % 6 + 3)).$((RANDOM % 10))"
    watch_stop
    guest_cut
    seen=$(sort -n "$run/seen" | tail -1)
    control=$(tr -dc '0-9\n' <"$run/ttyS1" | sort -n | tail -1)
    guest_boot
    gone=$((${control:-0} - control_kept))
    [ "$gone" -lt 0 ] || control_lost=$((control_lost + gone))
    until_true 180 on box weather-station status || true
    on box weather-station export --format json >"$run/export" || true
    lost=$(jq -rs --argjson seen "${seen:-0}" '[.[] | if type == "array" then .[] else . end | .sequence] as $have | [range(1; $seen + 1)] - $have | length' "$run/export")
    total_seen=${seen:-0} total_lost=$((total_lost + lost))
    printf 'cut %s: %s; %s readings on disk by then, %s of them lost; without fsync %s of %s lines lost\n' \
        "$cut" "$(tail -n 1 "$run/disk.log")" "$seen" "$lost" "$gone" "${control:-0}"
done
prove "$cuts power cuts: no reading that was on disk is lost ($total_seen readings)" test "$total_lost" = 0 -a "$total_seen" -gt "$cuts"
prove "the control, a file without fsync, lost $control_lost lines: these cuts can lose data" test "$control_lost" -gt 0
prove "the station is online after the last cut" soon 300 '.cloud.state == "online"'
prove "and has sent what was waiting" soon 300 '.store.pending <= 1'
until_true 180 verify "$run/record" || true
without_one "$run/record" >"$run/short"
refuse "verify: without one reading it is not complete" verify "$run/short"
prove "verify: what the hub has is complete over all cuts" verify "$run/record"

# --- the clock ---
guest_cut
guest_boot -rtc base=2020-01-01T00:00:00
prove "clock in the past at boot: the station records, and knows that the time is not right" soon 180 '.sensor.state == "ok" and .clock.state != "synchronised"'
prove "clock in the past at boot: online all the same" soon 180 '.cloud.state == "online"'
on box "date -s @$(date +%s)" >/dev/null
prove "time set later: the station goes on" soon 180 '.sensor.state == "ok" and .cloud.state == "online"'
prove "readings are at the hub, and none has a date that is off by more than a day" dated "$run/record"
finish
