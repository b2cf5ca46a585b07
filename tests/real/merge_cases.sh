#!/usr/bin/env bash
# Merges that went wrong without a word, made from what public reports describe: the inputs of
# $IVON_SHARED/cases.
set -euo pipefail
cases=${IVON_SHARED:-}/cases
[ -d "$cases/running-statistics" ] || { echo "skipped: no \$IVON_SHARED/cases"; exit 77; }
PATH=$IVON_BIN:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/o.safetensors
refused() { # STATUS TEXT COMMAND...
  local status=0
  "${@:3}" -o "$out" > "$work/out" 2> "$work/err" || status=$?
  if [ $status -ne "$1" ] || [ "$(wc -l < "$work/err")" -ne 1 ] || ! grep -qF -- "$2" "$work/err" || [ -e "$out" ]; then
    echo "${*:3}: status $status"
    cat "$work/err"
    exit 1
  fi
}

for kind in safetensors pt; do
  cd "$cases/running-statistics"
  ivon-merge -f -m task-arithmetic --base=base.$kind t1.$kind t2.$kind -o "$work/o.npz" 2> "$work/err"
  grep -q "1 buffer differs between the inputs, 'bn.running_var' the first; the base's was kept" "$work/err"
  ivon-convert -f base.$kind -o "$work/base.npz"
  /usr/bin/python3 -c "
import sys, numpy as np
base, out = (np.load(p) for p in sys.argv[1:])
for n in ('running_mean', 'running_var', 'num_batches_tracked'):
    assert np.array_equal(base['bn.' + n], out['bn.' + n]), n" "$work/base.npz" "$work/o.npz"
done

cd "$cases/quantized-codes"
refused 65 "t1.safetensors: 'l.qweight' holds quantized weights, codes with 'l.scales' beside them" \
  ivon-merge -m average t1.safetensors t2.safetensors
refused 65 "; see --exclude" ivon-merge -m task-arithmetic --base=base.safetensors t1.safetensors t2.safetensors
ivon-merge -q -m average t1.safetensors t2.safetensors --exclude='l.*' -o "$work/rest.safetensors"

cd "$cases/one-hessian-per-model"
refused 64 "--hessian=f_t1.safetensors: is for one model, and there are 2" \
  ivon-merge t1.safetensors t2.safetensors --hessian=f_t1.safetensors
ivon-merge -q t1.safetensors,hessian=f_t1.safetensors t2.safetensors,hessian=f_t1.safetensors -o "$work/own.safetensors"

cd "$cases/nothing-merged"
for choice in error base skip; do
  refused 65 "t.safetensors: none of its tensors is in base.safetensors: the nearest names are 'model.l.w' and 'l.w' there" \
    ivon-merge --base=base.safetensors t.safetensors --on-mismatch=$choice
done

cd "$cases/lora"
refused 65 "is a factor of a low-rank adapter" ivon-merge -m average ad1/adapter_model.safetensors ad2/adapter_model.safetensors
refused 65 "see --base" ivon-merge -m average ad1 ad2
ivon-merge -q -m average --dtype=f64 --base=base.safetensors ad1 ad2/adapter_model.safetensors -o "$work/lora.safetensors"
/usr/bin/python3 -B - "$work/lora.safetensors" <<'PYTHON'
import json, sys, numpy as np
def read(path):
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = (start + at for at in entry["data_offsets"])
            kind = {"BF16": "<u2", "F32": "<f4", "F64": "<f8"}[entry["dtype"]]
            array = np.frombuffer(data[begin:end], kind).reshape(entry["shape"])
            arrays[name] = ((array.astype("u4") << 16).view("f4") if kind == "<u2" else array).astype("f8")
    return arrays
base, merged = read("base.safetensors"), read(sys.argv[1])
adapters = [read(f"ad{i}/adapter_model.safetensors") for i in (1, 2)]
for name in ("model.layers.0.q_proj", "model.layers.0.v_proj"):
    a, b = ([d[f"base_model.model.{name}.lora_{k}.weight"] for d in adapters] for k in "AB")
    change = 8 * (b[0] @ a[0] + b[1] @ a[1]) / 2
    error = np.linalg.norm(merged[name + ".weight"] - base[name + ".weight"] - change) / np.linalg.norm(change)
    assert error <= 1e-14, error
PYTHON

cd "$cases/tied"
ivon-merge -m task-arithmetic --base=base.safetensors t1.safetensors t2.safetensors -o "$work/tied.safetensors" 2> "$work/err"
grep -q "'lm_head.weight' is 'embed.weight' bit by bit in t1.safetensors" "$work/err"
echo "cases of merging: as they should be"
