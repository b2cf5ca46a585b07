"""The weight decays that ivon-fit chooses, against a grid of them.

The evidence of --tune=marginal is that of no point of the grid less, and the grid's best point is a
neighbour of what it chose, which is the evidence's fixed point N delta |m|^2 = gamma. The test NLL of
--tune=validation is at most .02 nat above the grid's best. The grid is one of half powers of ten.

Beside that, --tune=marginal of the fitted posterior alone finds the same weight decay again, within
the rounding of h to floats, and as much evidence.
"""
import json
import math
import pathlib
import tempfile

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from experiment import DATA, command, metrics, side_by_side, train

GRID = [10 ** (k / 2) for k in range(-10, 5)]
MARGIN = 0.02  # nat
REGRESSION = ["--likelihood=gaussian"]
SETS = {  # rows for training, validation and test; the network; the training
    "digits": (1100, 300, 397, "mlp:64,32,10,tanh", ["--lr=0.005", "--epochs=30"]),
    "text-mr": (1500, 500, 800, None, ["--lr=0.01", "--epochs=6"]),
    "uci-energy": (541, 150, 77, "mlp:8,50,1,tanh", ["--lr=0.01", "--epochs=100"]),
    "uci-concrete": (727, 200, 103, "mlp:8,50,1,tanh", ["--lr=0.01", "--epochs=100"]),
}


def split(source, target, train_rows, valid_rows, test_rows):
    """Training rows in two groups, as a permutation has them, and the first test rows."""
    with h5py.File(source) as data, h5py.File(target, "w") as parts:
        order = np.random.default_rng(0).permutation(len(data["train/x"]))
        for name in ("x", "y"):
            values = data[f"train/{name}"][()]
            parts[f"train/{name}"] = values[order[:train_rows]]
            parts[f"valid/{name}"] = values[order[train_rows:train_rows + valid_rows]]
            parts[f"test/{name}"] = data[f"test/{name}"][:test_rows]


def bag_of_words(path, words, width=8, hidden=16):
    """Two layers upon the mean of the words' embeddings, with initial weights."""
    random = np.random.default_rng(1)
    shapes = {"embedding": (words, width), "fc1.weight": (hidden, width), "fc1.bias": (hidden,),
              "fc2.weight": (2, hidden), "fc2.bias": (2,)}
    weights = [numpy_helper.from_array(np.float32(random.standard_normal(s) / math.sqrt(s[-1])), n)
               for n, s in shapes.items()]
    nodes = [helper.make_node("Gather", ["embedding", "x"], ["e"]),
             helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
             helper.make_node("Gemm", ["m", "fc1.weight", "fc1.bias"], ["z"], transB=1),
             helper.make_node("Tanh", ["z"], ["a"]),
             helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["f"], transB=1)]
    graph = helper.make_graph(nodes, "bag", [helper.make_tensor_value_info("x", TensorProto.INT64, ["n", 48])],
                              [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", 2])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)


def fit(work, name, checkpoint, options, prior):
    """What a fit with this prior says of itself, its file, and the test NLL."""
    data, output = work / f"{name}.h5", work / f"{name}{''.join(prior).replace('/', '')}.h5"
    found = json.loads(command("ivon-fit", checkpoint, f"--data={data}:/train", *options, *prior, "--json",
                               "-o", output, quiet=False))
    noise = [f"--noise-std={found['noise_std']}"] if "noise_std" in found else []
    found["nll"] = metrics(output, [f"--data={data}:/test", *options, *noise], 32)["nll"]
    return found | {"path": output}


def run(work, name):
    """The marginal's, the validation's, and those of the grid; the marginal's tuned again."""
    *rows, network, training = SETS[name]
    data, model = work / f"{name}.h5", work / f"{name}.onnx"
    split(DATA / f"{name}.h5", data, *rows)
    if not network:
        bag_of_words(model, len(open(DATA / "text-vocab.txt").readlines()) + 2)
    likelihood = REGRESSION if name.startswith("uci") else []
    checkpoint = train(work / f"{name}-run", [
        f"--arch={network}" if network else f"--model={model}", f"--data={data}:/train", *likelihood,
        *["--noise-std=1"] * bool(likelihood), "--optimizer=adamw", "--batch=50", *training])
    of = lambda *prior: fit(work, name, checkpoint, likelihood, prior)
    marginal = of("--tune=marginal")
    again = json.loads(command("ivon-fit", marginal["path"], "--tune=marginal", "--json", "-o",
                               work / f"{name}-again.h5", quiet=False))
    return (name, marginal, of("--tune=validation", f"--validation={data}:/valid"),
            [of(f"--weight-decay={decay}") for decay in GRID], again)


def show(name, marginal, validation, grid, again):
    print(f"\n{name}: N = {marginal['n_train']:.0f}, {marginal['parameters']} parameters")
    print(f"{'weight decay':>14} {'evidence/N':>12} {'gamma':>9} {'noise':>8} {'test NLL':>9}")
    for label, point in [(None, p) for p in grid] + [("marginal", marginal), ("validation", validation)]:
        print(f"{point['weight_decay']:14.4g} {point['log_evidence']:12.5g} {point['effective_parameters']:9.1f} "
              f"{point.get('noise_std', math.nan):8.4f} {point['nll']:9.4f} {label or ''}")


def check(name, marginal, validation, grid, again):
    decay, evidence = marginal["weight_decay"], marginal["log_evidence"]
    best = max(grid, key=lambda point: point["log_evidence"])
    least = min(point["nll"] for point in grid)
    fixed = marginal["n_train"] * decay * marginal["squared_norm"] / marginal["effective_parameters"]
    # With the noise h is scaled once more, and each of its elements rounded to 2^-24.
    assert abs(fixed - 1) < 1e-6, f"{name}: N delta |m|^2 is {fixed} gamma"
    assert evidence >= best["log_evidence"] - 1e-6, f"{name}: {evidence}, in the grid {best['log_evidence']}"
    assert abs(math.log10(best["weight_decay"] / decay)) <= 0.5, f"{name}: {decay}, the grid's {best['weight_decay']}"
    assert GRID[0] < best["weight_decay"] < GRID[-1], f"{name}: the best is no inner point of the grid"
    assert validation["nll"] <= least + MARGIN, f"{name}: {validation['nll']}, the grid's least {least}"
    assert abs(again["weight_decay"] / decay - 1) < 1e-6, f"{name}: alone {again['weight_decay']}, fitted {decay}"
    assert abs(again["evidence_gain"]) < 1e-6, f"{name}: alone it gains {again['evidence_gain']}"


def main():
    with tempfile.TemporaryDirectory() as folder:
        found = side_by_side(run, [(pathlib.Path(folder), name) for name in SETS])
    for results in found:
        show(*results)
    for results in found:
        check(*results)


if __name__ == "__main__":
    main()
