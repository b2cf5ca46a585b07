#!/usr/bin/env bash
# convert.sh [PARAMETERS]: ivon-convert of a PyTorch checkpoint of 12 bytes a parameter (default 383
# million, 4.6 GB) to HDF5, beside `cp` of the same file with making the copy durable, which
# ivon-convert does; its greatest memory; and ivon-merge of two such models straight from PyTorch's and
# from safetensors files beside the same from HDF5. Warm cache; medians of 3 interleaved runs.
set -euo pipefail
cd "$(dirname "$0")"
parameters=${1:-383e6}
bin=${IVON_BIN:-$PWD/../../build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
/usr/bin/python3 -c 'import torch' 2> /dev/null || { echo "skipped: PyTorch is missing"; exit 0; }
grep -m 1 'model name' /proc/cpuinfo
echo "load average $(cut -d' ' -f1 /proc/loadavg)"
/usr/bin/python3 make_torch_checkpoint.py "$work/a.pt" "$parameters"
timed() { # NAME COMMAND...
  local start=$EPOCHREALTIME
  "${@:2}"
  local end=$EPOCHREALTIME
  awk "BEGIN {print $end - $start}" >> "$work/$1.times"
}
median() { sort -g "$work/$1.times" | sed -n 2p; }
copy() { cp "$work/a.pt" "$work/copy" && sync "$work/copy"; }
convert=("$bin/ivon-convert" -q --no-provenance "$work/a.pt" -o "$work/a.h5")

/usr/bin/python3 peak_memory.py "ivon-convert" "${convert[@]}"
for _ in 1 2 3; do
  rm -f "$work/copy"; timed copy copy
  rm -f "$work/a.h5"; timed convert "${convert[@]}"
done
rm -f "$work/copy"
"$bin/ivon-convert" -q "$work/a.h5" -o "$work/a.safetensors"
for _ in 1 2 3; do
  for format in h5 pt safetensors; do
    ln -sf "a.$format" "$work/b.$format" # a second model of the same size, already in the cache
    rm -f "$work/merged.h5"
    timed "merge-$format" "$bin/ivon-merge" -q --no-provenance --method=hessian \
      "$work/a.$format" "$work/b.$format" -o "$work/merged.h5"
  done
done
awk -v c="$(median convert)" -v p="$(median copy)" 'BEGIN {
  printf "ivon-convert %.2f s, cp and sync %.2f s: at %.2f of its rate\n", c, p, p / c}'
for format in pt safetensors; do
  awk -v f=$format -v t="$(median merge-$format)" -v h="$(median merge-h5)" 'BEGIN {
    printf "merging from %s %.2f s, from HDF5 %.2f s: %.2f of it\n", f, t, h, t / h}'
done
