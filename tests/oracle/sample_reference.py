"""Draws samples by the formula in float64 numpy and compares with what ivon-sample wrote.

usage: sample_reference.py POSTERIOR SEED TEMPERATURE SAMPLE=FILE...

A sample stored as f32 is within 2^-24 |sample| + 2^-21 |sigma epsilon| (lib/ivon/sample.h); one
stored in a shorter type is rounded once more.
"""
import sys

import h5py
import numpy as np
from normals import normals

# Half a unit in the last place: relative, and of the smallest numbers.
HALF_UNIT = {"float64": (2.0**-24, 0), "float32": (2.0**-24, 2.0**-150),
             "float16": (2.0**-11 + 2.0**-24, 2.0**-25)}

path, seed, temperature, *samples = sys.argv[1:]
posterior = h5py.File(path)
worst = 0.0
for number, sample in (s.split("=") for s in samples):
    names = []
    drawn = h5py.File(sample)
    drawn["mean"].visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
    assert names and "hessian" not in drawn and "ess" not in drawn.attrs
    for name in names:
        mean, hessian = (np.float64(posterior[p + name][()]) for p in ("mean/", "hessian/"))
        sigma = np.sqrt(float(temperature) / (posterior.attrs["ess"] *
                                              (hessian + posterior.attrs["weight_decay"])))
        noise = sigma * normals(int(seed), int(number), name, mean.size).reshape(mean.shape)
        got = drawn["mean/" + name][()]
        relative, absolute = HALF_UNIT[str(got.dtype)]
        bound = relative * np.abs(mean + noise) + absolute + 2.0**-21 * np.abs(noise)
        worst = max(worst, np.max(np.abs(got - (mean + noise)) / bound))
print(f"largest error {worst:.2f} of its bound")
assert 0 < worst < 1
