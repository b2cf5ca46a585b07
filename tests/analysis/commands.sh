#!/usr/bin/env bash
# commands.sh [TOOL…]: runs one path of each command on four threads, as TOOL's argument where one is
# given. Fails where a command does, or TOOL.
set -euo pipefail
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
tool=("$@")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - "$oracle" <<'PYTHON'
import subprocess, sys, numpy as np

subprocess.run([sys.executable, sys.argv[1] + "/softmax_regression.py", "make", "."], check=True)
r = np.random.default_rng(1)
for name, count in ("train", 60), ("test", 30):
    y = r.integers(0, 3, count)
    x = np.array([[2, 0], [-1, 1.7], [-1, -1.7]])[y] + 0.7 * r.standard_normal((count, 2))
    np.savetxt(name + ".csv", np.column_stack([x, y]), "%.6g", ",", header="a,b,y", comments="")
np.savetxt("other.csv", 5 + x, "%.6g", ",", header="a,b", comments="")
PYTHON

# run COMMAND ARGUMENT…
run() {
  local command=$1 status=0
  shift
  "${tool[@]}" "$IVON_BIN/$command" "$@" --no-sandbox > "$command.out" 2> "$command.err" || status=$?
  [ "$status" = 0 ] || { echo "$command $*: status $status"; cat "$command.err"; exit 1; }
}

run ivon-train -q -j4 --arch=mlp:2,8,3 --data=train.csv --target-column=y --test=test.csv \
  --epochs=2 --batch=8 --lr=0.1 --h0=0.1 --mc-samples=2 -o run
for seed in 1 2; do
  run ivon-train -q -j4 --arch=mlp:2,8,3 --data=train.csv --target-column=y --steps=9 --batch=20 \
    --lr=0.1 --h0=0.1 --seed=$seed -o run-$seed
done
model() { ls "run-$1"/*.h5 | tail -1; }
run ivon-info "$(model 1)"
run ivon-convert -q "$(model 1)" -o one.safetensors
run ivon-convert -q one.safetensors -o one.npz
run ivon-merge -q -j4 --memory=8M one.npz "$(model 2)" -o merged.h5
run ivon-sample -q -j4 -n3 merged.h5 -o sample-%d.h5
run ivon-predict -q -j4 "$(model 1)" --data=test.csv --target-column=y --ood=other.csv \
  --metrics --samples=4 -o predictions.h5
run ivon-calibrate -q -j4 predictions.h5 --data=test.csv --target-column=y --conformal=aps \
  -o calibration.json
run ivon-fit -q -j4 "$(model 1)" --data=train.csv --target-column=y --batch=8 -o fit.h5
run ivon-prune -q -j4 merged.h5 --keep=0.5 -o pruned.h5
run ivon-sensitivity -q -j4 posterior.h5 --data=train.h5 -o scores.csv
run ivon-influence -q -j4 posterior.h5 --data=train.h5 --queries=test.h5 --by=tensor --top=2 -o matrix.h5
run ivon-predict-gen -q -j4 step-3.h5 posterior.h5 --data=train.h5 --test=test.h5
run ivon-plot generalization ivon-predict-gen.out -o picture.svg
ls ./*.out | wc -l
