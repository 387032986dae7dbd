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
mkdir "$run/old"
cp "$deb" "$run/old/library.deb"
printf '# another configuration\n' | cat "$run/station.toml" - >"$run/another.toml"
prove "card.sh prepares the card" deploy/card.sh --package "$run/package" --config "$run/another.toml" --libraries "$run/old" "$card"
prove "with what was given" cmp "$run/another.toml" "$card/weather-station/station.toml"
cp "$card/cmdline.txt" "$run/cmdline.prepared"
prove "before it was started, it takes another configuration" deploy/card.sh --package "$run/package" --config "$run/station.toml" "$card"
prove "which lies there then" cmp "$run/station.toml" "$card/weather-station/station.toml"
refuse "and no library that was not given this time" test -e "$card/weather-station/library.deb"
prove "the command line is as it was prepared" cmp "$run/cmdline.prepared" "$card/cmdline.txt"
prove "and so is the one of before" cmp "$run/cmdline.before" "$card/weather-station/cmdline.txt.before"
prove "config.txt turns on I2C and the TPM for every model" bash -c "sed -n '/^\[all\]/,\$p' '$card/config.txt' | grep -c 'i2c_arm=on\|tpm-slb9670' | grep -qx 2"
prove "the command line is still one line and runs firstrun.sh" bash -c "[ \$(wc -l < '$card/cmdline.txt') = 1 ] && grep -q 'rootwait quiet systemd.run=/boot/firmware/weather-station/firstrun.sh ' '$card/cmdline.txt'"
prove "the package is on the card" cmp "$run/package/weather-station_1.0.0-1_arm64.deb" "$card/weather-station/weather-station.deb"
cp "$deb" "$card/weather-station/weather-station.deb"
contents() { (cd "$run/refused" && find . -type f -exec sha256sum {} + | sort); }
refused() { # SENTENCE PATTERN: of the card in $run/refused
    contents >"$run/contents.before"
    refuse "$1" deploy/card.sh --package "$run/package" --config "$run/another.toml" "$run/refused"
    prove "it is said what helps" said "$2"
    prove "and not a byte of it has changed" diff "$run/contents.before" <(contents)
    rm -r "$run/refused"
}
cp -r "$card" "$run/refused"
touch "$run/refused/weather-station/firstrun.log"
refused "a card that is prepared, and was started, is refused" 'deploy/install.sh --config'
cp -r "$card" "$run/refused"
touch "$run/refused/weather-station/firstrun.log"
cp "$run/cmdline.before" "$run/refused/cmdline.txt"
refused "also when its first start is over" 'deploy/install.sh --config'
cp -r "$card" "$run/refused"
rm -r "$run/refused/weather-station"
sed 's|$| systemd.run=/boot/firmware/firstrun.sh systemd.run_success_action=reboot|' "$run/cmdline.before" >"$run/refused/cmdline.txt"
refused "a card that runs something else already is refused" 'let the card start once'
refuse "the folder on the card is none to take libraries from" deploy/card.sh --package "$run/package" --config "$run/station.toml" --libraries "$card/weather-station" "$card"
refuse "no key is on the card" grep -rqi 'SharedAccessKey' "$card"

machine pi 1
on pi 'mkdir -p /boot/firmware && tar -C /boot/firmware -x' < <(tar -C "$card" -c .)
first=/boot/firmware/weather-station
on pi "cat >$first/weather-station.deb" <"$run/package/weather-station_1.0.0-1_arm64.deb"
prove "on a system of another kind (as a 32-bit one) firstrun.sh ends with status 65" on pi "$first/firstrun.sh; [ \$? = 65 ]"
prove "says why" on pi "grep -q 'is for arm64, and this system is amd64: ' $first/firstrun.log"
prove "and leaves no unit that would try again" on pi '! ls -d /etc/systemd/system/weather-station-first.service /etc/systemd/system/multi-user.target.wants/weather-station-first.service'
on pi 'cat /boot/firmware/cmdline.txt' >"$run/cmdline.after"
prove "the command line is what it was" cmp "$run/cmdline.before" "$run/cmdline.after"
on pi 'tar -C /boot/firmware -x' < <(tar -C "$card" -c .)
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
copies() { on later 'stat --format "%n %i %y" /var/cache/weather-station/current.deb /var/cache/weather-station/first/*'; }
copies >"$run/copies"
on later "head -c 300000 /dev/zero >>$first/firstrun.log"
refuse "the unit does not take it for installed" on later systemctl start weather-station-first.service
prove "and stays" on later systemctl is-enabled --quiet weather-station-first.service
prove "what it had copied it does not write again" diff "$run/copies" <(copies)
prove "its log has begun anew" on later "test \$(stat --format %s $first/firstrun.log) -lt 65536"
prove "and the one before is there" on later "test -s $first/firstrun.log.previous"
# Each minute, played in a hurry, without apt's own retries; then it waits.
on later "echo 'Acquire::Retries \"0\";' >/etc/apt/apt.conf.d/hurry"
quick=/run/systemd/system/weather-station-first.service.d
on later "mkdir -p $quick && printf '[Service]\nRestartSec=100ms\n' >$quick/quick.conf && systemctl daemon-reload && systemctl start --no-block weather-station-first.service"
prove "where it fails on, it waits for longer" until_true 300 on later 'pgrep -x sleep'
prove "after ten tries" on later '[ "$(systemctl show --property NRestarts --value weather-station-first.service)" = 10 ]'
on later "systemctl stop weather-station-first.service; rm -r $quick; systemctl daemon-reload"
# The package on the card is for another machine: the unit has been begun all the same.
on later "cp $first/weather-station.deb /root/right.deb; cat >$first/weather-station.deb" <"$run/package/weather-station_1.0.0-1_arm64.deb"
refuse "a package for another machine" on later systemctl start weather-station-first.service
prove "ends the unit" on later '[ "$(systemctl show --property ActiveState --value weather-station-first.service)" = failed ] && ! test -e /etc/systemd/system/weather-station-first.service'
on later "cp /root/right.deb $first/weather-station.deb; $first/firstrun.sh; systemctl daemon-reload" || true
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
