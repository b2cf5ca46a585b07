#!/usr/bin/env bash
# adamw.sh [all]: a convolutional network that PyTorch's AdamW has trained on photographs, 5 % of them mislabelled, asked by
# README's commands with their defaults. all: on 10,000 of them, as man/results.md has it, in minutes; else on 2,000.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c "import torch" 2> /dev/null; then
  echo "skipped: IVON_SHARED does not name the reference data, or PyTorch is missing"
  exit 77
fi
PATH=$IVON_BIN:$PATH
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
rows=2000
[ "${1:-}" != all ] || rows=10000
/usr/bin/python3 -W ignore "$root/tests/real/adamw.py" "$IVON_SHARED/data/cifar10.h5" $rows
ivon-fit -q network.onnx --data=train.h5 -o posterior.h5
ivon-sensitivity -q posterior.h5 --data=train.h5 -o scores.csv --score=loo-loss
ivon-predict-gen -q posterior.h5 --data=train.h5 --test=test.h5 > losses.csv
ivon-predict posterior.h5 --data=test.h5 --mean --metrics --json > mean.json
ivon-predict posterior.h5 --data=test.h5 --method=linear --metrics --json > averaged.json
/usr/bin/python3 - $rows "$root" << 'PYTHON'
import csv, json, sys
import numpy as np
sys.path.append(sys.argv[2] + "/tests/oracle")
from shown import find

rows, wrong = list(csv.DictReader(open("scores.csv"))), np.loadtxt("wrong.txt", dtype=int)
def auroc(name):
    score = np.empty(len(rows))
    score[[int(row["index"]) for row in rows]] = [float(row[name]) for row in rows]
    ranks = np.argsort(np.argsort(score, kind="stable"))[wrong]
    return (ranks.sum() - len(wrong) * (len(wrong) - 1) / 2) / (len(wrong) * (len(rows) - len(wrong)))
by_loss, by_loo = auroc("loss"), auroc("loo_loss")
losses = {name: float(value) for name, value in next(csv.DictReader(open("losses.csv"))).items() if value}
train, loo, test = losses["train_loss"], losses["loo_loss"], losses["test_loss"]
(mean, nll), (averaged, averaged_nll) = ([json.load(open(name + ".json"))["metrics"][metric]["value"]
                                          for metric in ("accuracy", "nll")] for name in ("mean", "averaged"))
found = f"| {by_loss:.3f} | {by_loo:.3f} | {train:.3f} | {loo:.3f} | {test:.3f} | {mean:.3f}, {nll:.3f} | " \
        f"{averaged:.3f}, {averaged_nll:.3f} |"
print(found)
assert averaged > mean - 0.01 and averaged_nll < nll and by_loo > 0.75
if sys.argv[1] == "10000": # of a fifth of the images, of which a network knows less, it is off by a third
    assert by_loo > by_loss and abs(loo - test) < 0.15 * test
    find(open(sys.argv[2] + "/man/results.md").read(), found, 0.02, 0.05) # another machine trains another network
PYTHON
