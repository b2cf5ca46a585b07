"""PyTorch's side of fit.sh: an EK-FAC posterior of LeNet-5 or of the digits' MLP.

torch_fit.py WAY NETWORK DATA.h5 SHARED BATCH    seconds of the computation alone
torch_fit.py check NETWORK DATA.h5 SHARED POSTERIOR.h5    the largest difference from a fitted file

The curvature is the generalized Gauss-Newton matrix of ten classes, exactly; factors in a first pass over the
data, their eigenvectors, second moments in their basis in a second pass (George et al. 2018). A WAY
says how the ten columns of adjoints are taken back through the network:
  hooks     one after the other, by autograd from the outputs of the layers
  batched   all at once, by autograd's vectorized backward pass
  functorch gradients of the layers' outputs by vmap over columns
Data and weights are in memory and one batch has run when the clock is started.
"""
import sys
import time

import functorch
import h5py
import numpy as np
import torch
from torch.nn import functional as F

WAYS = "hooks", "batched", "functorch"


def named(group):
    found = {}
    group.visititems(lambda k, v: found.update({k: v[()]}) if isinstance(v, h5py.Dataset) else None)
    return found


def load(network, data, shared):
    with h5py.File(f"{shared}/reference/{network}/posterior.h5") as f:
        mean = {k: torch.from_numpy(v) for k, v in named(f["mean"]).items()}
    with h5py.File(data) as f:
        group = f["train"] if "train" in f else f
        x = group["x"][()]
    return mean, torch.from_numpy(x.astype("f4") / 255 if x.dtype == np.uint8 else x)


class Network:
    """Weights with their biases; forward() keeps each layer's rows of inputs, with a column of ones
    for the bias, and adds `moves` to the layers' outputs."""

    def __init__(self, mean):
        self.mean = mean
        self.names = [k[:-7] for k in mean if k.endswith(".weight")]

    def forward(self, x, moves=None, kept=None, outputs=None):
        for i, name in enumerate(self.names):
            w, b = self.mean[name + ".weight"], self.mean[name + ".bias"]
            if kept is not None:
                rows = F.unfold(x, w.shape[2:]).transpose(1, 2) if w.dim() == 4 else x[:, None]
                kept.append(torch.cat([rows, rows.new_ones(*rows.shape[:2], 1)], 2))
            x = F.conv2d(x, w, b) if w.dim() == 4 else F.linear(x, w, b)
            if moves is not None:
                x = x + moves[i]
            if outputs is not None:
                outputs.append(x)
            x = torch.tanh(x) if i + 1 < len(self.names) else x
            if w.dim() == 4:
                x = F.avg_pool2d(x, 2) if x.shape[2] > 1 else x.flatten(1)
        return x


def columns_of(f):
    """Of the root of diag(p) - p p': classes x examples x classes."""
    p = f.softmax(1)
    return p.sqrt().T[:, :, None] * (p[None] - torch.eye(f.shape[1])[:, None])


def rows_of(adjoint):
    return adjoint.flatten(2).transpose(1, 2) if adjoint.dim() == 4 else adjoint[:, None]


def adjoints(network, x, way):
    """Rows of inputs of each layer, and for each column rows of adjoints: an iterator of lists."""
    inputs = []
    if way == "functorch":
        with torch.no_grad():
            outputs = []
            network.forward(x, None, inputs, outputs)
            moves = tuple(torch.zeros_like(o) for o in outputs)
        f, back = functorch.vjp(lambda *moves: network.forward(x, moves), *moves)
        found = functorch.vmap(back)(columns_of(f.detach()))
        return inputs, ([rows_of(layer[k]) for layer in found] for k in range(f.shape[1]))
    outputs = []
    f = network.forward(x.requires_grad_(), None, inputs, outputs)
    inputs = [rows.detach() for rows in inputs]
    columns = columns_of(f.detach())
    if way == "batched":
        found = torch.autograd.grad(f, outputs, columns, is_grads_batched=True)
        return inputs, ([rows_of(layer[k]) for layer in found] for k in range(f.shape[1]))
    return inputs, ([rows_of(d) for d in torch.autograd.grad(f, outputs, column, retain_graph=True)]
                    for column in columns)


def fit(network, x, batch, way):
    count, layers = len(x), range(len(network.names))
    a, b, h, rows = [0] * len(layers), [0] * len(layers), [0] * len(layers), [0] * len(layers)
    for part in x.split(batch):
        inputs, columns = adjoints(network, part, way)
        for i in layers:
            flat = inputs[i].flatten(0, 1)
            a[i] = a[i] + flat.T @ flat
            rows[i] += len(flat)
        for column in columns:
            for i in layers:
                flat = column[i].flatten(0, 1)
                b[i] = b[i] + flat.T @ flat
    a = [m / count for m in a]
    b = [m / r for m, r in zip(b, rows)]
    spectra_a, bases_a = zip(*(torch.linalg.eigh(m) for m in a))
    spectra_b, bases_b = zip(*(torch.linalg.eigh(m) for m in b))
    for part in x.split(batch):
        inputs, columns = adjoints(network, part, way)
        inputs = [rows @ basis for rows, basis in zip(inputs, bases_a)]
        squares = [rows[:, 0]**2 for rows in inputs]
        for column in columns:
            for i in layers:
                d = column[i] @ bases_b[i]
                if d.shape[1] == 1:
                    h[i] = h[i] + (d[:, 0]**2).T @ squares[i]
                else:
                    h[i] = h[i] + (d.transpose(1, 2) @ inputs[i]).square().sum(0)
    return a, b, [m / count for m in h]


def compare(network, found, path):
    """The largest relative difference of factors from those that a fitted file's bases and spectra
    make, and of the traces of h."""
    worst = 0
    with h5py.File(path) as f:
        for i, name in enumerate(network.names):
            tensors = named(f)
            for side, matrix in ("input", found[0][i]), ("output", found[1][i]):
                basis = tensors[f"basis_{side}/{name}.weight"].astype("f8")
                spectrum = tensors[f"spectrum_{side}/{name}.weight"].astype("f8")
                made = basis * spectrum @ basis.T
                worst = max(worst, np.abs(made - matrix.numpy()).max() / np.abs(made).max())
            whole = tensors[f"hessian/{name}.weight"].sum(dtype="f8")
            if f"hessian/{name}.bias" in tensors:
                whole += tensors[f"hessian/{name}.bias"].sum(dtype="f8")
            worst = max(worst, abs(float(found[2][i].double().sum()) / whole - 1))
    return worst


def main(way, network_name, data, shared, last):
    torch.set_num_threads(2)
    mean, x = load(network_name, data, shared)
    network = Network(mean)
    if way == "check":
        print(compare(network, fit(network, x, 500, "hooks"), last))
        return
    batch = int(last)
    fit(network, x[:batch], batch, way)
    start = time.time()
    fit(network, x, batch, way)
    print(time.time() - start)


main(*sys.argv[1:])
