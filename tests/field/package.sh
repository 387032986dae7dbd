#!/usr/bin/env bash
# The Debian package in clean roots: what it needs, installs, keeps and removes. Needs root and apt mirrors.
# The maintainer scripts run twice over: in a plain chroot without systemd as process 1, and in a booted machine.
# shellcheck disable=SC2016  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_root
need_packages debootstrap lintian iproute2 openssh-client dpkg-dev

deb=$(package amd64)
version=$(dpkg-deb --field "$deb" Version)
echo "package: $(basename "$deb"), $(du -k "$deb" | cut -f1) KiB"

# --- the package itself ---
lint() {
    local said
    said=$(lintian --fail-on none --tag-display-limit 0 "$deb")
    grep -E '^[EW]:' <<<"$said" >"$run/lint" || true
    cat "$run/lint"
    ! grep -q '^E:' "$run/lint"
}
prove "lintian has no error" lint
contents=$(dpkg-deb --contents "$deb")
holds() { grep -qF " ./$1" <<<"$contents"; }
for path in usr/bin/weather-station etc/weather-station/station.toml usr/lib/systemd/system/weather-station.service \
    usr/lib/systemd/system/weather-station.slice usr/lib/sysusers.d/weather-station.conf usr/lib/tmpfiles.d/weather-station.conf \
    usr/lib/udev/rules.d/60-weather-station.rules usr/lib/modules-load.d/weather-station.conf \
    usr/share/man/man1/weather-station.1.gz usr/share/bash-completion/completions/weather-station \
    usr/share/zsh/vendor-completions/_weather-station usr/share/fish/vendor_completions.d/weather-station.fish \
    usr/share/weather-station/model/ usr/share/doc/weather-station/copyright; do
    prove "it holds /$path" holds "$path"
done

