"""Bayesian linear regressions on parts of one data set, where the exact joint posterior is known.

usage: linear_regression.py make DIRECTORY orthogonal|correlated
       linear_regression.py compare DIRECTORY MERGED...

With noise s and prior N(0, 1/S0), a part's posterior has precision S0 + X'X/s^2 and mean
(S0 + X'X/s^2)^-1 X'y/s^2. `make` writes the prior as base.h5 and for each part the posterior that a
diagonal Gaussian can hold: the exact mean and the diagonal. Where the columns of X are orthogonal
within each part that is the exact posterior, and so is the gradient-matching merge; where they are
correlated it is an approximation. `compare` prints the relative distance of a merged mean and
precision to those of all data together.
"""
import os
import sys

import h5py
import numpy as np

FEATURES, ROWS, PARTS, PRIOR, NOISE = 64, 400, 3, 2.0, 0.5


def write(path, mean, hessian, ess, weight_decay):
    with h5py.File(path, "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=float(ess),
                       weight_decay=float(weight_decay), n_train=int(ess))
        f["mean/weight"] = mean.astype("f4")
        f["hessian/weight"] = hessian.astype("f4")


def make(directory, design):
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(FEATURES)
    mixing = np.eye(FEATURES) + 0.15 * rng.standard_normal((FEATURES, FEATURES))
    total, moment = PRIOR * np.eye(FEATURES), np.zeros(FEATURES)
    os.makedirs(directory, exist_ok=True)
    write(f"{directory}/base.h5", np.zeros(FEATURES), np.zeros(FEATURES), ROWS, PRIOR / ROWS)
    for part in range(PARTS):
        x = rng.standard_normal((ROWS, FEATURES)) * rng.uniform(0.05, 1, FEATURES)
        if design == "orthogonal":
            q, r = np.linalg.qr(x)
            x = q * np.abs(np.diag(r))
        else:
            x = x @ mixing
        y = x @ truth + NOISE * rng.standard_normal(ROWS)
        data, xy = x.T @ x / NOISE**2, x.T @ y / NOISE**2
        total, moment = total + data, moment + xy
        write(f"{directory}/part-{part + 1}.h5",
              np.linalg.solve(PRIOR * np.eye(FEATURES) + data, xy), np.diag(data) / ROWS, ROWS,
              PRIOR / ROWS)
    np.savez(f"{directory}/joint.npz", mean=np.linalg.solve(total, moment),
             precision=np.diag(total))


def compare(directory, *paths):
    joint = np.load(f"{directory}/joint.npz")
    for path in paths:
        with h5py.File(path) as f:
            mean = np.float64(f["mean/weight"][()])
            precision = f.attrs["ess"] * (np.float64(f["hessian/weight"][()]) +
                                          f.attrs["weight_decay"])
        method = os.path.basename(path).removesuffix(".h5")
        print(f"  {method:18} mean {distance(mean, joint['mean']):8.1e}   "
              f"precision {distance(precision, joint['precision']):8.1e}")


def distance(got, exact):
    return np.linalg.norm(got - exact) / np.linalg.norm(exact)


{"make": make, "compare": compare}[sys.argv[1]](*sys.argv[2:])
