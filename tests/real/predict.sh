#!/usr/bin/env bash
# Predictions of the reference networks on their data, against what PyTorch gave.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reference=$IVON_SHARED/reference

compare() { /usr/bin/python3 "$here/../oracle/predict_reference.py" "$@"; }
predict() { # NETWORK OPTION...
  "$IVON_BIN/ivon-predict" -q -f --model="$reference/$1/model.onnx" "$reference/$1/posterior.h5" \
    "${@:2}"
}

echo "logits at the mean"
for network in digits-mlp cifar-lenet gpt-char transformer-{base,cr,mpqa}; do
  echo "$network"
  predict $network --data="$reference/$network/refs.h5" --targets= --logits --mean -o "$work/mean.h5"
  compare logits "$work/mean.h5" "$reference/$network/refs.h5"
done
echo uci-energy
predict uci-energy --likelihood=gaussian --data="$reference/uci-energy/refs.h5" --targets= --mean \
  -o "$work/mean.h5"
compare logits "$work/mean.h5" "$reference/uci-energy/refs.h5"

# Sanitizers slow the networks down twentyfold: what follows runs the same code, more often.
[ -z "${IVON_SANITIZE:-}" ] || exit 0

echo "metrics of the test data"
while read -r network data; do
  echo "$network"
  data=$IVON_SHARED/data/$data.h5:/test
  predict $network --data="$data" --mean --metrics --json > "$work/mean.json"
  compare mean "$reference/$network/metrics.json" "$work/mean.json"
  # The finetuned transformers are transformer-base with other weights, and as slow.
  case $network in transformer-cr | transformer-mpqa) continue ;; esac
  predict $network --data="$data" --samples=64 --metrics --json -o "$work/64.h5" > "$work/64.json"
  predict $network --data="$data" --samples=16 --seed=1 -o "$work/other.h5"
  compare sampled "$reference/$network/metrics.json" "$work/64.json" "$data" "$work"/{64,other}.h5 16
  if [ $network = transformer-base ]; then
    compare calibrated "$work"/{mean,64}.json | tee "$work/sentence"
    # The same draws of the same posterior: but for the last digit, the numbers of man/results.md.
    /usr/bin/python3 "$here/../oracle/shown.py" "$here/../../man/results.md" 0 0 < "$work/sentence"
  fi
done <<'NETWORKS'
digits-mlp digits
cifar-lenet cifar10
transformer-base text-mr
transformer-cr text-cr
transformer-mpqa text-mpqa
NETWORKS

echo "averages over many samples"
for network in digits-mlp cifar-lenet transformer-base; do
  echo "$network"
  data=$reference/$network/refs.h5
  predict $network --data="$data" --targets= --mean -o "$work/mean.h5"
  for seed in 1 2 3 4 5 6 7 8; do
    predict $network --data="$data" --targets= --samples=32 --seed=$seed -o "$work/seed-$seed.h5"
  done
  compare monte-carlo "$data" "$work/mean.h5" "$work"/seed-*.h5
done

echo "any number of threads, and any layout of the checkpoint, gives the same bytes"
for network in digits-mlp cifar-lenet gpt-char transformer-base; do
  echo "$network"
  /usr/bin/python3 - "$reference/$network/posterior.h5" "$work/posterior.h5" <<'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1], "r") as f, h5py.File(sys.argv[2], "w", track_order=True) as g:
    g.attrs.update(f.attrs)
    found = []
    f.visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
    for name in reversed(found):
        data = f[name]
        chunks = tuple(max(1, n // 3) for n in data.shape) or None
        layout = dict(chunks=chunks, compression="gzip", shuffle=True, fletcher32=True)
        g.create_dataset(name, data=data[()], **(layout if chunks else {}))
        g[name].attrs.update(data.attrs)
PYTHON
  options=(--data="$reference/$network/refs.h5" --targets= --samples=5 --logits --no-provenance)
  predict $network "${options[@]}" -j1 -o "$work/one.h5"
  predict $network "${options[@]}" -j2 -o "$work/two.h5"
  cmp "$work/one.h5" "$work/two.h5"
  "$IVON_BIN/ivon-predict" -q --model="$reference/$network/model.onnx" "$work/posterior.h5" \
    "${options[@]}" -o "$work/layout-$network.h5"
  cmp "$work/one.h5" "$work/layout-$network.h5"
  for batch in 1 7; do
    predict $network "${options[@]}" --batch=$batch -o "$work/batch.h5"
    # Layers of weights from the input to the logits; one more for each attention.
    declare -A depth=([digits-mlp]=3 [cifar-lenet]=5 [gpt-char]=12 [transformer-base]=12)
    compare close "$work/one.h5" "$work/batch.h5" ${depth[$network]}
  done
done