# --- a plain root: nothing but debootstrap's minbase, dependencies from the mirror, no systemd as process 1 ---
plain() {
    root=$(overlay "plain-$1" "$(base "$1-plain" "$1")")
    mount -t proc proc "$root/proc"
    cp "$deb" "$root/new.deb"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    inside apt-get update -qq
}
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
apt_install() { inside apt-get install -y -q --no-install-recommends --allow-downgrades -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$1"; }
linked() { ! inside ldd /usr/bin/weather-station | grep 'not found'; }
dlopened() { inside sh -c 'ls /usr/lib/*/libtss2-tcti-device.so.0'; }
versioned() { inside weather-station --version; }
unconfigured() { # The configuration is read before anything else, and the default one is right.
    local status=0
    inside weather-station check >/dev/null 2>&1 || status=$?
    [ "$status" != 78 ] && [ "$status" != 127 ]
}
for suite in bookworm trixie; do
    plain "$suite"
    prove "$suite: apt installs it with its dependencies in a minimal root" apt_install /new.deb
    prove "$suite: every library is found" linked
    prove "$suite: the TPM's device library, opened at run time, is there" dlopened
    prove "$suite: the program runs" versioned
    prove "$suite: the shipped configuration is accepted" unconfigured
    prove "$suite: the account is there and in i2c and tss" inside sh -c 'id -nG weather-station | grep -w i2c | grep -qw tss'
    [ "$suite" = bookworm ] || continue

    prove "the store's folder belongs to the station" inside sh -c '[ "$(stat -c %U:%a /var/lib/weather-station)" = weather-station:750 ]'
    prove "the manual page is found" inside sh -c 'test -s /usr/share/man/man1/weather-station.1.gz'
    # Something to survive: a store and a changed configuration.
    inside sh -c 'echo readings > /var/lib/weather-station/readings.db; chown weather-station /var/lib/weather-station/readings.db
        sed -i "s/^#interval = .*/interval = \"30s\"/" /etc/weather-station/station.toml'
    mine() { inside grep -qx 'interval = "30s"' /etc/weather-station/station.toml; }
    store() { inside grep -qx readings /var/lib/weather-station/readings.db; }
    at() { [ "$(inside dpkg-query -W -f '${Version}' weather-station)" = "$1" ]; }

    # The next version also changes the shipped configuration: the hard case for a conffile.
    other_version "$deb" 9.0.0-1 "$root/next.deb" '$ a # A line of the next version.'
    prove "upgrade" apt_install /next.deb
    prove "upgrade: the version is the new one" at 9.0.0-1
    prove "upgrade: the changed configuration is kept" mine
    prove "upgrade: the new default lies beside it" inside grep -q 'next version' /etc/weather-station/station.toml.dpkg-dist
    prove "upgrade: the store is kept" store
    prove "downgrade" apt_install /new.deb
    prove "downgrade: the version is the old one" at "$version"
    prove "downgrade: configuration kept" mine
    prove "downgrade: store kept" store
    prove "installing again changes nothing" apt_install /new.deb
    prove "remove" inside apt-get remove -y -q weather-station
    refuse "remove: the program is gone" inside test -e /usr/bin/weather-station
    prove "remove: configuration kept" mine
    prove "remove: store kept" store
    prove "installing after remove" apt_install /new.deb
    prove "installing after remove: configuration kept" mine
    # What provision.sh and install.sh write there, and what an interrupted one leaves.
    inside sh -c 'cd /etc/weather-station && touch device.connection-string device.connection-string.new station.toml.previous station.toml.new'
    prove "purge" inside apt-get purge -y -q weather-station
    refuse "purge: configuration gone" inside test -e /etc/weather-station
    refuse "purge: store gone" inside test -e /var/lib/weather-station
    prove "purge: nothing of the package is left" inside sh -c '! find / -xdev -name "*weather-station*" -not -path "/proc/*" -not -path "/var/log/*" -not -name "*.deb" -not -path "/var/cache/*" | grep .'
    # A failed start must never make an installation fail: nothing here can run the unit.
    prove "installing after purge" apt_install /new.deb
    # A folder that is a mount of its own cannot be removed.
    inside touch /etc/weather-station/device.connection-string
    mount -t tmpfs store "$root/var/lib/weather-station"
    inside sh -c 'mkdir /var/lib/weather-station/a && touch /var/lib/weather-station/readings.db /var/lib/weather-station/a/b'
    prove "purge of a store on a disk of its own" inside apt-get purge -y -q weather-station
    refuse "purge of a store on a disk of its own: the key file is gone" inside test -e /etc/weather-station
    refuse "purge of a store on a disk of its own: nothing is left on it" inside sh -c 'ls -A /var/lib/weather-station | grep .'
    umount "$root/var/lib/weather-station"
    prove "and installing after that" apt_install /new.deb
done

# --- a booted machine: the same package with a real systemd ---
network
machine package 1
active() { on package systemctl is-active --quiet weather-station; }
pid() { on package systemctl show -p MainPID --value weather-station; }
put() { on package "cat > /root/$1" <"$2"; }
dpkg_i() { on package "DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold -i $1"; }
on package 'mkdir -p /etc/systemd/system/weather-station.service.d'
put new.deb "$deb"
put next.deb "$run/plain-bookworm/root/next.deb"
prove "booted: install starts the station" dpkg_i /root/new.deb
prove "booted: it is active (READY=1 came: the store is open, without sensor, TPM, identity or network)" until_true 20 active
prove "booted: it is enabled" on package systemctl is-enabled --quiet weather-station
prove "booted: status answers" until_true 20 on package weather-station status
prove "booted: the status names the missing bus" until_true 20 on package "weather-station status | grep -i '/dev/i2c-1'"
prove "booted: the unit runs as weather-station with no capability" on package 'grep -q "CapBnd:	0000000000000000" /proc/$(systemctl show -p MainPID --value weather-station)/status && [ "$(ps -o user:20= -p $(systemctl show -p MainPID --value weather-station))" = weather-station ]'
before=$(pid)
renewed() { active && [ "$(pid)" != "$before" ]; }
prove "booted: upgrade" dpkg_i /root/next.deb
prove "booted: upgrade restarted the station" until_true 20 renewed
on package systemctl stop weather-station
prove "booted: upgrade of a stopped station" dpkg_i /root/new.deb
refuse "booted: it stays stopped" active
on package systemctl start weather-station
prove "booted: a wrong configuration ends the station once, not in a loop" on package '
    echo "nonsense = 1" > /etc/weather-station/station.toml
    systemctl restart weather-station; sleep 7
    [ "$(systemctl show -p ExecMainStatus --value weather-station)" = 78 ] &&
    [ "$(systemctl show -p NRestarts --value weather-station)" = 0 ] &&
    journalctl -u weather-station | grep -q nonsense'
prove "booted: killed, the station is started again" on package '
    rm /etc/weather-station/station.toml; dpkg --force-confmiss -i /root/new.deb >/dev/null 2>&1; systemctl restart weather-station
    kill -KILL $(systemctl show -p MainPID --value weather-station); sleep 8
    systemctl is-active --quiet weather-station && [ "$(systemctl show -p NRestarts --value weather-station)" -ge 1 ]'
prove "booted: remove" on package dpkg -r weather-station
refuse "booted: removed and stopped" active
prove "booted: the store survived" on package test -s /var/lib/weather-station/readings.db
prove "booted: installed again" dpkg_i /root/new.deb
prove "booted: it starts at once" until_true 20 active
on package systemctl stop weather-station
prove "booted: upgrade of a stopped station that was removed once" dpkg_i /root/next.deb
refuse "booted: it stays stopped as well" active
prove "booted: purge" on package dpkg -P weather-station
refuse "booted: purge deleted the store" on package test -e /var/lib/weather-station
finish
