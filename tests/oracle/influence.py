"""The matrix of influences of training rows on queries, in float64 by PyTorch.

usage: influence.py MATRIX.h5 POSTERIOR.h5 DATA.h5[:GROUP] QUERIES.h5[:GROUP] [--query-rows=N] [--measure=M]
                    [--rho=X] [options of fit.py, which are for both]
       influence.py < LINES    the same for each line of such arguments

MATRIX.h5 is what ivon-influence wrote for the first --limit rows of the data and the first --query-rows of
the queries. The graph is run node by node (fit.py), one example at a time, and differentiated: with g the
gradient of a row's loss and q that of a query's measure, both whitened by the posterior's base (h, bases),

  influence = rho q' (I - U diag(l / (1 + l)) U') g,  rho = ess / N, N the rows (tokens) that count

and what is measured is the loss; -f_c (logit:C); -log(p_y / (1 - p_y)) (margin); or the loss of one token of
T (token-loss), query by query. The largest difference has to be below 1e-4 of the largest influence: the
toolkit's gradients are in binary32, with rounding of about sqrt(terms) 2^-24.
"""
import argparse
import sys

import fit
import h5py
import numpy as np
import onnx
import torch

TOLERANCE = 1e-4


def options(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("matrix")
    parser.add_argument("posterior")
    parser.add_argument("data")
    parser.add_argument("queries")
    parser.add_argument("--query-rows", type=int, default=10)
    parser.add_argument("--measure", default="loss")
    parser.add_argument("--rho", type=float)
    own, rest = parser.parse_known_args(arguments)
    return own, fit.options(["compare", own.posterior, own.data, *rest])


def losses(f, y, o):
    """Of each row of outputs."""
    if o.likelihood == "gaussian":
        y = torch.as_tensor(y).double().reshape(f.shape)
        return ((f - y)**2).sum(-1) / (2 * o.noise_std**2)
    rows, y = f.reshape(-1, f.shape[-1]), torch.as_tensor(y).reshape(-1).long()
    return torch.nn.functional.cross_entropy(rows, y, ignore_index=o.ignore_label, reduction="none")


def measures(f, y, o, measure):
    """What is measured of one query, a number or several."""
    kind, _, output = measure.partition(":")
    if kind in ("loss", "token-loss"):
        each = losses(f, y, o)
        return list(each) if kind == "token-loss" else [each.sum()]
    if kind == "logit":
        return [-f.reshape(-1, f.shape[-1])[:, int(output)].sum()]
    rows, y = f.reshape(-1, f.shape[-1]), torch.as_tensor(y).reshape(-1).long()
    others = rows.scatter(1, y[:, None], -np.inf).logsumexp(1)
    return [(others - rows[range(len(y)), y]).sum()]


def gradients(network, file, o, path, count, measure):
    """Whitened, one row for each number that is measured; and how many losses count."""
    inputs = dict(i.split("=") for i in o.inputs) or {network.inputs[0]: "x"}
    made, counted = [], 0
    for _, x, y in fit.rows_of(path, inputs, o.targets, o.scale, range(count)):
        f, _ = network.run(x)
        counted += 1 if o.likelihood == "gaussian" else int((np.asarray(y) != o.ignore_label).sum())
        for value in measures(f, y, o, measure):
            grads = torch.autograd.grad(value, list(network.parameters.values()), retain_graph=True,
                                        allow_unused=True)
            by_name = {n: (torch.zeros_like(v) if g is None else g)[None]
                       for (n, v), g in zip(network.parameters.items(), grads)}
            made.append(file.whiten(by_name)[0])
    return torch.stack(made), counted


def main(arguments):
    own, o = options(arguments)
    file = fit.File(own.posterior)
    o.likelihood = fit.told(o, file, "likelihood", "categorical")
    graph = (onnx.load(o.model) if o.model else file.graph).graph
    network = fit.Network(graph, file.parts["mean"], file.parts["buffers"])
    g, counted = gradients(network, file, o, own.data, o.limit, "loss")
    q, _ = gradients(network, file, o, own.queries, own.query_rows, own.measure)
    rho = own.rho or file.ess / (file.n_train if file.n_train > 0 else counted)
    expected = q @ g.T
    if file.parts["lowrank_vectors"]:
        expected -= (q @ file.vectors * (file.values / (1 + file.values))) @ (file.vectors.T @ g.T)
    expected = rho * expected.T
    found = torch.from_numpy(np.float64(h5py.File(own.matrix)["influence"][()]))
    if found.shape != expected.shape:
        sys.exit(f"{own.matrix}: shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    largest = expected.abs().max().item()
    error = (found - expected).abs().max().item() / largest
    print(f"{own.matrix}: {own.measure} of {len(expected)} x {expected.shape[1]}: {error:.1e} of {largest:.3g}")
    if not error <= TOLERANCE:
        sys.exit(f"{own.matrix}: differs by {error:.2e} of the largest influence, expected {TOLERANCE}")


for line in [sys.argv[1:]] if len(sys.argv) > 1 else map(str.split, sys.stdin):
    main(line)
