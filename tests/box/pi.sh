#!/usr/bin/env bash
# A Raspberry Pi in a box, arm64: QEMU's raspi3b with Debian's unmodified arm64 kernel and the program out of the arm64
# package. Real i2c-bcm2835 with a chip image, a live BME280 (i2c-tiny-usb) with faults at run time, /dev/tpmrm0 (vtpm-proxy
# and swtpm in the guest), the hub on this machine over TLS. The board has no clock: it starts in 1970.
# Needs root (debootstrap's keyring, modules) and apt mirrors; nothing of QEMU is installed on this machine.
#
#   tests/box/pi.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
# shellcheck source=tests/box/guest.sh
. tests/box/guest.sh
need_root
need_packages kmod cpio binutils jq curl python3 xz-utils
tests/box/fetch.sh arm64 >&2
deb=$(package arm64)
kernel=$box/kernel-arm64
version=$(basename "$(ls -d "$kernel"/lib/modules/*)")
[ -e "$kernel/lib/modules/$version/modules.dep.bin" ] || depmod -b "$kernel" "$version"

# --- the userland: busybox, the package, swtpm, and the libraries these name ---
stage=$run/stage
mkdir -p "$stage"/{bin,dev,proc,sys,run,tmp,modules,etc/weather-station,var/lib/weather-station,lib,usr/bin}
cp "$kernel/bin/busybox" "$stage/bin/"
for tool in sh mount insmod ifconfig route sleep ls cat echo mkdir grep; do ln -s busybox "$stage/bin/$tool"; done
mkdir "$run/package"
dpkg-deb -x "$deb" "$run/package"
prove "the program in the arm64 package is an aarch64 program" grep -q AArch64 <(readelf -h "$run/package/usr/bin/weather-station")
cp "$run/package/usr/bin/weather-station" "$box/sysroot-arm64/usr/bin/swtpm" "$stage/usr/bin/"
closure() { # copies the libraries that the named files need, and those that these need
    local file name found
    for file in "$@"; do
        for name in $(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
            [ ! -e "$stage/lib/$name" ] || continue
            found=$(find "$box/sysroot-arm64" -name "$name" | head -1)
            [ -n "$found" ] || { echo "no $name for arm64" >&2; return 1; }
            cp -L "$found" "$stage/lib/$name"
            closure "$stage/lib/$name"
        done
    done
}
cp -L "$(find "$box/sysroot-arm64" -name libtss2-tcti-device.so.0 | head -1)" "$stage/lib/"
closure "$stage"/usr/bin/* "$stage"/lib/libtss2-tcti-device.so.0
cp -L "$(find "$box/sysroot-arm64" -name ld-linux-aarch64.so.1 | head -1)" "$stage/lib/"

{
    printf '#!/bin/sh\nexport PATH=/bin:/usr/bin LD_LIBRARY_PATH=/lib TSS2_LOG=all+NONE\nmount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp\n'
    for name in dwc2 phy-generic usbnet cdc_ether cdc_subset rndis_host i2c-bcm2835 i2c-dev i2c-tiny-usb tpm_vtpm_proxy bcm2835_wdt; do
        modprobe -d "$kernel" -S "$version" --show-depends "$name" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
    done | awk '!seen[$0]++' | while read -r module; do
        plain=$(basename "${module%.xz}")
        case $module in *.xz) xz -dc "$module" >"$stage/modules/$plain" ;; *) cp "$module" "$stage/modules/" ;; esac
        printf 'insmod /modules/%s\n' "$plain"
    done
    cat <<'SH'
for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do [ -e /sys/class/net/eth0 ] || [ -e /sys/class/net/usb0 ] && [ -e /dev/i2c-3 ] && break; sleep 1; done
for card in eth0 usb0; do ifconfig $card 10.0.2.15 up 2>/dev/null && break; done
ifconfig lo 127.0.0.1 up
route add default gw 10.0.2.2
mkdir -p /tmp/tpm
# The kernel gives a virtual TPM two seconds for its first answer: on a busy machine more than one attempt is needed.
for try in 1 2 3 4 5 6 7 8; do
    swtpm chardev --tpm2 --vtpm-proxy --tpmstate dir=/tmp/tpm --flags not-need-init,startup-clear -d
    for wait in 1 2 3 4 5 6; do [ -e /dev/tpmrm0 ] && break 2; sleep 1; done
    busybox killall swtpm; sleep 1
done
echo "MARK devices $(ls /dev/i2c-* /dev/tpmrm0 | tr '\n' ' ')"
echo "MARK static $(weather-station --config /etc/weather-station/static.toml read --json 2>&1 | tr '\n' ' ')"
weather-station provision --connection-string-file /etc/weather-station/string 2>&1 && echo "MARK provisioned"

# What the guest does, said every five seconds by itself: as long as this goes on it is the network or the program that is
# silent, and when it stops it is the guest.
watch() {
    shown=0
    while :; do
        echo "WATCH up $(cat /proc/uptime) load $(cat /proc/loadavg)"
        grep -E 'ttyS|dwc|arch_timer' /proc/interrupts
        lines=$(cat /tmp/log 2>/dev/null | busybox wc -l)
        [ $lines = $shown ] || busybox tail -n +$((shown + 1)) /tmp/log | busybox tail -n 12 | busybox cut -c1-180
        shown=$lines
        sleep 5
    done
}
watch &
WEATHER_STATION_LOG=debug weather-station run > /tmp/log 2>&1 &
# The host asks nothing before the mark: four of the lines above are of a station that runs and is left alone.
while ! grep -q ':1F90 00000000:0000 0A' /proc/net/tcp; do sleep 1; done # port 8080, listening
echo "MARK bound"
sleep 20
echo "MARK listening"
weather-station check
echo "MARK checked"
while :; do sleep 60; done
SH
} >"$stage/init"
sed -i 's/| tr /| busybox tr /g' "$stage/init"
chmod +x "$stage/init"

# --- the host's side ---
guest_hub pi
cp "$run/pi.string" "$stage/etc/weather-station/string"
cp "$run/hub/ca.pem" "$stage/etc/weather-station/"
printf '[sensor]\nbus = "/dev/i2c-3"\ninterval = "1s"\n[hub]\ntransport = "amqp"\nport = %s\nwebsocket_port = %s\nca_file = "/etc/weather-station/ca.pem"\n[showcase]\nlisten = "0.0.0.0:8080"\n' \
    "$amqp_port" "$https_port" >"$stage/etc/weather-station/station.toml"
printf '[sensor]\nbus = "/dev/i2c-1"\n[showcase]\nlisten = ""\n' >"$stage/etc/weather-station/static.toml"
(cd "$stage" && find . | cpio -o -H newc --quiet | gzip -1) >"$run/initrd.gz"
# The chip image for the EEPROM that QEMU puts on the bcm2835 bus: the registers twice (QEMU rounds up to 512 bytes).
python3 -c '
import sys
sys.path.insert(0, "tests/box")
from bme280_usb import Bme280
chip = Bme280()
chip.measure()
sys.stdout.buffer.write(bytes(chip.registers) * 2)' >"$run/chip.img"
rm -rf tests/box/__pycache__
sensor_start

begun=$SECONDS
QEMU_MODULE_DIR=$box/qemu/usr/lib/x86_64-linux-gnu/qemu LD_LIBRARY_PATH=$box/qemu/usr/lib/x86_64-linux-gnu:$box/qemu/lib/x86_64-linux-gnu \
    "$box/qemu/usr/bin/qemu-system-aarch64" -L "$box/qemu/usr/share/qemu" -accel tcg,thread=single -M raspi3b \
    -kernel "$kernel/boot/vmlinuz-$version" -dtb "$(find "$kernel" -name bcm2837-rpi-3-b.dtb)" -initrd "$run/initrd.gz" \
    -append 'console=ttyS1,115200 cryptomgr.notests rdinit=/init panic=1 loglevel=4' \
    -drive "if=none,id=bme,format=raw,file=$run/chip.img" -device at24c-eeprom,bus=i2c-bus.1,address=0x76,rom-size=512,address-size=1,drive=bme \
    -netdev "user,id=n0,hostfwd=tcp:127.0.0.1:$web_port-:8080" -device usb-net,netdev=n0 \
    -chardev "socket,id=ur,path=$run/usb.sock" -device usb-redir,chardev=ur \
    -no-reboot -display none -monitor "unix:$run/monitor,server=on,wait=off" -serial null -serial "file:$run/console" >"$run/qemu.log" 2>&1 7>&- &
qemu_process=$!
started+=("$qemu_process")

marked() { grep -q "MARK $1" "$run/console"; }
readings() { grep -c currentTemperature "$run/record" || true; }
more() { [ "$(readings)" -ge "$1" ]; }
if until_true 600 marked devices; then ok "the board boots Debian's kernel and the program starts ($((SECONDS - begun)) s)"; else
    not_ok "the board boots"
    diagnose "the board has not come to its devices"
fi
prove "i2c-bcm2835 offers /dev/i2c-1, the live adapter /dev/i2c-3, vtpm-proxy /dev/tpmrm0" grep -q 'MARK devices.*/dev/i2c-1.*/dev/i2c-3.*/dev/tpmrm0' "$run/console"
until_true 300 marked static || true
grep 'MARK static' "$run/console" | cut -c1-300 || true
# The image takes a reset for a write like any other: either the program reads it out, or finds its settings gone.
prove "the program talks to the chip image over the real bcm2835 bus" grep -q 'MARK static .*\(currentTemperature\|reset behind our back\)' "$run/console"
prove "the identity is in the TPM" until_true 300 marked provisioned
watched() { grep -c '^WATCH' "$run/console" || true; }
goes_on() { [ "$(watched)" -gt "$1" ]; }
# stands_or_goes WHEN: two more lines of the guest's watch, or the diagnosis.
stands_or_goes() {
    if until_true 60 goes_on $(($(watched) + 1)); then ok "the guest goes on $1"; else
        not_ok "the guest goes on $1"
        diagnose "the guest stands still $1"
    fi
}
prove "the station opens its page" until_true 300 marked bound
stands_or_goes "while the station runs and nobody asks it"
until_true 120 marked listening || diagnose "the station has opened no page"
curl -s -m 20 -o "$run/first" -w 'the first answer of the page: %{http_code} after %{time_total} s\n' "http://127.0.0.1:$web_port/api/status" || true
stands_or_goes "when the page is asked over its network"
prove "the live BME280 is read" soon 180 '.sensor.state == "ok"'
prove "online: signed by the TPM, over TLS, on a board that woke up in 1970" soon 180 '.cloud.state == "online"'
prove "ten readings are at the hub" until_true 300 more 10
prove "they carry the right day" dated "$run/record"
sensor fault absent
prove "the chip silent: said so" soon 180 '.sensor.state != "ok"'
sensor fault none
prove "the chip back: read again" soon 180 '.sensor.state == "ok"'
sensor fault nak
sleep 10
sensor fault none
before=$(readings)
prove "after refused transfers readings flow on" until_true 300 more $((before + 5))
sensor unplug
prove "the adapter pulled out: said so" soon 180 '.sensor.state != "ok"'
sensor plug
prove "put back: read again" soon 180 '.sensor.state == "ok"'
# The arm64 program cannot run here: the verdict is that of this machine's own package.
deb=$(package amd64)
until_true 300 verify "$run/record" || true
without_one "$run/record" >"$run/short"
refuse "verify: without one reading it is not complete" verify "$run/short"
prove "verify: what the hub has is complete" verify "$run/record"
until_true 300 marked checked || true
sed -n '/^ok .*configuration/,/MARK checked/p' "$run/console" | grep -E '^(ok|warning|FAILED| +->|[0-9]+ ok)' | sed 's/^/        | /' || true
finish
