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
