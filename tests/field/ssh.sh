#!/usr/bin/env bash
# install.sh, provision.sh and uninstall.sh against a real sshd in a booted machine, with a TPM (swtpm) and the hub (emulator).
# The key is hunted for in every process argument of both sides while it travels. Needs root and apt mirrors.
# shellcheck disable=SC2016  # what the other side shall expand is in single quotes on purpose
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/field/machines.sh
. tests/field/machines.sh
need_root
need_packages debootstrap iproute2 openssh-client swtpm jq

deb=$(package amd64)
network
machine weather 1
hub garden other
tpm weather 1
cat >"$run/station.toml" <<TOML
[sensor]
source = "simulated"
interval = "1s"
[identity]
tcti = "$tcti"
[hub]
transport = "amqp"
ca_file = "/etc/weather-station/ca.pem"
TOML

state_of() { on weather 'find /etc /usr /var/lib -xdev -newermt @1 -type f -printf "%p %s %T@\n" 2>/dev/null | sort | md5sum; dpkg -l | md5sum'; }
status() { on weather weather-station status --json | jq -er "$1"; }

before=$(state_of)
prove "a dry run succeeds" deploy/install.sh --dry-run --package "$deb" --config "$run/station.toml" weather
prove "a dry run tells the steps" said 'would install weather-station'
untouched() { [ "$(state_of)" = "$before" ]; }
prove "a dry run changes nothing" untouched
prove "install over ssh" deploy/install.sh --package "$deb" weather
prove "install: the station answers" status .version
prove "install again says so" deploy/install.sh --package "$(dirname "$deb")" weather
prove "install again does nothing" said 'is installed already'
other_version "$deb" "$(dpkg-deb --field "$deb" Version)" "$run/rebuilt.deb" '$ a # Rebuilt.' usr/share/doc/weather-station/copyright
prove "a rebuilt package of the same version" deploy/install.sh --package "$run/rebuilt.deb" weather
prove "is what lies on the disk then" on weather 'grep -q "Rebuilt" /usr/share/doc/weather-station/copyright'
prove "and back" deploy/install.sh --package "$deb" weather
# ssh dies while apt works over there, which goes on (held for as long as it takes). install.sh comes again, with another package.
on weather 'touch /root/held; echo "DPkg::Pre-Invoke { \"while test -e /root/held; do sleep 0.2; done\"; };" >/etc/apt/apt.conf.d/held'
held() { on weather pgrep -x apt-get; }
set -m # process groups of their own, ssh in them
deploy/install.sh --package "$run/rebuilt.deb" weather >"$run/first" 2>&1 </dev/null &
first=$!
set +m
prove "apt works" until_true 60 held
kill -TERM -- "-$first" || true # not there when it has ended too early
wait "$first" || true
deploy/install.sh --package "$deb" weather >"$run/second" 2>&1 </dev/null &
second=$!
prove "another installation waits, without a connection of the first" until_true 60 grep -q 'waiting for another installation' "$run/second"
prove "for what goes on" held
on weather 'rm /root/held /etc/apt/apt.conf.d/held'
prove "and is done after it" wait "$second"
prove "so it was the first that was there before" diff <(on weather 'sha256sum </var/cache/weather-station/previous.deb') <(sha256sum <"$run/rebuilt.deb")
prove "and the other lies on the disk" on weather '! grep -q "Rebuilt" /usr/share/doc/weather-station/copyright'
echo 'interval = 1' >"$run/wrong.toml"
refuse "a wrong configuration is refused" deploy/install.sh --package "$deb" --config "$run/wrong.toml" weather
prove "a wrong configuration is named by the station" said interval
prove "after a wrong configuration the old one is in place and the station runs" on weather 'systemctl is-active --quiet weather-station && ! test -e /etc/weather-station/station.toml.new'
on weather 'cat > /etc/weather-station/ca.pem' <"$run/hub/ca.pem"
prove "install with a configuration" deploy/install.sh --package "$deb" --config "$run/station.toml" weather
prove "the station runs with it" status '.configuration["sensor.interval"].value | select(. == "1s")'
prove "the old configuration is kept" on weather test -s /etc/weather-station/station.toml.previous
prove "the same configuration again changes nothing" deploy/install.sh --package "$deb" --config "$run/station.toml" weather
prove "the same configuration is noticed" said 'in place already'
sampling() { status '.store.lastSequence | select(. > 2)'; }
prove "without an identity it samples" until_true 20 sampling

