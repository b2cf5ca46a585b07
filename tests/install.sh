#!/usr/bin/env bash
# Installs those of the packages in packages.txt that are missing. Debian and its kin.
set -euo pipefail
missing=()
while read -r package; do
  dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done < "$(dirname "$0")/packages.txt"
((${#missing[@]})) || exit 0
echo "installing: ${missing[*]}"
as_root=$([ "$(id -u)" = 0 ] || echo sudo)
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" > /dev/null
