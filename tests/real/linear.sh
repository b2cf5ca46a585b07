#!/usr/bin/env bash
# Predictions of linearised reference networks against J Σ Jᵀ in double (tests/oracle/fit_dense.py).
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reference=$IVON_SHARED/reference
export PYTHONDONTWRITEBYTECODE=1

predict() { # NETWORK POSTERIOR OPTION...
  "$IVON_BIN/ivon-predict" -q -f --model="$reference/$1/model.onnx" "$2" --method=linear "${@:3}"
}
oracle() { # NETWORK POSTERIOR ARGUMENT...
  /usr/bin/python3 "$here/../oracle/fit_dense.py" linear "$2" "${@:3}" --model="$reference/$1/model.onnx"
}

# The oracle draws 100,000 times from each example's outputs: a few examples have to do.
/usr/bin/python3 - "$IVON_SHARED/data/digits.h5" "$reference/uci-energy/refs.h5" "$work" <<'PYTHON'
import sys, h5py
digits, energy, work = sys.argv[1:]
with h5py.File(digits) as f, h5py.File(work + "/digits.h5", "w") as g:
    g["x"], g["y"] = f["test/x"][:12], f["test/y"][:12]
with h5py.File(energy) as f, h5py.File(work + "/energy.h5", "w") as g:
    g["x"], g["y"] = f["x"][:12], f["y"][:12]
PYTHON

mlp=$reference/digits-mlp
"$IVON_BIN/ivon-fit" -q "$mlp/posterior.h5" --model="$mlp/model.onnx" \
  --data="$IVON_SHARED/data/digits.h5:/train" -o "$work/kronecker.h5"
for posterior in "$mlp/posterior.h5" "$work/kronecker.h5"; do
  echo "digits-mlp, $(basename "$posterior" .h5)"
  predict digits-mlp "$posterior" --data="$work/digits.h5" -o "$work/probit.h5"
  oracle digits-mlp "$posterior" "$work/digits.h5" "$work/probit.h5"
  predict digits-mlp "$posterior" --data="$work/digits.h5" --linear=draws -n 2000 -o "$work/draws.h5"
  oracle digits-mlp "$posterior" "$work/digits.h5" "$work/draws.h5" --draws=2000
done
echo uci-energy
predict uci-energy "$reference/uci-energy/posterior.h5" --data="$work/energy.h5" \
  --likelihood=gaussian --noise-std=1 -o "$work/energy-out.h5"
oracle uci-energy "$reference/uci-energy/posterior.h5" "$work/energy.h5" "$work/energy-out.h5" \
  --likelihood=gaussian --noise-std=1

echo "any number of threads gives the same bytes"
for network in digits-mlp cifar-lenet transformer-base; do
  for way in probit draws; do
    options=(--data="$reference/$network/refs.h5" --targets= --linear=$way --no-provenance)
    predict $network "$reference/$network/posterior.h5" "${options[@]}" -j1 -o "$work/one.h5"
    predict $network "$reference/$network/posterior.h5" "${options[@]}" -j2 -o "$work/two.h5"
    cmp "$work/one.h5" "$work/two.h5"
  done
done
