load common

# keras SCRIPT: Python with h5py, the layouts of Keras, and `n`, which draws arrays of a shape.
keras() {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c "
import h5py, keras_file, numpy as np, zipfile
r = np.random.default_rng(0)
n = lambda *shape: r.standard_normal(shape).astype('f4')
$1"
}

# names FILE: what ivon-info lists as means and, of NAME.h5, the buffers, without their numbers.
names() {
  ivon-convert -qf --no-provenance "$1" -o listed.h5
  $python -c '
import h5py
with h5py.File("listed.h5") as f:
    f.visititems(lambda name, item: print(name) if isinstance(item, h5py.Dataset) else None)'
}

@test "weights of Keras 3 have the names of layers and weights, inside an archive too" {
  keras '
layers = {"": [], "layers/conv2d": ("conv2d", [n(3, 3, 2, 4), n(4)]), "layers/conv2d_1": ("second", [n(3, 3, 4, 4)]),
          "layers/batch_normalization": ("norm", [n(4) for _ in range(4)]),
          "layers/batch_normalization_1": [n(4) for _ in range(3)], "layers/dense": ("logits", [n(4, 3), n(3)]),
          "layers/dropout/seed_generator": [np.zeros(2, "u4")],
          "layers/lstm": ("lstm", []), "layers/lstm/cell": ("lstm_cell", [n(4, 12), n(3, 12), n(12)]),
          "layers/functional/layers/dense": ("dense", [n(2, 2)]), "block/mine": ("dense_7", [n(2, 2), n(2)]),
          "many": [np.full(1, i, "f4") for i in range(12)], "optimizer": [np.int64(3), n(4)]}
keras_file.write_weights("a.weights.h5", layers)
keras_file.write_archive("a.keras", layers)
keras_file.write_archive("deflated.keras", layers, zipfile.ZIP_DEFLATED)'
  cat > expected <<'END'
buffers/batch_normalization_1/moving_mean
buffers/batch_normalization_1/moving_variance
buffers/dropout/seed_generator/0
buffers/norm/moving_mean
buffers/norm/moving_variance
mean/batch_normalization_1/0
mean/block/dense_7/bias
mean/block/dense_7/kernel
mean/conv2d/bias
mean/conv2d/kernel
mean/functional/dense/kernel
mean/logits/bias
mean/logits/kernel
mean/lstm/lstm_cell/bias
mean/lstm/lstm_cell/kernel
mean/lstm/lstm_cell/recurrent_kernel
mean/many/0
mean/many/1
mean/many/10
mean/many/11
mean/many/2
mean/many/3
mean/many/4
mean/many/5
mean/many/6
mean/many/7
mean/many/8
mean/many/9
mean/norm/beta
mean/norm/gamma
mean/second/kernel
END
  names a.weights.h5 | LC_ALL=C sort | diff expected -
  cp listed.h5 weights.h5
  names a.keras | LC_ALL=C sort | diff expected -
  cmp listed.h5 weights.h5
  ivon-convert -qf --no-provenance - -o listed.h5 < a.keras
  cmp listed.h5 weights.h5
  keras '
with h5py.File("listed.h5") as out, h5py.File("a.weights.h5") as f:
    for name, path in [("mean/logits/kernel", "layers/dense/vars/0"), ("mean/logits/bias", "layers/dense/vars/1"),
                       ("mean/norm/beta", "layers/batch_normalization/vars/1"), ("mean/many/10", "many/vars/10"),
                       ("buffers/norm/moving_variance", "layers/batch_normalization/vars/3")]:
        assert np.array_equal(out[name], f[path]) and out[name].dtype == f[path].dtype, name'
  run ivon-info deflated.keras
  [ $status -eq 65 ]
  [ "$output" = "ivon-info: deflated.keras: 'model.weights.h5' is deflated, where Keras stores it: take it out of the archive" ]
}

