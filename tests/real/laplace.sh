#!/usr/bin/env bash
# The last layer of a network that AdamW trained on the digits: its weight decay of the greatest evidence, and
# what its linearised predictions are, agree with the formulas of laplace-torch's default, computed by themselves.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "IVON_SHARED is not set: skipped"; exit 77; }
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
digits=$IVON_SHARED/data/digits.h5
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
cd "$work"
ivon-train -q --arch=mlp:64,64,32,10,tanh --data="$digits:/train" --optimizer=adamw --lr=0.1 --weight-decay=0.1 \
  --schedule=cosine --epochs=50 --save-every=0 -o run
last=(run/posterior-*.h5 --data="$digits:/train" --include='fc3.*' --moments=factors --json)
agree() { # [OPTION]
  ivon-predict -q -f last.h5 --data="$digits:/test" --method=linear -o predictions.npy
  PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 /usr/bin/python3 -W ignore "$oracle/laplace.py" run/posterior-*.h5 \
    "$digits" --agrees=fit.json,predictions.npy "$@"
}
ivon-fit -f "${last[@]}" -o last.h5 > fit.json
agree
ivon-fit -f "${last[@]}" --weight-decay=0.001 -o last.h5 > fit.json
agree --prior-precision=1.4 # N = 1,400
