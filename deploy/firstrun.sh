#!/bin/bash
# On the Pi, as root, at its first start; put there by card.sh. Works without a network when the libraries are beside it.
# Whatever happens, the command line is restored: a Pi that loops through its first start would never be a station. And before
# that there is a unit that finishes the work at the next start, so that a power cut at any point only costs a start.
# A first start that cannot succeed must not wear the card: what is there is not written again, the log is bounded, and after ten
# tries, about a minute apart, it is tried every ten minutes only.
# Status 0: the package is installed. 65: it is for another machine, so that trying again is of no use.
#
#   firstrun.sh         at the first start: there is no network yet
#   firstrun.sh again   by the unit below
here=$(cd "$(dirname "$0")" && pwd)
boot=$(dirname "$here")
log=$here/firstrun.log
if [ "$(stat --format %s "$log" 2>/dev/null || echo 0)" -gt 65536 ]; then
    cp "$log" "$log.previous"
    : >"$log" # never gone: it tells card.sh that the card was started
fi
exec >>"$log" 2>&1
set -x

# kernel-command-line.target comes before the network; on a Pi that installs from mirrors all is done by this unit at the next start.
name=weather-station-first.service
unit=/etc/systemd/system/$name
wanted=/etc/systemd/system/multi-user.target.wants/$name
mkdir -p "$(dirname "$wanted")"
[ "${1:-}" = again ] || cat >"$unit" <<UNIT
[Unit]
Description=Installs the weather station once there is a network
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=oneshot
# Removes this unit when the package is installed, and fails as long as it is not.
ExecStart=$here/firstrun.sh again
Restart=on-failure
RestartSec=60s
RestartPreventExitStatus=65

[Install]
WantedBy=multi-user.target
UNIT
[ -h "$wanted" ] || ln -sf "../$name" "$wanted"
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

made_for=$(dpkg-deb --field "$here/weather-station.deb" Architecture)
system=$(dpkg --print-architecture)
if [ -n "$made_for" ] && [ "$made_for" != "$system" ]; then
    echo "the package is for $made_for, and this system is $system: write Raspberry Pi OS (64 bit) to the card and prepare it again"
    rm -f "$wanted" "$unit"
    exit 65
fi

if [ "${1:-}" = again ]; then
    # Each minute at first, for a network that comes late.
    if [ "$(systemctl show --property NRestarts --value "$name")" -ge 10 ]; then sleep 540; fi
    apt-get update
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
    local file cache=/var/cache/weather-station
    mkdir -p "$cache/first" || return 1
    for file in "$cache"/first/*; do [ -e "$here/${file##*/}" ] || rm -f "$file"; done
    for file in "$here"/*.deb; do there "$file" "$cache/first/${file##*/}" || return 1; done
    # The way back of later upgrades. Before the installation, for nothing here runs again once that is done.
    there "$here/weather-station.deb" "$cache/current.deb" || return 1
    apt-get install -y --fix-broken "$@" --no-install-recommends -o Dpkg::Options::=--force-confold -o APT::Sandbox::User=root \
        "$cache"/first/*.deb
}
there() { cmp -s "$1" "$2" || cp "$1" "$2"; } # FROM TO
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
