"""Dropout in a training, by numpy in double precision: each step of SGD, with a rate of 1/2 and all examples, of a
network of two hidden layers must have moved the weights by the gradient of the loss with masks that are made anew from
their addresses (lib/train/trainer/dropout.c).

usage: training_dropout.py DATA RUN SEED RATIO STEPS
"""
import sys

import h5py
import numpy as np
import onnx

from normals import words


def mask(seed, epoch, name, examples, size, ratio):
    blocks = -(-size // 8)
    # Elements of an example follow each other in its blocks; the examples, too.
    halves = words(seed, epoch, f"/dropout/0/{name}", 0, examples * blocks).astype("<u8").view("<u4")
    kept = halves.reshape(examples, 8 * blocks)[:, :size] >= round(ratio * 2**32)
    return kept / (1 - ratio)


def gradient(m, x, y, masks):
    kept, hidden = [x], []
    for i, scale in enumerate(masks):
        z = kept[-1] @ m[f"fc{i + 1}.weight"].T + m[f"fc{i + 1}.bias"]
        hidden.append(z)
        kept.append(np.maximum(z, 0) * scale)
    f = kept[-1] @ m["fc3.weight"].T + m["fc3.bias"]
    e = np.exp(f - f.max(1, keepdims=True))
    e /= e.sum(1, keepdims=True)
    e[np.arange(len(y)), y] -= 1
    e /= len(y)
    found = {}
    for i in (2, 1, 0):
        found[f"fc{i + 1}.weight"], found[f"fc{i + 1}.bias"] = e.T @ kept[i], e.sum(0)
        if i:
            e = e @ m[f"fc{i + 1}.weight"] * masks[i - 1] * (hidden[i - 1] > 0)
    return found


def main():
    data, run, seed, ratio, steps = sys.argv[1:]
    seed, ratio = int(seed), float(np.float32(ratio))
    with h5py.File(data) as f:
        x, y = f["x"][()].astype(float), f["y"][()]
    for step in range(1, int(steps)):
        with h5py.File(f"{run}/posterior-{step:08d}.h5") as f:
            before = {name: value[()].astype(float) for name, value in f["mean"].items()}
            graph = onnx.load_from_string(f["model.onnx"][()].tobytes()).graph
        with h5py.File(f"{run}/posterior-{step + 1:08d}.h5") as f:
            after = {name: value[()].astype(float) for name, value in f["mean"].items()}
        names = [node.output[0] for node in graph.node if node.op_type == "Dropout"]
        masks = [mask(seed, step, name, len(x), len(before[f"fc{i + 1}.bias"]), ratio) for i, name in enumerate(names)]
        assert len(masks) == 2 and 0 < masks[0].mean() < 2
        for name, expected in gradient(before, x, y, masks).items():
            moved = 2 * (before[name] - after[name])
            # Means of 48 products of outputs below 8, of sums of up to 10 terms; weights below 2 round to 2^-24.
            assert np.abs(moved - expected).max() < 60 * 8 * 2.0**-24 + 2.0**-22, (name, np.abs(moved - expected).max())
            assert np.abs(expected).max() > 1e-3


main()
