#!/usr/bin/env bash
# merge_structured.sh [LAYERS]: time and peak memory of ivon-merge on a base and two models with Kronecker factors,
# layers (1) of GPT-2 large's shape, beside the memory that is allowed: 256 MiB and the bases of one layer of all
# inputs, in double. A matrix is merged at a time, so memory does not depend on the number of layers, and time is as
# their number. Minutes a layer on 2 cores.
set -euo pipefail
cd "$(dirname "$0")"
layers=${1:-1}
bin=${IVON_BIN:-$PWD/../../build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
if [ "$(df -BG --output=avail "$work" | tail -n 1 | tr -dc 0-9)" -lt $((layers * 3 + 2)) ]; then
  echo "skipped: $((layers * 3 + 2)) GB of disk are needed in $work"
  exit 0
fi
grep -m 1 'model name' /proc/cpuinfo
/usr/bin/python3 make_structured.py "$work" "$layers"
bases=0
for side in 1281 3840 1281 1280 1281 5120 5121 1280; do bases=$((bases + side * side)); done
echo "allowed: $((256 + 3 * bases * 8 / 1048576)) MiB"
for method in ${METHODS:-regmean hessian gradient-matching}; do
  base=()
  [ $method != gradient-matching ] || base=(--base="$work/base.h5")
  /usr/bin/python3 peak_memory.py "$method" "$bin/ivon-merge" -q --no-provenance -f --method=$method \
    "${base[@]}" "$work/first.h5" "$work/second.h5" -o "$work/merged.h5" | tee "$work/line"
  # "NAME: S s, C s of processors, ..."
  awk -v layers="$layers" '{printf "  36 layers: %.0f min, %.0f min of processors\n", $2 * 36 / layers / 60,
    $4 * 36 / layers / 60}' "$work/line"
done
