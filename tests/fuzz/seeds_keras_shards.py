"""Writes indices of Keras' weights and two shards, each its size and its bytes, to mutate into a directory."""
import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
try:
    import keras_file
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

os.chdir(sys.argv[1])
first = {"layers/dense": ("first", [np.ones((2, 3), "f4")])}
second = {"layers/dense": [np.ones(3, "f4")], "layers/lstm/cell": ("cell", [np.ones((2, 4), "f2")] * 3)}
A, B = "a.weights.h5", "b.weights.h5"


def shards(name, index, *files):
    parts = [json.dumps(index).encode()]
    for layers in files:
        keras_file.write_weights("part", layers)
        parts.append(open("part", "rb").read())
    os.remove("part")
    open(name, "wb").write(b"".join(struct.pack("<I", len(part)) + part for part in parts))


def index_of(size=84, **layers):
    return {"metadata": {"total_size": size},
            "weight_map": {f"/layers/{name.replace('_', '/')}/vars": files for name, files in layers.items()}}


shards("lists", index_of(dense=[A, B], lstm_cell=[B]), first, second)
shards("first-alone", index_of(dense=A, lstm_cell=B), first, second)
shards("one", index_of(24, dense=A), first, {})
shards("unlisted", index_of(dense=A), first, second)
shards("twice", index_of(dense=[A, B]), first, first)
shards("again", index_of(dense=[A, A]), first, {})
shards("elsewhere", index_of(dense=B, lstm_cell=A), first, second)
shards("outside", index_of(dense="../a.weights.h5"), first, second)
shards("nothing", {"weight_map": {}}, {}, {})
