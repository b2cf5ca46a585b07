"""Writes weights of Keras to mutate into a directory."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
try:
    import h5py
    import keras_file
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

os.chdir(sys.argv[1])
layers = {"": [], "layers/dense": ("first", [np.ones((2, 3), "f4"), np.zeros(3, "f4")]),
          "layers/batch_normalization": [np.ones(2, "f4") for _ in range(4)],
          "layers/lstm/cell": ("cell", [np.ones((2, 4), "f2")] * 3), "optimizer": [np.int64(3)]}
keras_file.write_weights("a.weights.h5", layers)
keras_file.write_archive("a.keras", {"layers/dense": ("first", [np.ones((2, 3), "f4")])})
keras_file.write_weights("same.weights.h5", {"a": ("x", [np.ones(2)]), "b": ("x", [np.ones(2)])})
keras_file.write_legacy("whole.h5", {"dense": {"dense/kernel:0": np.ones((2, 3), "f4")}})
keras_file.write_legacy("weights.h5", {"dense": {"dense/kernel:0": np.ones((2, 3), "f4")}}, False)
with h5py.File("half.weights.h5", "w") as f:
    f["layers/dense/vars/0"] = np.zeros(4, "V2")
    f["layers/dense/vars/0"].attrs["dtype"] = "bfloat16"
