"""ONNX's own test cases for single operators, as files for tests/conformance/run.c.

onnx_cases.py DIRECTORY   writes each case that applies as DIRECTORY/NAME/{model.onnx, input_N.npy,
                          output_N.npy}, and checks onnx_not_applicable.txt beside this file
onnx_cases.py --list      prints what that file should hold: every other case, and why

Inputs that shapes are made from (a Reshape's second, say) become initializers: plans need them. Cases
of an older opset become ones of opset 13 where their operators did not change until then.
"""
import os
import sys

import numpy as np

for alias in ("float", "int", "bool", "object"):  # onnx 1.12 uses what numpy 1.24 has no more
    setattr(np, alias, {"float": float, "int": int, "bool": bool, "object": object}[alias])

import onnx
from onnx import TensorProto as T
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from onnx_arities import rows

OPERATORS, OPSETS = rows(), range(13, 18)
TYPES = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT64, T.INT32, T.INT16, T.INT8, T.UINT32, T.UINT16, T.UINT8,
         T.BOOL}
# Inputs that shapes are made from; None: all.
PLANNED = {"Reshape": {1}, "Expand": {1}, "Tile": {1}, "Slice": {1, 2, 3, 4}, "Pad": {1},
           "Squeeze": {1}, "Unsqueeze": {1}, "Split": {1}, "ReduceSum": {1}, "ConstantOfShape": None,
           "Range": None}
# What pooling does not do here.
OTHERS = {"test_averagepool_3d_default": "three spatial axes",
          "test_maxpool_3d_default": "three spatial axes",
          "test_maxpool_2d_uint8": "pooling of integers"}


def opset_of(model):
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def renewed(model):
    """The model with opset 13 in place of an older one, if that changes no operator in it."""
    old = opset_of(model)
    known = [node.op_type for node in model.graph.node if node.op_type in OPERATORS]
    if old >= OPSETS[0] or any(
            onnx.defs.get_schema(name, OPSETS[0], "").since_version > old for name in known):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for imported in copy.opset_import:
        if imported.domain in ("", "ai.onnx"):
            imported.version = OPSETS[0]
    return copy


def attribute(node, name, default):
    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def why_not(model):
    """Why a case does not apply, or None."""
    graph = model.graph
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            return f"the domain {node.domain}"
        if node.op_type not in OPERATORS:
            return f"the operator {node.op_type}"
        if node.op_type == "Dropout" and len(node.input) > 2:
            return "training mode"
    if opset_of(model) not in OPSETS:
        return f"opset {opset_of(model)}"
    for info in [*graph.input, *graph.output]:
        if not info.type.HasField("tensor_type"):
            return f"{info.name} is no tensor"
        if info.type.tensor_type.elem_type not in TYPES:
            return f"{info.name} is of type {T.DataType.Name(info.type.tensor_type.elem_type).lower()}"
    return None


def planned_inputs(graph):
    """The graph inputs that shapes are made from, directly or by way of other nodes."""
    producer = {name: node for node in graph.node for name in node.output}
    found, waiting = set(), []
    for node in graph.node:
        places = PLANNED.get(node.op_type, set())
        waiting += [n for i, n in enumerate(node.input) if places is None or i in places]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name in producer and producer[name].op_type not in ("Shape", "Size"):
            waiting += producer[name].input
    return found


def write(case, directory):
    inputs, outputs = case.data_sets[0]
    model = onnx.ModelProto()
    model.CopyFrom(renewed(case.model))
    graph = model.graph
    planned = planned_inputs(graph)
    kept = []
    for info, value in zip(list(graph.input), inputs):
        if info.name in planned:
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), info.name))
        else:
            kept.append((info, np.asarray(value)))
    del graph.input[:]
    graph.input.extend(info for info, _ in kept)
    os.makedirs(directory)
    with open(os.path.join(directory, "model.onnx"), "wb") as f:
        f.write(model.SerializeToString())
    for kind, values in [("input", [v for _, v in kept]), ("output", outputs)]:
        for i, value in enumerate(values):
            np.save(os.path.join(directory, f"{kind}_{i}.npy"), np.array(value, order="C"))


def main():
    np.random.seed(0)
    cases = {}
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        name = case.name
        while name in cases:  # two share theirs with another
            name += "_again"
        cases[name] = case
    reasons = {name: OTHERS.get(name) or why_not(renewed(case.model)) for name, case in cases.items()}
    listing = "".join(f"{name}: {why}\n" for name, why in reasons.items() if why)
    if sys.argv[1:] == ["--list"]:
        print(listing, end="")
        return 0
    for name, case in cases.items():
        if not reasons[name]:
            write(case, os.path.join(sys.argv[1], name))
    beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnx_not_applicable.txt")
    with open(beside) as f:
        if f.read() != listing:
            print(f"{beside}: is not what onnx_cases.py --list prints", file=sys.stderr)
            return 1
    print(f"{sum(not why for why in reasons.values())} of {len(cases)} cases apply")
    return 0


if __name__ == "__main__":
    sys.exit(main())
