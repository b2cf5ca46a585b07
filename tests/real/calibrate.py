"""See calibrate.sh. Of a split, one half of the test rows gives the threshold, and the other is predicted."""
import json
import os
import pathlib
import tempfile

import h5py
import numpy as np

from experiment import DATA, command, side_by_side

SPLITS, LEVEL = 20, 0.9
REFERENCE = DATA.parent / "reference"
# name: network, options of the prediction, scores
CLASSES = {"digits": ("digits-mlp", ["--samples=16"], ("thr", "aps", "raps")),
           "text-mr": ("transformer-base", ["--mean"], ("thr", "aps")),
           "cifar10": ("cifar-lenet", ["--samples=4"], ("aps", "raps"))}
REGRESSIONS = {"uci-concrete": ("absolute", "normalised"), "uci-kin8nm": ("absolute",),
               "uci-power-plant": ("normalised",), "uci-wine-quality-red": ("absolute",),
               "uci-yacht": ("absolute",)}


def halves(name, predictions):
    """For each split the files of the held-out predictions, with their targets, and of the new rows."""
    with h5py.File(DATA / f"{name}.h5") as file:
        x, y = file["test/x"][()], file["test/y"][()]
    with h5py.File(predictions) as file:
        arrays = {key: file[key][()] for key in file}
    found = []
    for i in range(SPLITS):
        order = np.random.default_rng(i).permutation(len(y))
        held, new = f"{name}-held-{i}.h5", f"{name}-new-{i}.h5"
        for path, rows in ((held, order[:len(y) // 2]), (new, order[len(y) // 2:])):
            with h5py.File(path, "w") as file:
                file["x"], file["y"] = x[rows], y[rows]
                for key, values in arrays.items():
                    file[key] = values[rows]
        found.append((i, held, new))
    return found


def coverage(i, held, new, score, likelihood, posterior):
    """Of new rows by the threshold of the others; both are files of predictions where there is no posterior."""
    path = f"{score}-{held}.json"
    command("ivon-calibrate", held, f"--data={held}", *likelihood, "--method=none", f"--conformal={score}",
            f"--coverage={LEVEL}", f"--seed={i}", "-fo", path,
            *["--raps-free=1", "--raps-penalty=0.1"] * (score == "raps"))
    what = posterior or ["--average", new]
    result = command("ivon-predict", *what, f"--data={new}", *likelihood, f"--calibration={path}", "--metrics",
                     "--json")
    with open(path) as file:
        n = json.load(file)["conformal"]["rows"]
    return json.loads(result)["metrics"]["coverage"]["value"], n


def check(name, score, splits, likelihood=(), posterior=None):
    found = side_by_side(lambda *split: coverage(*split, score, likelihood, posterior), splits)
    values, n = [value for value, _ in found], found[0][1]
    mean, error = np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values))
    low, high = LEVEL - 2 * error, LEVEL + 1 / (n + 1) + 2 * error
    print(f"{name:22} {score:11} {mean:.4f} +- {error:.4f}, n = {n}, from {low:.4f} to {high:.4f}", flush=True)
    assert low <= mean <= high, (name, score)


def root(p, y):
    """Where the derivative of the NLL by 1/T has its root, by bisection."""
    l, low, high = np.log(np.maximum(np.float64(p), 2.0**-126)), 1 / 64, 64.0
    for _ in range(100):
        beta = (low + high) / 2
        e = np.exp(beta * (l - l.max(1, keepdims=True)))
        slope = ((e / e.sum(1, keepdims=True) * l).sum(1) - l[np.arange(len(y)), y]).sum()
        low, high = (low, beta) if slope > 0 else (beta, high)
    return 1 / beta


def check_temperature(name, predictions):
    command("ivon-calibrate", predictions, f"--data={DATA / name}.h5:/test", "-fo", "t.json")
    with open("t.json") as file:
        found = json.load(file)["temperature"]
    with h5py.File(predictions) as p, h5py.File(DATA / f"{name}.h5") as data:
        expected = root(p["probabilities"][()], data["test/y"][()])
    print(f"{name:22} temperature {found:.9f}")
    # Newton's steps end below 2^-46 of 1/T; sums of 2,000 rows are within 2,000 * 2^-53.
    assert abs(found - expected) < 1e-9 * expected, (found, expected)


def classes():
    for name, (network, options, scores) in CLASSES.items():
        predictions = name + ".h5"
        command("ivon-predict", REFERENCE / network / "posterior.h5", f"--model={REFERENCE / network}/model.onnx",
                f"--data={DATA / name}.h5:/test", *options, "-o", predictions)
        check_temperature(name, predictions)
        splits = halves(name, predictions)
        for score in scores:
            check(name, score, splits)


def train(name):
    """A small network of IVON for a regression."""
    with h5py.File(DATA / f"{name}.h5") as file:
        features, rows = file["train/x"].shape[1], file["train/x"].shape[0]
    command("ivon-train", f"--arch=mlp:{features},20,1", f"--data={DATA / name}.h5:/train", "--likelihood=gaussian",
            "--noise-std=0.5", "--lr=0.05", "--steps=400", "--batch=50", f"--ess={rows}", "--h0=1", "--save-every=0",
            "-o", "run-" + name)
    return sorted(pathlib.Path("run-" + name).glob("*.h5"))[-1]


def regressions():
    likelihood = ("--likelihood=gaussian", "--noise-std=0.5")
    for name, scores in REGRESSIONS.items():
        posterior = [train(name), "--samples=8"]
        command("ivon-predict", *posterior, f"--data={DATA / name}.h5:/test", *likelihood, "-o", name + ".h5")
        splits = halves(name, name + ".h5")
        for score in scores:
            check(name, score, splits, likelihood, posterior)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        classes()
        regressions()
