"""Linear datamodelling score of influences: how well they foretell what is trained on a part of the data.

usage: lds.py mlp|cnn HALVES WORK

A network is trained on the digits' training rows, ivon-fit makes posteriors of it, and `ivon-influence --validate`
scores the influences by each: it trains networks on random halves of the rows, the same ones each time, from the
same initial weights and by the same settings (Park et al., ICML 2023, 2303.14186). Prints the mean over test rows,
with the standard error by the jackknife over halves, also of the difference to the diagonal, which is of pairs:
for that the score is computed here from the command's sums and losses, too, and must be what it says. IVON_SHARED
is the folder of data/digits.h5.
"""
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


def call(*arguments, **more):
    subprocess.run([*map(str, arguments)], check=True, **more)


def ranks(values):
    """Over the first axis, where no two are equal."""
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


def validate(work, halves, options):
    """The score that the command prints, with its error, and the sums and losses that it is of."""
    call("ivon-fit", "-q", "-f", work / "whole.h5", f"--data={work}/data.h5:/train", f"--weight-decay={DECAY}", *options, "-o",
         work / "fitted.h5")
    with open(work / "lds.csv", "w") as output:
        call("ivon-influence", "-q", "-f", work / "fitted.h5", f"--data={work}/data.h5:/train", f"--queries={work}/data.h5:/test",
             f"--validate={halves}", f"--validate-from={work}/whole.h5", "-o", work / "lds.h5", stdout=output)
    with h5py.File(work / "lds.h5") as f:
        return np.loadtxt(work / "lds.csv", delimiter=",", skiprows=1)[-1, 1:], f["sum"][()], f["measured"][()]


def main(name, halves, folder):
    work = pathlib.Path(folder)
    work.mkdir(exist_ok=True)
    halves = int(halves)
    net, start = fit_truth.network(name)
    x, y, test, test_y = fit_truth.data(name)
    onnx.save(fit_truth.graph(net, name), work / "model.onnx")
    with h5py.File(work / "start.h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=float(len(x)), weight_decay=DECAY)
        for part, value in net.names(start):
            f["mean/" + part] = value
    with h5py.File(work / "data.h5", "w") as f:
        for group, (inputs, labels) in {"train": (x, y), "test": (test, test_y)}.items():
            f[group + "/x"], f[group + "/y"] = inputs.numpy().astype("f4"), labels.numpy()
    call("ivon-train", "-q", f"--model={work}/model.onnx", f"--from={work}/start.h5", f"--data={work}/data.h5:/train", *SETTINGS,
         "-o", work / "whole")
    next((work / "whole").glob("posterior-*.h5")).rename(work / "whole.h5")
    found = {structure: validate(work, halves, options) for structure, options in STRUCTURES.items()}
    diagonal = found["diagonal"][1]
    print(f"{name}: mean loss on the test rows by halves {found['diagonal'][2].mean():.3f}")
    for structure, (printed, sums, losses) in found.items():
        def both(kept, sums=sums, losses=losses):
            own = score(sums[kept], -losses[kept])
            return np.array([own, own - score(diagonal[kept], -losses[kept])])
        value, error = both(np.arange(halves)), jackknife(both, halves)
        assert abs(printed - [value[0], error[0]]).max() < 1e-9, (printed, value, error)
        print(f"  {structure:10} {value[0]:.3f} +- {error[0]:.3f}   to the diagonal {value[1]:+.3f} +- {error[1]:.3f}",
              flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
