load common

# No name, of a file or in one, reaches the terminal with a character in it that it would interpret.

# tame FILE...: they hold no control characters but newlines, none that turns the direction, and are UTF-8.
tame() {
  $python - "$@" <<'PYTHON'
import sys, unicodedata
for path in sys.argv[1:]:
    text = open(path, "rb").read().decode("utf-8")
    for c in text:
        assert c == "\n" or unicodedata.category(c) != "Cc", (path, text)
        assert c not in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029", (path, text)
PYTHON
}

# shown STATUS TEXT COMMAND...: what it says is tame, holds TEXT, and ends with that status.
shown() {
  local want=$1 text=$2
  shift 2
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && tame out err && cat out err | grep -qF -- "$text" ||
    { echo "status $got: $(cat -v out err)"; return 1; }
}

# One file of each format whose tensor has the name that is given, as bytes in hexadecimal.
make() {
  $python - "$1" <<'PYTHON'
import struct, sys, zipfile, h5py, numpy as np
name = bytes.fromhex(sys.argv[1])
w = np.arange(2, dtype="f4")
text = b'{"__metadata__":{},' + b'"' + name.replace(b"\x1b", b"\\u001b").replace(b"\a", b"\\u0007") + b'"' + \
    b':{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
open("n.safetensors", "wb").write(len(text).to_bytes(8, "little") + text + w.tobytes())
np.save("w.npy", w)
with zipfile.ZipFile("n.npz", "w") as archive:
    archive.writestr("@.npy", open("w.npy", "rb").read())
raw = open("n.npz", "rb").read()
with zipfile.ZipFile("n.npz", "w") as archive:
    archive.writestr("@" * len(name) + ".npy", open("w.npy", "rb").read())
raw = open("n.npz", "rb").read().replace(b"@" * len(name) + b".npy", name + b".npy")
open("n.npz", "wb").write(raw)
S = lambda s: b"X" + struct.pack("<I", len(s)) + s
pickle = (b"\x80\x02}" + S(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + S(b"storage") +
          b"ctorch\nFloatStorage\n" + S(b"0") + S(b"cpu") + b"K\x02tQK\x00K\x02\x85K\x01\x85\x89"
          b"ccollections\nOrderedDict\n)RtRs.")
with zipfile.ZipFile("n.pt", "w") as archive:
    archive.writestr("n/data.pkl", pickle)
    archive.writestr("n/data/0", w.tobytes())
    archive.writestr("n/version", "3\n")
with h5py.File("n.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=.1)
    f[b"mean/" + name], f[b"hessian/" + name] = w, w + 1
with h5py.File("odd.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=.1)
    f["mean/w"], f[b"mean/" + name] = w, "text"
with h5py.File("data.h5", "w") as f:
    f[name] = w
open("data.csv", "wb").write(name + b",y\n1,oops\n")
PYTHON
}

@test "control characters of names in any format are replaced" {
  make "61$(printf '\e[31m\a' | od -An -tx1 | tr -d ' \n')62"
  for file in n.safetensors n.npz n.pt n.h5 odd.h5; do
    shown 65 "a?[31m?b' is not a usable name" ivon-info "$file"
    shown 65 "a?[31m?b' is not a usable name" ivon-convert "$file" -o o.h5
    shown 65 "a?[31m?b' is not a usable name" ivon-merge -m average "$file" "$file" -o o.h5
  done
  shown 65 "no column 'max_probability', but 'a?[31m?b', 'y'" ivon-plot reliability data.csv -o x.svg
  [ ! -e o.h5 ]
}

@test "so are C1 controls and what is no UTF-8" {
  for name in 61c29b62 61ff62 61c362 61eda08062; do
    make $name
    for file in n.safetensors n.npz n.pt n.h5 odd.h5; do shown 65 "" ivon-info $file; done
    shown 65 "" ivon-plot reliability data.csv -o x.svg
  done
}

@test "names that turn the direction of text are used, but shown without" {
  make "61e280ae62" # a, RIGHT-TO-LEFT OVERRIDE, b
  for file in n.safetensors n.npz n.pt n.h5; do
    shown 0 "a???b" ivon-info --tensors $file
    shown 0 "a???b" ivon-convert -v $file -o ${file#n.}.npz
    shown 0 '"name":"a\u202eb"' ivon-info --tensors --json $file
  done
  shown 0 "'mean/a???b', stored as strings" ivon-info odd.h5
  shown 65 "tensor 'mean/a???b' is stored as strings" ivon-convert odd.h5 -o x.h5
  $python -c '
import numpy as np
assert "a\u202eb" in np.load("safetensors.npz").files'
}

@test "names of files and words of the command line are shown without" {
  posterior p.h5 1
  file=$(printf 'a\e[31m\x7f\xc2\x9b\xff\xe2\x80\xaeb.h5')
  cp p.h5 "$file"
  shown 0 "a?[31m???????b.h5" ivon-info "$file"
  shown 0 "a?[31m???????b.h5" ivon-info --check "$file"
  shown 73 "a?[31m???????b.h5: file exists" ivon-convert p.h5 -o "$file"
  shown 66 "no?[31m" ivon-info "$(printf 'no\e[31m')"
  shown 0 "\\u202e" ivon-info --json --header "$(printf 'a\e[31m\xe2\x80\xae.h5'; cp p.h5 "$(printf 'a\e[31m\xe2\x80\xae.h5')")"
  shown 64 "--threads: '?[31m'" ivon-info --threads="$(printf '\e[31m')" p.h5
  shown 64 "'?[31m' is no command" ivon "$(printf '\e[31m')"
  shown 64 "unknown option '--?[31m'" ivon-info "$(printf -- '--\e[31m')" p.h5
  shown 64 "'-o=?[31m': write '-o ?[31m'" ivon-convert "$(printf -- '-o=\e[31m')" p.h5
  shown 0 "pattern '?[31m' matches no tensor" ivon-merge -m average --exclude="$(printf '\e[31m')" p.h5 p.h5 -o o.h5
}

@test "an initializer of an ONNX graph is shown without" {
  $python -c 'import onnx' 2> /dev/null || skip "python3-onnx is missing"
  $python - <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
ugly = "a\x1b[31m\u009b\u202eb"
info = helper.make_tensor_value_info
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", ugly], ["f"])], "toy",
    [info("x", TensorProto.FLOAT, ["n", 3])], [info("f", TensorProto.FLOAT, ["n", 2])],
    [numpy_helper.from_array(np.ones((3, 2), "f4"), "w"), numpy_helper.from_array(np.ones(2, "f4"), ugly)])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), "m.onnx")
graph.node[1].input[1] = "c" + ugly
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), "bad.onnx")
with h5py.File("p.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=.1)
    f["mean/w"] = f["hessian/w"] = np.ones((3, 2), "f4")
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = np.ones((4, 3), "f4"), np.zeros(4, "i8")
PYTHON
  shown 65 "are not in p.h5, 'a?[31m?????b' the first" ivon-predict p.h5 --model=m.onnx --data=data.h5 --mean
  shown 0 "keep the graph's own values, 'a?[31m?????b' the first" ivon-predict p.h5 --model=m.onnx --data=data.h5 --mean --keep-graph-weights
  shown 65 "a?[31m?????b" ivon-predict p.h5 --model=bad.onnx --data=data.h5 --mean
  shown 65 "a?[31m?????b" ivon-train --model=m.onnx --data=data.h5 --epochs=1 --lr=.1 -o run
}
