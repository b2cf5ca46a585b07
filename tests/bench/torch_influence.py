"""PyTorch's side of influence.sh, and the files that it needs.

torch_influence.py make SHARED DIRECTORY         rows.h5, queries.h5
torch_influence.py run SHARED DIRECTORY ROWS     seconds of the computation alone on the clock, and of the
    processor; keeps the matrix of so many rows in torch.npy
torch_influence.py compare DIRECTORY ROWS        whether it is that of ours, many.h5
"""
import resource
import sys
import time

import h5py
import numpy as np

QUERIES, CHUNK, N = 100, 1000, 50000  # smaller chunks are slower


def named(group):
    found = []
    group.visititems(lambda k, v: found.append((k, v[()])) if isinstance(v, h5py.Dataset) else None)
    return found


def make(shared, directory):
    with h5py.File(f"{shared}/data/cifar10.h5") as f, h5py.File(f"{directory}/rows.h5", "w") as g, \
            h5py.File(f"{directory}/queries.h5", "w") as h:
        x, y = f["train/x"][()], f["train/y"][()]
        times = -(-N // len(x))
        g["x"], g["y"] = np.tile(x, (times, 1, 1, 1))[:N], np.tile(y, times)[:N]
        h["x"], h["y"] = f["test/x"][:QUERIES], f["test/y"][:QUERIES]


def read(path, count):
    import torch
    with h5py.File(path) as f:
        x, y = f["x"][:count], f["y"][:count].astype("i8")
    return torch.from_numpy(x.astype("f4") / 255), torch.from_numpy(y)


def run(shared, directory, rows):
    import functorch
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(2)
    with h5py.File(f"{shared}/reference/cifar-lenet/posterior.h5") as f:
        mean = {k: torch.from_numpy(v) for k, v in named(f["mean"])}
        weight_decay = f.attrs["weight_decay"]
        variance = torch.cat([1 / (N * (torch.from_numpy(f["hessian/" + k][()]) + weight_decay)).flatten()
                              for k in mean]).float()
    weights = [k for k in mean if k.endswith("weight")]

    def loss(parameters, x, y):
        x = x[None]
        for i, name in enumerate(weights):
            w, b = parameters[name], parameters[name[:-6] + "bias"]
            if w.ndim == 4:
                x = torch.tanh(F.conv2d(x, w, b))
                x = F.avg_pool2d(x, 2) if i < 2 else x.flatten(1)
            else:
                x = F.linear(x, w, b)
                x = torch.tanh(x) if i + 1 < len(weights) else x
        return F.cross_entropy(x, y[None])

    gradient = functorch.vmap(functorch.grad(loss), in_dims=(None, 0, 0))

    def gradients(x, y):
        return torch.cat([g.flatten(1) for g in gradient(mean, x, y).values()], 1)

    x, y = read(f"{directory}/rows.h5", int(rows))
    queries = gradients(*read(f"{directory}/queries.h5", QUERIES)) * variance
    gradients(x[:CHUNK], y[:CHUNK]) @ queries.T
    usage, start = resource.getrusage(resource.RUSAGE_SELF), time.time()
    matrix = torch.cat([gradients(a, b) @ queries.T for a, b in zip(x.split(CHUNK), y.split(CHUNK))])
    end = resource.getrusage(resource.RUSAGE_SELF)
    print(time.time() - start, end.ru_utime - usage.ru_utime + end.ru_stime - usage.ru_stime)
    np.save(f"{directory}/torch.npy", matrix.numpy())


def compare(directory, rows):
    theirs = np.load(f"{directory}/torch.npy")
    with h5py.File(f"{directory}/many.h5") as f:
        ours = f["influence"][:int(rows)]
    error = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"largest difference: {error:.1e} of the largest influence")
    if not error < 1e-4:
        sys.exit("they differ")


{"make": make, "run": run, "compare": compare}[sys.argv[1]](*sys.argv[2:])
