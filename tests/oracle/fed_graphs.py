"""Graphs whose data and outputs are not as the engine has them, beside plain ones of the same numbers.

DIR/NAME.onnx is the graph, DIR/NAME-plain.onnx the same function of examples first, with logits of
examples x [tokens x] classes; post.h5 serves both of them. x.npy etc. are data; NAME.npy is what numpy
has for the outputs, in float64.

Usage: fed_graphs.py DIR
"""
import os
import sys

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXAMPLES, FEATURES, CLASSES, TOKENS = 7, 4, 3, 6
r = np.random.default_rng(11)
directory = sys.argv[1]
node = helper.make_node
w = r.standard_normal((CLASSES, FEATURES)).astype("f4")
b = r.standard_normal(CLASSES).astype("f4")
v = r.standard_normal((CLASSES, 2 * FEATURES)).astype("f4")
state = r.standard_normal((1, 1, FEATURES)).astype("f4")


def at(name):
    return os.path.join(directory, name)


def value(name, shape, type=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, type, shape)


def graph(name, nodes, inputs, outputs, given=(), opset=17):
    """Initializers of parameters are zero: numbers can be the checkpoint's alone."""
    parameters = {"w": w, "b": b, "v": v}
    used = {i for n in nodes for i in n.input}
    tensors = [numpy_helper.from_array(np.zeros_like(p), n) for n, p in parameters.items() if n in used]
    tensors += [t if isinstance(t, TensorProto) else numpy_helper.from_array(np.asarray(t[1]), t[0])
                for t in given]
    model = helper.make_graph(nodes, name, inputs, outputs, tensors)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(model, opset_imports=imports), at(name + ".onnx"))


def dense(x="x", y="z"):
    return node("Gemm", [x, "w", "b"], [y], transB=1)


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


with h5py.File(at("post.h5"), "w", track_order=True) as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=50.0, weight_decay=1e-2)
    for name, mean in (("w", w), ("b", b), ("v", v)):
        f["mean/" + name] = mean
        f["hessian/" + name] = r.gamma(2.0, 0.5, mean.shape).astype("f4")
    f["buffers/state"] = state

x = r.standard_normal((EXAMPLES, FEATURES)).astype("f4")
s = r.standard_normal((EXAMPLES, TOKENS, FEATURES)).astype("f4")
labels = r.integers(0, CLASSES, EXAMPLES)
token_labels = r.integers(0, CLASSES, (EXAMPLES, TOKENS))
events = r.integers(0, 2, (EXAMPLES, CLASSES))
logits = np.float64(x) @ np.float64(w).T + b
token_logits = np.float64(s) @ np.float64(w).T + b
np.savez(at("x.npz"), x=x, y=labels, events=events)
np.savez(at("s.npz"), x=s, y=token_labels)
np.save(at("logits.npy"), logits)
np.save(at("softmax.npy"), softmax(logits))
np.save(at("sigmoid.npy"), 1 / (1 + np.exp(-logits)))
np.save(at("tokens.npy"), token_logits)
np.save(at("tokens-softmax.npy"), softmax(token_logits))

# One output of examples x classes.
X, Y = value("x", ["n", FEATURES]), value("y", ["n", CLASSES])
graph("plain", [dense(y="y")], [X], [Y])
graph("softmax", [dense(), node("Softmax", ["z"], ["y"], axis=1)], [X], [Y])
graph("log_softmax", [dense(), node("LogSoftmax", ["z"], ["y"])], [X], [Y])
graph("softmax_passed",
      [dense(), node("Softmax", ["z"], ["p"]), node("Cast", ["p"], ["c"], to=1),
       node("Unsqueeze", ["c", "axis"], ["u"]), node("Reshape", ["u", "shape"], ["q"]),
       node("Identity", ["q"], ["y"])],
      [X], [Y], [("axis", [1]), ("shape", [0, -1])])
graph("softmax_of_two", [dense(), node("Softmax", ["z"], ["y"], axis=0)], [X], [Y])
graph("softmax_used", [dense(), node("Softmax", ["z"], ["p"]), node("Identity", ["p"], ["q"]),
                       node("Mul", ["p", "zero"], ["r"]), node("Add", ["q", "r"], ["y"])],
      [X], [Y], [("zero", np.float32(0))])
graph("sigmoid", [dense(), node("Sigmoid", ["z"], ["y"])], [X], [Y])
graph("exp", [dense(), node("Exp", ["z"], ["e"]), node("ReduceSum", ["e", "axis"], ["t"]),
              node("Div", ["e", "t"], ["y"])], [X], [Y], [("axis", [1])])
graph("logistic", [dense(), node("Neg", ["z"], ["m"]), node("Exp", ["m"], ["e"]),
                   node("Add", ["e", "one"], ["t"]), node("Reciprocal", ["t"], ["y"])],
      [X], [Y], [("one", np.float32(1))])
graph("rank4", [dense(), node("Unsqueeze", ["z", "axes"], ["y"])], [X], [value("y", None)],
      [("axes", [2, 3])])
graph("rank1", [dense(), node("ReduceSum", ["z", "axis"], ["y"], keepdims=0)], [X],
      [value("y", ["n"])], [("axis", [1])])
np.save(at("rank1.npy"), logits.sum(1, keepdims=True))

