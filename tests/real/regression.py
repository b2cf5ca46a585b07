"""Regression by IVON on UCI's sets: regression.py quick | all.

The noise's standard deviation s comes from the training data alone: a training with s = 0.3, then
s times the root of twice the leave-one-out loss, which is the root of the mean squared residual of
each row predicted without it; again with that, until it changes by less than 2 %, at most 8 times.
(The residuals of the training rows as they are would be too small where a network fits them
closely.) The loss grows as 1 / s^2,
so h0 and the rate go with it: h0 = 0.2 / s^2 and lr = 0.2 s^2. The prior is a standard normal
distribution (weight_decay = 1 / N).
"""
import json
import math
import pathlib
import statistics
import sys
import tempfile

import h5py

from experiment import DATA, command, metrics, side_by_side, spread, train

SETS = ["concrete", "energy", "kin8nm", "power-plant", "wine-quality-red", "yacht"]
ROUNDS = 8


def fit(folder, source, noise, seed, steps):
    """A checkpoint, and train, leave-one-out and test loss of it; the noise that the former say."""
    with h5py.File(source) as data:
        rows, inputs = data["train/x"].shape
    likelihood = ["--likelihood=gaussian", f"--noise-std={noise}"]
    checkpoint = train(folder, [
        f"--arch=mlp:{inputs},50,1", f"--data={source}:/train", *likelihood, f"--seed={seed}",
        f"--steps={steps}", "--batch=32", "--schedule=cosine", f"--lr={0.2 * noise**2:.8g}",
        f"--h0={0.2 / noise**2:.8g}", f"--ess={rows}", f"--weight-decay={1 / rows:.8g}",
        f"--beta2={1 - 10 / steps:.8g}"])
    if checkpoint is None:
        raise SystemExit(f"{source}: the training with seed {seed} diverged")
    losses = json.loads(command("ivon-predict-gen", checkpoint, *likelihood,
                                f"--data={source}:/train", f"--test={source}:/test", "--json"))
    return checkpoint, losses, noise * math.sqrt(2 * losses["loo_loss"])


def run(work, name, seed, steps):
    source = DATA / f"uci-{name}.h5"
    estimate = 0.3
    for i in range(ROUNDS):
        noise = estimate
        checkpoint, losses, estimate = fit(work / f"{name}-{seed}-{i}", source, noise, seed, steps)
        if abs(estimate / noise - 1) < 0.02:
            break
    testing = ["--likelihood=gaussian", f"--noise-std={noise}", f"--data={source}:/test"]
    return {"noise": noise, "rounds": i + 1, "mean": metrics(checkpoint, testing),
            "samples": metrics(checkpoint, testing, 64), **losses}


def compare(sets, seeds, steps):
    """The results of each set, one for each seed."""
    with tempfile.TemporaryDirectory() as folder:
        plan = [(pathlib.Path(folder), name, seed, steps) for name in sets for seed in range(seeds)]
        found = side_by_side(run, plan)
    return {name: found[i * seeds:(i + 1) * seeds] for i, name in enumerate(sets)}


def tables(results, seeds):
    print(f"In units of the targets' standard deviation; mean ± standard deviation over {seeds} "
          "seeds\n\n| | noise | RMSE at the mean | 64 samples | log-likelihood at the mean "
          "| 64 samples |\n|---|---|---|---|---|---|")
    for name, runs in results.items():
        print(f"| {name} | " + " | ".join(spread(values) for values in (
            [r["noise"] for r in runs],
            [r["mean"]["rmse"] for r in runs], [r["samples"]["rmse"] for r in runs],
            [-r["mean"]["nll"] for r in runs], [-r["samples"]["nll"] for r in runs])) + " |")
    most = {name: max(r["rounds"] for r in runs) for name, runs in results.items()}
    print(f"\nTrainings until the noise settled: {most}")
    print("\nLosses (f - y)^2 / (2 s^2), at the mean\n\n| | train | leave-one-out | test "
          "| standard error of the test loss |\n|---|---|---|---|---|")
    for name, runs in results.items():
        # The loss is the negative log-likelihood but for a constant, so its error is the same.
        error = statistics.mean(r["mean"]["nll_se"] for r in runs)
        values = [spread([r[f"{part}_loss"] for r in runs]) for part in ("train", "loo", "test")]
        print(f"| {name} | " + " | ".join(values) + f" | {error:.3f} |")
    average = {name: {key: statistics.mean(r[key] for r in runs)
                      for key in ("train_loss", "loo_loss", "test_loss")}
               for name, runs in results.items()}
    closer = [name for name, a in average.items()
              if abs(a["loo_loss"] - a["test_loss"]) < abs(a["train_loss"] - a["test_loss"])]
    better = [name for name, runs in results.items()
              if statistics.mean(r["samples"]["nll"] - r["mean"]["nll"] for r in runs) < 0]
    print(f"\nLeave-one-out is closer to the test loss than the training loss is: {closer}")
    print(f"The samples' log-likelihood is above the mean's: {better}")


def quick():
    """Seconds: two sets, whose leave-one-out loss is the test loss within what the test says of it."""
    for name, runs in compare(["concrete", "wine-quality-red"], 1, 1500).items():
        (r,) = runs
        error = r["mean"]["nll_se"]
        print(f"{name}: noise {r['noise']:.3f}, RMSE {r['samples']['rmse']:.3f}, NLL "
              f"{r['samples']['nll']:.3f}, losses {r['train_loss']:.3f}, {r['loo_loss']:.3f}, "
              f"{r['test_loss']:.3f} with an error of {error:.3f}")
        # A model that knows nothing has an error of 1, the targets' standard deviation, and -log p
        # of a normal distribution of that deviation is (1 + log 2 pi) / 2 on average.
        assert r["samples"]["rmse"] < 1
        assert r["samples"]["nll"] < (1 + math.log(2 * math.pi)) / 2
        assert abs(r["loo_loss"] - r["test_loss"]) < 3 * error


if __name__ == "__main__":
    if sys.argv[1] == "quick":
        quick()
    elif sys.argv[1] != "all":
        print(f"found '{sys.argv[1]}', expected all", file=sys.stderr)
        sys.exit(64)
    else:
        tables(compare(SETS, 3, 6000), 3)
