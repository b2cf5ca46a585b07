"""Merges posteriors by the formulas in float64 numpy and compares with what ivon-merge wrote.

usage: merge_reference.py METHOD BASE_SCALE MERGED BASE MODEL...

A stored number is the formula's rounded to binary32, 6e-8 relative; both sides evaluate it in
double. The Hessian is compared through the precision, which is what is preserved: h + weight_decay
cancels where h is near -weight_decay, so a rounding of h counts relative to |h| + weight_decay.
Tensors with elements whose precision is not positive are listed with their number.
"""
import sys

import h5py
import numpy as np

method, base_scale, merged_path, base_path, *model_paths = sys.argv[1:]
merged, base = h5py.File(merged_path), h5py.File(base_path)
models = [h5py.File(path) for path in model_paths]


def names(f):
    found = []
    f["mean"].visititems(lambda n, o: found.append(n) if isinstance(o, h5py.Dataset) else None)
    return found


def read(f, name):
    return (np.float64(f["mean/" + name][()]), np.float64(f["hessian/" + name][()]),
            f.attrs["ess"], f.attrs["weight_decay"])


worst_mean = worst_precision = 0.0
assert sorted(names(merged)) == sorted(names(base))
for name in names(base):
    m0, h0, ess0, decay0 = read(base, name)
    s0 = float(base_scale) * ess0 * (h0 + decay0)
    tasks = [read(f, name) for f in models]
    data = sum(ess * h for _, h, ess, _ in tasks)
    full = sum(ess * (h + decay) for _, h, ess, decay in tasks)
    if method == "gradient-matching":
        mean = m0 + sum((s0 + ess * h) / (s0 + data) * (m - m0) for m, h, ess, _ in tasks)
        precision = s0 + data
    elif method == "task-arithmetic":
        mean, precision = m0 + sum(m - m0 for m, *_ in tasks), s0 + data
    elif method == "hessian":
        mean = sum(ess * (h + decay) * m for m, h, ess, decay in tasks) / full
        precision = full
    else:
        mean, precision = sum(m for m, *_ in tasks) / len(tasks), full
    kept = precision <= 0  # with --on-nonpositive=base
    if kept.any():
        print(f"nonpositive {kept.sum()} of {kept.size} in '{name}'")
    mean = np.where(kept, m0, mean)
    precision = np.where(kept, ess0 * (h0 + decay0), precision)
    got_mean, got_h, ess, decay = read(merged, name)
    worst_mean = max(worst_mean, np.max(np.abs(got_mean - mean) / np.maximum(np.abs(mean), 1e-30)))
    size = ess * (np.abs(got_h) + decay)
    worst_precision = max(worst_precision, np.max(np.abs(ess * (got_h + decay) - precision) / size))
    assert np.all(got_h + decay > 0), name
print(f"{method} base-scale {base_scale}: mean {worst_mean:.1e}, precision {worst_precision:.1e} relative")
assert worst_mean < 1e-6 and worst_precision < 1e-6
