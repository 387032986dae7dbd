#!/bin/bash
# On the Pi, as root, at its first start; put there by card.sh. Works without a network when the libraries are beside it.
# Whatever happens, the command line is restored: a Pi that loops through its first start would never be a station. And before
# that there is a unit that finishes the work at the next start, so that a power cut at any point only costs a start.
# Status 0: the package is installed.
here=$(cd "$(dirname "$0")" && pwd)
boot=$(dirname "$here")
exec >>"$here/firstrun.log" 2>&1
set -x

# kernel-command-line.target comes before the network; on a Pi that installs from mirrors all is done by this unit at the next start.
unit=/etc/systemd/system/weather-station-first.service
wanted=/etc/systemd/system/multi-user.target.wants/weather-station-first.service
mkdir -p "$(dirname "$wanted")"
cat >"$unit" <<UNIT
[Unit]
Description=Installs the weather station once there is a network
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
ExecStartPre=-/usr/bin/apt-get update
# Removes this unit when the package is installed, and fails as long as it is not.
ExecStart=$here/firstrun.sh
Restart=on-failure
RestartSec=60s

[Install]
WantedBy=multi-user.target
UNIT
ln -sf ../weather-station-first.service "$wanted"
sync -f "$unit"

# Beside it, and on the card before it takes its place: a Pi with an empty command line does not start. In place where there is no
# room for that.
if grep -q ' systemd\.run' "$boot/cmdline.txt"; then
    line=$(sed 's| systemd\.run[^ ]*||g; s| systemd\.unit=kernel-command-line\.target||g' "$boot/cmdline.txt")
    {
        printf '%s\n' "$line" >"$boot/cmdline.txt.new" && sync -f "$boot/cmdline.txt.new" &&
            mv "$boot/cmdline.txt.new" "$boot/cmdline.txt"
    } || printf '%s\n' "$line" >"$boot/cmdline.txt"
    sync -f "$boot"
fi

# The configuration before the package: that keeps one that is there, and the station starts with it.
mkdir -p /etc/weather-station
if [ ! -e /etc/weather-station/station.toml ]; then
    install -m 644 "$here/station.toml" /etc/weather-station/station.toml.new
    sync -f /etc/weather-station/station.toml.new
    mv /etc/weather-station/station.toml.new /etc/weather-station/station.toml
fi

export DEBIAN_FRONTEND=noninteractive
installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' weather-station)" = installed ]; }
install_package() { # [--reinstall]
    # On the FAT partition the files belong to root and apt's sandbox user cannot read them: hence the copy.
    rm -rf /var/cache/weather-station/first && mkdir -p /var/cache/weather-station/first || return 1
    cp "$here"/*.deb /var/cache/weather-station/first/ || return 1
    # The way back of later upgrades. Before the installation, for nothing here runs again once that is done.
    cp /var/cache/weather-station/first/weather-station.deb /var/cache/weather-station/current.deb || return 1
    apt-get install -y --fix-broken "$@" --no-install-recommends -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root \
        /var/cache/weather-station/first/*.deb
}
# What a power cut interrupted is finished first: apt refuses to work before that. Whether it is done dpkg says, not the program:
# that lies there while the package is only unpacked. One that was cut off while it was unpacked apt only installs anew, and that
# only when its libraries are whole: hence the second try.
dpkg --force-confold --configure -a
installed || install_package
installed || install_package --reinstall
installed || exit 1
rm -rf /var/cache/weather-station/first
sync -f /var/cache/weather-station
rm -f "$wanted" "$unit"
exit 0
