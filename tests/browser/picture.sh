#!/usr/bin/env bash
# Paints tests/browser/page.png, the README's picture, from a real station in a real Chromium.
#   PICTURES_ALL=1 PICTURES=/tmp/look tests/browser/picture.sh   paints more sizes, elsewhere
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo test --quiet --locked --test showcase -- --ignored the_picture_for_the_readme
