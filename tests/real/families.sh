#!/usr/bin/env bash
# The families of networks that people train, tiny, as their exporters write them at several opsets:
# outputs, self-influences and tangents of each, against PyTorch's in double precision, and outputs
# against ONNX Runtime's where node finds onnxruntime-node (NODE_PATH names the folder it is in).
set -euo pipefail
if ! /usr/bin/python3 -c 'import torch, onnx, h5py' 2> /dev/null; then
  echo "skipped: needs PyTorch, onnx and h5py to make the networks with"
  exit 77
fi
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
work=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1

/usr/bin/python3 -W ignore "$oracle/families.py" make "$work" 2> "$work/errors" > "$work/list" ||
  { cat "$work/errors"; exit 1; }

if node -e 'require("onnxruntime-node")' 2> /dev/null; then
  node "$oracle/onnxruntime_outputs.js" "$work"
else
  echo "node has no onnxruntime-node: PyTorch is the only reference"
fi

# What fails says so in the file of its messages, which is empty otherwise.
while IFS=$'\t' read -r family graph posterior inputs _; do
  stem=$work/$family/$graph-$posterior
  common=(-q -j1 --data="$work/$family/data.h5" "$inputs")
  if [ "$posterior" = itself ]; then
    common+=("$work/$family/$graph.onnx")
  else
    common+=(--model="$work/$family/$graph.onnx" "$work/$family/$posterior.h5")
  fi
  "$IVON_BIN/ivon-predict" "${common[@]}" --mean --logits -o "$stem-predict.h5" \
    2> "$stem.predict" < /dev/null || true
  [ "$posterior" != itself ] || continue
  "$IVON_BIN/ivon-sensitivity" "${common[@]}" --score=self-influence --vectors --rho=1 \
    -o "$stem-sensitivity.h5" 2> "$stem.sensitivity" < /dev/null || true
done < "$work/list"

/usr/bin/python3 "$oracle/families.py" compare "$work"
