"""Writes safetensors files to mutate into a directory, and indices, whose shards nobody finds."""
import json
import os
import sys

try:
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import safetensors_file
import structured_parts

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)


def some(dtype, *shape):
    return rng.integers(0, 2, shape).astype(dtype)


mixed = {f"layer.{k}.{dtype[-2:]}": some(dtype, 3, 2) for k, dtype in
         enumerate(("<i8", "<u8", "<f8", "<f4", "<i4", "<f2", "<i2", "u1", "?"))}
safetensors_file.write("mixed.safetensors", mixed, {"format": "pt"})
weights = {"a.weight": some("f4", 6, 5), "nested/b.bias": some("f4", 7), "scalar": some("f4"),
           "empty": some("f4", 0, 4), "half": some("<u2", 9)}
safetensors_file.write("weights.safetensors", weights, bf16=("half",))
posterior = weights | {"hessian/" + name: some("f4", *array.shape)
                       for name, array in weights.items()}
posterior |= {"buffers/mask": some("?", 3), "momentum/scalar": some("f4"), "mean/m": some("f8", 2),
              "model.onnx": some("u1", 20)}
safetensors_file.write("posterior.safetensors", posterior,
                       {"ivon-posterior": "1", "ess": "1e3", "weight_decay": "0.01", "step": "7",
                        "ess/scalar": "5", "creator": "us", "provenance": "{\"command\": \"x\"}"},
                       bf16=("half",))
safetensors_file.write("none.safetensors", {})
for kind, text in structured_parts.texts().items():
    safetensors_file.write(f"structure-{kind}.safetensors", structured_parts.parts(text),
                           {"ivon-posterior": "2", "ess": "9", "weight_decay": "1"})
safetensors_file.write("many.safetensors", {f"w.{i}": some("f4", 2) for i in range(300)})
safetensors_file.write("odd.safetensors", {"x": some("u1", 3), "y": some("f4", 5)})
with open("model.safetensors.index.json", "w") as f:
    json.dump({"metadata": {"total_size": 12.5, "ess": "3", "other": [1, {"a": None}]},
               "weight_map": {f"w.{i}": f"model-{i % 3}.safetensors" for i in range(30)}}, f)
with open("none.safetensors.index.json", "w") as f:
    json.dump({"metadata": {"ivon-posterior": 1, "ess": 2, "step": 9}, "weight_map": {}}, f)
