#!/usr/bin/env bash
# Builds the Debian packages of the weather station.
#
#   deploy/build.sh [--install-needs] [amd64|arm64]...      without an architecture: both
#
# The packages are put into target/package/. What is missing on this machine is named together with the command that
# installs it; --install-needs runs those commands (as root, Debian 12 or newer).
set -euo pipefail
cd "$(dirname "$0")/.."

cargo_deb_version=3.8.0
arm=aarch64-unknown-linux-gnu
install_needs=no
architectures=()
for argument in "$@"; do
    case "$argument" in
    --install-needs) install_needs=yes ;;
    amd64 | arm64) architectures+=("$argument") ;;
    *)
        sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
        exit 64
        ;;
    esac
done
host=$(dpkg --print-architecture)
[ "${#architectures[@]}" -gt 0 ] || architectures=(amd64 arm64)
if [ "$host" = arm64 ]; then
    # On a Pi itself only its own package is built.
    architectures=(arm64)
fi

# Where rustup puts cargo: a shell that was open before knows nothing of it.
PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

say() { printf '%s\n' "$*" >&2; }

# need WHAT TEST COMMAND: runs COMMAND, or tells it, unless TEST holds.
missing=0
need() {
    if eval "$2"; then return; fi
    if [ "$install_needs" = yes ]; then
        say "installing: $1"
        eval "$3"
    else
        say "missing: $1
    $3"
        missing=1
    fi
}

# Named with its architecture: the same package may be there for another one.
has_package() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
apt="apt-get install -y --no-install-recommends"

need "curl and certificates, to download Rust" \
    "command -v cargo >/dev/null || { has_package curl:$host && has_package ca-certificates; }" "apt-get update && $apt curl ca-certificates"
need "Rust (cargo)" 'command -v cargo >/dev/null' \
    "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
need "C compiler, pkg-config and the TPM library" "has_package gcc:$host && has_package pkg-config:$host && has_package libtss2-dev:$host" \
    "apt-get update && $apt gcc libc6-dev pkg-config libtss2-dev"
for architecture in "${architectures[@]}"; do
    [ "$architecture" != "$host" ] || continue
    need "the architecture arm64 in dpkg" 'dpkg --print-foreign-architectures | grep -qx arm64' \
        "dpkg --add-architecture arm64 && apt-get update"
    need "cross compiler and the TPM library for arm64" \
        "has_package gcc-aarch64-linux-gnu:$host && has_package libtss2-dev:arm64" \
        "$apt gcc-aarch64-linux-gnu libc6-dev-arm64-cross libtss2-dev:arm64"
done
need "cargo-deb" 'cargo deb --version >/dev/null 2>&1' "cargo install cargo-deb --locked --version $cargo_deb_version"
[ "$missing" = 0 ] || exit 1

# Rust's standard library for arm64: from rustup, or from Debian where rustup has none or cannot download.
# Debian's must be the same version as its compiler, so then that compiler is used, unpacked and not installed.
debian_rust() {
    local prefix=$PWD/target/debian-rust
    if [ ! -x "$prefix/rustc" ]; then
        say "rustup cannot provide $arm: using Debian's rustc-web"
        mkdir -p "$prefix/debs"
        local packages
        packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
            --no-enhances rustc-web | grep -E '^(rustc-web|libstd-rust-web|libllvm|libz3|libffi|libedit|libxml2|libicu|libbsd|libmd)[^<>]*$' | sort -u)
        # shellcheck disable=SC2086  # one word per package
        (cd "$prefix/debs" && apt-get download $packages libstd-rust-web-dev:arm64)
        local deb
        for deb in "$prefix"/debs/*.deb; do dpkg-deb -x "$deb" "$prefix"; done
        cat >"$prefix/rustc" <<SH
#!/bin/sh
LD_LIBRARY_PATH=$prefix/usr/lib/x86_64-linux-gnu exec $prefix/usr/bin/rustc --sysroot $prefix/usr "\$@"
SH
        chmod +x "$prefix/rustc"
    fi
    export RUSTC=$prefix/rustc
}

export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export PKG_CONFIG_ALLOW_CROSS=1
export PKG_CONFIG_PATH_aarch64_unknown_linux_gnu=/usr/lib/aarch64-linux-gnu/pkgconfig

mkdir -p target/package
for architecture in "${architectures[@]}"; do
    cross=()
    if [ "$architecture" != "$host" ]; then
        cross=(--target "$arm")
        if ! rustc --print target-libdir --target $arm 2>/dev/null | xargs -r test -d; then
            if ! command -v rustup >/dev/null || ! timeout 300 rustup target add $arm >&2; then debian_rust; fi
        fi
    fi
    say "building for $architecture"
    cargo build --release --locked --bin weather-station "${cross[@]}"
    cargo deb --no-build --no-strip --locked --output target/package/ "${cross[@]}" \
        ${WEATHER_STATION_DEB_VERSION:+--deb-version "$WEATHER_STATION_DEB_VERSION"}
    unset RUSTC
done
