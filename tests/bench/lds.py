"""Linear datamodelling score of influences: how well they foretell what is trained on a part of the data.

usage: lds.py mlp|cnn HALVES WORK

Networks are trained on random halves of the digits' training rows, from the same initial weights and by the
same settings as one on all of them. The sum of the influences that the rows that a half lacks have on a test
row, as ivon-influence has them of the latter network, foretells that row's loss up to a constant (Park et al.,
ICML 2023, 2303.14186): the score is Spearman's correlation over halves, mean over test rows. Prints it for the
posteriors that ivon-fit makes, with the standard error by the jackknife over halves, also of the difference to
the diagonal. IVON_SHARED is the folder of data/digits.h5.
"""
import os
import pathlib
import subprocess
import sys

import h5py
import numpy as np
import onnx

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "oracle"))
import fit_truth  # noqa: E402

DECAY = 3 / 1400
SETTINGS = ["--optimizer=sgd", "--lr=0.1", f"--weight-decay={DECAY}", "--schedule=cosine", "--epochs=60", "--batch=50",
            "--save-every=0", "--seed=0"]
STRUCTURES = {"diagonal": ["--structure=diagonal"], "Kronecker": ["--structure=kronecker"],
              "low rank": ["--structure=lowrank:kronecker", "--rank=200"]}


def call(*arguments):
    subprocess.run([*map(str, arguments)], check=True)


def train(work, data, name):
    call("ivon-train", "-q", "-f", "-j1", f"--model={work}/model.onnx", f"--from={work}/start.h5", f"--data={data}", *SETTINGS,
         "-o", work / name)
    return next((work / name).glob("posterior-*.h5"))


def losses(work, checkpoint):
    call("ivon-predict", "-q", "-f", "-j1", checkpoint, "--mean", f"--data={work}/data.h5:/test", "--logits", "-o",
         work / "logits.h5")
    with h5py.File(work / "data.h5") as f, h5py.File(work / "logits.h5") as g:
        y, z = f["test/y"][:].astype(int), np.float64(g["logits"][:])
    z -= z.max(1, keepdims=True)
    return np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]


def ranks(values):
    """Over the first axis, equal ones with their mean rank."""
    order = np.argsort(values, axis=0, kind="stable")
    found = np.empty_like(order)
    np.put_along_axis(found, order, np.arange(len(values))[:, None].repeat(values.shape[1], 1), 0)
    return found.astype(float)


def score(foretold, found):
    a, b = ranks(foretold), ranks(found)
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a * b).sum(0) / np.sqrt((a * a).sum(0) * (b * b).sum(0))).mean()


def jackknife(statistic, count):
    each = np.array([statistic(np.delete(np.arange(count), i)) for i in range(count)])
    return np.sqrt((count - 1) / count * ((each - each.mean(0)) ** 2).sum(0))


def main(name, halves, folder):
    work = pathlib.Path(folder)
    work.mkdir(exist_ok=True)
    halves = int(halves)
    net, start = fit_truth.network(name)
    x, y, test, test_y = fit_truth.data(name)
    onnx.save(fit_truth.graph(net, name), work / "model.onnx")
    random = np.random.default_rng(0)
    with h5py.File(work / "start.h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=float(len(x)), weight_decay=DECAY)
        for part, value in net.names(start):
            f["mean/" + part] = value
    with h5py.File(work / "data.h5", "w") as f:
        for group, (inputs, labels) in {"train": (x, y), "test": (test, test_y)}.items():
            f[group + "/x"], f[group + "/y"] = inputs.numpy().astype("f4"), labels.numpy()
    whole = train(work, f"{work}/data.h5:/train", "whole")
    lacking, found = np.ones((halves, len(x))), []
    for half in range(halves):
        rows = np.sort(random.choice(len(x), len(x) // 2, replace=False))
        lacking[half, rows] = 0
        with h5py.File(work / "half.h5", "w") as f:
            f["x"], f["y"] = x.numpy()[rows].astype("f4"), y.numpy()[rows]
        found.append(losses(work, train(work, work / "half.h5", "half")))
        for old in (work / "half").iterdir():
            old.unlink()
    found = np.array(found)
    print(f"{name}: loss on the test rows {losses(work, whole).mean():.3f}, by halves {found.mean():.3f}")
    foretold = {}
    for structure, options in STRUCTURES.items():
        call("ivon-fit", "-q", "-f", whole, f"--model={work}/model.onnx", f"--data={work}/data.h5:/train",
             f"--weight-decay={DECAY}", *options, "-o", work / "fitted.h5")
        call("ivon-influence", "-q", "-f", work / "fitted.h5", f"--data={work}/data.h5:/train",
             f"--queries={work}/data.h5:/test", "-o", work / "influence.npy")
        foretold[structure] = lacking @ np.float64(np.load(work / "influence.npy"))
    for structure, sums in foretold.items():
        def both(kept, sums=sums):
            own = score(sums[kept], found[kept])
            return np.array([own, own - score(foretold["diagonal"][kept], found[kept])])
        value, error = both(np.arange(halves)), jackknife(both, halves)
        print(f"  {structure:10} {value[0]:.3f} +- {error[0]:.3f}   to the diagonal {value[1]:+.3f} +- {error[1]:.3f}",
              flush=True)


if __name__ == "__main__":
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    main(*sys.argv[1:])
