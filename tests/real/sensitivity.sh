#!/usr/bin/env bash
# Every reference posterior's variances, residuals, scores, deviations and leave-one-out losses, which
# PyTorch computed from explicit Jacobians; and the ten checkpoints of a training, whose losses and
# leave-one-out losses are those of its trace.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "IVON_SHARED is not set: skipped"; exit 77; }
here=$(cd "$(dirname "$0")/../oracle" && pwd)
references=$IVON_SHARED/reference data=$IVON_SHARED/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
cd "$work"

for name in digits-mlp cifar-lenet uci-energy gpt-char transformer-base transformer-cr transformer-mpqa; do
  echo "$name:"
  r=$references/$name
  full=(--score=deviation,mpe,self-influence,loo-loss --vectors=covariance)
  diagonal=(--score=deviation,mpe,self-influence,loo-loss --vectors --covariance=diag)
  likelihood=()
  case $name in
    gpt-char) # a sequence has 4,160 outputs, and the reference no covariance of them
      full=(--score=deviation,self-influence,loo-loss --vectors)
      diagonal=(--score=self-influence --vectors) ;;
    uci-energy)
      noise=$(/usr/bin/python3 -c "import h5py; print(h5py.File('$r/refs.h5')['noise_std'][()])")
      likelihood=(--likelihood=gaussian --noise-std="$noise") ;;
  esac
  common=(-q --force --rho=1 "$r/posterior.h5" --model="$r/model.onnx" --data="$r/refs.h5")
  ivon-sensitivity "${common[@]}" "${likelihood[@]}" "${full[@]}" -o full.h5
  ivon-sensitivity "${common[@]}" "${likelihood[@]}" "${diagonal[@]}" -o diagonal.h5
  /usr/bin/python3 "$here/sensitivity_reference.py" "$r" full.h5 diagonal.h5
done

digits=$references/digits-mlp
common=(--model="$digits/model.onnx" --data="$data/digits.h5:/train" --test="$data/digits.h5:/test"
  --covariance=diag --rho=1)
ivon-predict-gen -q "$digits"/posterior-*.h5 "${common[@]}" > trace.csv
/usr/bin/python3 - "$digits/metrics.json" trace.csv << 'PYTHON'
import csv, json, sys

trace = json.load(open(sys.argv[1]))["trace"]
names = {"step": "step", "train_nll": "train_loss", "loo_nll": "loo_loss", "test_nll": "test_loss",
         "train_error": "train_error", "loo_error": "loo_error", "test_error": "test_error"}
rows = list(csv.DictReader(open(sys.argv[2])))
assert len(rows) == len(trace["rows"]) == 10
worst = 0
for wanted, found in zip(trace["rows"], rows):
    for column, value in zip(trace["columns"], wanted):
        worst = max(worst, abs(float(found[names[column]]) - value) / max(abs(value), 1e-12))
print(f"trace of digits-mlp: ten checkpoints, within {worst:.1e} relative")
assert worst < 5e-5  # four digits
PYTHON

# The same ten dropped in another order into a directory that is followed: one half-written at first,
# and one that is no checkpoint.
mkdir run
ivon-predict-gen --follow=run "${common[@]}" > followed.csv 2> errors &
pid=$!
for step in 00440 01320 00022 00990 00110 00660 00044 00264 00176; do
  [ $step != 00110 ] || { head -c 30000 "$digits/posterior-$step.h5" > run/$step.h5; sleep .2; }
  cp "$digits/posterior-$step.h5" run/.$step && mv run/.$step run/$step.h5
done
echo nothing > run/corrupt.h5
cp "$digits/posterior-00066.h5" run/00066.h5
for _ in $(seq 1200); do
  [ "$(wc -l < followed.csv)" -lt 11 ] || break
  sleep .05
done
touch run/done
status=0
wait $pid || status=$?
[ $status = 65 ] # corrupt.h5 was never read
diff <(tail -n +2 trace.csv) <(tail -n +2 followed.csv | sort -n)
grep -c 'run/corrupt.h5: ' errors
echo "followed: ten rows, the same as at once"
