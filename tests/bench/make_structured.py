"""Writes base.h5, first.h5 and second.h5: layers of GPT-2 large's shape with Kronecker factors.

usage: make_structured.py DIRECTORY LAYERS

Bases are products of reflections, which are orthonormal and quick to make: the base's, and for the models
the base's turned a little further, as finetuning does.
"""
import sys

import h5py
import numpy as np

directory, layers = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(0)
WIDTH = 1280


def shapes():
    for i in range(layers):
        yield f"h.{i}.attn.c_attn", WIDTH, 3 * WIDTH
        yield f"h.{i}.attn.c_proj", WIDTH, WIDTH
        yield f"h.{i}.mlp.c_fc", WIDTH, 4 * WIDTH
        yield f"h.{i}.mlp.c_proj", 4 * WIDTH, WIDTH


def reflect(basis, size):
    """A reflection of columns along a random direction, which is near the first axis where `size` is small."""
    v = random.standard_normal(len(basis)).astype("f4")
    v *= size / np.linalg.norm(v)
    v[0] += 1
    v /= np.linalg.norm(v)
    basis -= 2 * np.outer(basis @ v, v)
    return basis


def basis(n, turns, size, start=None):
    found = np.eye(n, dtype="f4") if start is None else start.copy()
    for _ in range(turns):
        found = reflect(found, size)
    return found


files = [h5py.File(f"{directory}/{name}.h5", "w", track_order=True) for name in ("base", "first", "second")]
for k, f in enumerate(files):
    f.attrs.update(format="ivon-posterior", format_version=2, ess=1e6, weight_decay=1e-4)
blocks = []
for name, inputs, outputs in shapes():
    n = inputs + 1
    own = basis(n, 4, 10.0), basis(outputs, 4, 10.0)
    spectra = [np.sort(random.gamma(0.3, 1, size)).astype("f4") for size in (n, outputs)]
    mean = random.standard_normal((outputs, n)).astype("f4") * np.float32(0.02)
    for k, f in enumerate(files):
        turned = [basis(len(b), 2, 0.1, b) if k else b for b in own]
        scaled = [s * random.gamma(4, 0.25, s.shape).astype("f4") for s in spectra]
        m = mean + np.float32(1e-3 * k) * random.standard_normal(mean.shape).astype("f4")
        f[f"mean/{name}.weight"], f[f"mean/{name}.bias"] = m[:, :-1].T, m[:, -1]
        f[f"hessian/{name}.weight"] = np.outer(scaled[1], scaled[0])
        for side, u, s in (("input", turned[0], scaled[0]), ("output", turned[1], scaled[1])):
            f[f"basis_{side}/{name}.weight"], f[f"spectrum_{side}/{name}.weight"] = u, s
    blocks.append(f'"{name}.weight": {{"bias": "{name}.bias", "transposed": true}}')
for f in files:
    f["structure.json"] = np.frombuffer(('{"blocks": {' + ", ".join(blocks) + "}}").encode(), "u1")
    f.close()
print(f"{sum((i + 1) * o for _, i, o in shapes()):,} parameters in {layers} layers")
