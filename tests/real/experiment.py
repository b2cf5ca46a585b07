"""What the comparisons of methods share: runs of the commands, choice by validation, tables."""
import concurrent.futures
import itertools
import json
import os
import pathlib
import statistics
import subprocess

import h5py

DATA = pathlib.Path(os.environ["IVON_SHARED"]) / "data"
BIN = pathlib.Path(os.environ["IVON_BIN"])
# So many runs go side by side, of one thread each: a result does not depend on the threads.
RUNS = int(os.environ.get("IVON_RUNS", "2"))


def command(name, *arguments, quiet=True):
    """The output of a command; an error ends the script with what the command said."""
    done = subprocess.run([BIN / name, *["-q"] * quiet, "-j1", *arguments], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, arguments))}: {done.stderr}")
    return done.stdout


def side_by_side(function, arguments):
    """The results of function(*a) for each a, in order."""
    with concurrent.futures.ThreadPoolExecutor(RUNS) as pool:
        return list(pool.map(lambda a: function(*a), arguments))


def split(source, target, fraction):
    """Write `source`'s training rows in two groups: train, and valid with the last `fraction`."""
    with h5py.File(source) as data, h5py.File(target, "w") as parts:
        rows = len(data["train/x"])
        cut = rows - int(rows * fraction)
        for name in ("x", "y"):
            values = data[f"train/{name}"][()]
            parts[f"train/{name}"], parts[f"valid/{name}"] = values[:cut], values[cut:]
        return cut


def options(settings):
    """{"lr": 0.1} as ["--lr=0.1"]."""
    return [f"--{name}={value}" for name, value in settings.items()]


def train(folder, arguments, resumable=False):
    """The last checkpoint that ivon-train leaves in `folder`, or None where the training diverged."""
    try:
        command("ivon-train", "--resume" if resumable else "--save-every=0", *arguments, "-o", folder)
    except RuntimeError as error:
        if "the training diverged" in str(error):
            return None
        raise
    return max(pathlib.Path(folder).glob("posterior-*.h5"))


def grid(**axes):
    """All combinations of the axes' values."""
    return [dict(zip(axes, values)) for values in itertools.product(*axes.values())]


def metrics(checkpoint, arguments, samples=0, method="--mean"):
    """Metrics of predictions by `samples` weight samples, or at the mean."""
    how = f"--samples={samples}" if samples else method
    found = json.loads(command("ivon-predict", checkpoint, *arguments, how, "--metrics", "--json"))
    # JSON has no infinity, which a probability of zero gives: it is null.
    return {name: float("inf") if metric["value"] is None else metric["value"]
            for name, metric in found["metrics"].items()} | {
        f"{name}_se": metric["standard_error"] for name, metric in found["metrics"].items()}


def spread(values, digits=3):
    """Mean ± standard deviation over seeds."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
