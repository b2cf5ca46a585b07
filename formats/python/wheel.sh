#!/usr/bin/env bash
# wheel.sh BUILD FOLDER: makes a wheel in FOLDER of the Python package ivon_posterior with the commands of
# BUILD, their library and their manual pages. It is for systems like the one that built it: the libraries
# of others are not in it but named (Requires-External). Needs Python's pip, setuptools and wheel.
set -euo pipefail
build=$(cd "$1" && pwd) folder=$(cd "$2" && pwd)
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=/usr/bin/python3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$tree/formats/python" "$work/source" # where the build leaves its own files
cd "$work"
$python -m pip wheel --quiet --no-index --no-build-isolation --no-deps --no-cache-dir ./source
$python -m wheel unpack ./*.whl > log
info=$(echo "$PWD"/ivon_posterior-*/*.dist-info)
usr=${info%.dist-info}.data/data # what is below it is installed below the environment's prefix

for component in run mpi; do
  cmake --install "$build" --component $component --strip --prefix "$usr" >> log
done
# Wheels have no links: a copy of the library, and scripts in the place of further names of the program.
library=$(find "$usr" -name 'libivon.so.?')
cp --remove-destination "$(readlink -f "$library")" "$library"
find "$usr" -name 'libivon.so.*.*' -delete
for link in "$build"/bin/ivon-*; do
  script=$usr/bin/$(basename "$link")
  printf '#!/bin/sh\nexec "$(dirname "$(readlink -f "$0")")/ivon" %s "$@"\n' "${link##*/ivon-}" > "$script"
  chmod +x "$script"
done

cp "$tree/LICENSE" "$tree/.debian/copyright" "$info"
platform=$($python -c 'import sysconfig; print(sysconfig.get_platform().replace("-", "_"))')
sed -i "s/^Root-Is-Purelib:.*/Root-Is-Purelib: false/; s/^Tag:.*/Tag: py3-none-$platform/" "$info/WHEEL"
{
  sed '/^$/d' "$info/METADATA"
  readelf -d "$library" "$usr/bin/ivon" | sed -n '/libivon/d; s/.*(NEEDED).*\[\(.*\)\]/Requires-External: \1/p' \
    | LC_ALL=C sort -u
} > METADATA
mv METADATA "$info"
$python -m wheel pack --dest-dir "$folder" "$(dirname "$info")" > log
sed -n 's/^Repacking wheel as \(.*\)\.\.\.OK$/\1/p' log
