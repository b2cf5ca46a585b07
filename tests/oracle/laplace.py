"""The last-layer Laplace approximation of a network of classes with Kronecker factors, in float64: what
laplace-torch does unless it is told otherwise, from the formulas of Daxberger et al. (2021,
arXiv:2106.14806), not from its code.

usage: laplace.py CHECKPOINT.h5 DATA.h5 [--scale=255] [--prior-precision=X]
                  [--agrees=FIT.json,PREDICTIONS.npy]

The graph in the checkpoint (/model.onnx), which must end in a Gemm with a bias, is run by PyTorch. With a
its inputs, a 1 behind them, p the probabilities of example n of N in DATA.h5's /train:

  A = (1/N) sum a a',  B = (1/N) sum (diag p - p p')                    the factors of the GGN (K-FAC)
  P = N B x A + t I,   m the layer's weights                             precision, about m
  log evidence(t) = -sum L - t/2 |m|^2 + (size/2) log t - 1/2 log det P  (MacKay 1992)
  t                   of the greatest evidence, unless it is given
  C = J P^-1 J'       of an example of /test: J f = W a, so that C = U_B diag(...) U_B'
  p = softmax(f / sqrt(1 + pi/8 diag C))                                 the probit approximation

Prints t, the evidence over N, and accuracy, NLL and ECE (15 bins) at the mean and with the
covariance as a line of JSON. --agrees fails unless ivon-fit's summary and ivon-predict's probabilities
agree: t to 1e-4, the evidence to 1e-6, probabilities to 1e-5: outputs, factors and their eigenvalues are of
float32 there.
"""
import argparse
import json
import sys

import h5py
import numpy as np
import onnx
import torch
from fit import Network

PIECE = 500


def parts(file, part):
    found = {}
    if part in file:
        file[part].visititems(lambda name, item: found.update({name: item[()]})
                              if isinstance(item, h5py.Dataset) else None)
    return found


def last_layer(network, x, scale):
    """The last layer's inputs with a 1 behind them, and the outputs, for all examples."""
    rows, outputs = [], []
    with torch.no_grad():
        for at in range(0, len(x), PIECE):
            values = torch.from_numpy(x[at:at + PIECE])
            values = values.double() / scale if scale or values.is_floating_point() else values.long()
            f, uses = network.run({network.inputs[0]: values})
            assert uses[-1].z is f and uses[-1].bias, "the last node is no Gemm with a bias"
            rows.append(uses[-1].rows.numpy())
            outputs.append(f.numpy())
    return np.concatenate(rows), np.concatenate(outputs)


def softmax(f):
    e = np.exp(f - f.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


class Laplace:
    def __init__(self, rows, f, y, squared_norm):
        p = softmax(f)
        self.n, self.squared_norm = len(y), squared_norm
        self.loss = -np.log(p[np.arange(len(y)), y]).sum()
        self.a, self.u_a = np.linalg.eigh(rows.T @ rows / self.n)
        self.b, self.u_b = np.linalg.eigh(np.diag(p.mean(0)) - p.T @ p / self.n)
        self.curvature = self.n * np.outer(self.b.clip(0), self.a.clip(0))
        self.t = None

    def evidence(self, t):
        return (-self.loss - t / 2 * self.squared_norm + self.curvature.size / 2 * np.log(t)
                - np.log(self.curvature + t).sum() / 2)

    def maximise(self):
        """By a grid of log t, and thirds of intervals around its best."""
        grid = np.linspace(-10, 20, 301)
        best = int(np.argmax([self.evidence(np.exp(s)) for s in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 300)]
        for _ in range(100):
            third = (high - low) / 3
            if self.evidence(np.exp(low + third)) < self.evidence(np.exp(high - third)):
                low += third
            else:
                high -= third
        self.t = np.exp((low + high) / 2)

    def predict(self, rows, f):
        along = (rows @ self.u_a) ** 2 @ (1 / (self.curvature + self.t)).T  # of each output in B's basis
        return softmax(f / np.sqrt(1 + np.pi / 8 * along @ (self.u_b ** 2).T))


def metrics(p, y):
    confidence, right = p.max(1), p.argmax(1) == y
    ece = 0
    bins = np.minimum((confidence * 15).astype(int), 14)
    for b in range(15):
        chosen = bins == b
        if chosen.any():
            ece += abs(right[chosen].sum() - confidence[chosen].sum()) / len(y)
    return {"accuracy": right.mean(), "nll": -np.log(p[np.arange(len(y)), y]).mean(), "ece": ece}


def agree(given, found, p):
    fit, predictions = given.split(",")
    with open(fit, encoding="utf-8") as file:
        fit = json.load(file)
    errors = {"prior precision": (fit["ess"] * fit["weight_decay"] / found["prior_precision"] - 1, 1e-4),
              "evidence": (fit["log_evidence"] - found["evidence"], 1e-6),
              "probabilities": (np.abs(np.load(predictions) - p).max(), 1e-5)}
    for name, (error, allowed) in errors.items():
        print(f"{name}: differ by {abs(error):.1e}, {allowed:.0e} is allowed")
    return all(abs(error) <= allowed for error, allowed in errors.values())


def main(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--scale", type=float, default=1, help="divides inputs of floats or bytes")
    parser.add_argument("--prior-precision", type=float)
    parser.add_argument("--agrees")
    o = parser.parse_args(arguments)
    with h5py.File(o.checkpoint) as f:
        graph = onnx.load_from_string(f["model.onnx"][()].tobytes()).graph
        network = Network(graph, parts(f, "mean"), parts(f, "buffers"))
    with h5py.File(o.data) as f:
        train, test = [(f[g + "/x"][()], f[g + "/y"][()].astype(int)) for g in ("train", "test")]
    scale = o.scale if train[0].dtype == np.uint8 or train[0].dtype.kind == "f" else None
    rows, f = last_layer(network, train[0], scale)
    weight, bias = (network.parameters[name].detach().numpy() for name in graph.node[-1].input[1:])
    laplace = Laplace(rows, f, train[1], (weight ** 2).sum() + (bias ** 2).sum())
    laplace.t = o.prior_precision
    if o.prior_precision is None:
        laplace.maximise()
    rows, f = last_layer(network, test[0], scale)
    p = laplace.predict(rows, f)
    found = {"prior_precision": laplace.t, "evidence": laplace.evidence(laplace.t) / laplace.n,
             "mean": metrics(softmax(f), test[1]), "probit": metrics(p, test[1])}
    print(json.dumps(found))
    if o.agrees and not agree(o.agrees, found, p):
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
