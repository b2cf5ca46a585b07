"""Three tasks in turn, each with the posterior of those before as its prior: continual.py

Linear regression with known noise has a normal posterior, here found by numpy. ivon-train is given
that of each task, with all its correlations, as the prior of the next, and its mean must be

    m_k = (X P_{k-1} + A_k)^(-1) (X P_{k-1} m_{k-1} + b_k),   P_k = X P_{k-1} + A_k,

with A_k and b_k of the task's own data and X --prior-scale. With X = 1 that is the posterior of all
data together, as if there had been one task.

Precisions and the effective sample size are COLD times what the data say, which moves no mean: the
noise of the weights is then at most 1/sqrt(COLD), which is what the means are held to. The Hessian
stays at its start: it decides how fast the mean moves, not whereto.
"""
import json
import subprocess

import h5py
import numpy as np

COLD, NOISE, DECAY = 1e8, 0.5, 0.05
random = np.random.default_rng(3)
mixing = np.array([[1, 0.5, 0], [0.5, 1, -0.4], [0, 0.2, 1]])
truth = np.array([1.0, -2.0, 0.5, 0.3])
tasks = []
for count in (12, 30, 9):
    x = (random.standard_normal((count, 3)) @ mixing).astype("f4")
    y = x @ truth[:3] + truth[3] + NOISE * random.standard_normal(count)
    tasks.append((x, y.astype("f4")[:, None]))


def data_terms(x, y):
    """Precision, and precision times mean, of the weights and, last, the bias."""
    rows = np.hstack([x, np.ones((len(x), 1))]).astype(float)
    return COLD / NOISE**2 * rows.T @ rows, COLD / NOISE**2 * rows.T @ y[:, 0].astype(float)


def write_prior(path, trained, precision):
    """The checkpoint of a training, with its mean, and the whole precision in its eigenbasis."""
    values, basis = np.linalg.eigh(precision)
    with h5py.File(trained) as old, h5py.File(path, "w") as f:
        ess = old.attrs["ess"]
        f.attrs.update(format="ivon-posterior", format_version=2, ess=ess, weight_decay=DECAY)
        for name in ("mean/fc.weight", "mean/fc.bias", "model.onnx"):
            old.copy(name, f, name)
        f["hessian/fc.weight"] = (values[None] / ess - DECAY).astype("f4")
        f["basis_input/fc.weight"] = basis.astype("f4")
        text = json.dumps({"blocks": {"fc.weight": {"bias": "fc.bias"}}})
        f["structure.json"] = np.frombuffer(text.encode(), "u1")


def train(k, *options):
    with h5py.File("task.h5", "w") as f:
        f["x"], f["y"] = tasks[k]
    count = len(tasks[k][0])
    subprocess.run(["ivon-train", "-q", "-f", "--data=task.h5", "--likelihood=gaussian",
                    f"--noise-std={NOISE}", f"--ess={COLD * count:.17g}", f"--batch={count}",
                    f"--weight-decay={DECAY}", "--lr=0.5", "--no-rescale-lr", "--h0=6",
                    "--beta2=0.999999999", "--schedule=linear", "--steps=800", "--save-every=0",
                    "-o", "run", *options], check=True)
    with h5py.File("run/posterior-00000800.h5") as f:
        return np.append(f["mean/fc.weight"][()].ravel(), f["mean/fc.bias"][()]).astype(float)


def in_turn(scale):
    """The worst difference from the formula, and the last mean."""
    precision = COLD * len(tasks[0][0]) * DECAY * np.eye(4)
    moment = np.zeros(4)
    worst = 0
    for k, task in enumerate(tasks):
        own, own_moment = data_terms(*task)
        factor = scale if k else 1
        precision = factor * precision + own
        moment = factor * moment + own_moment
        options = ["--from=prior.h5", "--prior=posterior"] if k else ["--arch=linear:3,1"]
        if k and scale != 1:
            options.append(f"--prior-scale={scale}")
        mean = train(k, *options)
        worst = max(worst, np.abs(mean - np.linalg.solve(precision, moment)).max())
        write_prior("prior.h5", "run/posterior-00000800.h5", precision)
    return worst, mean


own, moment = map(sum, zip(*(data_terms(*task) for task in tasks)))
together = np.linalg.solve(own + COLD * len(tasks[0][0]) * DECAY * np.eye(4), moment)
means = {}
for scale in (1, 0.2, 5):
    worst, means[scale] = in_turn(scale)
    assert worst < 1 / COLD**0.5, (scale, worst)
assert np.abs(means[1] - together).max() < 1 / COLD**0.5
for scale in (0.2, 5):  # what the tolerance could not hide
    assert np.abs(means[scale] - together).max() > 100 / COLD**0.5
