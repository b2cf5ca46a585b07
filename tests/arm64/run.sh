#!/usr/bin/env bash
# run.sh: builds for arm64 with Debian's cross compiler, runs the tests of units and properties in QEMU, and
# compares what the commands make with what those of build/release make: draws of weights, merges and
# conversions bit for bit, what goes through the linear algebra of OpenBLAS by a tolerance. Takes half an
# hour on 2 cores. Debian's packages for arm64 are unpacked in build/arm64-root; nothing is installed.
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in aarch64-linux-gnu-gcc qemu-aarch64; do
  command -v $tool > /dev/null || {
    echo "$tool is missing: apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user" >&2
    exit 69
  }
done
root=$PWD/build/arm64-root

# The libraries that the build wants, and what they need, as apt finds them for a machine without packages.
unpack() {
  local apt=$root.apt
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  touch "$apt/status"
  cat > "$apt/conf" << CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
Dir::State::status "$apt/status";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt";
CONF
  export APT_CONFIG=$apt/conf
  apt-get update -qq
  grep -E '^(lib.*|zlib1g)-dev$' tests/packages.txt | xargs apt-get install --download-only -y -qq
  unset APT_CONFIG
  mkdir -p "$root.part"
  for package in "$apt"/archives/*.deb; do dpkg-deb -x "$package" "$root.part"; done
  # An alternative, which is a link that installing makes.
  ln -s openblas-pthread/libopenblas.so.0 "$root.part/usr/lib/aarch64-linux-gnu"
  mv "$root.part" "$root"
  rm -r "$apt"
}
[ -d "$root" ] || unpack

cmake --preset arm64 > /dev/null
cmake --build --preset arm64 -j "$(nproc)"
cmake --preset release > /dev/null
cmake --build --preset release -j "$(nproc)" --target ivon-program
failed=0
ctest --preset arm64 -j "$(nproc)" -R '^(unit|property)-' || failed=1

results=build/arm64/results
rm -rf $results
bash tests/arm64/commands.sh build/release $results/expected $results/models
bash tests/arm64/commands.sh build/arm64 $results/found $results/models qemu-aarch64 -L "$root"
# Sums of up to 144 floats in another order differ by up to 144 / 2^24 of the largest.
/usr/bin/python3 tests/arm64/compare.py $results/{expected,found} 1e-5 \
  'sample-[01].h5' average.h5 ties.h5 pruned.h5 plain.npz plain.safetensors info.txt || failed=1
exit $failed
