#!/usr/bin/env bash
# card.sh and firstrun.sh on a boot partition as Raspberry Pi OS has it, run on booted Debian machines (amd64, so the package is too):
# once with the mirrors' libraries in place, once on a bare system with the libraries on the card and no network.
# What stays untried here is the Pi's own firmware reading config.txt, and the real first start of the image.
# shellcheck disable=SC2016  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_root
need_packages debootstrap iproute2 openssh-client swtpm
# Installing over there, with lists from the mirrors.
on_limit=600

deb=$(package amd64)
card=$run/card
mkdir -p "$card" "$run/package"
printf 'console=serial0,115200 console=tty1 root=PARTUUID=1-02 rootfstype=ext4 fsck.repair=yes rootwait quiet\n' >"$card/cmdline.txt"
printf '# For more options see http://rptl.io/configtxt\ndtparam=audio=on\n[cm4]\notg_mode=1\n' >"$card/config.txt"
cp "$card/cmdline.txt" "$run/cmdline.before"
network
tpm pi 1
printf '[sensor]\nsource = "simulated"\ninterval = "1s"\n[identity]\ntcti = "%s"\n[provisioning]\nid_scope = "0ne00TEST"\nendpoint = "%s:9"\n' \
    "$tcti" "$host_address" >"$run/station.toml"
# The test machines are amd64: for card.sh, which looks for the Pi's, the package says that it is that.
dpkg-deb -R "$deb" "$run/for-arm64"
sed -i 's/^Architecture: .*/Architecture: arm64/' "$run/for-arm64/DEBIAN/control"
dpkg-deb --root-owner-group -b "$run/for-arm64" "$run/package/weather-station_1.0.0-1_arm64.deb" >/dev/null

refuse "a package for another machine is refused" deploy/card.sh --package "$deb" --config "$run/station.toml" "$card"
prove "with what it is for" said 'is for amd64'
refuse "and nothing is on the card" test -e "$card/weather-station"
refuse "a folder that is no boot partition is refused" deploy/card.sh --package "$run/package" --config "$run/station.toml" "$run/package"
prove "card.sh prepares the card" deploy/card.sh --package "$run/package" --config "$run/station.toml" "$card"
prove "config.txt turns on I2C and the TPM for every model" bash -c "sed -n '/^\[all\]/,\$p' '$card/config.txt' | grep -c 'i2c_arm=on\|tpm-slb9670' | grep -qx 2"
prove "the command line is still one line and runs firstrun.sh" bash -c "[ \$(wc -l < '$card/cmdline.txt') = 1 ] && grep -q 'rootwait quiet systemd.run=/boot/firmware/weather-station/firstrun.sh ' '$card/cmdline.txt'"
prove "the package is on the card" cmp "$run/package/weather-station_1.0.0-1_arm64.deb" "$card/weather-station/weather-station.deb"
cp "$deb" "$card/weather-station/weather-station.deb"
contents() { (cd "$card" && find . -type f -exec sha256sum {} + | sort); }
contents >"$run/contents.before"
printf '# another configuration\n' | cat "$run/station.toml" - >"$run/another.toml"
refuse "a card that runs something else already is refused" deploy/card.sh --package "$run/package" --config "$run/another.toml" "$card"
prove "and not a byte of it has changed" diff "$run/contents.before" <(contents)
refuse "no key is on the card" grep -rqi 'SharedAccessKey' "$card"

machine pi 1
on pi 'mkdir -p /boot/firmware && tar -C /boot/firmware -x' < <(tar -C "$card" -c .)
prove "firstrun.sh succeeds" on pi /boot/firmware/weather-station/firstrun.sh
on pi 'cat /boot/firmware/cmdline.txt' >"$run/cmdline.after"
prove "the command line is what it was" cmp "$run/cmdline.before" "$run/cmdline.after"
prove "the station runs" until_true 30 on pi weather-station status
prove "with the configuration of the card" on pi 'weather-station status --json | grep -q "0ne00TEST"'
sampling() { on pi weather-station export --since 1h | tail -n +2 | grep -q .; }
prove "it records" until_true 30 sampling
prove "and tries to provision itself by the service" until_true 30 on pi 'journalctl -u weather-station | grep -qi provisioning'
prove "running it again does no harm" on pi /boot/firmware/weather-station/firstrun.sh
prove "no unit of the first start is left" on pi '! test -e /etc/systemd/system/weather-station-first.service'

