"""Wrong labels planted in the digits, and how well scores of examples find them.

usage: label_noise.py make DIGITS.h5 DIRECTORY
       label_noise.py compare DIRECTORY SCORES.csv
       label_noise.py flip SOURCE.h5 DATA.h5
       label_noise.py suspects NAME DATA.h5 VECTORS.h5 SUSPECTS.csv

`make` gives 5 % of the training examples another label, trains a network on them by IVON's update
(the authors' rate, h0, weight decay and batch for images, ess = N; beta2 so that the Hessian is
learnt within the 1,120 steps), and writes posterior, graph, and data. `compare` prints of each
score the probability that it is greater for a wrong label than for a right one (AUROC), and the
share of wrong labels among as many greatest scores as there are wrong labels.
"""
import csv
import sys

import h5py
import numpy as np

from ivon_training import Ivon, Network

EPOCHS, BATCH = 40, 50


def make(digits, directory):
    random = np.random.default_rng(0)
    with h5py.File(digits) as f:
        x, y = f["train/x"][:], f["train/y"][:].astype(int)
    wrong = random.choice(len(x), len(x) // 20, replace=False)
    y[wrong] = (y[wrong] + random.integers(1, 10, len(wrong))) % 10
    with h5py.File(f"{directory}/data.h5", "w") as f:
        f["x"], f["y"], f["wrong"] = x, y, wrong

    network = Network([64, 64, 32, 10])
    network.write_graph(f"{directory}/model.onnx")
    training = Ivon(network, network.start(random), lr=0.2, hess_init=0.5, ess=len(x),
                    weight_decay=2e-4, beta2=0.9995)
    for _ in training.train(x, y, BATCH, EPOCHS):
        pass
    training.write(f"{directory}/posterior.h5", len(x))


def auroc(score, wrong):
    ranks = np.argsort(np.argsort(score, kind="stable"))[wrong]
    rest = len(score) - len(wrong)
    return (ranks.sum() - len(wrong) * (len(wrong) - 1) / 2) / (len(wrong) * rest)


def compare(directory, scores):
    with h5py.File(f"{directory}/data.h5") as f:
        wrong = f["wrong"][:]
    with open(scores, newline="") as file:
        rows = list(csv.DictReader(file))
    found = {}
    for name in "loss", "loo_loss", "self_influence", "mpe", "deviation":
        score = np.array([float(row[name]) for row in rows])
        found[name] = auroc(score, wrong)
        share = np.isin(np.argsort(-score)[:len(wrong)], wrong).mean()
        print(f"{name:16} AUROC {found[name]:.3f}   {share:.2f} of the {len(wrong)} greatest")
    assert found["loo_loss"] >= 0.95
    assert found["self_influence"] >= 0.95


def flip(source, target):
    """Gives 5 % of a data set's training examples another label."""
    random = np.random.default_rng(0)
    with h5py.File(source) as f, h5py.File(target, "w") as g:
        y = f["train/y"][:].astype(int)
        classes = y.max() + 1
        wrong = random.choice(len(y), len(y) // 20, replace=False)
        y[wrong] = (y[wrong] + random.integers(1, classes, len(wrong))) % classes
        g["x"], g["y"], g["wrong"] = f["train/x"][:], y, wrong


def learn(p, y):
    """Confident learning's estimate of the number of wrong labels (Northcutt et al. 2021)."""
    classes = p.shape[1]
    threshold = np.array([p[y == k, k].mean() for k in range(classes)])
    above = np.where(p >= threshold, p, -1)
    sure = above.max(1) >= 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (y[sure], above[sure].argmax(1)), 1)
    joint *= (np.bincount(y, minlength=classes) / np.maximum(joint.sum(1), 1))[:, None]
    return joint.sum() - np.trace(joint)


def suspects(name, data, vectors, rows):
    """A row of the table: how right the suspects are that were found, which are checked."""
    with h5py.File(data) as f, h5py.File(vectors) as g:
        wrong, y = f["wrong"][:], f["y"][:]
        logits = np.float64(g["logits"][:] + g["deviation_vector"][:])
        loss = g["loo_loss"][:]
    with open(rows, newline="") as file:
        found = [int(row["index"]) for row in csv.DictReader(file)]
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    # Sums of probabilities that are right to 1e-6 could move an example across a threshold.
    assert abs(len(found) - learn(p, y)) <= 2, (len(found), learn(p, y))
    assert (np.diff(loss[found]) <= 1e-5).all() and loss[found].min() >= np.sort(loss)[-len(found)] - 1e-5
    right = np.isin(found, wrong).sum()
    print(f"| {name} | {auroc(loss, wrong):.3f} | {(p.argmax(1) == y).mean():.2f} | {len(wrong)} | {len(found)} "
          f"| {right / len(found):.2f} | {right / len(wrong):.2f} |")


{"make": make, "compare": compare, "flip": flip, "suspects": suspects}[sys.argv[1]](*sys.argv[2:])
