#!/usr/bin/env bash
# onnxruntime.sh [MODEL...]: ivon-predict --mean beside ONNX Runtime on the same graphs with random
# weights (onnxruntime_models.py), on one and on two threads, both in the same run, interleaved, the
# fastest of ROUNDS (3), as company only adds. Columns, each for ours, theirs, and ours / theirs:
#   cpu     microseconds of the CPU an example
#   clock   microseconds of the clock an example
#   whole   seconds of a whole command over the long run's examples: theirs starts node, reads the
#           graph and the inputs as raw numbers, and drops the outputs; ours writes them
# The first two are of the computation: of ours, the time of a long run less that of a short one, so
# start, planning and the checkpoint cancel, reading the data and writing predictions do not; theirs
# begins when data are in memory and a batch has run. Theirs takes batches at which it was fastest;
# with two threads its pool spins while it waits, as it does by default.
# At the end of each table, geometric means of the ratios.
# OpenBLAS computes with the kernels that OPENBLAS_CORETYPE names, where the environment presets it, and
# in a second table with those of its own choice.
# node finds onnxruntime-node where NODE_PATH says, as after `npm install onnxruntime-node` there.
set -euo pipefail
cd "$(dirname "$0")"
if ! /usr/bin/python3 -c 'import torch' 2> /dev/null ||
  ! node -e 'require("onnxruntime-node")' 2> /dev/null; then
  echo "skipped: needs PyTorch, and node with onnxruntime-node"
  exit 0
fi
root=$PWD/../..
bin=${IVON_BIN:-$root/build/release/bin}
rounds=${ROUNDS:-3}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

cp /proc/loadavg "$work/load"
/usr/bin/python3 -W ignore onnxruntime_models.py "$work" "$@" > "$work/models" 2> "$work/errors" ||
  { cat "$work/errors"; exit 1; }
cc -O3 -fno-math-errno -ffp-contract=off -I"$root" -I"$root/lib" sgemm.c \
  "$root"/lib/core/{random,blas,error,utf8}.c -o "$work/sgemm" -lopenblas -lm
grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' "$work/load"

TIMEFORMAT='%R %U %S'
timed() { # COMMAND...: seconds of the clock, of the user and of the system
  { time "$@" > /dev/null 2> "$work/message"; } 2>&1
}
predict() { # MODEL INPUTS THREADS LIMIT
  "$bin/ivon-predict" -q -f --mean -j"$3" --model="$work/$1/model.onnx" "$work/$1/posterior.h5" \
    --data="$work/$1/data.h5" --targets= --inputs="$2" --limit="$4" -o "$work/out.npy"
}
peer() { # MODEL THREADS BATCH COUNT
  node onnxruntime_predict.js "$work/$1" "$2" "$3" "$4" | tee "$work/alone"
}
# Lines of a file: round, kind (short, long, peer, alone), numbers.
measure() { # MODEL SHORT LONG BATCH INPUTS THREADS CORE
  local file=$work/$1-$6-$7.times
  if ! predict "$1" "$5" "$6" "$2" > "$work/message" 2>&1; then
    return
  fi
  echo "short $(timed predict "$1" "$5" "$6" "$2")" >> "$file"
  echo "long $(timed predict "$1" "$5" "$6" "$3")" >> "$file"
  echo "peer $(timed peer "$1" "$6" "$4" "$3")" >> "$file"
  echo "alone $(cat "$work/alone")" >> "$file"
}
row() { # MODEL SHORT LONG FILE
  if [ ! -s "$4" ]; then
    printf '%-15s does not run: %s\n' "$1" "$(tail -n 1 "$work/message-$1" | sed "s#$work/##g")"
    return
  fi
  awk -v name="$1" -v few="$2" -v many="$3" '
    function least(key, value) { if (!(key in best) || value < best[key]) best[key] = value }
    $1 == "short" || $1 == "long" { least($1 " clock", $2); least($1 " cpu", $3 + $4) }
    $1 == "peer" { least("peer clock", $2) }
    $1 == "alone" { least("alone cpu", $2); least("alone clock", $3) }
    END {
      scale = 1e6 / (many - few)
      cpu = (best["long cpu"] - best["short cpu"]) * scale
      clock = (best["long clock"] - best["short clock"]) * scale
      printf "%-15s %9.2f %9.2f %5.2f  %9.2f %9.2f %5.2f  %6.2f %6.2f %5.2f\n", name,
             cpu, best["alone cpu"], cpu / best["alone cpu"],
             clock, best["alone clock"], clock / best["alone clock"],
             best["long clock"], best["peer clock"], best["long clock"] / best["peer clock"]
    }' "$4"
}

cores=(own)
[ -z "${OPENBLAS_CORETYPE:-}" ] || cores=("$OPENBLAS_CORETYPE" own)
choose() { # CORE
  if [ "$1" = own ]; then unset OPENBLAS_CORETYPE; else export OPENBLAS_CORETYPE=$1; fi
}
for ((round = 0; round < rounds; round++)); do
  while read -r name short long batch inputs; do
    for threads in 1 2; do
      for core in "${cores[@]}"; do
        choose "$core"
        measure "$name" "$short" "$long" "$batch" "$inputs" $threads "$core" < /dev/null
        cp "$work/message" "$work/message-$name"
      done
    done
  done < "$work/models"
done

for core in "${cores[@]}"; do
  choose "$core"
  for threads in 1 2; do
    printf '\n%d thread(s), OpenBLAS with %s kernels%s\n' $threads "$("$work/sgemm" | cut -d' ' -f2)" \
      "$([ "$core" = own ] && echo ', its own choice')"
    printf '%-15s %9s %9s %5s  %9s %9s %5s  %6s %6s %5s\n' '' 'cpu, us' theirs ratio 'clock, us' theirs \
      ratio 'whole, s' theirs ratio
    while read -r name short long _; do
      row "$name" "$short" "$long" "$work/$name-$threads-$core.times"
    done < "$work/models" | tee "$work/table"
    awk '$4 + 0 > 0 {n++; a += log($4); b += log($7); c += log($10)}
      END {if (n) printf "%-15s %25.2f  %25.2f  %19.2f  (%d models)\n", "geometric mean",
                         exp(a / n), exp(b / n), exp(c / n), n}' "$work/table"
  done
done
