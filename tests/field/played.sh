# shellcheck shell=bash
# Hosts that are folders, for rollout.sh, cut.sh and one-host.sh: ssh, dpkg, apt-get, systemctl and the station are played.
# shellcheck disable=SC2016,SC2119,SC2120,SC2154  # what the other side shall expand is in single quotes on purpose; run is of machines.sh

# --- the play: a host is a folder with etc, cache, version; sensor, hang, full, gone say what is wrong with it ---
export PLAY=$run/hosts
mkdir -p "$run/bin" "$run/played"
export PATH=$run/bin:$PATH
cat >"$run/bin/ssh" <<'SH'
#!/usr/bin/env bash
for word in "$@"; do [ "$word" != -O ] || exit 0; done
export HOST=$PLAY/${*: -2:1}
[ -d "$HOST" ] && [ ! -e "$HOST/gone" ] || exit 255
# It is gone when this command comes.
[ ! -e "$HOST/breaks" ] || ! grep -qf "$HOST/breaks" <<<"${*: -1}" || exit 255
exec 9>&- # as the real one closes what it inherits: only what runs over there may hold a lock
# The connection breaks after so many bytes.
[ ! -e "$HOST/cut" ] || exec < <(head -c "$(cat "$HOST/cut")")
# It is gone after so many bytes of a package, and nobody over there is told: the reader waits on.
case ${*: -1} in *new.deb*) if [ -e "$HOST/lost" ]; then
    bytes=$(cat "$HOST/lost")
    rm "$HOST/lost"
    exec < <(head -c "$bytes"; echo "$BASHPID" >"$HOST/waits"; exec sleep 300)
fi ;; esac
[ ! -e "$HOST/full" ] || ulimit -f 40 # KiB in one file: as a full disk, cp ends in the middle
export PATH=$PLAY/../played:$PATH
sh -c "$(sed "s|/etc/weather-station|$HOST/etc|g; s|/var/cache/weather-station|$HOST/cache|g; s|/run/systemd/system|$HOST|g" <<<"${*: -1}")"
SH
cat >"$run/played/id" <<'SH'
#!/bin/sh
cat "$HOST/id" 2>/dev/null || echo 0
SH
cat >"$run/played/sudo" <<'SH'
#!/bin/sh
[ "$1" = -n ] && [ ! -e "$HOST/no-sudo" ] || { echo 'sudo: a password is required' >&2; exit 1; }
shift
exec "$@"
SH
cat >"$run/played/dpkg" <<'SH'
#!/usr/bin/env bash
case $1 in
--print-architecture) cat "$HOST/architecture" 2>/dev/null || echo amd64 ;;
-s) [ -e "$HOST/version" ] && printf 'Status: install ok %s\nVersion: %s\n' "$(cat "$HOST/word" 2>/dev/null || echo installed)" "$(cat "$HOST/version")" ;;
--force-downgrade) dpkg-deb --contents "${*: -1}" >/dev/null && dpkg-deb --field "${*: -1}" Version >"$HOST/version" ;;
esac
SH
# As apt: without --reinstall a package of the version that is there is not installed. What was called is in `log`.
cat >"$run/played/apt-get" <<'SH'
#!/usr/bin/env bash
echo "apt-get $*" >>"$HOST/log"
case $1 in
update) exit 0 ;;
*) [ ! -e "$HOST/cache" ] || ! flock -n "$HOST/cache/lock" true || echo "without the lock: apt-get $1" >>"$HOST/log" ;;
esac
case $1 in
remove | purge)
    [ -e "$HOST/version" ] || { echo 'E: Unable to locate package weather-station' >&2; exit 100; }
    rm -f "$HOST/version"
    exit 0 ;;
esac
if rm "$HOST/goes-on" 2>/dev/null; then
    # A part of it goes on over there, also when it fails here.
    (sleep 2; echo 'ended' >>"$HOST/log") >/dev/null 2>&1 </dev/null &
fi
# So many times it fails.
fails=$(cat "$HOST/fails" 2>/dev/null || echo 0)
if [ "$fails" -gt 0 ]; then
    echo $((fails - 1)) >"$HOST/fails"
    exit 100
fi
if [ -e "$HOST/hang" ]; then
    echo $$ >"$HOST/hanging"
    exec sleep 300
