"""The loss of a training in PyTorch, and of numpy where that is missing: a linear network of tokens takes one step
of SGD with a rate of 1, so that what its weights moved by is the gradient.

training_losses.py write DIRECTORY          the graph and the data
training_losses.py check DIRECTORY RUN:SMOOTHING[:WEIGHT,...] ...
"""
import sys

import h5py
import numpy as np

N, TOKENS, INPUTS, CLASSES, IGNORED = 64, 3, 5, 4, -100


def problem():
    r = np.random.default_rng(5)
    x = r.standard_normal((N, TOKENS, INPUTS)).astype("f4")
    y = r.integers(0, CLASSES, (N, TOKENS)) * r.integers(0, 2, (N, TOKENS))  # class 0 more often than others
    y[r.random((N, TOKENS)) < 0.2] = IGNORED
    return x, y, r.standard_normal((INPUTS, CLASSES)).astype("f4")


def write(directory):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    x, y, w = problem()
    with h5py.File(directory + "/rows.h5", "w") as f:
        f["x"], f["y"] = x, y
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["f"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", TOKENS, INPUTS])],
        [helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", TOKENS, CLASSES])],
        [numpy_helper.from_array(w, "w")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), directory + "/rows.onnx")


def in_torch(f, y, smoothing, weights):
    import torch
    f = torch.tensor(f, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        f, torch.tensor(y), weight=None if weights is None else torch.tensor(weights), ignore_index=IGNORED,
        label_smoothing=smoothing)
    loss.backward()
    return loss.item(), f.grad.numpy()


def in_numpy(f, y, smoothing, weights):
    """What PyTorch documents: the mean of l_n, over the sum of the weights of the targets."""
    w = np.ones(CLASSES) if weights is None else weights
    log_p = f - np.log(np.exp(f - f.max(1, keepdims=True)).sum(1, keepdims=True)) - f.max(1, keepdims=True)
    q = np.zeros_like(f)
    for row in np.flatnonzero(y != IGNORED):
        q[row] = smoothing / CLASSES * w
        q[row, y[row]] += (1 - smoothing) * w[y[row]]
    total = w[y[y != IGNORED]].sum()
    return -(q * log_p).sum() / total, (q.sum(1, keepdims=True) * np.exp(log_p) - q) / total


def check(directory, case):
    run, smoothing, weights = (case + "::").split(":")[:3]
    smoothing, (x, y, w) = float(smoothing), problem()
    counted = y[y != IGNORED]
    if weights == "balanced":  # as scikit-learn's compute_class_weight
        weights = len(counted) / (CLASSES * np.bincount(counted, minlength=CLASSES))
    elif weights:
        weights = np.array(weights.split(","), float)
    else:
        weights = None
    rows = x.reshape(-1, INPUTS).astype(float)
    arguments = (rows @ w.astype(float), y.ravel(), smoothing, weights)
    loss, e = in_numpy(*arguments)
    try:
        other, other_e = in_torch(*arguments)
    except ModuleNotFoundError:
        other, other_e = loss, e
    assert abs(other - loss) < 1e-12 and np.abs(other_e - e).max() < 1e-12
    with h5py.File(f"{directory}/{run}/posterior-00000001.h5") as f:
        moved = w.astype(float) - f["mean/w"][()]
    # Sums of 192 products below 4 in binary32, over 100 and more losses; the weights round to 2^-23.
    assert np.abs(moved - rows.T @ e).max() < 192 * 4 * 2.0**-24 / 100 + 2.0**-22, np.abs(moved - rows.T @ e).max()
    logged = float(open(f"{directory}/{run}/log.csv").read().splitlines()[1].split(",")[2])
    assert abs(logged - loss) < 1e-6 * loss, (logged, loss)


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(sys.argv[2])
    else:
        for case in sys.argv[3:]:
            check(sys.argv[2], case)
