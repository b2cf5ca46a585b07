"""Data that are the same but for what does not count, for a linear network of tokens.

ignored_targets.py DIRECTORY: posterior.h5 with its graph, other.h5; groups of data.h5:
  short      20 sequences of 2 tokens, all of which count
  padded     the same with 3 tokens of padding each, and a 21st sequence that does not count at all
  far, far_padded   data of another kind, likewise
  flat       the rows of `short`, for a network without tokens; flat_holes: with two that do not count
  events, events_holes   the same for Bernoulli likelihoods
  numbers    for regression; nan_x, nan_y, inf_x: with one that is not finite
"""

import sys

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper

FEATURES, CLASSES, SEQUENCES, IGNORED = 3, 3, 20, -100


def graph(tokens):
    axes = ["n", "t"] if tokens else ["n"]
    info = helper.make_tensor_value_info
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["h"]),
             helper.make_node("Add", ["h", "bias"], ["f"])]
    inputs = [info("x", TensorProto.FLOAT, [*axes, FEATURES]),
              info("weight", TensorProto.FLOAT, [FEATURES, CLASSES]),
              info("bias", TensorProto.FLOAT, [CLASSES])]
    made = helper.make_graph(nodes, "linear", inputs,
                             [info("f", TensorProto.FLOAT, [*axes, CLASSES])])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def posterior(path, weight, tokens, random):
    with h5py.File(path, "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=80.0, weight_decay=0.01)
        for name, value in (("weight", weight), ("bias", np.zeros(CLASSES))):
            f["mean/" + name] = value.astype("f4")
            f["hessian/" + name] = random.gamma(2.0, 0.2, value.shape).astype("f4")
        f["model.onnx"] = np.frombuffer(graph(tokens), "u1")


def put(f, group, x, y):
    f[group + "/x"], f[group + "/y"] = x, y


def pad(x, y):
    """Three tokens of padding behind each sequence, and a sequence of them alone."""
    long = np.zeros((len(x) + 1, 5, FEATURES), "f4")
    labels = np.full((len(x) + 1, 5), IGNORED)
    long[:-1, :2], labels[:-1, :2] = x, y
    return long, labels


def main(directory):
    random = np.random.default_rng(3)
    weight = random.standard_normal((FEATURES, CLASSES))
    posterior(f"{directory}/posterior.h5", weight, True, random)
    posterior(f"{directory}/other.h5", random.standard_normal((FEATURES, CLASSES)), True, random)
    posterior(f"{directory}/flat.h5", weight, False, random)
    x = random.standard_normal((SEQUENCES, 2, FEATURES)).astype("f4")
    y = (x @ weight + random.gumbel(size=(SEQUENCES, 2, CLASSES))).argmax(-1)
    far = (4 * random.standard_normal((SEQUENCES, 2, FEATURES))).astype("f4")
    with h5py.File(f"{directory}/data.h5", "w") as f:
        put(f, "short", x, y)
        put(f, "padded", *pad(x, y))
        put(f, "far", far, np.full((SEQUENCES, 2), 7)) # a class of its own
        put(f, "far_padded", *pad(far, np.full((SEQUENCES, 2), 7)))
        rows, labels = x.reshape(-1, FEATURES), y.reshape(-1)
        events = (rows @ weight > random.logistic(size=(len(rows), CLASSES))).astype("i8")
        numbers = (rows @ weight + 0.3 * random.standard_normal((len(rows), CLASSES))).astype("f4")
        holes = np.insert(np.arange(len(rows)), (5, 11), 0) # rows that are inserted there
        hole = np.isin(np.arange(len(holes)), (5, 12))
        put(f, "flat", rows, labels)
        put(f, "flat_holes", rows[holes], np.where(hole, IGNORED, labels[holes]))
        put(f, "events", rows, events)
        put(f, "events_holes", rows[holes], np.where(hole[:, None], IGNORED, events[holes]))
        some = events.copy()
        some[4, 1] = IGNORED
        put(f, "events_some", rows, some)
        put(f, "numbers", rows, numbers)
        bad = rows.astype("f8")
        bad[6, 1] = np.nan
        put(f, "nan_x", bad, numbers)
        put(f, "inf_x", np.where(np.isnan(bad), np.inf, bad).astype("f4"), numbers)
        bad = numbers.copy()
        bad[8, 2] = np.nan
        put(f, "nan_y", rows, bad)
        put(f, "one", rows[:1], labels[:1])


main(sys.argv[1])