@test "weights of Keras in several files are those of one" {
  keras '
layers = {"": [], "layers/conv2d": ("conv2d", [n(3, 3, 2, 4), n(4)]), "layers/dense": ("logits", [n(40, 3), n(3)]),
          "many": [np.full(1, i, "f4") for i in range(12)], "layers/bn": ("batch_normalization", [n(4) for _ in range(4)]),
          "layers/dropout/seed_generator": [np.zeros(2, "u4")]}
keras_file.write_weights("one.weights.h5", layers)
assert len(keras_file.write_shards("lists", layers, 500)) == 3
keras_file.write_shards("model", layers, 500, lists=False)
# a layer that begins in one file goes on in another by itself, which nothing lists
assert len(keras_file.write_shards("lost", {"layers/dense": ("logits", [n(40, 3), n(3)])}, 480, lists=False)) == 2
keras_file.write_weights("model_00009.weights.h5", {"layers/dense": [n(40, 3)]})'
  mkdir folder
  cp model.weights.json model_0000[012].weights.h5 folder
  for index in one.weights.h5 lists.weights.json model.weights.json folder; do
    ivon-convert -q --no-provenance $index -o $index.npz
  done
  keras '
whole = np.load("one.weights.h5.npz")
assert len(whole.files) > 20
for name in ("lists.weights.json", "model.weights.json", "folder"):
    parts = np.load(name + ".npz")
    assert set(parts.files) == set(whole.files)
    for tensor in whole.files:
        assert np.array_equal(parts[tensor], whole[tensor]) and parts[tensor].dtype == whole[tensor].dtype, tensor'

  refused() { # FILE MESSAGE
    run -65 ivon-info "$1"
    [ "$output" = "ivon-info: $1: $2" ]
  }
  refused lost.weights.json "the files that it lists hold 480 bytes of weights, expected 492, as 'total_size' says"
  sed 's/model_00002/model_00009/' model.weights.json > other.weights.json
  refused other.weights.json "'layers/dense/vars/0' is in 'model_00001.weights.h5' and in 'model_00009.weights.h5'"
  sed 's|/layers/bn/vars|/layers/gone/vars|' model.weights.json > other.weights.json
  refused other.weights.json "tensor '/layers/gone/vars': is not in 'model_00002.weights.h5'"
  sed 's/model_00002/missing/' model.weights.json > other.weights.json
  run -66 ivon-info other.weights.json
  [ "$output" = "ivon-info: missing.weights.h5: cannot open it: No such file or directory" ]
  sed 's|model_00002|../model_00002|' model.weights.json > other.weights.json
  refused other.weights.json "tensor '/layers/bn/vars': its shard is '../model_00002.weights.h5', expected the name of a file in the same directory"
  ivon-convert -q one.weights.h5 -o posterior.h5
  echo '{"weight_map": {"/mean/conv2d": "posterior.h5"}}' > other.weights.json
  refused other.weights.json "the HDF5 files that it lists hold no weights of Keras"
}

@test "files of Keras before version 3 have the names of their weights" {
  keras '
layers = {"dense": {"dense/kernel:0": n(3, 2), "dense/bias:0": n(2)}, "drop": {},
          "norm": {"norm/gamma:0": n(2), "norm/moving_mean:0": n(2)},
          "inner": {"first/kernel:0": n(2, 2), "second/cell/kernel:0": n(2, 2)}}
keras_file.write_legacy("whole.h5", layers)
keras_file.write_legacy("weights.h5", layers, False)'
  for file in whole.h5 weights.h5; do
    [ "$(names $file | LC_ALL=C sort | tr '\n' ' ')" = "buffers/norm/moving_mean mean/dense/bias mean/dense/kernel \
mean/first/kernel mean/norm/gamma mean/second/cell/kernel " ]
  done
}

