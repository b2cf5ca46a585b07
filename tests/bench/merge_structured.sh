#!/usr/bin/env bash
# merge_structured.sh [LAYERS]: time and peak memory of ivon-merge on a base and two models with
# Kronecker factors, layers (4) of GPT-2 large's shape, beside the memory that is allowed: 256 MiB
# and one layer's factors of all inputs, in double.
set -euo pipefail
cd "$(dirname "$0")"
layers=${1:-4}
bin=${IVON_BIN:-$PWD/../../build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
if [ "$(df -BG --output=avail "$work" | tail -n 1 | tr -dc 0-9)" -lt $((layers * 3 + 2)) ]; then
  echo "skipped: $((layers * 3 + 2)) GB of disk are needed in $work"
  exit 0
fi
grep -m 1 'model name' /proc/cpuinfo
/usr/bin/python3 make_structured.py "$work" "$layers"
for method in regmean hessian gradient-matching; do
  base=()
  [ $method != gradient-matching ] || base=(--base="$work/base.h5")
  /usr/bin/python3 peak_memory.py "$method" "$bin/ivon-merge" -q --no-provenance -f --method=$method \
    "${base[@]}" "$work/first.h5" "$work/second.h5" -o "$work/merged.h5"
done