# --- the key ---
# While provision.sh runs, every argument and environment of every process (the machine's are processes of this kernel) is searched.
key=$(cat "$run/garden.key")
hunt() {
    # The pattern comes from a file, so that grep's own arguments are no find.
    printf '%s' "$key" >"$run/pattern"
    while [ ! -e "$run/hunted" ]; do
        grep -lazF -f "$run/pattern" /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null >>"$run/found" || true
        echo >>"$run/rounds"
    done
}
: >"$run/found"
hunt &
hunter=$!
started+=("$hunter")
provision() { deploy/provision.sh weather <"$run/garden.string"; }
prove_provision() { ( provision ) ; }
if prove_provision >"$run/provisioned" 2>&1; then ok "provision over ssh's standard input"; else
    not_ok "provision over ssh's standard input"
    cat "$run/provisioned"
fi
touch "$run/hunted"
wait "$hunter"
prove "the hub accepted the station" grep -q 'the hub has accepted the station' "$run/provisioned"
prove "the key was in no process's arguments or environment ($(wc -l <"$run/rounds") looks)" test ! -s "$run/found"
# The same hunt must find a key that is in an argument.
rm -f "$run/hunted"
hunt &
hunter=$!
sh -c 'sleep 2; :' "$key" &
wait $!
touch "$run/hunted"
wait "$hunter"
prove "the hunt finds a key in an argument" test -s "$run/found"
# found_over_there PATTERN-FILE COMMAND: something was found. What is looked for is in $key there, and in no argument; a
# machine that does not answer has not been searched.
found_over_there() {
    local found
    found=$(on weather "key=\$(cat); [ -n \"\$key\" ] || exit 255; pattern() { printf %s \"\$key\"; }; $2; true" <"$1") || return 255
    [ -n "$found" ]
}
in_files() { found_over_there "$1" 'pattern | grep -rlF -f - /etc /var /run /root /tmp 2>/dev/null'; }
in_journal() { found_over_there "$1" 'journalctl --no-pager | grep -F -f <(pattern)'; }
refuse "the key is in no file of the station" in_files "$run/pattern"
refuse "and in no line of its journal" in_journal "$run/pattern"
# The same searches must find what is there.
head -c 32 /dev/urandom | base64 -w0 >"$run/planted"
on weather 'cat >/var/tmp/planted' <"$run/planted"
prove "the search finds what is in a file" in_files "$run/planted"
on weather 'rm /var/tmp/planted; logger' <"$run/planted"
prove "and what is in the journal" until_true 10 in_journal "$run/planted"
prove "readings reach the hub" until_true 20 grep -q '"garden"' "$run/record"

# A key that is not this device's any more, under the same name, while the station is online by the right one.
sed "s|SharedAccessKey=.*|SharedAccessKey=$(cat "$run/other.key")|" "$run/garden.string" >"$run/stale.string"
stale() { deploy/provision.sh --connection-string-file "$run/stale.string" weather; }
prove "the station is online" until_true 60 status '.cloud.state | select(. == "online")'
refuse "a key that the hub does not take, under the same name" stale
prove "and it is said so" said 'the hub has not accepted the station as garden at'
prove "the right one again" provision
prove "the same once more" provision

other() { deploy/provision.sh --connection-string-file "$run/other.string" weather; }
refuse "another identity is refused without --force" other
prove "with --force it replaces the first" deploy/provision.sh --force --host "$host_address" --device-id other --key-file "$run/other.key" weather
prove "and says accepted only of the other" said 'the hub has accepted the station'
as_other() { status '.identity.deviceId | select(. == "other")' && status '.cloud.state | select(. == "online")'; }
prove "the station is the other device, online, by then" as_other
prove "the station goes on as the other device" until_true 60 status '.identity.deviceId | select(. == "other")'

# --- the key in a file, over a real connection ---
kept=/etc/weather-station/device.connection-string
holds() { on weather "test \"\$(stat -c %U:%a $kept)\" = weather-station:600 && grep -q 'DeviceId=$1;' $kept && ! test -e $kept.new"; }
to_key_file() { deploy/provision.sh --force --to-key-file --connection-string-file "$1" weather; }
# The station itself stays with its TPM: that it is online as the device of the file cannot come true here, only the file counts.
on weather systemctl stop weather-station
prove "--to-key-file puts a connection string into a file" to_key_file "$run/garden.string"
prove "for the station only" holds garden
sed 's/DeviceId=[^;]*/SharedAccessKeyName=owner/' "$run/garden.string" >"$run/hub.string"
refuse "that of the hub is refused" to_key_file "$run/hub.string"
prove "it is said what was expected" said 'DeviceId=<device>'
prove "the file is as it was" holds garden
mkfifo "$run/slow"
set -m # a process group of its own, ssh in it
deploy/provision.sh --force --to-key-file --connection-string-file "$run/slow" weather >"$run/output" 2>&1 </dev/null &
slow=$!
set +m
exec 4>"$run/slow"
cat "$run/other.string" >&4
receiving() { on weather 'pgrep -f "did not arrive [w]hole"'; }
left() { ! receiving; }
prove "while it waits for the end of the string" until_true 20 receiving
kill -TERM -- "-$slow"
wait "$slow" || true
exec 4>&-
prove "ssh dies: nothing waits over there" until_true 20 left
prove "and the file is as it was" holds garden
on weather "rm $kept; systemctl start weather-station"
prove "the station is online again" until_true 60 status '.cloud.state | select(. == "online")'

