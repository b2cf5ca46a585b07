"""The leave-one-out loss along trainings by EVON and IVON beside the test loss: loo.py quick | NAME... | all.

What ivon-train --loo logs of the training data alone, and what --test logs, at ten steps of each training. The small
sets are divided into five parts, each of which tests a training on the others, so that the test losses are of all
rows: those of one split of digits have a standard error of a fifth of them. Of the large ones it is the data's split.
Printed are means over the parts: the losses at the end; how far the leave-one-out loss is from the test loss there;
and how much of the least test loss is lost by taking the step of the least leave-one-out loss in its place.
"""
import csv
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import h5py
import numpy as np

from experiment import DATA, command, options, side_by_side

PARTS = 5
POINTS = 10
# beta2 is 1 - forgets / steps: of the start of the Hessian e^-forgets is left at the end.
DIGITS = {"batch": 50, "epochs": 100, "lr": 0.1, "h0": 0.1, "forgets": 10}


def regression(inputs, noise):
    """As tests/real/regression.py, whose leave-one-out losses say the noise, too."""
    return {"arch": f"mlp:{inputs},50,1", "likelihood": "gaussian", "noise-std": noise, "batch": 32, "steps": 6000,
            "lr": 0.2 * noise**2, "h0": 0.2 / noise**2, "prior": 1, "forgets": 10}


TASKS = {  # title: data, parts, settings
    "softmax regression, digits": ("digits", PARTS, DIGITS | {"arch": "linear:64,10", "weight-decay": 1e-3}),
    "MLP 64-16-10, digits": ("digits", PARTS, DIGITS | {
        "arch": "mlp:64,16,10,tanh", "weight-decay": 3e-3, "epochs": 200}),
    "MLP 64-64-32-10, digits": ("digits", PARTS, DIGITS | {
        "arch": "mlp:64,64,32,10,tanh", "weight-decay": 3e-3, "epochs": 200}),
    "MLP, kin8nm": ("uci-kin8nm", PARTS, regression(8, 0.27)),
    "MLP, power-plant": ("uci-power-plant", PARTS, regression(4, 0.23)),
    "MLP, concrete": ("uci-concrete", PARTS, regression(8, 0.3)),
    "MLP, wine-quality-red": ("uci-wine-quality-red", PARTS, regression(11, 0.75)),
    "LeNet, CIFAR-10": ("cifar10", 0, {
        "arch": "lenet", "batch": 50, "epochs": 10, "lr": 0.1, "h0": 0.5, "weight-decay": 2e-4, "forgets": 2}),
    "transformer, reviews": ("text-mr", 0, {
        "arch": "transformer:14635,48,64,2,4,2", "batch": 50, "epochs": 4, "lr": 0.1, "h0": 1, "weight-decay": 1e-4,
        "forgets": 0.7, "loo-rows": 500, "points": 4}),
}


def parts(name, count, work):
    """The data of each training: PATH with /train and /test."""
    source = DATA / f"{name}.h5"
    if not count:
        return [source]
    with h5py.File(source) as data:
        arrays = {key: np.concatenate([data[f"{group}/{key}"][()] for group in ("train", "test")]) for key in "xy"}
    rows = np.random.default_rng(0).permutation(len(arrays["x"])) % count
    for i in range(count):
        with h5py.File(work / f"{name}-{i}.h5", "w") as part:
            for key, values in arrays.items():
                part[f"train/{key}"], part[f"test/{key}"] = values[rows != i], values[rows == i]
    return [work / f"{name}-{i}.h5" for i in range(count)]


def along(folder, source, method, settings):
    """Leave-one-out and test loss at the steps where they were evaluated."""
    with h5py.File(source) as data:
        rows = len(data["train/x"])
    settings = dict(settings)
    steps = settings.pop("steps", None) or settings.pop("epochs") * (rows // settings["batch"])
    settings["beta2"] = f"{1 - settings.pop('forgets') / steps:.8g}"
    settings["ess"] = settings.get("ess", 1) * rows
    if "prior" in settings:
        settings["weight-decay"] = settings.pop("prior") / rows
    points = settings.pop("points", POINTS)
    every = steps // points
    command("ivon-train", f"--optimizer={method}", *options(settings), f"--steps={steps}", "--schedule=cosine",
            "--save-every=0", f"--data={source}:/train", f"--test={source}:/test", "--loo", f"--loo-every={every}",
            f"--eval-every={every}", "-o", folder)
    with open(folder / "log.csv") as file:
        found = [(float(row["loo_loss"]), float(row["test_loss"])) for row in csv.DictReader(file) if row["loo_loss"]]
    shutil.rmtree(folder)
    return found[:points]


def measure(title, methods=("evon", "ivon")):
    """For each method the losses at the end, and what the step of the least leave-one-out loss loses."""
    name, count, settings = TASKS[title]
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        plan = [(work / f"{method}-{i}", source, method, settings)
                for method in methods for i, source in enumerate(parts(name, count, work))]
        found = side_by_side(along, plan)
    result = {}
    for i, method in enumerate(methods):
        curves = np.array(found[i * len(found) // len(methods):(i + 1) * len(found) // len(methods)])
        loo, test = curves[:, :, 0], curves[:, :, 1]
        stopped = test[np.arange(len(test)), loo.argmin(1)].mean()
        result[method] = (loo[:, -1].mean(), test[:, -1].mean(), stopped / test.min(1).mean() - 1)
        if os.environ.get("IVON_CURVES"):
            print(title, method, loo.mean(0).round(3), test.mean(0).round(3))
    return result


def cells(loo, test, lost):
    return f"{loo:.3f}, {test:.3f}: {100 * (loo / test - 1):+.1f} %; {100 * lost:.1f} %"


def table(titles):
    for title in titles:
        result = measure(title)
        print(f"| {title} | {' | '.join(cells(*result[method]) for method in result)} |", flush=True)


def quick():
    """Seconds: on the digits EVON's leave-one-out loss is the test loss within 5 %, and stops where it should."""
    title = "softmax regression, digits"
    loo, test, lost = measure(title, ["evon"])["evon"]
    line = f"| {title} | {cells(loo, test, lost)}"
    print(line)
    assert abs(loo / test - 1) < 0.05 and lost < 0.02
    # The two losses are shown, to what other kernels of BLAS change in a training.
    results = pathlib.Path(__file__).parents[2] / "man/results.md"
    subprocess.run([sys.executable, results.parents[1] / "tests/oracle/shown.py", results, "0", "0.03"],
                   input=line.partition(":")[0] + ":", text=True, check=True)


if __name__ == "__main__":
    if sys.argv[1] == "quick":
        quick()
    else:
        wanted = [title for title in TASKS if sys.argv[1] == "all" or any(word in title for word in sys.argv[1:])]
        if not wanted:
            print(f"found '{sys.argv[1]}', expected quick, all or part of a title", file=sys.stderr)
            sys.exit(64)
        table(wanted)
