#!/usr/bin/env bash
# merge.sh [100M|774M]: the time of ivon-merge on a base and two models, beside `cat` reading the
# inputs and `cp` copying the output's bytes (without and with making the copy durable, which
# ivon-merge does), and beside PyTorch. 100M with a warm cache; 774M (GPT-2 large) cold, where
# PyTorch is left out: its script holds 24.8 GB. Medians of 5 interleaved runs.
set -euo pipefail
cd "$(dirname "$0")"
size=${1:-100M}
bin=${IVON_BIN:-$PWD/../../build/release/bin}
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
with_torch=()
[ "$size" != 100M ] || ! /usr/bin/python3 -c 'import torch' 2> /dev/null || with_torch=(--torch)

need=$([ "$size" = 100M ] && echo 9 || echo 33)
if [ "$(df -BG --output=avail "$work" | tail -n 1 | tr -dc 0-9)" -lt "$need" ]; then
  echo "skipped: $need GB of disk are needed in $work"
  exit 0
fi
grep -m 1 'model name' /proc/cpuinfo
/usr/bin/python3 make_posteriors.py "$work" "$size" "${with_torch[@]}"
inputs=("$work"/{base,first,second}.h5)
merge=("$bin/ivon-merge" -q --no-provenance --base "${inputs[@]}" -o "$work/merged.h5")

cold() {
  [ "$size" = 100M ] && return
  sync
  echo 3 > /proc/sys/vm/drop_caches
}
timed() { # NAME COMMAND...
  local start=$EPOCHREALTIME
  "${@:2}"
  local end=$EPOCHREALTIME
  awk "BEGIN {print $end - $start}" >> "$work/$1.times"
}
copy() { cat "${inputs[@]}" > /dev/null && cp "$work/merged.h5" "$work/copy"; }
copy_durably() { copy && sync "$work/copy"; }
torch() { /usr/bin/python3 torch_merge.py "$work" "$work/merged.pt"; }
median() { sort -g "$work/$1.times" | sed -n 3p; }

# Peak anonymous memory of the command and its children, in a run of its own that also warms up.
"${merge[@]}" & pid=$!
peak=0 mapped=0
while kill -0 $pid 2> /dev/null; do
  children=$(cat "/proc/$pid/task/$pid/children" 2> /dev/null || true)
  now=$(for process in $pid $children; do cat "/proc/$process/status" 2> /dev/null || true; done \
    | awk '/RssAnon/ {a += $2} /RssFile/ {f += $2} END {print a + 0, f + 0}')
  ((${now% *} <= peak)) || peak=${now% *}
  ((${now#* } <= mapped)) || mapped=${now#* }
done
wait $pid
echo "peak anonymous memory $((peak / 1024)) MiB (allowed 256 + 64), mapped $((mapped / 1024)) MiB"
((peak < 320 * 1024))

copy
[ ${#with_torch[@]} -eq 0 ] || torch
for _ in 1 2 3 4 5; do
  rm -f "$work/copy"; cold; timed copy copy
  rm -f "$work/copy"; cold; timed durable copy_durably
  rm -f "$work/merged.h5"; cold; timed merge "${merge[@]}"
  [ ${#with_torch[@]} -eq 0 ] || { rm -f "$work/merged.pt"; timed torch torch; }
done
ours=$(median merge)
report() { awk -v t="$(median "$2")" -v o="$ours" -v n="$1" 'BEGIN {printf "%-24s %7.2f s   ivon-merge takes %.2f of it\n", n, t, o / t}'; }
printf '%-24s %7.2f s\n' ivon-merge "$ours"
report "cat + cp" copy
report "cat + cp + sync" durable
[ ${#with_torch[@]} -eq 0 ] || report "PyTorch $(/usr/bin/python3 -c 'import torch; print(torch.__version__)')" torch