# --- the key as a credential of systemd, as the README has it ---
on weather 'mount --make-rshared /' # as the first systemd of a machine has it; a credential is mounted from another namespace
credential=$(sed -n '/^\*\*Without a TPM/,/^\*\*What a TPM/p' README.md)
encrypt() { on weather "$(sed -n "s/^ssh pi@weather '\(.*\)' < connection-string$/\1/p" <<<"$credential" | sed 's/sudo //g')" <"$run/garden.string"; }
prove "the README's line encrypts a connection string" encrypt
sed "/^\[identity\]/ a source = \"key-file\"\n$(sed -n 's/.*\(key_file = "\/run[^"]*"\).*/\1/p' <<<"$credential")" "$run/station.toml" >"$run/credential.toml"
dropin=/etc/systemd/system/weather-station.service.d
sed -n '/^```ini/,/^```$/{/^```/!p}' <<<"$credential" >"$run/drop-in"
prove "the README has the lines that hand it over" test "$(wc -l <"$run/drop-in")" = 2
# As `systemctl edit` puts them there; an editor is not played.
on weather "mkdir -p $dropin && cat >$dropin/override.conf && systemctl daemon-reload" <"$run/drop-in"
prove "a configuration that goes by them" deploy/install.sh --package "$deb" --config "$run/credential.toml" weather
as_garden() { status '.identity.deviceId | select(. == "garden")' && status '.cloud.state | select(. == "online")'; }
prove "the station is online with the key that was handed over" until_true 60 as_garden
# The path is the README's, where it says how to take the identity away.
on weather "rm '$(grep -o '/etc/credstore[^`]*' <<<"$credential" | tail -n 1)'; systemctl restart weather-station || true"
prove "without the file the unit is active" on weather 'systemctl is-active --quiet weather-station && ! ls /run/credentials/weather-station.service/hub'
until_true 20 status .version || true # the page answers a moment after the start
restarted=$(status .store.lastSequence || echo 999999999)
takes_readings() { status ".store.lastSequence | select(. > $restarted)" && status '.cloud.state | select(. != "online")'; }
prove "and takes readings" until_true 20 takes_readings
on weather "rm -r $dropin && systemctl daemon-reload"
prove "back to the TPM" deploy/install.sh --package "$deb" --config "$run/station.toml" weather
prove "and online" until_true 60 as_other

# --- the operator's pages: each line of their marked blocks, word for word ---
operated=0
# As with a station that has no TPM.
on weather "umask 077; cat >$kept" <"$run/garden.string"
while IFS= read -r line; do
    operated=$((operated + 1))
    # No pager and no sudo in the machine; both change nothing of what is tried.
    command=$(sed 's/  *#.*//; s/^sudo //' <<<"$line")
    prove "README: $command" on weather "export SYSTEMD_PAGER=; cd /root; $command"
done < <(cat README.md deploy/OPERATING.md 2>/dev/null | awk '/^<!-- .*tests\/field\/ssh.sh/ { marked = 1 } marked && /^```$/ { marked = inside = 0 } inside { print } marked && /^```sh/ { inside = 1 }')
prove "README: each of its sixteen marked commands was run" test "$operated" = 16
backup=/root/backup.tar.gz
prove "README: the backup is root's alone" on weather "test \"\$(stat -c %a $backup)\" = 600"
prove "README: it holds store and configuration" on weather "tar -tzf $backup var/lib/weather-station/readings.db etc/weather-station/station.toml"
refuse "README: and not the device's key" on weather "tar -xOzf $backup | grep -aF SharedAccessKey="
on weather "rm $kept"
until_true 30 on weather weather-station status || true

