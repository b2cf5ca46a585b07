"""Posteriors that are fitted to AdamW's networks, beside IVON's: posteriors.py [digits | cifar10 | text-mr]...

Networks and settings are those of tests/real/claims.py, as it chose them by validation. The prior
precision N delta is that of the greatest evidence; and, with the first seed, by validation: a network of the
same settings is trained on four fifths of the training data, and the precision that is best on 500
examples of the last fifth, for 32 weight samples, is taken for the network of all data.
"""
import collections
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import h5py

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/real"))
from claims import SEEDS, TASKS, Data  # noqa: E402
from experiment import DATA, metrics, side_by_side, spread, train  # noqa: E402

VALIDATION = 500  # examples
Network = collections.namedtuple("Network", "title seeds last scale adamw ivon")
NETWORKS = {
    "digits": Network("MLP, digits", 3, "fc3.*", 1, {"lr": 0.1, "weight-decay": 0.1},
                      {"lr": 1, "ess": 1, "weight-decay": 1e-5}),
    "cifar10": Network("LeNet, CIFAR-10", 3, "fc2.*", 255,
                       {"lr": 0.001, "epochs": 25, "weight-decay": 0.1},
                       {"lr": 0.1, "ess": 1, "epochs": 25, "weight-decay": 2e-4}),
    "text-mr": Network("transformer, reviews", 3, "fc.*", 1,
                       {"lr": 0.001, "epochs": 2, "weight-decay": 0.3},
                       {"lr": 60, "h0": 0.001, "ess": 30, "epochs": 4, "weight-decay": 1e-4,
                        "clip-radius": 0.01}),
}
FITS = {"diagonal": ["--structure=diagonal"], "Kronecker": [], "last layer": []}
HOW = {"64 samples": {"samples": 64}, "linear": {"method": "--method=linear"}}
KEYS = ("nll", "ece", "accuracy")


def fitted(name, kind, checkpoint, data, output, *arguments):
    """The summary of a fit."""
    options = FITS[kind] if kind != "last layer" else [f"--include={NETWORKS[name].last}"]
    done = subprocess.run(
        [pathlib.Path(os.environ["IVON_BIN"]) / "ivon-fit", "-j1", "--json", "-f", checkpoint,
         f"--data={data.train}", *options, *arguments, "-o", output],
        capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def predicted(name, kind, checkpoint, data, folder, *arguments):
    """{row: metrics} by a fit, and its N delta."""
    summary = fitted(name, kind, checkpoint, data, folder / "fitted.h5", *arguments)
    return {f"{kind}, {how}": metrics(folder / "fitted.h5", data.testing, **options)
            for how, options in HOW.items()}, summary["weight_decay"] * summary["ess"]


def laplace(name, checkpoint):
    """What tests/oracle/laplace.py finds by the probit approximation."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tests/oracle/laplace.py", checkpoint,
         DATA / f"{name}.h5", f"--scale={NETWORKS[name].scale}"],
        capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return json.loads(done.stdout)["probit"]


def trained(name, method, data, seed, folder):
    return train(folder / method, [*data.training, *data.options(method, getattr(NETWORKS[name], method)),
                                   f"--seed={seed}"])


def by_evidence(name, seed, folder):
    """{row: metrics} and {fit: N delta} of one seed."""
    data = Data(name, TASKS[name], folder, tuning=False)
    adamw = trained(name, "adamw", data, seed, folder)
    rows, precisions = {"AdamW, at the mean": metrics(adamw, data.testing)}, {}
    for kind in FITS:
        found, precisions[kind] = predicted(name, kind, adamw, data, folder, "--tune=marginal")
        rows |= found
    rows["laplace-torch's default"] = laplace(name, adamw)
    ivon = trained(name, "ivon", data, seed, folder)
    rows["IVON, at the mean"] = metrics(ivon, data.testing)
    for how, options in HOW.items():
        rows[f"IVON, {how}"] = metrics(ivon, data.testing, **options)
    return rows, precisions


def by_validation(name, seed, folder):
    """The same of what is fitted, with N delta chosen by validation."""
    parts = Data(name, TASKS[name], folder, tuning=True)
    with h5py.File(folder / "tuning.h5") as f, h5py.File(folder / "few.h5", "w") as few:
        for array in "xy":
            few[array] = f[f"valid/{array}"][:VALIDATION]
    part = trained(name, "adamw", parts, seed, folder)
    (folder / "whole").mkdir()
    whole = Data(name, TASKS[name], folder, tuning=False)
    adamw = trained(name, "adamw", whole, seed, folder / "whole")
    rows, precisions = {"AdamW, at the mean": metrics(adamw, whole.testing)}, {}
    for kind in FITS:
        chosen = fitted(name, kind, part, parts, folder / "part.h5", "--tune=validation",
                        f"--validation={folder / 'few.h5'}")
        decay = chosen["weight_decay"] * chosen["ess"] / whole.losses
        found, precisions[kind] = predicted(name, kind, adamw, whole, folder, f"--weight-decay={decay}")
        rows |= found
    return rows, precisions


def run(name, seed, function):
    with tempfile.TemporaryDirectory() as folder:
        return function(name, seed, pathlib.Path(folder))


def show(title, found):
    rows, precisions = [one[0] for one in found], [one[1] for one in found]
    print(f"\n{title}, {len(found)} seed(s): NLL, ECE, accuracy\n")
    for row in rows[0]:
        print(f"| {row} | " + ", ".join(spread([one[row][key] for one in rows]) for key in KEYS) + " |")
    for kind in FITS:
        print(f"N delta, {kind}:", *(f"{one[kind]:.3g}" for one in precisions), flush=True)


def main(names):
    for name in names:
        network = NETWORKS[name]
        plan = [(name, SEEDS, by_validation)] + [(name, SEEDS + i, by_evidence) for i in range(network.seeds)]
        validated, *found = side_by_side(run, plan)
        show(f"{network.title}, --tune=marginal", found)
        show(f"{network.title}, --tune=validation", [validated])


if __name__ == "__main__":
    main(sys.argv[1:] or list(NETWORKS))
