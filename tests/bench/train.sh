#!/usr/bin/env bash
# train.sh [RUNS]: ivon-train beside PyTorch with an IVON written from the paper, on two threads, interleaved,
# medians of RUNS, three by default:
#   an epoch of LeNet-5 on 10,000 images, of an MLP 64-500-300-10 on 1,400 digits, of ResNet-20 with
#   filter-response normalization on 1,000 images (PyTorch: its best epoch but the first; ours: what
#   more epochs cost over fewer, the start left out);
#   a step of IVON beside one of AdamW, in our engine, and of EVON, whose own cost does not grow with the batch.
# Measure on an idle machine: PyTorch's threads suffer more from company than ours, which flatters
# us; a load above 0.5 at the start is said.
# BLAS takes the kernels that OPENBLAS_CORETYPE names, or those it finds fit.
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-3}
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then
  echo "skipped: needs IVON_SHARED and PyTorch"
  exit 0
fi
bin=${IVON_BIN:-$PWD/../../build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
data=$IVON_SHARED/data
grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' /proc/loadavg

lenet=(--arch=lenet --data="$data/cifar10.h5:/train" --lr=0.1)
lenet256=("${lenet[@]}" --batch=256)
mlp=(--arch=mlp:64,500,300,10 --data="$data/digits.h5:/train" --lr=0.1)
resnet=(--arch=resnet20-frn --data="$data/cifar10.h5:/train" --limit=1000 --lr=0.1)
gpt=(--arch=gpt:65,64,128,2,4 --data="$data/tinyshakespeare.txt:train" --tokens=char --context=64 --batch=16 --lr=0.1)

seconds() { # STEPS OPTION...
  local start=$EPOCHREALTIME
  "$bin/ivon-train" -q -f -j2 -o "$work/run" --steps="$1" --save-every=0 "${@:2}"
  awk "BEGIN {print $EPOCHREALTIME - $start}"
}
# What one step costs: NAME FEW MANY OPTION...
step() {
  local few many
  few=$(seconds "$2" "${@:4}")
  many=$(seconds "$3" "${@:4}")
  awk "BEGIN {print ($many - $few) / ($3 - $2)}" >> "$work/$1.times"
}
median() { sort -g "$work/$1.times" | sed -n $(((runs + 1) / 2))p; }

adamw=(--optimizer=adamw --lr=0.001)
for ((i = 0; i < runs; i++)); do
  for network in lenet mlp resnet; do
    /usr/bin/python3 torch_train.py $network "$IVON_SHARED" >> "$work/torch-$network.times"
    declare -n options=$network
    case $network in lenet) counts="20 220" ;; mlp) counts="100 1220" ;; resnet) counts="2 22" ;; esac
    step $network $counts --h0=0.1 "${options[@]}"
    step adamw-$network $counts "${options[@]}" "${adamw[@]}"
    [ $network != mlp ] || step pairs $counts --h0=0.1 "${options[@]}" --antithetic
  done
  for network in gpt lenet256; do
    declare -n options=$network
    step $network 5 55 --h0=0.1 "${options[@]}"
    step adamw-$network 5 55 "${options[@]}" "${adamw[@]}"
    step evon-$network 5 55 --h0=0.1 "${options[@]}" --optimizer=evon
  done
done

printf '%-24s %10s %10s  %6s\n' "seconds of an epoch" ours PyTorch ratio
for row in "lenet 200" "mlp 28" "resnet 20"; do
  read -r network steps <<< "$row"
  awk -v what=$network -v a="$(median $network)" -v n=$steps -v b="$(median torch-$network)" \
    'BEGIN {printf "%-24s %10.3f %10.3f  %6.2f\n", what, a * n, b, b / (a * n)}'
done
printf '\n%-24s %10s %10s  %6s\n' "milliseconds of a step" IVON AdamW ratio
for network in lenet mlp resnet gpt lenet256; do
  awk -v what=$network -v a="$(median $network)" -v b="$(median adamw-$network)" \
    'BEGIN {printf "%-24s %10.3f %10.3f  %6.3f\n", what, 1000 * a, 1000 * b, a / b}'
done
awk -v a="$(median pairs)" -v b="$(median adamw-mlp)" \
  'BEGIN {printf "%-24s %10.3f %10.3f  %6.3f\n", "mlp, --antithetic", 1000 * a, 1000 * b, a / b}'
printf '\n%-24s %10s %10s  %6s\n' "milliseconds of a step" EVON AdamW ratio
for network in gpt lenet256; do
  awk -v what=$network -v a="$(median evon-$network)" -v b="$(median adamw-$network)" \
    'BEGIN {printf "%-24s %10.3f %10.3f  %6.3f\n", what, 1000 * a, 1000 * b, a / b}'
done
