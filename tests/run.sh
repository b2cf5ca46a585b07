#!/usr/bin/env bash
# Installs what is needed, builds with sanitizers and for release, runs every test with both.
# Tests on real data run where IVON_SHARED names the folder that holds it, and are skipped elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r package; do
  dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done < tests/packages.txt
if ((${#missing[@]})); then
  echo "installing: ${missing[*]}"
  as_root=$([ "$(id -u)" = 0 ] || echo sudo)
  $as_root apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" >/dev/null
fi

failed=0
for preset in asan release; do
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" -j "$(nproc)"
  ctest --preset "$preset" || failed=1
done
exit $failed
