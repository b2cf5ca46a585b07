"""Bayesian logistic regression by variational inference with a full or a diagonal covariance, and
how far a posterior file is from it.

usage: logistic_vi.py pair DATA.h5 A B OUT.h5           rows of classes A and B alone, as 0 and 1
       logistic_vi.py full|diagonal POSTERIOR.h5 DATA.h5     relative errors of mean and covariance

The Gaussian N(m, S) that maximises the evidence's lower bound, n losses in all, has
    S^-1 = sum_i E[p (1 - p)] x_i x_i' + lambda delta,   sum_i E[p - y_i] x_i + lambda delta m = 0,
(of a diagonal S the diagonal of the former), p at logits N(x_i' m, x_i' S x_i) (Opper & Archambeau, 2009): Newton's method, with expectations by
Gauss and Hermite. The model is one row of weights without a bias, lambda = n.
"""
import sys

import h5py
import numpy as np

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(20)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def expectations(x, mean, covariance):
    """E[p] and E[p (1 - p)] of each row."""
    spread = np.sqrt(np.einsum("ij,jk,ik->i", x, covariance, x))
    p = 1 / (1 + np.exp(-(x @ mean)[:, None] - spread[:, None] * NODES))
    return p @ WEIGHTS, (p * (1 - p)) @ WEIGHTS


def optimum(x, y, decay, diagonal):
    mean, precision = np.zeros(x.shape[1]), x.T @ x / 4 + len(x) * decay * np.eye(x.shape[1])
    covariance = np.linalg.inv(precision)
    for _ in range(200):
        p, curvature = expectations(x, mean, covariance)
        slope = x.T @ (p - y) + len(x) * decay * mean
        step = covariance @ slope
        wanted = (x.T * curvature) @ x + len(x) * decay * np.eye(x.shape[1])
        if diagonal:
            step, wanted = np.linalg.solve(wanted, slope), np.diag(np.diag(wanted))
        change = np.abs(wanted - precision).max() / np.abs(precision).max()
        if max(np.abs(step).max(), change) < 1e-9:
            return mean, covariance
        mean, precision = mean - 0.7 * step, 0.3 * precision + 0.7 * wanted
        covariance = np.linalg.inv(precision)
    raise SystemExit("no convergence")


def stored(path):
    """Mean and covariance of a posterior file, and its weight decay."""
    with h5py.File(path) as file:
        (name,) = file["mean"]
        attributes = file["hessian/" + name].attrs
        ess, decay = (attributes.get(key, file.attrs.get(key)) for key in ("ess", "weight_decay"))
        variance = 1 / (ess * (file["hessian/" + name][()].astype(float).ravel() + decay))
        basis = np.eye(len(variance))
        if "basis_input" in file:
            basis = file["basis_input/" + name][()].astype(float)
        mean = file["mean/" + name][()].astype(float).ravel()
    return mean, (basis * variance) @ basis.T, decay


def main():
    if sys.argv[1] == "pair":
        with h5py.File(sys.argv[2]) as data, h5py.File(sys.argv[5], "w") as out:
            x, y = data["train/x"][()], data["train/y"][()]
            a, b = int(sys.argv[3]), int(sys.argv[4])
            x, y = x[(y == a) | (y == b)], y[(y == a) | (y == b)]
            out["x"], out["y"] = x.reshape(len(x), -1).astype("f4"), (y == b).astype("i8")[:, None]
        return
    mean, covariance, decay = stored(sys.argv[2])
    with h5py.File(sys.argv[3]) as data:
        x, y = data["x"][()].astype(float), data["y"][()].ravel()
    true_mean, true_covariance = optimum(x, y, decay, sys.argv[1] == "diagonal")
    norm = np.linalg.norm
    print(f"{norm(mean - true_mean) / norm(true_mean):.4f} "
          f"{norm(covariance - true_covariance) / norm(true_covariance):.4f}")


if __name__ == "__main__":
    main()