# Several outputs. The label is what sklearn's classifiers are exported with; its operator is of
# another domain, its classes are strings, and `v` is a parameter of the last output alone.
strings = helper.make_tensor("classes", TensorProto.STRING, [CLASSES], [b"a", b"b", b"c"])
graph("labelled",
      [dense(), node("Softmax", ["z"], ["p"]), node("Unknown", ["p"], ["i"], domain="ai.onnx.ml"),
       node("ArrayFeatureExtractor", ["classes", "i"], ["label"], domain="ai.onnx.ml"),
       node("Concat", ["x", "mask"], ["d"], axis=1), node("Gemm", ["d", "v"], ["other"], transB=1)],
      [X, value("mask", ["n", FEATURES])],
      [value("label", ["n"], TensorProto.STRING), value("p", ["n", CLASSES]),
       value("z", ["n", CLASSES]), value("other", ["n", CLASSES]), value("i", ["n"])], [strings])

# As many rows as there are examples, whatever is fed: the batch's, named backwards; no examples'.
graph("rows_named", [dense(), node("GatherND", ["z", "rows"], ["y"])], [X], [value("y", None)],
      [("rows", np.arange(EXAMPLES)[::-1, None])])
np.save(at("rows_named.npy"), logits[::-1])
graph("rows_of_none", [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Expand", ["m", "shape"], ["e"]),
                       dense("e", "y")], [X], [value("y", None)], [("shape", [EXAMPLES, FEATURES])])
np.save(at("rows_of_none.npy"), np.repeat(logits.mean(0, keepdims=True), EXAMPLES, 0))

# Axes of tokens and of classes.
S = value("x", ["n", TOKENS, FEATURES])
tokens = [node("MatMul", ["x", "wt"], ["m"]), node("Add", ["m", "b"], ["z"])]
turned = [node("Transpose", ["w"], ["wt"], perm=[1, 0])]
graph("tokens-plain", turned + tokens, [S], [value("z", ["n", TOKENS, CLASSES])])
picture = [node("Transpose", ["z"], ["c"], perm=[0, 2, 1]), node("Reshape", ["c", "shape"], ["image"])]
given = [("shape", [0, 0, 2, TOKENS // 2])]
I = value("y", ["n", CLASSES, 2, TOKENS // 2])
graph("segmentation", turned + tokens + picture + [node("Identity", ["image"], ["y"])], [S], [I], given)
graph("segmentation_softmax", turned + tokens + picture + [node("Softmax", ["image"], ["y"], axis=1)],
      [S], [I], given)
graph("token_sums", turned + tokens + [node("ReduceSum", ["z", "axis"], ["y"], keepdims=0)], [S],
      [value("y", ["n", TOKENS])], [("axis", [2])])
np.save(at("token_sums.npy"), token_logits.sum(2)[:, :, None])
np.save(at("flat.npy"), token_logits.transpose(0, 2, 1).reshape(EXAMPLES, -1))

# Sequences first: the data stay examples first.
Q = value("x", [TOKENS, "n", FEATURES])
graph("sequence", turned + tokens + [node("Identity", ["z"], ["y"])], [Q],
      [value("y", [TOKENS, "n", CLASSES])])
graph("sequence_unsaid", turned + tokens + [node("Identity", ["z"], ["y"])], [Q], [value("y", None)])
graph("sequence_end", turned + tokens + [node("Gather", ["z", "last"], ["y"], axis=0)], [Q],
      [value("y", ["n", CLASSES])], [("last", np.int64(TOKENS - 1))])
np.save(at("sequence_end.npy"), token_logits[:, -1])

# Inputs: values that are set, a buffer for all examples, several arrays, booleans.
graph("set", [node("Cast", ["rate"], ["r"], to=1), node("Mul", ["x", "r"], ["a"]),
              node("Slice", ["a", "starts", "ends", "axes"], ["c"]),
              node("Where", ["flag", "c", "x"], ["d"]), dense("d", "y")],
      [X, value("rate", [], TensorProto.INT64), value("starts", ["k"], TensorProto.INT64),
       value("ends", ["k"], TensorProto.INT64), value("flag", [1, FEATURES], TensorProto.BOOL)],
      [Y], [("axes", [0, 1])])
np.save(at("set.npy"), 3 * np.float64(x) @ np.float64(w).T + b)
graph("state", [node("Squeeze", ["state", "axis"], ["h"]), node("Concat", ["x", "h"], ["d"], axis=1),
                node("Gemm", ["d", "v"], ["y"], transB=1)],
      [X, value("state", [1, "n", FEATURES])], [Y], [("axis", [0])])
both = np.concatenate([x, np.broadcast_to(state[0], x.shape)], 1)
np.save(at("state.npy"), np.float64(both) @ np.float64(v).T)
graph("several", [node("Where", ["mask", "left", "right"], ["d"]), dense("d", "y")],
      [value("left", ["n", FEATURES]), value("right", ["n", FEATURES]),
       value("mask", ["n", FEATURES], TensorProto.BOOL)], [Y])
mask = r.integers(0, 2, x.shape)
right = r.standard_normal(x.shape).astype("f4")
np.savez(at("several.npz"), left=x, right=right, mask=mask, y=labels)
np.savez(at("wrong.npz"), left=x, right=right, mask=mask + 1, y=labels)
np.save(at("several.npy"), np.where(mask, x, right).astype("f8") @ np.float64(w).T + b)
graph("pixels", [dense("pixels", "y")], [value("pixels", ["n", FEATURES])], [Y])
np.savez(at("pixels.npz"), pixels=x, y=labels)
