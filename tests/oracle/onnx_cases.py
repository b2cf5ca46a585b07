"""ONNX's own test cases for single operators, as files for tests/conformance/run.c.

onnx_cases.py --package TO          writes each case of the onnx package, but those of other than tensors of
                                    numbers, as TO/NAME/{model.onnx, input_N.npy, output_N.npy}
onnx_cases.py --prepare FROM TO     writes the cases that FROM holds as such files, likewise
onnx_cases.py --judge LIST FROM     reads what the program of run.c printed about the cases in FROM, says how
                                    many pass, and checks that LIST, of lines `NAME: why`, names the others
onnx_cases.py --failures LIST FROM RUN   reads the same, and prints what LIST should hold; what has no reason
                                    to fail goes to standard error. RUN is the program, whose option
                                    --operators says what is supported

Inputs that shapes are made from (a Reshape's second, say) become initializers: plans need them.
"""
import os
import re
import subprocess
import sys

import numpy as np

for alias in ("float", "int", "bool", "object"):  # onnx 1.12 uses what numpy 1.24 has no more
    setattr(np, alias, {"float": float, "int": int, "bool": bool, "object": object}[alias])

import onnx
from onnx import TensorProto as T
from onnx import numpy_helper

OPSETS = range(7, 29)
TYPES = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT64, T.INT32, T.INT16, T.INT8, T.UINT32, T.UINT16, T.UINT8,
         T.UINT64, T.BOOL}
NARROW = TYPES - {T.FLOAT, T.DOUBLE, T.FLOAT16, T.INT64, T.BOOL}  # here they are int64
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
# Inputs that shapes, or loops, are made from; None: all.
PLANNED = {"Reshape": {1}, "Expand": {1}, "Tile": {1}, "Slice": {1, 2, 3, 4}, "Pad": {1, 3},
           "Squeeze": {1}, "Unsqueeze": {1}, "Split": {1}, "Resize": {1, 2, 3}, "Upsample": {1},
           "TopK": {1}, "CumSum": {1}, "CumProd": {1}, "OneHot": {1}, "Trilu": {1},
           "CenterCropPad": {1}, "Col2Im": {1, 2}, "AffineGrid": {1}, "MaxUnpool": {2}, "DFT": {1, 2},
           "STFT": {1, 3}, "Compress": {1}, "NonZero": None, "Unique": None, "NonMaxSuppression": None,
           "ConstantOfShape": None, "Range": None, "BlackmanWindow": None, "HammingWindow": None,
           "HannWindow": None, "MelWeightMatrix": None, "Dropout": {1, 2}, "If": {0}, "Loop": {0, 1},
           **{"Reduce" + name: {1} for name in REDUCTIONS}}


class Supported:
    """What a program that was built from run.c supports."""

    def __init__(self, run):
        lines = subprocess.run([run, "--operators"], check=True, capture_output=True, text=True).stdout
        self.rows = {}
        for domain, name, since, until, _ in map(str.split, lines.splitlines()):
            self.rows.setdefault((domain, name), []).append(range(int(since), int(until)))

    def has(self, node, opset):
        domain = node.domain or "ai.onnx"
        return any((domain != "ai.onnx" or opset in versions)
                   for versions in self.rows.get((domain, node.op_type), ()))


def opset_of(model):
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)


def trains(model):
    """Whether an operator runs in training mode."""
    for node in model.graph.node:
        if node.op_type == "Dropout" and len(node.input) > 2:
            return True
        if any(a.name == "training_mode" and a.i for a in node.attribute):
            return True
    return False


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


