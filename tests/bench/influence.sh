#!/usr/bin/env bash
# influence.sh: the matrix of 50,000 images (those of CIFAR-10 that there are, five times) by 100 queries,
# LeNet-5, on two threads: in one pass, its seconds and memory, of a diagonal posterior, of Kronecker
# factors and of low rank. Then beside PyTorch (functorch's vmap of grad, the queries' gradients kept) on
# as many rows as it takes in some seconds, interleaved, the fastest of three, as company only adds; and
# that the two agree.
# The computation alone, of ours, is the time of a run over many rows less that over few. PyTorch's begins
# when data and weights are in memory and all has run once.
# Seconds of the processor are given, too: they say more where the machine has other work.
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
reference=$IVON_SHARED/reference/cifar-lenet
$python torch_influence.py make "$IVON_SHARED" "$work"
echo "$(grep -m 1 'model name' /proc/cpuinfo), load $(cut -d' ' -f1-3 /proc/loadavg)"
awk '$1 > 0.5 {print "the load is " $1 ": of the seconds on the clock none is to be quoted"}' /proc/loadavg

influence() { # POSTERIOR ROWS OUTPUT
  "$bin/ivon-influence" -q -f -j2 "$1" --model="$reference/model.onnx" --data="$work/rows.h5" --limit="$2" \
    --queries="$work/queries.h5" --n-train=50000 -o "$3"
}
fit=(-q "$reference/posterior.h5" --model="$reference/model.onnx" --data="$IVON_SHARED/data/cifar10.h5:/train"
  --limit=2000)
"$bin/ivon-fit" "${fit[@]}" -o "$work/kronecker.h5"
"$bin/ivon-fit" "${fit[@]}" --structure=lowrank --rank=20 -o "$work/lowrank.h5"

timed() { # FILE COMMAND...: appends seconds, seconds of the processor, kB
  { /usr/bin/time -o "$work/time" -f '%e %U %S %M' "${@:2}" > "$work/said"; }
  awk '{print $1, $2 + $3, $4}' "$work/time" >> "$1"
}
least() { sort -g -k"$2" "$1" | head -n 1 | cut -d' ' -f"$2"; }
export -f influence
export bin reference work

printf '%-24s %10s %14s %12s\n' '50,000 x 100' 'seconds' 'of processor' 'MB resident'
for posterior in "$reference/posterior.h5" "$work/kronecker.h5" "$work/lowrank.h5"; do
  name=$(basename "$posterior" .h5)
  timed "$work/$name.whole" bash -c "influence $posterior 50000 $work/$name.matrix.h5"
  awk -v name="$name" '{printf "%-24s %10.1f %14.1f %12.0f\n", name, $1, $2, $3 / 1000}' "$work/$name.whole"
done

few=2000 many=12000
for _ in 1 2 3; do
  timed "$work/few" bash -c "influence $reference/posterior.h5 $few $work/few.h5"
  timed "$work/many" bash -c "influence $reference/posterior.h5 $many $work/many.h5"
  $python torch_influence.py run "$IVON_SHARED" "$work" 2000 2> /dev/null >> "$work/torch"
done
echo
for column in 1 2; do
  awk -v few="$(least "$work/few" $column)" -v many="$(least "$work/many" $column)" \
    -v torch="$(least "$work/torch" $column)" -v what="$([ $column = 1 ] && echo 'the clock' || echo 'the processor')" 'BEGIN {
      own = (many - few) / 10; printf "1,000 rows x 100, seconds of %s: %.3f, PyTorch %.3f (%.1f times)\n",
        what, own, torch / 2, torch / 2 / own}'
done
$python torch_influence.py compare "$work" 2000
cut -d' ' -f1-3 /proc/loadavg | sed 's/^/load at the end: /'
