#!/usr/bin/env bash
# merge_evaluate.sh: the time of `ivon-merge --evaluate` for eleven weights on two data sets, the reference
# transformers on customer reviews and opinions, beside a loop of ivon-merge and ivon-predict, which prints
# the same numbers. Medians of 5 interleaved runs. Needs IVON_SHARED.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "skipped: IVON_SHARED does not name the reference data"; exit 77; }
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=${IVON_BIN:-$root/build/release/bin}:$PATH
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work"
for name in base cr mpqa; do ln -s "$IVON_SHARED/reference/transformer-$name/posterior.h5" $name.h5; done
graph=(--model="$IVON_SHARED/reference/transformer-base/model.onnx")
base=(-q --base=base.h5 --on-nonpositive=base)
data=("$IVON_SHARED"/data/text-{cr,mpqa}.h5:/test)

tenths() { awk "BEGIN {print $1 / 10}"; }
loop() {
  for i in 0 1 2 3 4 5 6 7 8 9 10; do
    ivon-merge -f --no-provenance "${base[@]}" "cr.h5:$(tenths $i)" "mpqa.h5:$(tenths $((10 - i)))" \
      -o merged.h5
    for set in "${data[@]}"; do
      ivon-predict -q merged.h5 "${graph[@]}" --data="$set" --mean --metrics --json | jq -c '.metrics | [.accuracy.value, .nll.value]'
    done
  done | paste -d ' ' - - > loop.txt
}
command() {
  ivon-merge "${base[@]}" cr.h5 mpqa.h5 --weights=simplex:10 "${data[@]/#/--evaluate=}" "${graph[@]}" --json > table.json
}
timed() { # NAME
  local start=$EPOCHREALTIME
  "$1"
  awk "BEGIN {print $EPOCHREALTIME - $start}" >> "$1.times"
}
median() { sort -g "$1.times" | sed -n 3p; }
for _ in 1 2 3 4 5; do
  timed command
  timed loop
done
jq -r '.evaluated[] | [.data[].metrics | [.accuracy.value, .nll.value] | tojson] | join(" ")' table.json | cmp - loop.txt
grep -m 1 'model name' /proc/cpuinfo
awk -v a="$(median command)" -v b="$(median loop)" 'BEGIN {
  printf "one command %.2f s, the loop %.2f s: %.2f of it; the numbers are the same\n", a, b, a / b}'