def write(original, inputs, outputs, directory):
    """The files of one case; `inputs` and `outputs` are in the order of the model's."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
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


def package(target):
    from onnx.backend.test.case.node import collect_testcases  # it computes for seconds
    np.random.seed(0)
    left = 0
    for case in sorted(collect_testcases(None), key=lambda case: case.name):
        name, graph = case.name, case.model.graph
        infos = [*graph.input, *graph.output]
        if not all(i.type.HasField("tensor_type") and i.type.tensor_type.elem_type != T.STRING for i in infos):
            left += 1
            continue
        while os.path.exists(os.path.join(target, name)):  # two share theirs with another
            name += "_again"
        write(case.model, *case.data_sets[0], os.path.join(target, name))
    print(f"{left} cases of sequences, optional values and strings are left out")


def prepare(source, target):
    for name in folders(source):
        model = load(source, name)
        values = [[np.load(os.path.join(source, name, f"{kind}_{i}.npy")) for i in range(len(infos))]
                  for kind, infos in (("input", model.graph.input), ("output", model.graph.output))]
        write(model, *values, os.path.join(target, name))


# What passes.

def folders(directory):
    return sorted(name for name in os.listdir(directory) if name.startswith("test_"))


def load(directory, name):
    return onnx.load(os.path.join(directory, name, "model.onnx"))


# Why an operator is not supported. One without a reason here is a gap, which no list must hide.
RANDOM, SIGNALS = "draws random numbers", "prepares signals, before a network"
UNSUPPORTED = {
    "ImageDecoder": "files of images are no tensors of numbers",
    "TfIdfVectorizer": "counts words, before a network",
    "OptionalGetElement": "optional values are no tensors",
    "OptionalHasElement": "optional values are no tensors",
    "NonMaxSuppression": "how many boxes it gives depends on the data",
    **dict.fromkeys(("Bernoulli", "RandomNormalLike", "RandomUniformLike", "Multinomial"), RANDOM),
    **dict.fromkeys(("DFT", "STFT", "MelWeightMatrix", "BlackmanWindow", "HammingWindow", "HannWindow"), SIGNALS),
}


def elements(graph):
    """The types of the elements that go in and out."""
    found = {info.type.tensor_type.elem_type for info in [*graph.input, *graph.output]
             if info.type.HasField("tensor_type")}
    return found | {tensor.data_type for tensor in graph.initializer}


def type_name(number):
    return T.DataType.Name(number).lower()


def why_failing(model, message, supported):
    """Why a case does not pass, of the kinds that a list may hold; None: it ought to."""
    opset, types = opset_of(model), elements(model.graph)
    if opset not in OPSETS:
        return f"opset {opset}" if opset else "operators of training"
    for node in model.graph.node:
        if node.op_type in UNSUPPORTED and not supported.has(node, opset):
            return f"operator {node.op_type} is not supported: {UNSUPPORTED[node.op_type]}"
    for node in model.graph.node:
        if node.op_type == "Scan" and opset < 9:
            return "operator Scan is not supported as opset 8 has it"
        for a in node.attribute:
            if a.type in (onnx.AttributeProto.STRINGS, onnx.AttributeProto.SPARSE_TENSOR):
                return f"attribute {a.name} is of strings or sparse"
    for unread in types - TYPES:
        return f"element type {type_name(unread)}"
    if "QuantizeLinear" in message and "the zero, is computed" in message:
        return "the integers' type of a computed zero is not kept"
    if not all(supported.has(node, opset) for node in model.graph.node):
        return None
    if trains(model):
        return "training mode"
    narrow = sorted(map(type_name, types & NARROW))
    if narrow and re.search(r"element \d+ ", message):
        return f"element type {narrow[0]} arithmetic"
    if "depends on the data" in message:
        return "data-dependent shape"
    return None


def failures(path):
    """{name: message} of the cases that do not pass, by what the runner printed."""
    with open(path, encoding="utf-8") as f:
        return dict(match.groups() for match in re.finditer(r"(?m)^(test_\w+): (.*)$", f.read()))


def listed(path):
    with open(path, encoding="utf-8") as f:
        return dict(line.rstrip("\n").split(": ", 1) for line in f)


def judge(path, directory, failed):
    names, known = folders(directory), listed(path)
    print(f"{len(names) - len(failed)} of {len(names)} pass")
    faults = [f"{name}: {message}" for name, message in failed.items() if name not in known]
    faults += [f"{name}: is no case, but in {path}" if name not in names else
               f"{name}: passes, but is in {path}" for name in known if name not in failed]
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


def list_failures(path, directory, run, failed):
    supported, known = Supported(run), listed(path)
    for name, message in sorted(failed.items()):
        why = known.get(name) or why_failing(load(directory, name), message, supported)
        print(f"{name}: {why or message}", file=sys.stdout if why else sys.stderr)
    return 0


def main(mode, *arguments):
    if mode == "--package":
        return package(*arguments)
    if mode == "--prepare":
        return prepare(*arguments)
    reported = failures("/dev/stdin")
    return {"--judge": judge, "--failures": list_failures}[mode](*arguments, reported)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
