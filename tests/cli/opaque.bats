load common

# One member that cannot be read must not cost the others: it is listed, carried or left out by
# name, and an error only where it is asked for.

# expect STATUS TEXT COMMAND...: it says one line, on stderr, with TEXT in it.
expect() {
  local want=$1 text=$2
  shift 2
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -qF -- "$text" err ||
    { echo "status $got: $(cat err)"; return 1; }
}

# Files of one f4 tensor 'w' and members of other kinds beside it.
make() {
  $python - <<'PYTHON'
import json, struct, zipfile, h5py, numpy as np
w = np.arange(6, dtype="f4").reshape(2, 3)
def safetensors(path, entries):
    header, body = {}, b""
    for name, dtype, shape, data in entries:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    open(path, "wb").write(len(text).to_bytes(8, "little") + text + body)
safetensors("odd.safetensors", [
    ("w", "F32", [2, 3], w.tobytes()), ("f8", "F8_E4M3", [2, 5], bytes(range(10))),
    ("f4", "F4", [3, 2], b"\x12\x34\x56"), ("new", "F12_E5M6", [2], b"abc"),
    ("deep", "F32", [1] * 9, b"\0\0\x80?")])
safetensors("carried.safetensors", [
    ("w", "F32", [2, 3], w.tobytes()), ("f8", "F8_E4M3", [2, 5], bytes(range(10))),
    ("f4", "F4", [3, 2], b"\x12\x34\x56"), ("new", "F12_E5M6", [2], b"abc")])
safetensors("short.safetensors", [("w", "F32", [2, 3], w.tobytes()), ("f8", "F8_E4M3", [3, 5], bytes(10))])
safetensors("plain.safetensors", [("w", "F32", [2, 3], w.tobytes())])
safetensors("second.safetensors", [("w", "F32", [2, 3], (3 * w).tobytes()), ("f8", "F8_E4M3", [2, 5], bytes(10))])
record = np.zeros(2, [("a", "<f4"), ("b]", "<i8", (2,))])
np.savez("odd.npz", w=w, text=np.array("hello"), list=np.array([{}], object), record=record,
         complex=w.astype("c8"), long=w.astype("g"), time=np.array(["2020-01-01"], "M8[D]"),
         deep=np.zeros((1,) * 9))
with zipfile.ZipFile("odd.npz", "a") as archive:
    archive.writestr(zipfile.ZipInfo("packed.npy"), open("odd.npz", "rb").read(), zipfile.ZIP_BZIP2)
S = lambda s: b"X" + struct.pack("<I", len(s)) + s.encode()
storage = lambda kind, count: (b"(" + S("storage") + b"ctorch\n%sStorage\n" % kind + S("0") + S("cpu") + b"K%ctQ" % count)
hooks = b"\x89ccollections\nOrderedDict\n)R"
tensor = lambda kind: (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage(kind, 6) + b"K\0K\2K\3\x86K\3K\1\x86" + hooks + b"tR")
members = {"w": tensor(b"Float"), "complex": tensor(b"ComplexFloat"), "codes": tensor(b"QInt8"), "version": b"K\7",
           "quantized": b"ctorch._utils\n_rebuild_qtensor\n(" + storage(b"QInt8", 6) + b"K\0K\6\x85K\1\x85" + hooks + b"tR",
           "sparse": b"ctorch._utils\n_rebuild_sparse_tensor\n)R", "text": S("hello"), "none": b"N"}
with zipfile.ZipFile("odd.pt", "w") as archive:
    archive.writestr("odd/data.pkl", b"\x80\x02}(" + b"".join(S(n) + m for n, m in members.items()) + b"u.")
    archive.writestr("odd/data/0", w.tobytes())
    archive.writestr("odd/version", "3\n")
def odd(f, group):
    f[group + "text"] = "hello"
    f[group + "texts"] = np.array(["a", "bc"], object).astype(h5py.string_dtype())
    f[group + "record"] = record
    f[group + "complex"] = w.astype("c8")
    f[group + "long"] = w.astype("g")
    f.create_dataset(group + "pointer", (1,), h5py.ref_dtype)
    f[group + "choice"] = np.zeros(2, h5py.enum_dtype({"A": 0, "B": 1}, "i4"))
    f[group + "nothing"] = h5py.Empty("f4")
    f.create_dataset(group + "lists", (2,), h5py.vlen_dtype("f4"))
    f.create_dataset(group + "filtered", data=w, compression="lzf")
    f[group + "deep"] = np.zeros((1,) * 9)
with h5py.File("odd.h5", "w", track_order=True) as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=.1)
    f["mean/w"], f["hessian/w"] = w, w + 1
    odd(f, "mean/")
    odd(f, "buffers/")
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = np.zeros((4, 3), "f4"), np.array([0, 1, 0, 1])
    odd(f, "")
