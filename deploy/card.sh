#!/usr/bin/env bash
# Turns a card with Raspberry Pi OS (64 bit, Bookworm or Trixie) into a weather station that sets itself up at its first start.
#
#   deploy/card.sh --config FILE [--package FILE|FOLDER] [--libraries FOLDER] BOOT
#
#   BOOT         the card's boot partition, mounted here (/media/you/bootfs), freshly written and not started yet; one that was
#                prepared before, and not started since, takes what is given now instead
#   --config     the station's configuration; with [provisioning] id_scope the station provisions itself (its TPM is enrolled
#                once: deploy/provision.sh --show-enrollment)
#   --package    the arm64 package; default: target/package
#   --libraries  .deb files of the TPM library for a Pi whose first start has no network; without it they come from its mirrors
#
# At the first start the Pi runs BOOT/weather-station/firstrun.sh once as root: it turns on I2C and the TPM, installs the package,
# puts the configuration into place, removes itself from the kernel command line and restarts. Its log stays in that folder.
# User, network and ssh are the Imager's affair. No key and no password is written to the card.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=deploy/common.sh
. "$here/common.sh"

package=$here/../target/package config='' libraries='' boot=''
while [ $# -gt 0 ]; do
    case "$1" in
    --package) package=${2:?--package needs a path} && shift ;;
    --config) config=${2:?--config needs a file} && shift ;;
    --libraries) libraries=${2:?--libraries needs a folder} && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) usage >&2 && exit 64 ;;
    *) [ -z "$boot" ] || { usage >&2 && exit 64; }
        boot=$1 ;;
    esac
    shift
done
if [ -z "$boot" ] || [ -z "$config" ]; then usage >&2 && exit 64; fi
for file in cmdline.txt config.txt; do
    [ -w "$boot/$file" ] || fail "$boot has no writable $file: expected the boot partition of Raspberry Pi OS"
done
[ -r "$config" ] || fail "cannot read $config"
if [ -d "$package" ]; then package=$(newest_package "$package" arm64); fi
[ -r "$package" ] || fail "no arm64 package: build one with deploy/build.sh arm64"
made_for=$(dpkg-deb --field "$package" Architecture) || fail "$package is no package"
[ "$made_for" = arm64 ] || fail "$package is for $made_for, but the Pi needs arm64: build one with deploy/build.sh arm64"
[ "$(wc -l <"$boot/cmdline.txt")" -le 1 ] || fail "$boot/cmdline.txt has more than one line: is this the boot partition of Raspberry Pi OS?"
[ -z "$libraries" ] || [ ! "$libraries" -ef "$boot/weather-station" ] || fail "--libraries is the card's own folder: expected another"
# What has been started has its configuration: firstrun.sh replaces none that is there.
[ ! -e "$boot/weather-station/firstrun.log" ] ||
    fail "this card has been started already: change its station by deploy/install.sh --config FILE HOST, or write the card anew"
first_run=systemd.run=/boot/firmware/weather-station/firstrun.sh
prepared=no
case $(grep -o 'systemd\.run=[^[:space:]]*' "$boot/cmdline.txt" || true) in
'') ;;
"$first_run") prepared=yes ;;
*) fail "$boot/cmdline.txt runs something else at the first start already: let the card start once, then run this again" ;;
esac
# Nothing is written before this line: a card that is refused stays as it was.

mkdir -p "$boot/weather-station"
cp "$package" "$boot/weather-station/weather-station.deb"
cp "$config" "$boot/weather-station/station.toml"
# Libraries of an earlier time go.
find "$boot/weather-station" -maxdepth 1 -name '*.deb' ! -name weather-station.deb -delete
[ -z "$libraries" ] || cp "$libraries"/*.deb "$boot/weather-station/"
cp "$here/firstrun.sh" "$boot/weather-station/firstrun.sh"

# config.txt: only what is not there yet, in a section that every model reads.
lines=''
for line in dtparam=i2c_arm=on dtoverlay=tpm-slb9670; do
    grep -qx "$line" "$boot/config.txt" || lines="$lines$line
"
done
[ -z "$lines" ] || printf '\n# weather-station\n[all]\n%s' "$lines" >>"$boot/config.txt"

# systemd.run is how the Imager's own firstrun works; /boot/firmware is where this partition is mounted on the Pi.
if [ "$prepared" = no ]; then
    cp "$boot/cmdline.txt" "$boot/weather-station/cmdline.txt.before"
    sed -i "1s|[[:space:]]*\$| $first_run systemd.run_success_action=reboot systemd.run_failure_action=reboot systemd.unit=kernel-command-line.target|" "$boot/cmdline.txt"
fi
sync -f "$boot" 2>/dev/null || true
say "the card is ready: put it into the Pi; after the second start the station records"
