"""Writes Flax's checkpoints to mutate into a directory."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
try:
    import flax_file
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

os.chdir(sys.argv[1])
weights = {"Dense_0": {"kernel": np.arange(6, dtype="f4").reshape(2, 3), "bias": np.ones(3, "f2")}}
state = {"step": 3, "params": weights, "batch_stats": {"mean": np.zeros(2)},
         "opt_state": {"0": {"count": np.int32(1), "mu": weights}}}
flax_file.write("weights.msgpack", weights)
flax_file.write("state.msgpack", state)
flax_file.write("nested.msgpack", {"model": state, "config": {"rate": .1, "name": "x"}})
flax_file.write("chunks.msgpack", {"big": flax_file.chunked(np.arange(20.).reshape(4, 5), 6)})
flax_file.write("leaves.msgpack", {
    "complex": 1 + 2j, "nothing": None, "text": "x", "truth": True, "bytes": b"x", "number": .5,
    "scalar": np.float32(2), "bf16": flax_file.bfloat16([1, 2]), "list": [np.ones(2), -1],
    "empty": np.zeros((0, 4), "i8")})
flax_file.write("long.msgpack", {f"layer_{i}": np.full(2, i, "u1") for i in range(40)})
