#!/usr/bin/env bash
# The loss without each example turns up where the test loss does, which the train loss never does.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
root=$(cd "$(dirname "$0")/../.." && pwd)
script=$root/tests/oracle/overfit.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

/usr/bin/python3 "$script" make "$IVON_SHARED/data/digits.h5" "$work"
for posterior in "$work"/posterior-*.h5; do
  scores=${posterior/posterior-/loo-}
  "$IVON_BIN/ivon-sensitivity" -q "$posterior" --model="$work/model.onnx" --data="$work/data.h5" \
    --score=loo-loss > "${scores%.h5}.csv"
done
/usr/bin/python3 "$script" compare "$work" | tee "$work/table"
# Four steps are in man/results.md. numpy trains in binary64: other kernels change the last digit at most.
awk '$1 ~ /^(step|170|480|690|2000)$/' "$work/table" \
  | /usr/bin/python3 "$root/tests/oracle/shown.py" "$root/man/results.md" 0 0