np.savez("data.npz", x=np.zeros((4, 3), "f4"), y=np.array([0, 1, 0, 1]), text=np.array("hello"),
         record=record, complex=w.astype("c8"))
PYTHON
}

@test "members that cannot be read are listed with how they are stored" {
  make
  ivon-info --header odd.safetensors > out
  grep -qx "  parameters      6 in 1 tensors" out
  [ "$(grep 'not read' out)" = "  not read        'f8', stored as F8_E4M3, 2x5
  not read        'f4', stored as F4, 3x2
  not read        'new', stored as F12_E5M6, 2
  not read        'deep', stored as F32 of 9 dimensions, ?" ]
  ivon-info --header odd.npz > out
  [ "$(grep 'not read' out)" = "  not read        'text', stored as <U5, scalar
  not read        'list', stored as |O, 1
  not read        'record', stored as a record, 2
  not read        'complex', stored as <c8, 2x3
  not read        'long', stored as <f16, 2x3
  not read        'time', stored as <M8[D], 1
  not read        'deep', stored as <f8 of 9 dimensions, ?
  not read        'packed', stored as a zip entry that is compressed by another method than deflate, ?" ]
  ivon-info odd.pt > out
  [ "$(grep 'not read' out)" = "  not read        'complex', stored as 'torch.ComplexFloatStorage', ?
  not read        'codes', stored as 'torch.QInt8Storage', ?
  not read        'version', stored as an integer, ?
  not read        'quantized', stored as an object of 'torch._utils._rebuild_qtensor', ?
  not read        'sparse', stored as an object of 'torch._utils._rebuild_sparse_tensor', ?
  not read        'text', stored as a string, ?
  not read        'none', stored as None, ?" ]
  ivon-info odd.h5 > out
  [ "$(grep -c "not read        'mean/" out)" -eq 11 ]
  [ "$(grep "not read        'buffers/" out)" = "  not read        'buffers/text', stored as strings, scalar
  not read        'buffers/texts', stored as strings, 2
  not read        'buffers/record', stored as compounds, 2
  not read        'buffers/complex', stored as compounds, 2x3
  not read        'buffers/long', stored as floating-point numbers of an unusual format, 2x3
  not read        'buffers/pointer', stored as references, 1
  not read        'buffers/choice', stored as enumerations, 2
  not read        'buffers/nothing', stored as nothing, ?
  not read        'buffers/lists', stored as lists of varying length, 2
  not read        'buffers/filtered', stored as filtered data, 2x3
  not read        'buffers/deep', stored as more than 8 dimensions, ?" ]
  ivon-info --json odd.safetensors | $python -c '
import json, sys
found = json.load(sys.stdin)["opaque"]
assert found["tensors"] == 4 and found["bytes"] == 20, found
assert found["list"][0] == {"name": "f8", "stored_as": "F8_E4M3", "shape": [2, 5]}, found
assert found["list"][3] == {"name": "deep", "stored_as": "F32 of 9 dimensions", "shape": None}, found'
  ivon-info --json plain.safetensors | $python -c '
import json, sys
assert "opaque" not in json.load(sys.stdin)'
  expect 65 "short.safetensors: tensor 'f8': has 10 bytes of data, its shape and dtype ask for another number" ivon-info short.safetensors
}

@test "safetensors to safetensors carries them; elsewhere they are left out by name" {
  make
  ivon-convert --no-provenance carried.safetensors -o copy.safetensors 2> err
  [ "$(cat err)" = "ivon-convert: copy.safetensors: wrote 4 tensors: mean 1, opaque 3" ]
  $python - <<'PYTHON'
import json
def read(path):
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    return {name: (e["dtype"], e["shape"], data[8 + length:][slice(*e["data_offsets"])])
            for name, e in header.items() if name != "__metadata__"}
assert read("copy.safetensors") == read("carried.safetensors")
PYTHON
  expect 65 "odd.safetensors: tensor 'deep' is stored as F32 of 9 dimensions, which is not read here and 'o.safetensors' cannot hold: leave it out by --exclude" \
    ivon-convert odd.safetensors -o o.safetensors
  expect 65 "carried.safetensors: tensor 'f8' is stored as F8_E4M3" ivon-convert carried.safetensors -o o.h5
  expect 65 "carried.safetensors: tensor 'f4' is stored as F4" ivon-convert carried.safetensors --exclude=f8 -o o.npz
  expect 65 "odd.npz: tensor 'text' is stored as <U5" ivon-convert odd.npz -o o.npz
  expect 65 "odd.pt: tensor 'complex' is stored as 'torch.ComplexFloatStorage'" ivon-convert odd.pt -o o.h5
  expect 65 "odd.h5: tensor 'mean/text' is stored as strings" ivon-convert odd.h5 -o o.h5
  [ ! -e o.h5 ]
  [ ! -e o.npz ]
  [ ! -e o.safetensors ]
  for input in odd.safetensors odd.npz odd.pt; do
    ivon-convert -q $input --exclude='[!w]*' -o o.npz -f
    $python -c '
import numpy as np
f = np.load("o.npz")
assert set(f.files) <= {"w", "ivon-posterior", "creator", "provenance"}, f.files
assert np.array_equal(f["w"], np.arange(6, dtype="f4").reshape(2, 3))'
  done
  ivon-convert -q odd.h5 --include=w -o o.h5
  $python -c '
import h5py
with h5py.File("o.h5") as f:
    assert list(f["mean"]) == ["w"] == list(f["hessian"]) and "buffers" not in f'
}

@test "what is not read is merged by nobody, unless it is left to the base" {
  make
  expect 65 "second.safetensors: tensor 'f8' is stored as F8_E4M3, which cannot be merged: leave it out; see --exclude" \
    ivon-merge -m average plain.safetensors second.safetensors -o o.safetensors
  expect 65 "carried.safetensors: tensor 'f8' is stored as F8_E4M3, which cannot be merged" \
    ivon-merge -m average carried.safetensors plain.safetensors -o o.safetensors
  expect 65 "odd.npz: tensor 'text' is stored as <U5" ivon-merge -m average odd.npz plain.safetensors -o o.safetensors
  [ ! -e o.safetensors ]
  ivon-merge -q -m average --exclude='[!w]*' carried.safetensors second.safetensors -o o.safetensors
  $python - <<'PYTHON'
import json, numpy as np
data = open("o.safetensors", "rb").read()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8:8 + length])
part = lambda name: data[8 + length:][slice(*header[name]["data_offsets"])]
assert part("f8") == bytes(range(10)) and part("f4") == b"\x12\x34\x56" and part("new") == b"abc"
assert header["f8"]["dtype"] == "F8_E4M3" and header["f8"]["shape"] == [2, 5]
assert np.array_equal(np.frombuffer(part("w"), "f4"), 2 * np.arange(6))
PYTHON
  ivon-merge -q --json -m average --exclude='[!w]*' carried.safetensors second.safetensors -o o.h5 |
    $python -c '
import json, sys, h5py
found = json.load(sys.stdin)
assert found["skipped"] == {"tensors": 3, "parameters": 0}, found
assert {"name": "f8", "fate": "skipped", "reason": "not selected"} in found["not_merged"], found
with h5py.File("o.h5") as f:
    assert list(f["mean"]) == ["w"]'
}

@test "predictions and samples ask for what the graph needs, and for nothing else" {
  make
  ivon-train -q --arch=mlp:3,2,2 --data=data.h5 --epochs=1 --lr=.1 --seed=1 -o run
  mv run/posterior-00000001.h5 run/posterior.h5
  ivon-predict -q run/posterior.h5 --data=data.npz --mean -o p.csv
  expect 65 "data.h5: 'text' has elements that are neither numbers nor booleans" \
    ivon-predict run/posterior.h5 --data=data.h5 --mean --inputs=text
  expect 65 "data.npz: 'record.npy': is of type 'a record', expected numbers or booleans" \
    ivon-predict run/posterior.h5 --data=data.npz --mean --inputs=record
  $python - <<'PYTHON'
import h5py, shutil
with h5py.File("run/posterior.h5") as f:
    first = sorted(f["mean"])[0]
open("first", "w").write(first)
for part in ("mean", "hessian", "other"):
    shutil.copy("run/posterior.h5", part + ".h5")
    with h5py.File(part + ".h5", "a") as f:
        if part == "other":
            f["mean/unused"] = "text"
        else:
            del f[part + "/" + first]
            f[part + "/" + first] = "text"
PYTHON
  first=$(cat first)
  ivon-predict -q other.h5 --data=data.h5 -n 2 -o p.csv -f
  ivon-sensitivity -q other.h5 --data=data.h5 -o s.csv
  ivon-sample other.h5 -o sample.h5 2> err
  [ "$(cat err)" = "ivon-sample: warning: 1 tensor stored in ways that are not read here left out, 'mean/unused' (strings) the first" ]
  for command in "ivon-predict -n 2" ivon-sensitivity "ivon-predict-gen -o g.csv" "ivon-train --arch=mlp:3,2,2 --epochs=1 --lr=.1 -o again --from"; do
    expect 65 "mean.h5: tensor 'mean/$first' is stored as strings, which is not read here" $command mean.h5 --data=data.h5
  done
  for command in "ivon-predict -n 2 --data=data.h5" "ivon-sensitivity --data=data.h5" "ivon-sample -o refused.h5"; do
    expect 65 "hessian.h5: tensor 'hessian/$first' is stored as strings, which is not read here" $command hessian.h5
  done
  ivon-predict -q hessian.h5 --data=data.h5 --mean -o p.csv -f
}

@test "an initializer of another type is an error only where a node takes it" {
  $python -c 'import onnx' 2> /dev/null || skip "python3-onnx is missing"
  $python - <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
info = helper.make_tensor_value_info
odd = [helper.make_tensor("text", TensorProto.STRING, [1], [b"a"]),
       onnx.TensorProto(name="f8", data_type=17, dims=[2], raw_data=b"ab"),
       onnx.TensorProto(name="i4", data_type=22, dims=[2], raw_data=b"a"),
       helper.make_tensor("complex", TensorProto.COMPLEX64, [1], [1j])]
for name, taken in (("m.onnx", "w"), ("taken.onnx", "f8")):
    graph = helper.make_graph([helper.make_node("MatMul", ["x", taken], ["f"])], "toy",
                              [info("x", TensorProto.FLOAT, ["n", 3])], [info("f", TensorProto.FLOAT, ["n", 2])],
                              [numpy_helper.from_array(np.ones((3, 2), "f4"), "w"), *odd])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), name)
with h5py.File("p.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=.1)
    f["mean/w"] = f["hessian/w"] = np.ones((3, 2), "f4")
with h5py.File("data.h5", "w") as f:
    f["x"] = np.ones((4, 3), "f4")
PYTHON
  ivon-predict -q p.h5 --model=m.onnx --data=data.h5 --mean > out
  [ "$(wc -l < out)" -eq 5 ]
  expect 65 "taken.onnx: tensor 'f8': elements of type " ivon-predict p.h5 --model=taken.onnx --data=data.h5 --mean
}
