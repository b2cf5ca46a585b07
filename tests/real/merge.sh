#!/usr/bin/env bash
# The reference transformers, merged by every method, against a float64 evaluation of the formulas.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
base=$IVON_SHARED/reference/transformer-base/posterior.h5
models=("$IVON_SHARED"/reference/transformer-{cr,mpqa}/posterior.h5)

compare() { # METHOD BASE_SCALE OPTION...
  "$IVON_BIN/ivon-merge" -q -f --method="$1" --base-scale="$2" "${@:3}" --base "$base" \
    "${models[@]}" -o "$work/merged.h5"
  /usr/bin/python3 "$here/../oracle/merge_reference.py" "$1" "$2" "$work/merged.h5" "$base" \
    "${models[@]}"
}
for method in gradient-matching hessian task-arithmetic average; do
  compare $method 1
done
compare gradient-matching 0.3 --on-nonpositive=base
compare gradient-matching 0 --on-nonpositive=base | tee "$work/nonpositive"

# Without the base, 37 elements have no positive precision, also when numpy counts them: an error
# with the first tensor's share of them, or that many elements kept from the base.
test "$(awk '/^nonpositive/ {sum += $2} END {print sum}' "$work/nonpositive")" = 37
if "$IVON_BIN/ivon-merge" --base-scale=0 --base "$base" "${models[@]}" -o "$work/none.h5" \
  2> "$work/error"; then
  echo "a precision that is not positive was accepted"
  exit 1
fi
found=$(sed -E "s/.*tensor ('.*'): .* for ([0-9]+) of ([0-9]+) elements.*/nonpositive \2 of \3 in \1/" \
  "$work/error")
grep -qxF "$found" "$work/nonpositive"
test ! -e "$work/none.h5"
"$IVON_BIN/ivon-merge" -f --base-scale=0 --on-nonpositive=base --base "$base" "${models[@]}" \
  -o "$work/merged.h5" 2> "$work/warning"
grep -q ": 37 elements kept the base's mean and precision" "$work/warning"
"$IVON_BIN/ivon-info" --check "$work/merged.h5"

# A sweep writes what single runs write, bit by bit.
"$IVON_BIN/ivon-merge" -q --no-provenance --base "$base" "${models[@]}" --sweep=0.3:1:0.7 \
  -o "$work/sweep-%g.h5"
"$IVON_BIN/ivon-merge" -q --no-provenance --base "$base" "${models[@]}" -o "$work/single.h5"
cmp "$work/sweep-1.h5" "$work/single.h5"
"$IVON_BIN/ivon-merge" -q --no-provenance --base "$base" "${models[@]}" --sweep=0.3:0.3:1 \
  -o "$work/alone-%g.h5"
cmp "$work/sweep-0.3.h5" "$work/alone-0.3.h5"
