load common

# ONNX files as checkpoints: small models by python3-onnx, made once.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  python=/usr/bin/python3
  $python -c 'import onnx' 2> /dev/null || return 0
  cat > make.py <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto as T, helper, numpy_helper

node = helper.make_node


def model(path, seed, dtype="f4", external=False, constant=False, opset=17):
    r = np.random.default_rng(seed)
    shapes = {"fc1.weight": (6, 4), "fc1.bias": (6,), "fc2.weight": (3, 6), "fc2.bias": (3,)}
    given = {n: r.standard_normal(s).astype(dtype) for n, s in shapes.items()}
    given.update({f"bn.{n}": r.uniform(1, 2, 6).astype(dtype) for n in ("scale", "shift", "m", "v")})
    kind = T.FLOAT if dtype == "f4" else T.FLOAT16
    nodes = [node("Constant", [], ["half"], value=numpy_helper.from_array(np.array(0.5, dtype))),
             node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["a"], transB=1),
             node("BatchNormalization", ["a", "bn.scale", "bn.shift", "bn.m", "bn.v"], ["b"]),
             node("Mul", ["b", "half"], ["c"]),
             node("Reshape", ["c", "shape"], ["d"]), node("Tanh", ["d"], ["e"]),
             node("Gemm", ["e", "fc2.weight", "fc2.bias"], ["y"], transB=1)]
    if constant:
        nodes.insert(0, node("Constant", [], ["fc2.weight"],
                             value=numpy_helper.from_array(given.pop("fc2.weight"))))
    tensors = [numpy_helper.from_array(a, n) for n, a in given.items()]
    tensors.append(numpy_helper.from_array(np.array([-1, 6]), "shape"))
    info = helper.make_tensor_value_info
    made = helper.make_model(
        helper.make_graph(nodes, "g", [info("x", kind, ["n", 4])], [info("y", kind, ["n", 3])], tensors),
        opset_imports=[helper.make_opsetid("", opset)], producer_name="maker", producer_version="7")
    if external:
        onnx.save(made, path, save_as_external_data=True, location=path + ".data", size_threshold=0)
    else:
        onnx.save(made, path)


model("a.onnx", 1)
model("b.onnx", 2)
model("half.onnx", 1, "f2")
model("outside.onnx", 1, external=True)
model("constant.onnx", 1, constant=True)
x = np.random.default_rng(3).standard_normal((5, 4)).astype("f4")
np.save("x.npy", x)
PYTHON
  $python make.py
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  [ -e a.onnx ] || skip "python3-onnx is missing"
  out=$BATS_TEST_TMPDIR
}

logits() { # FILE OUT [OPTION...]
  ivon-predict -q "$1" --data=x.npy --mean --logits --likelihood=gaussian --noise-std=1 "${@:3}" -f -o "$2"
}

@test "an ONNX file is a checkpoint and its graph" {
  run -0 ivon-info a.onnx
  [[ $output == *"parameters      63 in 6 tensors"* ]]
  [[ $output == *"buffers         48 B"* ]]
  [[ $output == *"creator         maker 7"* ]]
  run ivon-info --header --json a.onnx half.onnx outside.onnx constant.onnx
  [ "$status" -eq 0 ]
  logits a.onnx $out/a.csv
  for name in outside constant; do
    logits $name.onnx $out/b.csv
    cmp $out/a.csv $out/b.csv
  done
  logits a.onnx $out/b.csv --model=a.onnx
  cmp $out/a.csv $out/b.csv
  logits outside.onnx $out/b.csv --model=outside.onnx
  cmp $out/a.csv $out/b.csv
  mkdir $out/moved
  cp a.onnx $out/moved/suffixless # its content tells
  logits $out/moved/suffixless $out/b.csv
  cmp $out/a.csv $out/b.csv
}

