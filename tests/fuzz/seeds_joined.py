"""Writes weights and their Hessians, each its size and its bytes, to mutate into a directory."""
import os
import struct
import sys

try:
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import safetensors_file

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)
shapes = {"a.weight": (6, 5), "b.bias": (7,), "scalar": (), "empty": (0, 4)}
weights = {name: rng.random(shape).astype("f4") for name, shape in shapes.items()}
named = {"hessian/" + name: array for name, array in weights.items()}


def joined(name, first, second):
    parts = []
    for tensors, metadata in (first, second):
        safetensors_file.write("part", tensors, metadata)
        parts.append(open("part", "rb").read())
    os.remove("part")
    open(name, "wb").write(b"".join(struct.pack("<I", len(part)) + part for part in parts))


header = {"ivon-posterior": "1", "ess": "1e3", "weight_decay": "0.01"}
joined("plain", (weights, {}), (weights, {}))
joined("named", (weights, {}), (named, header))
joined("posterior", (weights | named, header), (weights, {}))
joined("buffers", (weights | {"buffers/m": np.ones(3, "f4")}, header), (named, {}))
joined("missing", (weights, {}), ({"a.weight": weights["a.weight"]}, {}))
joined("other", (weights, {}), (weights | {"c": np.ones(2, "f4")}, {}))
joined("shapes", (weights, {}), (weights | {"b.bias": np.ones((7, 1), "f4")}, {}))
joined("types", (weights, {}), ({name: array.astype("f8") for name, array in weights.items()}, {}))
