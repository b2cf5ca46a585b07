#!/usr/bin/env bash
# sensitivity.sh: ivon-sensitivity beside PyTorch (functorch's vmap(jacrev), then einsum) on two
# threads, interleaved, the fastest of five, as company only adds:
#   deviations of 500 images by LeNet-5 and of 1,400 digits by an MLP, with the outputs' covariance
#   and with its diagonal;
#   what 100 and 1,000 classes cost instead of 10, beyond the last layer itself;
#   memory, of these and of a GPT of 1,024 tokens and a ResNet-50.
# The computation alone, of ours, is the time of a run over many examples less that over few, for as
# many as PyTorch takes: start and planning cancel, reading the data, which are not compressed, and
# writing the scores do not.
# PyTorch's begins when data and weights are in memory and all has run once.
# Measure on an idle machine: PyTorch's threads suffer more from company than ours, which flatters
# us; a load above 0.5 at the start is said.
# BLAS takes the kernels that OPENBLAS_CORETYPE names, or those it finds fit.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c 'import functorch' 2> /dev/null; then
  echo "skipped: needs IVON_SHARED and PyTorch with functorch"
  exit 0
fi
root=$PWD/../..
bin=${IVON_BIN:-$root/build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
python=/usr/bin/python3
export PYTHONDONTWRITEBYTECODE=1

cp /proc/loadavg "$work/load"
$python torch_sensitivity.py make "$IVON_SHARED" "$work"
cc -O3 -fno-math-errno -ffp-contract=off -I"$root" -I"$root/lib" sgemm.c \
  "$root"/lib/core/{random,blas,error,utf8}.c -o "$work/sgemm" -lopenblas -lm
echo "$(grep -m 1 'model name' /proc/cpuinfo), $("$work/sgemm" | cut -d' ' -f2) kernels, load" \
  "$(cut -d' ' -f1-3 "$work/load")"
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' "$work/load"

seconds() { # COMMAND...
  local start=$EPOCHREALTIME
  "$@" > /dev/null
  awk "BEGIN {print $EPOCHREALTIME - $start}"
}
sensitivity() { "$bin/ivon-sensitivity" -q -j2 "$@"; }
run() { # NETWORK COVARIANCE [LIMIT]
  local data=$work/cifar10.h5
  [ "$1" = cifar-lenet ] || data=$work/digits.h5
  sensitivity "$IVON_SHARED/reference/$1/posterior.h5" --covariance="$2" \
    --model="$IVON_SHARED/reference/$1/model.onnx" --data="$data" --limit="$3" --n-train=10000
}
peer() { $python torch_sensitivity.py "$1" "$2" "$IVON_SHARED" "${@:3}" 2> /dev/null; }
fastest() { sort -g "$work/$1.times" | head -n 1; }
# alone FEW MANY SHARE: seconds of the second run less the first, times SHARE
alone() { awk "BEGIN {print ($(fastest "$2") - $(fastest "$1")) * $3}"; }

declare -A few=([cifar-lenet]=500 [digits-mlp]=1400) many=([cifar-lenet]=5500 [digits-mlp]=140000)
for i in 1 2 3 4 5; do
  for network in cifar-lenet digits-mlp; do
    for covariance in full diag; do
      name=$network-$covariance
      seconds run $network $covariance ${few[$network]} >> "$work/$name-few.times"
      seconds run $network $covariance ${many[$network]} >> "$work/$name-many.times"
      peer $covariance $network >> "$work/$name-torch.times"
    done
  done
  for classes in 10 100 1000; do
    for part in lenet last; do
      data=$IVON_SHARED/data/cifar10.h5:/train
      [ $part = lenet ] || data=$work/features.h5
      for limit in 500 5500; do
        seconds sensitivity "$work/$part-$classes.h5" --model="$work/$part-$classes.onnx" \
          --data="$data" --limit=$limit >> "$work/$part-$classes-$limit.times"
      done
    done
  done
done

printf '%-34s %12s %12s %10s %8s\n' '' 'whole, s' 'alone, s' 'PyTorch, s' ratio
for network in cifar-lenet digits-mlp; do
  for covariance in full diag; do
    name=$network-$covariance
    share=$(awk "BEGIN {print ${few[$network]} / (${many[$network]} - ${few[$network]})}")
    awk -v what="$network, ${few[$network]}, $covariance" -v whole="$(fastest "$name-few")" \
      -v own="$(alone "$name-few" "$name-many" "$share")" -v torch="$(fastest "$name-torch")" \
      'BEGIN {printf "%-34s %12.4f %12.4f %10.3f %8.1f\n", what, whole, own, torch, torch / own}'
  done
done

echo
echo "LeNet-5 with more classes, 5,000 images, covariance full"
for classes in 10 100 1000; do
  awk -v classes=$classes -v whole="$(alone lenet-$classes-500 lenet-$classes-5500 1)" \
    -v last="$(alone last-$classes-500 last-$classes-5500 1)" \
    -v base="$(alone lenet-10-500 lenet-10-5500 1)" -v least="$(alone last-10-500 last-10-5500 1)" \
    'BEGIN {printf "%5d: %.3f s, the last layer alone %.3f s, the rest %.2f of that for 10\n",
                   classes, whole, last, (whole - last) / (base - least)}'
done

echo
kilobytes() { /usr/bin/time -f %M "$@" 2>&1 > /dev/null | tail -n 1; }
for network in cifar-lenet digits-mlp; do
  data=$IVON_SHARED/data/cifar10.h5:/train
  [ $network = cifar-lenet ] || data=$IVON_SHARED/data/digits.h5:/train
  for covariance in full diag; do
    own=$(kilobytes "$bin/ivon-sensitivity" -q -j2 --covariance=$covariance --n-train=10000 \
      "$IVON_SHARED/reference/$network/posterior.h5" --limit="${few[$network]}" \
      --model="$IVON_SHARED/reference/$network/model.onnx" \
      --data="$data")
    all=$(kilobytes $python torch_sensitivity.py $covariance $network "$IVON_SHARED")
    ten=$(kilobytes $python torch_sensitivity.py $covariance $network "$IVON_SHARED" 10)
    awk -v what="$network, $covariance" -v own="$own" -v all="$all" -v ten="$ten" 'BEGIN {
      printf "%-24s %8d kB resident, PyTorch %8d kB (%.1f times), by tens %8d kB (%.1f times)\n",
             what, own, all, all / own, ten, ten / own}'
  done
done
for network in gpt resnet; do
  mkdir "$work/$network"
  $python large_networks.py $network "$work/$network"
  $python peak_memory.py "$network, expected below 2048 MiB" "$bin/ivon-sensitivity" -q -j2 \
    "$work/$network/posterior.h5" --model="$work/$network/model.onnx" \
    --data="$work/$network/data.h5" || true
done
cut -d' ' -f1-3 /proc/loadavg | sed 's/^/load at the end: /'
