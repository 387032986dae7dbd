#!/bin/bash
# On the Pi, once, as root, at its first start; put there by card.sh. Works without a network when the libraries are beside it.
# Whatever happens, the command line is restored first: a Pi that loops through its first start would never be a station.
here=$(cd "$(dirname "$0")" && pwd)
boot=$(dirname "$here")
exec >>"$here/firstrun.log" 2>&1
set -x

sed -i 's| systemd\.run[^ ]*||g; s| systemd\.unit=kernel-command-line\.target||g' "$boot/cmdline.txt"

# The configuration first: the package keeps one that is there, and the station starts with it.
mkdir -p /etc/weather-station
[ -e /etc/weather-station/station.toml ] || install -m 644 "$here/station.toml" /etc/weather-station/station.toml

# kernel-command-line.target comes before the network; on a Pi that installs from mirrors this is done by a unit at the next start.
export DEBIAN_FRONTEND=noninteractive
install_package() {
    # On the FAT partition the files belong to root and apt's sandbox user cannot read them: hence the copy.
    rm -rf /var/cache/weather-station/first && mkdir -p /var/cache/weather-station/first || return 1
    cp "$here"/*.deb /var/cache/weather-station/first/ || return 1
    apt-get install -y --no-install-recommends -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root /var/cache/weather-station/first/*.deb || return 1
    mv /var/cache/weather-station/first/weather-station.deb /var/cache/weather-station/current.deb
}
if install_package; then
    rm -f /etc/systemd/system/weather-station-first.service /etc/systemd/system/multi-user.target.wants/weather-station-first.service
    exit 0
fi

cat >/etc/systemd/system/weather-station-first.service <<UNIT
[Unit]
Description=Installs the weather station once there is a network
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0
ConditionPathExists=!/usr/bin/weather-station

[Service]
Type=oneshot
ExecStartPre=-/usr/bin/apt-get update
ExecStart=$here/firstrun.sh
# firstrun.sh reports success once this unit is in place; the condition above ends it when the program is there.
ExecStartPost=/usr/bin/test -x /usr/bin/weather-station
Restart=on-failure
RestartSec=60s

[Install]
WantedBy=multi-user.target
UNIT
mkdir -p /etc/systemd/system/multi-user.target.wants
ln -sf ../weather-station-first.service /etc/systemd/system/multi-user.target.wants/weather-station-first.service
exit 0
