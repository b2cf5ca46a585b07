"""A network that overfits 200 digits, and what its loss without each example knows of that.

usage: overfit.py make DIGITS.h5 DIRECTORY
       overfit.py compare DIRECTORY

A fifth of the labels is wrong, in the test data as well: the training first learns the digits, then
the wrong labels by heart, so the test loss turns up while the train loss goes on falling. `make`
trains by IVON's update and writes posterior-STEP.h5 along the way, with the graph and the training
data. `compare` reads loo-STEP.csv, ivon-sensitivity's scores of each, and fails where the mean of
loo_loss does not tell of the overfitting.

ess is 10 N: at ess = N the noise of the weights keeps the network from overfitting. The training
ends before the network knows every label by heart: then the residuals vanish, and with them what
the estimate takes a removal to change.
"""
import csv
import glob
import re
import sys

import h5py
import numpy as np

from ivon_training import Ivon, Network

EXAMPLES, EPOCHS, BATCH, CHECKPOINTS = 200, 200, 20, 12


def relabelled(y, random):
    wrong = random.random(len(y)) < 0.2
    return np.where(wrong, (y + random.integers(1, 10, len(y))) % 10, y)


def make(digits, directory):
    random = np.random.default_rng(0)
    with h5py.File(digits) as f:
        x, y = f["train/x"][:EXAMPLES], relabelled(f["train/y"][:EXAMPLES].astype(int), random)
        test_x, test_y = f["test/x"][:], relabelled(f["test/y"][:].astype(int), random)
    with h5py.File(f"{directory}/data.h5", "w") as f:
        f["x"], f["y"] = x, y

    network, trace = Network([64, 32, 32, 10]), []
    network.write_graph(f"{directory}/model.onnx")
    training = Ivon(network, network.start(random), lr=0.03, hess_init=0.2, ess=10 * EXAMPLES,
                    weight_decay=3e-3, beta2=0.9995)
    kept = np.round(np.geomspace(4, EPOCHS, CHECKPOINTS)).astype(int)
    for epoch in training.train(x, y, BATCH, EPOCHS):
        if epoch in kept:
            training.write(f"{directory}/posterior-{training.steps:05d}.h5", EXAMPLES)
            trace.append((training.steps, training.loss(x, y), training.loss(test_x, test_y)))
    np.save(f"{directory}/trace.npy", np.array(trace))


def mean_loss(path, column):
    with open(path, newline="") as file:
        return np.mean([float(row[column]) for row in csv.DictReader(file)])


def compare(directory):
    steps, train, test = np.load(f"{directory}/trace.npy").T
    paths = sorted(glob.glob(f"{directory}/loo-*.csv"))
    assert [int(re.search(r"loo-(\d+)", path)[1]) for path in paths] == list(steps)
    loo = np.array([mean_loss(path, "loo_loss") for path in paths])
    print("  step   train     loo    test")
    for row in zip(steps, train, loo, test):
        print("%6d %7.3f %7.3f %7.3f" % row)
    ours = np.array([mean_loss(path, "loss") for path in paths])
    # 64 terms and two layers more of binary32, far below what is compared.
    assert np.abs(ours - train).max() < 1e-4
    turn, loo_turn, last = test.argmin(), loo.argmin(), len(steps) - 1
    # That it overfits is what the rest stands on.
    assert 0 < turn < last and test[-1] > 1.05 * test[turn] and train.argmin() == last
    assert loo_turn < last and abs(loo_turn - turn) <= 2  # checkpoints, of 12
    assert abs(loo[-1] - test[-1]) < abs(train[-1] - test[-1])
    print(f"the test loss turns up after step {steps[turn]:.0f}, LOO after {steps[loo_turn]:.0f}")


{"make": make, "compare": compare}[sys.argv[1]](*sys.argv[2:])