@test "weights of Keras in bfloat16 are read, and names that would not differ are paths" {
  keras '
bits = (n(5, 3).view("u4") >> 16).astype("u2")
np.save("bits.npy", bits)
with h5py.File("half.weights.h5", "w") as f:
    group = f.create_group("layers/dense/vars")
    group.attrs["name"] = "dense"
    group.create_dataset("0", data=bits.view("V2")).attrs["dtype"] = "bfloat16"
    group.create_dataset("1", data=bits.view("V2"), chunks=(2, 2)).attrs["dtype"] = "bfloat16"
    f["layers/other/vars/0"] = bits.view("V2") # that nobody says the type of
keras_file.write_weights("twice.weights.h5", {"layers/a": ("x", [n(2)]), "layers/b": ("x", [n(3)])})
with h5py.File("none.h5", "w") as f:
    f["w/vars/x"] = n(2)'
  ivon-convert -q half.weights.h5 --exclude='layers/other/*' -o half.h5
  keras '
with h5py.File("half.h5") as f:
    for name in ("kernel", "bias"):
        found = f["mean/dense/" + name][()].astype("f4").view("u4") >> 16
        assert np.array_equal(found, np.load("bits.npy")), name'
  [ "$(names twice.weights.h5 | tr '\n' ' ')" = "mean/layers/a/vars/0 mean/layers/b/vars/0 " ]
  run ivon-info none.h5
  [ $status -eq 65 ]
  [[ $output == "ivon-info: none.h5: an HDF5 file, but not a posterior: "* ]]
}

# A graph as exporters of JAX and Keras make them: convolutions with outputs first, names of their own.
@test "kernels of Keras are found in a graph that has them under other names and turned around" {
  keras '
import onnx
from onnx import helper as h, numpy_helper as nh
kernel, bias, dense, offset = n(2, 3, 2, 4), n(4), n(4 * 4 * 3, 3), n(3)
weights = {"conv/fused": kernel.transpose(3, 2, 0, 1), "conv/bias": bias, "MatMul/read": dense, "Add/read": offset}
def graph(path, weights):
    g = h.make_graph(
        [h.make_node("Conv", ["x", "conv/fused", "conv/bias"], ["c"]), h.make_node("Relu", ["c"], ["a"]),
         h.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]), h.make_node("Flatten", ["t"], ["f"]),
         h.make_node("MatMul", ["f", "MatMul/read"], ["m"]), h.make_node("Add", ["m", "Add/read"], ["y"])], "g",
        [h.make_tensor_value_info("x", 1, ["n", 2, 5, 5])], [h.make_tensor_value_info("y", 1, ["n", 3])],
        [nh.from_array(np.ascontiguousarray(a), name) for name, a in weights.items()])
    onnx.save(h.make_model(g, opset_imports=[h.make_opsetid("", 13)]), path)
graph("g.onnx", weights)
graph("trained.onnx", {name: a + 1 for name, a in weights.items()})
keras_file.write_archive("m.keras", {"layers/conv2d": ("conv2d", [kernel, bias]), "layers/dense": ("dense", [dense, offset])})
np.savez("names.npz", **weights)
with h5py.File("d.h5", "w") as f:
    f["x"], f["y"] = n(64, 2, 5, 5), r.integers(0, 3, 64)'
  ivon-predict m.keras --model=g.onnx --data=d.h5 --mean -o turned.csv 2> err
  grep -q "^ivon-predict: m.keras: 4 weights of the graph are means by another name or transposed: 'conv/fused' is 'conv2d/kernel'$" err
  ivon-predict -q names.npz --model=g.onnx --data=d.h5 --mean -o named.csv
  cmp turned.csv named.csv
  for name in m.keras names.npz; do
    ivon-fit -q $name --model=g.onnx --data=d.h5 --weight-decay=1 --structure=diagonal -o ${name%.*}.h5
  done
  # Sums over the same 64 examples, in another order of elements: a few units in the last place.
  keras '
with h5py.File("m.h5") as turned, h5py.File("names.h5") as named:
    found, want = turned["hessian/conv2d/kernel"][()], named["hessian/conv/fused"][()]
    assert np.allclose(found.transpose(3, 2, 0, 1), want, rtol=1e-5, atol=1e-6 * want.max())
    assert want.std() > want.mean() / 10 > 0 # they do not all look the same'
  run ivon-predict m.keras --model=trained.onnx --data=d.h5 --mean
  [ $status -eq 65 ]
  [ "$output" = "ivon-predict: trained.onnx: the graph has none of the 4 means of m.keras, such as 'conv2d/kernel', but 'conv/fused'; ivon-convert --rename changes names" ]
}
