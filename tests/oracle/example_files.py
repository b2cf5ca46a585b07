"""example_files.py DIRECTORY: what the examples of ivon-predict(1), ivon-onnx(7) and ivon-merge(1) take: three posteriors
of a small classifier with the graph inside, the graph, once more with the first posterior's weights transposed in it,
data, more of them by another rule, images of two classes, texts of two, a program that predicts with one checkpoint, and a recipe of
a merge."""
import os
import sys

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.dont_write_bytecode = True
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import images  # noqa: E402

FEATURES, CLASSES, EXAMPLES = 4, 3, 60
RECIPE = """merge_method: task_arithmetic
base_model: base.h5
models:
  - model: cr.h5
    parameters:
      weight:
        - filter: weight
          value: [0, 0.7]
        - value: 0.5
  - model: mpqa.h5
parameters:
  weight: 0.3
dtype: float32
"""
PREDICT = """#!/usr/bin/python3
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as c, h5py.File("test.h5") as d:
    f = d["x"][()] @ c["mean/weight"][()].T + c["mean/bias"][()]
p = np.exp(f - f.max(1, keepdims=True))
np.save(sys.argv[2], (p / p.sum(1, keepdims=True)).astype("f4"))
"""


def graph():
    info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["f"], transB=1)]
    inputs = [info("x", tensor, ["n", FEATURES]), info("weight", tensor, [CLASSES, FEATURES]),
              info("bias", tensor, [CLASSES])]
    made = helper.make_graph(nodes, "classifier", inputs, [info("f", tensor, ["n", CLASSES])])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def classifier():
    """As sklearn's classifiers are exported: a label, and probabilities."""
    info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["f"], transB=1),
             helper.make_node("Softmax", ["f"], ["probabilities"], axis=1),
             helper.make_node("TopLabel", ["f"], ["label"], domain="com.example")]
    inputs = [info("x", tensor, ["n", FEATURES]), info("weight", tensor, [CLASSES, FEATURES]),
              info("bias", tensor, [CLASSES])]
    outputs = [info("label", TensorProto.INT64, ["n"]), info("probabilities", tensor, ["n", CLASSES])]
    made = helper.make_graph(nodes, "classifier", inputs, outputs)
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.example", 1)]
    return helper.make_model(made, opset_imports=imports).SerializeToString()


def folded(weight, bias):
    """As exporters write a linear layer whose transpose they have computed."""
    info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("MatMul", ["x", "onnx::MatMul_5"], ["product"]),
             helper.make_node("Add", ["product", "bias"], ["f"])]
    weights = [numpy_helper.from_array(np.ascontiguousarray(weight.T), "onnx::MatMul_5"),
               numpy_helper.from_array(bias, "bias")]
    made = helper.make_graph(nodes, "classifier", [info("x", tensor, ["n", FEATURES])],
                             [info("f", tensor, ["n", CLASSES])], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def photos(directory):
    """Grey, of several sizes: cats are dark below, dogs above."""
    for label, name in enumerate(("cat", "dog")):
        os.makedirs(os.path.join(directory, name))
        for i in range(8):
            rows = np.linspace(0, 255, 40 + i)[:, None] * np.ones(50 - 2 * i)
            pixels = (rows[::1 if label else -1] * (1 - i / 20)).astype("u1")
            images.write_png(os.path.join(directory, name, f"{i + 1:02}.png"), pixels)


REVIEWS = """label,text
1,"A good, good film"
0,Never again !
1,Good !
0,A film again and again
"""
WORDS = "<pad>\n<unk>\ngood\nfilm\nagain\n!\na\nnever\n"


def main(directory):
    random = np.random.default_rng(0)
    weight, bias = random.standard_normal((CLASSES, FEATURES)), random.standard_normal(CLASSES)
    bytes_ = graph()
    with open(os.path.join(directory, "model.onnx"), "wb") as file:
        file.write(bytes_)
    with open(os.path.join(directory, "classifier.onnx"), "wb") as file:
        file.write(classifier())
    for name in ("posterior", "a", "b"):
        with h5py.File(os.path.join(directory, name + ".h5"), "w") as f:
            f.attrs.update(format="ivon-posterior", format_version=1, ess=100.0, weight_decay=1e-3)
            means = {}
            for tensor, value in (("weight", weight), ("bias", bias)):
                means[tensor] = (value + 0.1 * random.standard_normal(value.shape)).astype("f4")
                f["mean/" + tensor] = means[tensor]
                f["hessian/" + tensor] = np.full(value.shape, 0.1, "f4")
            f["model.onnx"] = np.frombuffer(bytes_, "u1")
        if name == "posterior":
            with open(os.path.join(directory, "folded.onnx"), "wb") as file:
                file.write(folded(**means))
    with h5py.File(os.path.join(directory, "test.h5"), "w") as f:
        x = random.standard_normal((EXAMPLES, FEATURES)).astype("f4")
        f["x"], f["y"] = x, (x @ weight.T + bias).argmax(1)
    with h5py.File(os.path.join(directory, "new.h5"), "w") as f:
        x = random.standard_normal((EXAMPLES, FEATURES)).astype("f4")
        f["x"], f["y"] = x, (x @ (weight + 0.7 * random.standard_normal(weight.shape)).T + bias).argmax(1)
    path = os.path.join(directory, "predict")
    with open(path, "w") as file:
        file.write(PREDICT)
    with open(os.path.join(directory, "recipe.yml"), "w") as file:
        file.write(RECIPE)
    os.chmod(path, 0o755)
    photos(os.path.join(directory, "photos"))
    for name, text in (("reviews.csv", REVIEWS), ("words.txt", WORDS)):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)


main(sys.argv[1])
