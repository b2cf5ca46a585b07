"""Writes indices of safetensors and two shards, each its size and its bytes, to mutate into a directory."""
import json
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


def some(*names):
    return {name: rng.random((3, 2)).astype("f4") for name in names}


def shards(name, index, first, second, metadata=None):
    parts = [json.dumps(index).encode()]
    for tensors in (first, second):
        safetensors_file.write("part", tensors, metadata or {})
        parts.append(open("part", "rb").read())
    os.remove("part")
    open(name, "wb").write(b"".join(struct.pack("<I", len(part)) + part for part in parts))


def index_of(first, second, **metadata):
    places = {name: "a.safetensors" for name in first} | {name: "b.safetensors" for name in second}
    return {"metadata": metadata, "weight_map": places}


a, b = some("w", "x.bias"), some("y", "z")
posterior = some("mean/w", "hessian/w"), some("buffers/m", "momentum/w")
shards("plain", index_of(a, b, total_size=96), a, b)
shards("posterior", index_of(*posterior, ess="3", weight_decay="0.1", **{"ivon-posterior": "1"}), *posterior)
shards("own-metadata", index_of(a, b), a, b, {"format": "pt", "ess": "3"})
shards("one", index_of(a, {}), a, {})
shards("missing", index_of(a, some("y", "z", "more")), a, b)
shards("more", index_of(a, some("y")), a, b)
shards("twice", index_of(a, a), a, a)
shards("elsewhere", index_of(b, a), a, b)
shards("outside", {"weight_map": {"w": "../a.safetensors"}}, a, b)
shards("nothing", {"weight_map": {}}, {}, {})
