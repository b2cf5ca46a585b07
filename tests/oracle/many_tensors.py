"""many_tensors.py COUNT: a.safetensors and b.safetensors, of so many tensors of 7 elements."""
import json
import struct
import sys

import numpy as np

count = int(sys.argv[1])
for seed, name in ((0, "a"), (1, "b")):
    header = {f"layers.{i // 10}.block.{i % 10}.weight":
              {"dtype": "F32", "shape": [7], "data_offsets": [28 * i, 28 * (i + 1)]}
              for i in range(count)}
    text = json.dumps(header).encode()
    values = np.random.default_rng(seed).standard_normal(count * 7).astype("f4")
    with open(name + ".safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + values.tobytes())
