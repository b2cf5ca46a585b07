#!/usr/bin/env bash
# convolution.sh: a convolution and its derivatives beside PyTorch, both on one thread, for layers of
# LeNet-5, ResNet-20, ResNet-50 and MobileNet: how many times as fast ours are (the better of two
# interleaved runs of each).
set -euo pipefail
cd "$(dirname "$0")"
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then
  echo "skipped: needs PyTorch"
  exit 0
fi
root=$PWD/../..
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

# Name, images, groups, channels, filters, extent of the input, of the kernel, stride, padding.
cat > "$work/layers" <<'LAYERS'
lenet-1 64 1 3 6 32 5 1 0
lenet-2 64 1 6 16 14 5 1 0
resnet20-first 64 1 3 16 32 3 1 1
resnet20-16 64 1 16 16 32 3 1 1
resnet20-32 64 1 32 32 16 3 1 1
resnet20-64 64 1 64 64 8 3 1 1
resnet20-16/2 64 1 16 32 32 3 2 1
resnet20-32/2 64 1 32 64 16 3 2 1
resnet20-short 64 1 16 32 32 1 2 0
resnet50-first 16 1 3 64 224 7 2 3
resnet50-64 16 1 64 64 56 3 1 1
resnet50-256 16 1 256 64 56 1 1 0
resnet50-128/2 16 1 128 128 56 3 2 1
resnet50-512 16 1 512 512 7 3 1 1
mobilenet-96 16 96 96 96 56 3 1 1
mobilenet-96/2 16 96 96 96 56 3 2 1
LAYERS
cc -O3 -std=c11 -fno-math-errno -fno-trapping-math -ffp-contract=off -D_GNU_SOURCE -I"$root" \
  -I"$root/lib" convolution.c "$root"/lib/net/graph/{operator,graph,tensor,rules}.c \
  "$root"/lib/net/ops/{,*/}*.c "$root"/lib/core/{blas,dtype,error,shape,stream,utf8}.c \
  -o "$work/convolution" -lopenblas -lm
grep -m 1 'model name' /proc/cpuinfo
for run in 1 2; do
  "$work/convolution" < "$work/layers" > "$work/ours-$run"
  /usr/bin/python3 torch_convolution.py < "$work/layers" > "$work/torch-$run"
done
printf '%-15s %33s   %s\n' '' 'ours, ms' 'PyTorch / ours'
printf '%-15s %8s %8s %8s %8s  %8s %8s %8s %8s\n' layer forward input weights examples \
  forward input weights examples
paste -d ' ' "$work/layers" "$work"/{ours,torch}-{1,2} | awk '
  function best(a, b) { return a < b ? a : b }
  {
    printf "%-15s", $1
    for (i = 10; i < 14; i++) { ours[i] = best($i, $(i + 4)); printf " %8.3f", 1000 * ours[i] }
    printf " "
    for (i = 10; i < 14; i++) printf " %8.2f", best($(i + 8), $(i + 12)) / ours[i]
    print ""
  }'