# A Pi whose mirrors cannot be reached yet: the first start must not loop; a unit finishes the work later.
machine later 2
on later 'mkdir -p /boot/firmware && tar -C /boot/firmware -x && apt-get purge -y libtss2-mu0 >/dev/null 2>&1' < <(tar -C "$card" -c .)
prove "without the libraries and a network firstrun.sh ends, with status 1" on later '/boot/firmware/weather-station/firstrun.sh; [ $? = 1 ]'
on later 'cat /boot/firmware/cmdline.txt' >"$run/cmdline.after"
prove "the command line is restored all the same" cmp "$run/cmdline.before" "$run/cmdline.after"
prove "a unit is left that will finish the work" on later 'systemctl daemon-reload; systemctl is-enabled --quiet weather-station-first.service'
# As after a power cut in the middle of an installation: the program is there, and the package cannot be configured.
state() { on "$1" "[ \"\$(dpkg-query -W -f '\${db:Status-Status}' weather-station)\" = $2 ]"; }
on later 'dpkg --unpack /boot/firmware/weather-station/weather-station.deb >/dev/null 2>&1 && test -x /usr/bin/weather-station'
prove "the package is unpacked only" state later unpacked
refuse "the unit does not take it for installed" on later systemctl start weather-station-first.service
prove "and stays" on later systemctl is-enabled --quiet weather-station-first.service
mkdir "$run/libraries"
(cd "$run/libraries" && apt-get download -qq libtss2-{esys-3.0.2-0,mu0,sys1,tctildr0,tcti-cmd0,tcti-device0,tcti-mssim0,tcti-swtpm0} >/dev/null 2>&1)
on later 'tar -C /boot/firmware/weather-station -x' < <(tar -C "$run/libraries" -c .)
prove "with the libraries on the card the unit installs the station" on later 'systemctl start weather-station-first.service || { tail -n 15 /boot/firmware/weather-station/firstrun.log; false; }'
prove "and the station runs" until_true 30 on later weather-station status
prove "and the unit is gone" on later '! test -e /etc/systemd/system/weather-station-first.service'
prove "the package is installed" state later installed

# The plug is pulled during the first start: played by a command of firstrun.sh that kills it.
machine cut 3
on cut 'mkdir -p /boot/firmware /root/cut && tar -C /boot/firmware -x' < <(tar -C "$card" -c .)
cut_at() { # COMMAND ORDER: firstrun.sh is killed by this command, which does its work before or not at all
    on cut "printf '#!/bin/sh\n%s\nkill -KILL \$PPID\n' '$2' >/root/cut/$1 && chmod +x /root/cut/$1
        PATH=/root/cut:\$PATH /boot/firmware/weather-station/firstrun.sh; [ \$? = 137 ]; rm /root/cut/$1"
    on cut 'cat /boot/firmware/cmdline.txt' >"$run/cmdline.after"
}
cut_at sync :
prove "cut before the command line is restored, the Pi runs firstrun.sh again" cmp "$card/cmdline.txt" "$run/cmdline.after"
cut_at mv '/bin/mv "$@"'
prove "cut right behind that the command line is whole" cmp "$run/cmdline.before" "$run/cmdline.after"
prove "and the unit is there already" on cut 'systemctl daemon-reload; systemctl is-enabled --quiet weather-station-first.service'
on cut 'dpkg --unpack /boot/firmware/weather-station/weather-station.deb >/dev/null 2>&1 && test -x /usr/bin/weather-station'
prove "cut again, with the package half installed" state cut unpacked
prove "the unit completes it" on cut 'systemctl start weather-station-first.service || { tail -n 15 /boot/firmware/weather-station/firstrun.log; false; }'
prove "it is installed" state cut installed
prove "with the configuration of the card" on cut 'grep -q 0ne00TEST /etc/weather-station/station.toml'
prove "the station runs" until_true 30 on cut weather-station status
prove "and the unit is gone" on cut '! test -e /etc/systemd/system/weather-station-first.service && ! test -h /etc/systemd/system/multi-user.target.wants/weather-station-first.service'
finish
