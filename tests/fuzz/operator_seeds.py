"""Graphs of one operator each, of the cases in tests/oracle/forward_cases.py: every row of lib/net/ops."""
import os
import sys

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))

LATEST = 28
TYPES = {np.dtype("f4"): T.FLOAT, np.dtype("i8"): T.INT64, np.dtype("?"): T.BOOL, np.dtype("i1"): T.INT8,
         np.dtype("u1"): T.UINT8, np.dtype("i2"): T.INT16, np.dtype("u2"): T.UINT16}


def attribute(value):
    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value


def graphs(parameters):
    """The bytes of a graph for each case: its first input of floats is the graph's input x, all others are
    constants. With `parameters`, those of floats have names of parameters, of which there is one at least."""
    try:
        import forward_cases
    except ImportError:  # no PyTorch, which computes the answers
        return
    for op, opset, domain, inputs, outputs, attributes in forward_cases.CASES:
        if domain == "ivon":
            continue
        names, given, constants, nodes = [], [], [], []
        for i, value in enumerate(inputs):
            if value is None:
                names.append("")
            elif not given and value.dtype == np.float32:
                names.append("x")
                given.append(helper.make_tensor_value_info("x", T.FLOAT, value.shape))
            else:
                names.append(("w" if parameters and value.dtype == np.float32 else "c") + str(i))
                constants.append(numpy_helper.from_array(np.array(value, order="C"), names[-1]))
        if parameters and given and not any(c.name[0] == "w" for c in constants):
            nodes.append(helper.make_node("Mul", ["x", "w"], ["xw"]))
            constants.append(numpy_helper.from_array(np.ones((), "f4"), "w"))
            names[names.index("x")] = "xw"
        results = [f"y{i}" if value is not None else "" for i, value in enumerate(outputs)]
        nodes.append(helper.make_node(op, names, results, domain=domain or "",
                                      **{name: attribute(value) for name, value in attributes.items()}))
        infos = [helper.make_tensor_value_info(name, TYPES.get(value.dtype, T.FLOAT), value.shape)
                 for name, value in zip(results, outputs) if name]
        imports = [helper.make_opsetid("", opset or LATEST), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(helper.make_graph(nodes, "case", given, infos, constants), opset_imports=imports)
        yield model.SerializeToString()


def write(parameters):
    """Into the current directory."""
    for i, model in enumerate(graphs(parameters)):
        with open(f"operator-{i}.onnx", "wb") as file:
            file.write(model)
