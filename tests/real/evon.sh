#!/usr/bin/env bash
# Bayesian logistic regression on pairs of digits: EVON's Gaussian beside that of variational inference with a
# full covariance (tests/oracle/logistic_vi.py), and IVON's diagonal.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
oracle=$(cd "$(dirname "$0")" && pwd)/../oracle/logistic_vi.py
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export PYTHONDONTWRITEBYTECODE=1
fit() { # OPTION...
  "$IVON_BIN/ivon-train" -q -f --arch=linear:64,1 --init=xavier --freeze='*bias' --likelihood=bernoulli \
    --data=pair.h5 --lr=0.1 --h0=0.1 --beta2=0.999 --weight-decay=0.01 --batch=32 --schedule=linear \
    --steps=5000 --save-every=0 -o run "$@"
  /usr/bin/python3 "$oracle" full run/posterior-00005000.h5 pair.h5
}
for pair in "3 8" "4 9"; do
  # shellcheck disable=SC2086
  /usr/bin/python3 "$oracle" pair "$IVON_SHARED/data/digits.h5" $pair pair.h5
  ivon=$(fit)
  evon=$(fit --optimizer=evon --beta3=0.99)
  echo "digits $pair: relative errors of mean and covariance: IVON $ivon, EVON $evon"
  awk '{ exit !($2 > 0.35 && $3 < 0.05 && $4 < 0.2) }' <<< "$ivon $evon"
done
