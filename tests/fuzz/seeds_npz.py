"""Writes npz checkpoints to mutate into a directory."""
import os
import sys
import zipfile

try:
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import structured_parts

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)


def some(dtype, *shape):
    return rng.integers(0, 2, shape).astype(dtype)


weights = {"a.weight": some("f4", 6, 5), "params/Dense_0/kernel": some("f4", 7),
           "scalar": some("f8"), "empty": some("f4", 0, 4), "half": some("f2", 9)}
posterior = weights | {"hessian/" + name: some("f4", *array.shape)
                       for name, array in weights.items()}
posterior |= {"ess": np.float64(1000), "weight_decay": np.float32(0.5), "step": np.uint64(7),
              "n_train": np.int16(4), "ess/scalar": np.float64(5), "ivon-posterior": np.int64(1),
              "creator": np.frombuffer(b"us", "u1"), "provenance": np.frombuffer(b"{}", "u1"),
              "buffers/mask": some("?", 3), "momentum/scalar": some("f8"),
              "model.onnx": some("u1", 20)}
np.savez("weights.npz", **weights)
for kind, text in structured_parts.texts().items():
    np.savez(f"structure-{kind}.npz", **structured_parts.parts(text),
             **{"ivon-posterior": np.int64(2), "ess": np.float64(9), "weight_decay": np.float64(1)})
np.savez("posterior.npz", **posterior)
np.savez_compressed("deflated.npz", **posterior)
np.savez_compressed("long.npz", a=rng.integers(0, 9, 60000).astype("f4"), b=np.zeros(40000, "f8"))
np.savez("swapped.npz", **{name: array.astype(array.dtype.newbyteorder(">"))
                           for name, array in weights.items()})
np.savez("numbers.npz", **{dtype: some(dtype, 2, 3) for dtype in
                           ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")})
np.savez("many.npz", **{f"w.{i}": some("f4", 2) for i in range(100)})
np.savez("none.npz")
with zipfile.ZipFile("others.npz", "w") as z:
    z.writestr("notes.txt", "not an array")
    z.write("none.npz", "w.bin")
with zipfile.ZipFile("wide.npz", "w") as z, z.open("w.npy", "w", force_zip64=True) as f:
    np.lib.format.write_array(f, some("f4", 20))