@test "to other formats and back, nothing changes" {
  for name in a outside constant; do
    logits $name.onnx $out/a.csv
    for suffix in safetensors npz h5 onnx; do
      ivon-convert -q $name.onnx -f -o $out/c.$suffix
      logits $out/c.$suffix $out/c.csv
      cmp $out/a.csv $out/c.csv
      ivon-convert -q $out/c.$suffix -f -o $out/d.onnx
      logits $out/d.onnx $out/d.csv
      cmp $out/a.csv $out/d.csv
      $python - $name.onnx $out/d.onnx <<'PYTHON'
import sys, onnx
from onnx import numpy_helper
before, after = map(onnx.load, sys.argv[1:])
onnx.checker.check_model(after)
tensors = [{t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (before, after)]
tensors[0].update({n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in before.graph.node
                   if n.op_type == "Constant" and n.attribute[0].t.dims})
assert tensors[0].keys() == tensors[1].keys()
for name, array in tensors[0].items():
    assert array.dtype == tensors[1][name].dtype and (array == tensors[1][name]).all(), name
assert [i.name for i in after.graph.input] == ["x"] and after.ir_version == before.ir_version
assert {"creator", "provenance"} == {p.key for p in after.metadata_props}
assert after.producer_name == "maker"
PYTHON
    done
  done
}

@test "types stay what they are" {
  run -0 ivon-convert -v half.onnx -o $out/half.safetensors
  [[ $output == *"mean 'fc1.weight': f16 6x4"* ]]
  [[ $output == *"buffers 'bn.m': f16 6"* ]]
  run ! ivon-convert half.onnx --dtype=f32 -o $out/wide.onnx
  [[ $output == *"'fc1.weight' has elements of type f32, and the graph takes float16 there: convert them"* ]]
  [ ! -e $out/wide.onnx ]
  ivon-convert -q half.onnx --dtype=f32 -o $out/wide.h5
  ivon-convert -q $out/wide.h5 --dtype=f16 -o $out/back.onnx
  logits half.onnx $out/a.csv
  logits $out/back.onnx $out/b.csv
  cmp $out/a.csv $out/b.csv
}

@test "models are merged into one, whose constants are not" {
  ivon-merge -q --method=average a.onnx b.onnx -o $out/merged.onnx
  $python - a.onnx b.onnx $out/merged.onnx <<'PYTHON'
import sys, numpy as np, onnx
from onnx import numpy_helper
a, b, merged = ({t.name: numpy_helper.to_array(t) for t in onnx.load(p).graph.initializer}
                for p in sys.argv[1:])
assert merged.keys() == a.keys()
for name in a:
    kept = name in ("bn.m", "bn.v", "shape")
    expected = a[name] if kept else ((a[name].astype("f8") + b[name]) / 2).astype("f4")
    assert np.allclose(merged[name], expected, rtol=1e-6), name
PYTHON
  logits $out/merged.onnx $out/merged.csv
}

@test "a Hessian has no place in it, and a graph is needed" {
  cat > $out/make.py <<'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1], "r+") as f:
    f.attrs["ess"], f.attrs["weight_decay"] = 10.0, 0.1
    for name in f["mean"]:
        f["hessian/" + name] = np.ones(f["mean/" + name].shape, "f4")
PYTHON
  ivon-convert -q a.onnx -o $out/posterior.h5
  $python $out/make.py $out/posterior.h5
  run ivon-convert $out/posterior.h5 -o $out/back.onnx
  [ "$status" -eq 0 ]
  [[ $output == *"back.onnx: has no place for the 6 tensors of part 'hessian', which are left out"* ]]
  [[ $output == *"wrote 8 tensors: mean 6, buffers 2; and the graph"* ]]
  logits a.onnx $out/a.csv
  logits $out/back.onnx $out/b.csv
  cmp $out/a.csv $out/b.csv
  run -64 ivon-merge $out/posterior.h5 $out/posterior.h5 -o $out/merged.onnx
  [[ $output == *"an ONNX file holds no Hessian"* ]]
  ivon-sample -q $out/posterior.h5 -o $out/sample.onnx
  logits $out/sample.onnx $out/sample.csv
  posterior $out/bare.h5 1
  run -65 ivon-convert $out/bare.h5 -o $out/bare.onnx
  [[ $output == *"there is no graph that the tensors could be put into"* ]]
  run -65 ivon-convert a.onnx --rename='^fc1:other' -o $out/other.onnx
  [[ $output == *"the graph has no place for the tensor 'other.weight'"* ]]
  [ ! -e $out/bare.onnx ]
  [ ! -e $out/other.onnx ]
}

@test "what is damaged is refused" {
  head -c 300 a.onnx > $out/cut.onnx
  run -65 ivon-info $out/cut.onnx
  [[ $output == *"cut.onnx: no ONNX file, or a damaged one"* ]]
  echo text > $out/text.onnx
  run -65 ivon-info $out/text.onnx
  [[ $output == *"text.onnx: no ONNX file, or a damaged one"* ]]
  cp outside.onnx $out
  run -66 ivon-info $out/outside.onnx
  [[ $output == *"external data 'outside.onnx.data' cannot be found"* ]]
  head -c 100 outside.onnx.data > $out/outside.onnx.data
  run -65 ivon-info $out/outside.onnx
  [[ $output == *"external data 'outside.onnx.data' have 100 bytes"* ]]
}

@test "data beside a graph may be links into the cache of a hub" {
  revision=$out/models--a/snapshots/1234
  mkdir -p $revision $out/models--a/blobs
  cp outside.onnx $out/models--a/blobs/5678
  cp outside.onnx.data $out/models--a/blobs/9abc
  ln -s ../../blobs/5678 $revision/outside.onnx
  ln -s ../../blobs/9abc $revision/outside.onnx.data
  ivon-predict -q $revision/outside.onnx --data=x.npy --mean --logits --likelihood=gaussian \
    --noise-std=1 -o $out/linked.npy
  ivon-predict -q outside.onnx --data=x.npy --mean --logits --likelihood=gaussian --noise-std=1 \
    -o $out/plain.npy
  cmp $out/linked.npy $out/plain.npy
  cp outside.onnx.data $out/elsewhere
  ln -sf $out/elsewhere $revision/outside.onnx.data
  run -65 ivon-info $revision/outside.onnx
  [[ $output == *"external data 'outside.onnx.data' lead out of the model's directory"* ]]
}

@test "a checkpoint holds a graph that has external data" {
  ivon-convert -q a.onnx -o $out/mean.safetensors
  ivon-convert -q $out/mean.safetensors --model=outside.onnx -o $out/whole.h5
  predict() { # CHECKPOINT OUTPUT
    ivon-predict -q "$1" --data=x.npy --mean --logits --likelihood=gaussian --noise-std=1 -o "$2"
  }
  predict $out/whole.h5 $out/whole.npy
  predict a.onnx $out/a.npy
  cmp $out/whole.npy $out/a.npy
}

@test "names that begin with a slash, and masks, are told from weights" {
  $python - $out <<'PYTHON'
import sys, numpy as np, onnx
from onnx import TensorProto as T, helper, numpy_helper
late, failed = np.zeros((2, 5000), "f4"), np.zeros(3, "f4")
late[1, -1], failed[:2] = -np.inf, [-np.inf, np.nan]
r = np.random.default_rng(4)
w = r.standard_normal((4, 3)).astype("f4")
mask = np.array([0, -np.inf, 0], "f4")
nodes = [helper.make_node("MatMul", ["x", "/head/Transpose_output_0"], ["a"]),
         helper.make_node("Exp", ["mask"], ["e"]), helper.make_node("Mul", ["a", "e"], ["y"])]
more = helper.make_graph([helper.make_node("Concat", ["x", "late", "failed"], ["y"], axis=0)], "g",
                         [helper.make_tensor_value_info("x", T.FLOAT, ["n"])],
                         [helper.make_tensor_value_info("y", T.FLOAT, ["m"])],
                         [numpy_helper.from_array(late.ravel(), "late"), numpy_helper.from_array(failed, "failed")])
onnx.save(helper.make_model(more, opset_imports=[helper.make_opsetid("", 17)]), sys.argv[1] + "/late.onnx")
info = helper.make_tensor_value_info
graph = helper.make_graph(nodes, "g", [info("x", T.FLOAT, ["n", 4])], [info("y", T.FLOAT, ["n", 3])],
                          [numpy_helper.from_array(w, "/head/Transpose_output_0"),
                           numpy_helper.from_array(mask, "mask")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), sys.argv[1] + "/slash.onnx")
np.save(sys.argv[1] + "/y.npy", np.load("x.npy").astype("f8") @ w * [1, 0, 1])
PYTHON
  run -0 ivon-info --tensors $out/slash.onnx
  [[ $output == *"head/Transpose_output_0"*"4x3"* && $output != *" /head"* ]]
  # A mask by its last number; not what NaN is in.
  run -0 ivon-info --tensors $out/late.onnx
  [[ $output == *failed* && $output != *late\ * ]]
  numbers=(--data=x.npy --mean --logits --likelihood=gaussian --noise-std=1)
  ivon-convert -q $out/slash.onnx -o $out/slash.safetensors
  ivon-convert -q $out/slash.safetensors --model=$out/slash.onnx -o $out/again.onnx
  ivon-predict -q $out/slash.onnx "${numbers[@]}" -o $out/1.npy
  ivon-predict -q $out/again.onnx "${numbers[@]}" -o $out/2.npy
  ivon-predict -q $out/slash.safetensors --model=$out/slash.onnx "${numbers[@]}" -o $out/3.npy
  cmp $out/1.npy $out/2.npy
  cmp $out/1.npy $out/3.npy
  $python -c "
import sys, numpy as np
found, wanted = np.load('$out/1.npy'), np.load('$out/y.npy')
assert np.abs(found.reshape(wanted.shape) - wanted).max() < 1e-5  # sums of 4 terms of size 3"
}
