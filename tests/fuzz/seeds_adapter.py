"""Writes bases, adapters and their configurations, each its size and its bytes, to mutate into a directory."""
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
P = "base_model.model."


def some(**shapes):
    return {name: rng.random(shape).astype("f4") for name, shape in shapes.items()}


def named(shapes):
    return {P + name: rng.random(shape).astype("f4") for name, shape in shapes.items()}


def seed(name, factors, metadata=None, **members):
    parts = []
    for tensors, own in ((base, {}), (factors, metadata or {})):
        safetensors_file.write("part", tensors, own)
        parts.append(open("part", "rb").read())
    os.remove("part")
    parts.append(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4} | members).encode())
    open(name, "wb").write(b"".join(struct.pack("<I", len(part)) + part for part in parts))


base = some(**{"m.a.weight": (5, 4), "m.a.bias": (5,), "m.s.weight": (4, 4), "m.e.weight": (7, 3),
               "m.c.weight": (3, 4, 2, 2), "n": (4,)})
plain = named({"m.a.lora_A.weight": (2, 4), "m.a.lora_B.weight": (5, 2)})
square = named({"m.s.lora_A.default.weight": (2, 4), "m.s.lora_B.default.weight": (4, 2)})
table = named({"m.e.lora_embedding_A": (2, 7), "m.e.lora_embedding_B": (3, 2)})
seed("plain", plain)
seed("rslora", plain, use_rslora=True, bias="none", target_modules=["a"])
seed("patterns", plain, rank_pattern={"m.a": 2}, alpha_pattern={r"^m\.a$": 0.5})
seed("square", square, fan_in_fan_out=True)
seed("table", table)
seed("convolution", named({"m.c.lora_A.weight": (2, 4, 2, 2), "m.c.lora_B.weight": (3, 2, 1, 1)}))
seed("shift", plain | named({"m.a.lora_B.bias": (5,)}), lora_bias=True)
seed("whole", plain | named({"m.a.base_layer.bias": (5,), "n": (4,), "new.modules_to_save.default.weight": (3, 3)}))
seed("dora", plain | named({"m.a.lora_magnitude_vector": (5,)}), use_dora=True)
seed("dora-square", square | named({"m.s.lora_magnitude_vector.weight": (4,)}), use_dora=True, fan_in_fan_out=True)
seed("hessians", plain | {"hessian/" + name: array for name, array in plain.items()},
     {"ivon-posterior": "1", "ess": "10", "weight_decay": "0.1"})
seed("half", {name: array.astype("f2") for name, array in plain.items()})
seed("other", named({"m.a.lora_E": (2, 1)}) | plain, peft_type="ADALORA")
seed("first", {name.replace("m.a", "more.m.a"): array for name, array in plain.items()})
