#!/usr/bin/env bash
# The reference checkpoints, converted, are the posteriors beside them (names, bits, ess, weight
# decay), and go through every format unchanged.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$IVON_BIN:$PATH

compare() { # FILE REFERENCE
  /usr/bin/python3 - "$@" << 'PYTHON'
import sys, h5py, numpy as np
a, b = (h5py.File(path) for path in sys.argv[1:])
def names(group):
    found = []
    group.visititems(lambda name, item: found.append(name)
                     if isinstance(item, h5py.Dataset) else None)
    return sorted(found)
count = 0
for part in ("mean", "hessian"):
    assert names(a[part]) == names(b[part]), (names(a[part]), names(b[part]))
    for name in names(b[part]):
        x, y = a[part][name], b[part][name]
        assert x.dtype == y.dtype and x.shape == y.shape, name
        assert x[()].tobytes() == y[()].tobytes(), name
        count += 1
assert count >= 8
assert ("buffers" in a) == ("buffers" in b)
assert "buffers" not in a or names(a["buffers"]) == names(b["buffers"])
assert a.attrs["ess"] == b.attrs["ess"] and a.attrs["weight_decay"] == b.attrs["weight_decay"]
PYTHON
}

count=0
for folder in "$IVON_SHARED"/reference/*/; do
  ivon-convert -q -f "$folder/checkpoint.pt" -o x.h5
  compare x.h5 "$folder/posterior.h5"
  ivon-convert -q -f x.h5 -o x.safetensors
  ivon-convert -q -f x.safetensors -o x.npz
  ivon-convert -q -f x.npz -o y.h5
  compare y.h5 "$folder/posterior.h5"
  count=$((count + 1))
done
test $count -ge 7

# With the graph put in, predictions are those of the posterior and the graph apart.
folder=$IVON_SHARED/reference/digits-mlp
ivon-convert -q "$folder/checkpoint.pt" --model="$folder/model.onnx" -o whole.h5
ivon-predict -q whole.h5 --data="$folder/refs.h5" --no-provenance > whole.csv
ivon-predict -q "$folder/posterior.h5" --model="$folder/model.onnx" --data="$folder/refs.h5" \
  --no-provenance > apart.csv
cmp whole.csv apart.csv
test "$(wc -l < whole.csv)" -gt 10