fi
version=$(dpkg-deb --field "${*: -1}" Version) || exit 100
rm -f "$HOST/word"
case " $* " in *" --reinstall "*) ;; *) [ "$version" != "$(cat "$HOST/version" 2>/dev/null)" ] || exit 0 ;; esac
mkdir -p "$HOST/etc"
[ -e "$HOST/etc/station.toml" ] || echo "that of $version" >"$HOST/etc/station.toml"
echo "$version" >"$HOST/version"
sha256sum <"${*: -1}" >"$HOST/installed"
SH
cat >"$run/played/systemctl" <<'SH'
#!/bin/sh
echo "systemctl $*" >>"$HOST/log"
[ "$1" != restart ] || ! rm "$HOST/no-restart" 2>/dev/null || exit 1
[ "$1" != is-active ] || [ ! -e "$HOST/dead" ]
SH
cat >"$run/played/weather-station" <<'SH'
#!/usr/bin/env bash
page_is_off() { [ -e "$HOST/page-off" ] || grep -qs 'listen = ""' "$HOST/etc/station.toml"; }
if [ "${1:-}" = status ] && page_is_off; then
    echo 'error: the running station cannot be asked: `showcase.listen` is empty; set it to an address' >&2
    exit 1
fi
case "$*" in
'--config '*' check') exit "$(cat "$HOST/check-status" 2>/dev/null || echo 0)" ;;
'status --json')
    [ ! -e "$HOST/drowsy" ] || sleep 3
    n=$(($(cat "$HOST/sequence" 2>/dev/null || echo 0) + 1))
    echo "$n" >"$HOST/sequence"
    version=$(sed 's/-.*//' "$HOST/version")
    [ ! -e "$HOST/deaf-$version" ] || exit 1
    # Where there is a `slow`, the hub accepts nothing before so many answers.
    accepted=$([ "$n" -gt "$(cat "$HOST/slow" 2>/dev/null || echo 0)" ] && echo "$n" || echo 0)
    jq -n --arg version "$version" --arg sensor "$(cat "$HOST/sensor" 2>/dev/null || echo ok)" --argjson n "$n" --argjson accepted "$accepted" \
        --argjson readings "$(cat "$HOST/readings" 2>/dev/null || echo 1)" \
        '{$version, sensor: {state: $sensor, reason: "played"}, store: {lastSequence: $n}, cloud: {state: "online", lastAcceptedSequence: $accepted},
          configuration: {"sensor.interval": {value: "2s"}, "telemetry.readings_per_message": {value: $readings}}}' ;;
status)
    # Three answers under the old identity, as a running station that has not noticed the new one yet.
    left=$(cat "$HOST/old-answers" 2>/dev/null || echo 0)
    echo $((left - 1)) >"$HOST/old-answers"
    printf 'identity      %s at hub (tpm)\ncloud         %s since then\n' "$([ "$left" -gt 0 ] && echo old || echo new)" "$([ -e "$HOST/no-hub" ] && echo offline || echo online)"
    echo 'setup code    AAAA-BBBB (for the TPM form on the page)' ;;
'provision --show') printf 'host          hub\ndevice id     new\n' ;;
provision*)
    echo "weather-station $*" >>"$HOST/log"
    cat >/dev/null
    echo "slot 0 of the TPM is new at hub" ;;
esac
SH
printf '#!/bin/sh\n! test -e "$HOST/no-account"\n' >"$run/played/chown" # the account is not on this machine
chmod +x "$run"/bin/* "$run"/played/*

deb() { # VERSION FILE: a package of 64 KiB that cannot be packed
    mkdir -p "$run/tree/DEBIAN"
    head -c 65536 /dev/urandom >"$run/tree/file"
    printf 'Package: weather-station\nVersion: %s\nArchitecture: amd64\nMaintainer: nobody <nobody@example.org>\nDescription: played\n' "$1" >"$run/tree/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$run/tree" "$2" >/dev/null
}
deb 1.0-1 "$run/old.deb"
deb 2.0-1 "$run/new.deb"
host() { # NAME: with the old version, installed by install.sh
    rm -rf "${PLAY:?}/$1"
    mkdir -p "$PLAY/$1/etc" "$PLAY/$1/cache"
    echo 'the configuration' >"$PLAY/$1/etc/station.toml"
    cp "$run/old.deb" "$PLAY/$1/cache/current.deb"
    echo 1.0-1 >"$PLAY/$1/version"
}
fleet() { deploy/fleet.sh --state "$run/state" --timeout 4 --package "$run/new.deb" "$@" "$run/list"; }
anew() { # NAME...: these hosts, and no memory of earlier runs
    rm -rf "$run/state"
    printf '%s\n' "$@" >"$run/list"
    local name
    for name in "$@"; do host "$name"; done
}
is() { # NAME RESULT [WORD OF THE DETAIL]
    jq -e --arg host "$1" --arg result "$2" --arg word "${3:-}" 'any(.hosts[]; .host == $host and .result == $result and (.detail | contains($word)))' "$run/state/report.json" >/dev/null ||
        { jq -c '.hosts[] | [.host, .result, .detail]' "$run/state/report.json"; return 1; }
}
runs() { [ "$(cat "$PLAY/$1/version")" = "$2" ]; }