# --- a store in another place, as the README has it ---
sed '$ a [store]\npath = "/srv/weather/readings.db"' "$run/station.toml" >"$run/elsewhere.toml"
elsewhere=$(sed -n '/^\*\*Files in other places/,/^## /p' README.md)
on weather "$(grep -o 'sudo mkdir .*' <<<"$elsewhere" | sed 's/sudo //g')"
prove "a store outside of the sandbox" deploy/install.sh --package "$deb" --config "$run/elsewhere.toml" weather
prove "cannot be written, and the station says it" until_true 20 status '.store.reason | select(contains("Read-only file system"))'
dropin=/etc/systemd/system/weather-station.service.d
sed -n '/^```ini/,/^```$/{/^```/!p}' <<<"$elsewhere" >"$run/drop-in"
prove "the README has the lines for it" test "$(wc -l <"$run/drop-in")" = 2
# As `systemctl edit` puts them there; an editor is not played.
on weather "mkdir -p $dropin && cat >$dropin/override.conf && systemctl daemon-reload && systemctl restart weather-station" <"$run/drop-in"
kept_there() { status '.store | select(.state == "ok" and .lastSequence > 0)' && on weather test -s /srv/weather/readings.db; }
prove "with them the store is there" until_true 20 kept_there
prove "what would be purged" deploy/uninstall.sh --dry-run --purge weather
prove "is not what lies there, which is said" said '/srv/weather/readings.db are outside'
on weather "rm -r $dropin && systemctl daemon-reload"
prove "and back" deploy/install.sh --package "$deb" --config "$run/station.toml" weather

# --- a station whose page is off ---
sed '$ a [showcase]\nlisten = ""' "$run/station.toml" >"$run/silent.toml"
prove "with the page off install.sh is content with an active unit" deploy/install.sh --package "$deb" --config "$run/silent.toml" weather
prove "and says so" said 'its page is off'
prove "the page is on again" deploy/install.sh --package "$deb" --config "$run/station.toml" weather

# --- away ---
prove "uninstall: dry run" deploy/uninstall.sh --dry-run weather
prove "uninstall: dry run changes nothing" status .version
prove "uninstall" deploy/uninstall.sh weather
refuse "uninstall: the program is gone" on weather test -e /usr/bin/weather-station
prove "uninstall: readings and configuration stay" on weather 'test -s /var/lib/weather-station/readings.db && test -s /etc/weather-station/station.toml'
prove "uninstall again" deploy/uninstall.sh weather
prove "install again finds store, configuration and identity" deploy/install.sh --package "$deb" weather
goes_on() { status 'select(.store.lastSequence > 5 and .cloud.state == "online")'; }
prove "the station goes on where it was, online" until_true 60 goes_on
prove "uninstall --purge" deploy/uninstall.sh --purge weather
refuse "purge: readings and configuration are gone" on weather 'ls -d /var/lib/weather-station /var/cache/weather-station /etc/weather-station/station.toml* 2>/dev/null | grep .'

# --- a user with sudo, and one without ---
on weather 'useradd -m pi && mkdir -p /home/pi/.ssh && cp /root/.ssh/authorized_keys /home/pi/.ssh/ && chown -R pi: /home/pi/.ssh'
refuse "a user who is not root and has no sudo is told so" deploy/install.sh --package "$deb" pi@weather
prove "the message says what is missing" said 'neither root nor may run sudo'
# As a new Raspberry Pi OS has it: sudo asks for the password.
mkdir "$run/sudo"
(cd "$run/sudo" && apt-get download -qq sudo >/dev/null 2>&1)
on weather 'cat >/root/sudo.deb && dpkg -i /root/sudo.deb >/dev/null && usermod -aG sudo pi' < <(cat "$run"/sudo/*.deb)
head -c 12 /dev/urandom | base64 >"$run/password"
on weather 'printf "pi:%s\n" "$(cat)" | chpasswd' <"$run/password"
refuse "a user whose sudo asks for a password is told so" deploy/install.sh --package "$deb" pi@weather
remedy=$(sed -n "s/.*: ssh -t pi@weather '\(.*\)'$/\1/p" "$run/output")
prove "and what helps, as the README has it" grep -qxF "ssh -t pi@weather '$remedy'" README.md
# On a terminal, where somebody types the password for as long as it is asked for.
typed() { timeout 60 ssh -tt -F "$run/ssh_config" pi@weather "$remedy" < <(while sleep 1; do cat "$run/password"; done); }
prove "the password is asked for once more" typed
prove "by what visudo finds no fault with" on weather visudo -c
prove "and then the station is installed" deploy/install.sh --package "$deb" pi@weather
refuse "a host that is not there" deploy/install.sh --package "$deb" nobody@127.0.0.1
finish
