"""Writes base.h5, first.h5 and second.h5 with GPT-2-like tensors; with --torch also as .pt files.

usage: make_posteriors.py DIRECTORY 100M|774M [--torch]
"""
import sys

import h5py
import numpy as np

directory, size = sys.argv[1:3]
rng = np.random.default_rng(0)
noise = rng.standard_normal(1 << 24).astype("f4")


def shapes():
    width, layers, vocabulary, context = {"100M": (768, 9, 46000, 1024),
                                          "774M": (1280, 36, 50257, 1024)}[size]
    yield "wte.weight", (vocabulary, width)
    yield "wpe.weight", (context, width)
    for i in range(layers):
        yield f"h.{i}.attn.c_attn.weight", (width, 3 * width)
        yield f"h.{i}.attn.c_proj.weight", (width, width)
        yield f"h.{i}.mlp.c_fc.weight", (width, 4 * width)
        yield f"h.{i}.mlp.c_proj.weight", (4 * width, width)
        for name, n in [("ln_1.weight", 1), ("ln_1.bias", 1), ("ln_2.weight", 1), ("ln_2.bias", 1),
                        ("attn.c_attn.bias", 3), ("attn.c_proj.bias", 1), ("mlp.c_fc.bias", 4),
                        ("mlp.c_proj.bias", 1)]:
            yield f"h.{i}.{name}", (n * width,)
    yield "ln_f.weight", (width,)
    yield "ln_f.bias", (width,)


def values(count, start):
    return np.resize(np.roll(noise, start), count) if count <= noise.size else \
        np.concatenate([np.roll(noise, start + i) for i in range(-(-count // noise.size))])[:count]


for k, name in enumerate(("base", "first", "second")):
    state, hessians = {}, {}
    with h5py.File(f"{directory}/{name}.h5", "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1e6, weight_decay=1e-4)
        for i, (tensor, shape) in enumerate(shapes()):
            count = int(np.prod(shape))
            mean = values(count, 7 * i).reshape(shape) * 0.02
            mean += np.float32(1e-3 * k) * values(count, 11 * i + k).reshape(shape)
            hessian = np.abs(values(count, 13 * i + k)).reshape(shape)
            f["mean/" + tensor], f["hessian/" + tensor] = mean, hessian
            if "--torch" in sys.argv:
                state[tensor], hessians[tensor] = mean, hessian
    if "--torch" in sys.argv:
        import torch
        torch.save({part: {n: torch.from_numpy(v) for n, v in tensors.items()}
                    for part, tensors in (("model", state), ("hessian", hessians))},
                   f"{directory}/{name}.pt")
print(f"{sum(int(np.prod(s)) for _, s in shapes()):,} parameters")
