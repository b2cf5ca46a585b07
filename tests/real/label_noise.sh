#!/usr/bin/env bash
# Wrong labels planted in the digits are found by their loss without the example.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1 OPENBLAS_NUM_THREADS=1
root=$(cd "$(dirname "$0")/../.." && pwd)
script=$root/tests/oracle/label_noise.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

/usr/bin/python3 "$script" make "$IVON_SHARED/data/digits.h5" "$work"
"$IVON_BIN/ivon-sensitivity" -q "$work/posterior.h5" --model="$work/model.onnx" \
  --data="$work/data.h5" --score=deviation,mpe,self-influence,loo-loss > "$work/scores.csv"
/usr/bin/python3 "$script" compare "$work" "$work/scores.csv" | tee "$work/found"
# README's row. numpy trains in binary64: no kernel changes more than the last digit.
awk '{auroc[$1] = $3}
  END {
    print "| `loo_loss` | `loss` | `self_influence` | `mpe` (published) | `deviation` |"
    print "|---|---|---|---|---|"
    print "|", auroc["loo_loss"], "|", auroc["loss"], "|", auroc["self_influence"], "|",
      auroc["mpe"], "|", auroc["deviation"], "|"
  }' "$work/found" \
  | /usr/bin/python3 "$root/tests/oracle/shown.py" "$root/README.md" 0 0
