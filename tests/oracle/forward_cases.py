"""Small cases of every operator of lib/net/ops, as C for tests/unit/forward.c.

usage: forward_cases.py > tests/unit/forward_fixture.h

Outputs are computed in double by numpy and PyTorch, from the definitions that ONNX gives. The random
inputs are odd multiples of 1/16, each once: sums and products of two of them are exact, and none is
near a kink. forward.c demands a case of every operator, and of every attribute of it.
"""
import zlib

import numpy as np
import torch
from torch.nn import functional as F

WIDTH = 100
FLOATS, INTEGERS, BOOLEANS = np.float32, np.int64, np.bool_
MACROS = {np.dtype(FLOATS): "FLOATS", np.dtype(INTEGERS): "INTEGERS", np.dtype(BOOLEANS): "BOOLEANS"}
CASES = []
rng = None  # of a family: a case behind its others leaves every number as it is


def numbers(*shape, low=-3, high=3):
    """Odd multiples of 1/16 between the two, none twice, in any order."""
    odd = np.arange(low * 16 + 1 - low * 16 % 2, high * 16, 2)
    count = int(np.prod(shape))
    assert count <= len(odd)
    return (rng.permutation(odd)[:count] / 16).reshape(shape).astype(FLOATS)


def integers(*values, shape=None):
    array = np.array(values, INTEGERS)
    return array if shape is None else array.reshape(shape)


def booleans(*values):
    return np.array(values, BOOLEANS)


def case(op, inputs, outputs, opset=0, domain=None, **attributes):
    """`inputs` may hold None, one that is left out; outputs of floats are rounded once. `opset` chooses a version
    of the operator: the newest."""
    made = []
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        output = output.detach().numpy() if isinstance(output, torch.Tensor) else np.asarray(output)
        made.append(output.astype(FLOATS) if output.dtype == np.float64 else output)
    CASES.append((op, opset, domain, inputs, made, attributes))


def wide(x):
    return x.astype(np.float64) if x.dtype == FLOATS else x


def torched(x):
    return torch.from_numpy(wide(x))


# C.

def number(value):
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (int, np.integer)):
        return str(value)
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = np.format_float_positional(FLOATS(value), unique=True, trim="-")
    return text + ("F" if "." in text else "")


def tensor(value):
    if value is None:
        return "{0}"
    shape = f"SHAPE({', '.join(str(n) for n in value.shape)})" if value.ndim else "SCALAR"
    elements = ", ".join(number(v) for v in value.ravel())
    return f"{MACROS[value.dtype]}({shape}, {elements or 0})"


def attribute(name, value):
    if isinstance(value, str):
        return f'{{"{name}", NET_TEXT, .text = "{value}"}}'
    if isinstance(value, int):
        return f'{{"{name}", NET_INT, .integer = {value}}}'
    if isinstance(value, float):
        return f'{{"{name}", NET_FLT, .number = {value!r}}}'
    if isinstance(value, np.ndarray):
        return f'{{"{name}", NET_TENSOR, .tensor = {tensor(value)}}}'
    kind, field, of = ("NET_INTS", "integers", "int64_t") if isinstance(value[0], int) else (
        "NET_FLTS", "numbers", "double")
    values = ", ".join(repr(v) for v in value)
    return f'{{"{name}", {kind}, .count = {len(value)}, .{field} = (const {of}[]){{{values}}}}}'


def wrapped(text, indent):
    """Broken at spaces."""
    lines, line = [], ""
    for word in text.split(" "):
        if line and len(indent + line) + 1 + len(word) > WIDTH:
            lines.append(indent + line)
            line = ""
        line += (" " if line else "") + word
    return "\n".join(lines + [indent + line])


def write():
    print("/* Made by tests/oracle/forward_cases.py (numpy, PyTorch). */\n/* clang-format off */")
    for op, opset, domain, inputs, outputs, attributes in CASES:
        lists = [("inputs", [tensor(value) for value in inputs]), ("outputs", [tensor(value) for value in outputs]),
                 ("attributes", [attribute(*item) for item in attributes.items()])]
        parts = [f'"{op}"', f'"{domain}"' if domain else "NULL", str(opset), str(len(inputs)), str(len(outputs))]
        parts += [f".{name} = {{{', '.join(items)}}}" for name, items in lists if items]
        print(wrapped(f"{{{', '.join(parts)}}},", " ")[1:])


# Of one tensor.

def elementwise():
    x = numbers(2, 5)
    positive = numbers(6, low=1, high=3)
    w = wide(x)
    for op, function in {"Neg": np.negative, "Abs": np.abs, "Sign": np.sign}.items():
        case(op, [x], function(w))
        case(op, [integers(-3, 0, 5)], function(integers(-3, 0, 5)))
    for op, function in {"Exp": np.exp, "Floor": np.floor, "Ceil": np.ceil, "Tanh": np.tanh}.items():
        case(op, [x], function(w))
    for op, function in {"Sqrt": np.sqrt, "Log": np.log, "Reciprocal": np.reciprocal}.items():
        case(op, [positive], function(wide(positive)))
    for op, function in {"Erf": torch.erf, "Sigmoid": torch.sigmoid, "Softplus": F.softplus, "Relu": torch.relu,
                         "HardSwish": F.hardswish}.items():
        case(op, [x], function(torched(x)))
    case("Round", [x], np.round(w))
    case("LeakyRelu", [x], F.leaky_relu(torched(x), 0.25), alpha=0.25)
    case("Elu", [x], F.elu(torched(x), 0.75), alpha=0.75)
    case("HardSigmoid", [x], np.clip(0.25 * w + 0.625, 0, 1), alpha=0.25, beta=0.625)
    case("Identity", [x], w)
    case("Dropout", [x, np.array(0.5, FLOATS), np.array(False)], (w, np.ones(x.shape, BOOLEANS)), seed=3)
    case("IsNaN", [np.array([1, np.nan, np.inf], FLOATS)], booleans(0, 1, 0))
    case("Cast", [x], np.trunc(w).astype(INTEGERS), to=7)
    case("Cast", [x], w != 0, to=9)
    case("Cast", [integers(-2, 0, 7)], np.array([-2, 0, 7], FLOATS), to=1)
    case("Not", [booleans(0, 1)], booleans(1, 0))


# Of several, broadcast to one another.

def arithmetic():
    x, row, column = numbers(2, 3), numbers(3), numbers(2, 1)
    divisor, base = numbers(3, low=1, high=3), numbers(2, 3, low=1, high=3)
    low, high = np.array(-1, FLOATS), np.array(1, FLOATS)
    counts, others = integers(7, -7, 9), integers(2, 2, -4)
    for op, function in {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}.items():
        case(op, [x, row], function(wide(x), wide(row)))
        case(op, [column, row], function(wide(column), wide(row)))
        case(op, [counts, others], function(counts, others))
    case("Div", [x, divisor], wide(x) / wide(divisor))
    case("Div", [counts, others], integers(3, -3, -2))
    case("Pow", [base, row], wide(base) ** wide(row))
    case("Pow", [base, integers(2, 3, 0)], wide(base) ** integers(2, 3, 0))
    for op, function in {"Max": np.maximum, "Min": np.minimum}.items():
        case(op, [x, row, column], function(function(wide(x), wide(row)), wide(column)))
        case(op, [counts, others], function(counts, others))
    case("Sum", [x, row, column], wide(x) + wide(row) + wide(column))
    case("Mean", [x, row, column, x], (2 * wide(x) + wide(row) + wide(column)) / 4)
    case("Clip", [x, low, high], np.clip(wide(x), -1, 1))
    case("Clip", [x, None, high], np.minimum(wide(x), 1))
    for op, function in {"Equal": np.equal, "Less": np.less, "LessOrEqual": np.less_equal,
                         "Greater": np.greater, "GreaterOrEqual": np.greater_equal}.items():
        case(op, [x, x[:1]], function(x, x[:1]))
    first, second = booleans(0, 0, 1, 1), booleans(0, 1, 0, 1)
    for op, function in {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}.items():
        case(op, [first, second], function(first, second))
    case("Where", [np.array([[1], [0]], BOOLEANS), x, row], np.stack([wide(x)[0], wide(row)]))
    for slope in (row, column, numbers(2, 3)):
        case("PRelu", [x, slope], np.where(wide(x) < 0, wide(x) * wide(slope), wide(x)))
    case("PRelu", [counts, others], integers(7, -14, 9))


def products():
    a, b, bias = numbers(2, 3), numbers(3, 4), numbers(4)
    case("Gemm", [a, b], wide(a) @ wide(b))
    case("Gemm", [a, b, bias], 0.5 * (wide(a) @ wide(b)) + 2 * wide(bias), alpha=0.5, beta=2.0)
    case("Gemm", [np.ascontiguousarray(a.T), np.ascontiguousarray(b.T), bias], wide(a) @ wide(b) + wide(bias),
         transA=1, transB=1)
    case("MatMul", [a, b], wide(a) @ wide(b))
    many = numbers(2, 2, 3)
    case("MatMul", [many, b], wide(many) @ wide(b))
    vector = numbers(3)
    case("MatMul", [many, vector], wide(many) @ wide(vector))


# Windows.

def convolution():
    x, w, bias = numbers(1, 2, 3, 4), numbers(2, 2, 2, 2), numbers(2)
    case("Conv", [x, w, bias], F.conv2d(torched(x), torched(w), torched(bias)))
    padded = F.pad(torched(x), (1, 2, 1, 0))  # left, right, top, bottom
    case("Conv", [x, w], F.conv2d(padded, torched(w), stride=(2, 1), dilation=(1, 2)),
         pads=[1, 1, 0, 2], strides=[2, 1], dilations=[1, 2], kernel_shape=[2, 2])
    grouped = numbers(4, 1, 2)
    line = numbers(2, 2, 5)
    case("Conv", [line, grouped], F.conv1d(torched(line), torched(grouped), groups=2), group=2)
    kernel = numbers(1, 2, 2)
    case("Conv", [line, kernel], F.conv1d(F.pad(torched(line), (0, 1)), torched(kernel)), auto_pad="SAME_UPPER")


def pooling():
    x = numbers(1, 2, 3, 4)
    t = torched(x)
    case("AveragePool", [x], F.avg_pool2d(t, 2, (1, 2)), kernel_shape=[2, 2], strides=[1, 2])
    case("AveragePool", [x], F.avg_pool2d(t, 2, 2, 1, count_include_pad=True), kernel_shape=[2, 2],
         strides=[2, 2], pads=[1, 1, 1, 1], count_include_pad=1)
    case("AveragePool", [x], F.avg_pool2d(t, 2, 2, 1, count_include_pad=False), kernel_shape=[2, 2],
         strides=[2, 2], pads=[1, 1, 1, 1])
    case("AveragePool", [x], F.avg_pool2d(t, 2, 2, ceil_mode=True), kernel_shape=[2, 2], strides=[2, 2],
         ceil_mode=1)
    case("AveragePool", [x], F.avg_pool2d(t, (3, 4)), kernel_shape=[3, 4], auto_pad="VALID")
    case("GlobalAveragePool", [x], t.mean((2, 3), keepdim=True))
    case("GlobalMaxPool", [x], t.amax((2, 3), keepdim=True))
    values, places = F.max_pool2d(t, 2, (1, 2), return_indices=True)
    planes = torch.arange(2).reshape(1, 2, 1, 1) * 12
    case("MaxPool", [x], (values, places + planes), kernel_shape=[2, 2], strides=[1, 2])
    by_column = places // 4 + places % 4 * 3
    case("MaxPool", [x], (values, by_column + planes), kernel_shape=[2, 2], strides=[1, 2], storage_order=1)
    case("MaxPool", [x], F.max_pool2d(t, 2, 1, 1, (1, 2)), kernel_shape=[2, 2], dilations=[1, 2],
         pads=[1, 1, 1, 1])
    case("MaxPool", [x], F.max_pool2d(t, 2, 2, ceil_mode=True), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    case("MaxPool", [x], F.max_pool2d(t, (3, 4)), kernel_shape=[3, 4], auto_pad="VALID")


# Normalizations, softmax, reductions.

def normalizations():
    x, scale, bias, mean = numbers(2, 3, 2), numbers(3), numbers(3), numbers(3)
    variance = numbers(3, low=1, high=3)
    t = torched(x)
    case("BatchNormalization", [x, scale, bias, mean, variance],
         F.batch_norm(t, torched(mean), torched(variance), torched(scale), torched(bias), False, 0.1, 0.25),
         epsilon=0.25)
    running = torched(mean), torched(variance)
    trained = F.batch_norm(t, None, None, torched(scale), torched(bias), True, 0.1, 1e-5)
    biased = t.var((0, 2), unbiased=False)
    case("BatchNormalization", [x, scale, bias, mean, variance],
         (trained, 0.75 * running[0] + 0.25 * t.mean((0, 2)), 0.75 * running[1] + 0.25 * biased),
         momentum=0.75, training_mode=1)
    case("InstanceNormalization", [x, scale, bias], F.instance_norm(t, None, None, torched(scale), torched(bias),
                                                                    eps=0.25), epsilon=0.25)
    weight, shift = numbers(3, 2), numbers(3, 2)
    center = t.mean((1, 2), keepdim=True)
    deviation = 1 / torch.sqrt(((t - center) ** 2).mean((1, 2), keepdim=True) + 0.25)
    case("LayerNormalization", [x, weight, shift], ((t - center) * deviation * torched(weight) + torched(shift),
                                                    center, deviation), axis=1, epsilon=0.25, stash_type=1)
    rows, last = numbers(2, 4), numbers(4)
    case("LayerNormalization", [rows, last], F.layer_norm(torched(rows), (4,), torched(last), None, 1e-5))
    case("Softmax", [x], torch.softmax(t, 1), axis=1)
    case("Softmax", [x], torch.softmax(t, -1))
    case("LogSoftmax", [x], torch.log_softmax(t, 1), axis=1)
    case("LogSoftmax", [x], torch.log_softmax(t, -1))


def reductions():
    x = numbers(2, 3, 2)
    w = wide(x)
    for op, function in {"ReduceMax": np.amax, "ReduceMean": np.mean, "ReduceMin": np.amin,
                         "ReduceProd": np.prod}.items():
        case(op, [x], function(w, axis=(0, 2)), opset=17, axes=[0, -1], keepdims=0)
        case(op, [x], function(w, keepdims=True), opset=17)
    case("ReduceSum", [x, integers(1)], w.sum(1), keepdims=0)
    case("ReduceSum", [x], w, noop_with_empty_axes=1)
    case("ReduceSum", [x], w.sum(keepdims=True))


# Elements in other places.

def movements():
    x = numbers(2, 3, 2)
    w = wide(x)
    case("Transpose", [x], w.transpose(1, 2, 0), perm=[1, 2, 0])
    case("Transpose", [x], w.T)
    case("Slice", [x, integers(2, 0), integers(-4, 1), integers(1, 0), integers(-2, 1)], w[0:1, ::-2])
    case("Slice", [x, integers(1), integers(9)], w[1:])
    case("Expand", [x[:, :1], integers(2, 1, 3, 1)], np.broadcast_to(w[:, :1], (2, 2, 3, 2)))
    case("Tile", [x[:1], integers(2, 1, 3)], np.tile(w[:1], (2, 1, 3)))
    case("Concat", [x, x[:, 1:2]], np.concatenate([w, w[:, 1:2]], 1), axis=1)
    case("Split", [x, integers(1, 2)], (w[:, :1], w[:, 1:]), axis=1)
    case("Split", [x], (w[:1], w[1:]))
    case("Gather", [x, integers(2, -3, shape=(2, 1))], w[:, [[2], [0]]], axis=1)
    case("Gather", [x, np.array(1)], w[1])
    places = integers(0, 2, -1, 1, shape=(2, 1, 2))
    case("GatherElements", [x, places], np.take_along_axis(w, places % 3, 1), axis=1)
    plane = numbers(2, 3)
    pads = integers(1, 0, 0, 2)
    case("Pad", [plane, pads, np.array(0.5, FLOATS)],
         np.pad(wide(plane), ((1, 0), (0, 2)), constant_values=0.5), mode="constant")
    case("Pad", [plane, pads], np.pad(wide(plane), ((1, 0), (0, 2)), mode="reflect"), mode="reflect")
    case("Pad", [plane, pads], np.pad(wide(plane), ((1, 0), (0, 2)), mode="edge"), mode="edge")


def shapes():
    x = numbers(2, 3, 1)
    w = wide(x)
    case("Reshape", [x, integers(0, -1)], w.reshape(2, 3))
    case("Reshape", [x, integers(3, 2)], w.reshape(3, 2), allowzero=1)
    case("Flatten", [x], w.reshape(6, 1), axis=2)
    case("Flatten", [x], w.reshape(2, 3))
    case("Squeeze", [x, integers(-1)], w[:, :, 0])
    case("Squeeze", [x], w[:, :, 0])
    case("Unsqueeze", [x, integers(0, -1)], w.reshape(1, 2, 3, 1, 1))
    case("Shape", [x], integers(2, 3, 1))
    case("Shape", [x], integers(3), start=1, end=-1)
    case("Size", [x], np.array(6))
    held = numbers(2, 2)
    case("Constant", [], held, value=held)
    case("Constant", [], np.array(5), value_int=5)
    case("Constant", [], integers(5, -1), value_ints=[5, -1])
    case("Constant", [], np.array(0.5, FLOATS), value_float=0.5)
    case("Constant", [], np.array([0.5, -2], FLOATS), value_floats=[0.5, -2.0])
    case("ConstantOfShape", [integers(2, 1)], np.full((2, 1), 7), value=integers(7))
    case("ConstantOfShape", [integers(2)], np.zeros(2, FLOATS))
    case("Range", [np.array(5), np.array(-2), np.array(-3)], integers(5, 2, -1))
    case("Range", [np.array(0.5, FLOATS), np.array(2, FLOATS), np.array(0.5, FLOATS)],
         np.array([0.5, 1, 1.5], FLOATS))


def conditions():
    x, y = numbers(3, 2), numbers(3, 2)
    case("If", [np.array(True), x, y], wide(x), domain="ivon")
    case("If", [booleans(1, 0, 1), x, y], np.stack([wide(x)[0], wide(y)[1], wide(x)[2]]), domain="ivon")
    case("If", [np.array(False), integers(1, 2), integers(3, 4)], integers(3, 4), domain="ivon")


# Older versions of what stands above, and rows beside it.

def versions():
    x = numbers(2, 3, 2)
    w, t = wide(x), torched(x)
    plane = numbers(2, 3)
    case("Clip", [plane], np.clip(wide(plane), -1, 1), opset=7, min=-1.0, max=1.0)
    case("Clip", [plane], wide(plane), opset=10)
    case("Dropout", [plane], (wide(plane), np.ones(plane.shape, FLOATS)), opset=7, ratio=0.25)
    case("Dropout", [plane], (wide(plane), np.ones(plane.shape, BOOLEANS)), opset=10, ratio=0.25)
    for op, function in {"Softmax": torch.softmax, "LogSoftmax": torch.log_softmax}.items():
        case(op, [x], function(t.reshape(2, 6), 1).reshape(2, 3, 2), opset=12)
        case(op, [x], function(t.reshape(6, 2), 1).reshape(2, 3, 2), opset=12, axis=-1)
        case(op, [x], function(t.reshape(1, 12), 1).reshape(2, 3, 2), opset=7, axis=0)

    def hard(values, shape):
        rows = values.reshape(shape)
        return np.eye(rows.shape[1])[rows.argmax(1)].reshape(values.shape)

    case("Hardmax", [x], hard(w, (2, 6)), opset=12)
    case("Hardmax", [x], hard(w, (6, 2)), opset=12, axis=2)
    case("Hardmax", [x], hard(w, (6, 2)))
    case("Hardmax", [x], hard(w.transpose(0, 2, 1), (4, 3)).transpose(0, 2, 1), axis=1)
    case("ReduceSum", [x], w.sum((0, 2)), opset=11, axes=[0, -1], keepdims=0)
    counts = integers(7, -8, 3, -2, shape=(2, 2))
    for op, function in {"ReduceMax": np.amax, "ReduceMean": np.mean, "ReduceMin": np.amin,
                         "ReduceProd": np.prod}.items():
        case(op, [x, integers(0, -1)], function(w, axis=(0, 2)), keepdims=0)
        case(op, [x, integers(1)], function(w, axis=1, keepdims=True))
        case(op, [x], w, noop_with_empty_axes=1)
        case(op, [x, np.zeros(0, INTEGERS)], function(w, keepdims=True))
        case(op, [counts, integers(1)], np.trunc(function(wide(counts), axis=1, keepdims=True)).astype(INTEGERS))
    flags = np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0]], BOOLEANS)
    case("ReduceMax", [flags, integers(1)], flags.any(1), keepdims=0)
    case("ReduceMin", [flags, integers(1)], flags.all(1), keepdims=0)
    case("ReduceMin", [flags, integers(0)], flags.all(0), keepdims=0)


def norms():
    x = numbers(2, 3, 2)
    positive, counts = numbers(2, 3, 2, low=1, high=3), integers(3, -4, 12, 5, shape=(2, 2))
    rows = {"ReduceL1": (x, lambda v, **k: np.abs(v).sum(**k)),
            "ReduceL2": (x, lambda v, **k: np.sqrt((v * v).sum(**k))),
            "ReduceSumSquare": (x, lambda v, **k: (v * v).sum(**k)),
            "ReduceLogSum": (positive, lambda v, **k: np.log(v.sum(**k))),
            "ReduceLogSumExp": (x, lambda v, **k: np.log(np.exp(v).sum(**k)))}
    for op, (values, function) in rows.items():
        w = wide(values)
        case(op, [values], function(w, axis=(0, 2)), opset=17, axes=[0, -1], keepdims=0)
        case(op, [values], function(w, keepdims=True), opset=7)
        case(op, [values, integers(0, -1)], function(w, axis=(0, 2)), keepdims=0)
        case(op, [values, integers(1)], function(w, axis=1, keepdims=True))
        case(op, [values], function(w, axis=()), noop_with_empty_axes=1)
        whole = np.abs(counts) if op == "ReduceLogSum" else counts
        case(op, [whole, integers(1)], np.trunc(function(whole.astype(np.float64), axis=1)).astype(INTEGERS),
             keepdims=0)
    case("ReduceLogSumExp", [np.array([[-np.inf, 2], [1, -np.inf]], FLOATS), integers(0)], np.array([1, 2], FLOATS),
         keepdims=0)


def activations():
    x = numbers(3, 5)
    w, t = wide(x), torched(x)
    low, high = numbers(6, low=-1, high=1), numbers(6, low=1, high=3)
    for op in ("sin", "cos", "atan", "asinh", "sinh", "cosh"):
        case(op.capitalize(), [x], getattr(torch, op)(t))
    for op in ("tan", "asin", "acos", "atanh"):
        inner = (low * FLOATS(0.75)).astype(FLOATS)
        case(op.capitalize(), [inner], getattr(torch, op)(torched(inner)))
    case("Acosh", [high + FLOATS(0.5)], torch.acosh(torched(high + FLOATS(0.5))))
    case("Selu", [x], F.selu(t))
    case("Selu", [x], 0.75 * np.where(w > 0, w, 1.5 * np.expm1(w)), alpha=1.5, gamma=0.75)
    case("Celu", [x], F.celu(t))
    case("Celu", [x], F.celu(t, 2.0), alpha=2.0)
    case("ThresholdedRelu", [x], np.where(w > 1, w, 0))
    case("ThresholdedRelu", [x], np.where(w > 0.5, w, 0), alpha=0.5)
    case("Shrink", [x], np.where(w < -0.5, w, np.where(w > 0.5, w, 0)))
    case("Shrink", [x], np.where(w < -1, w + 0.25, np.where(w > 1, w - 0.25, 0)), lambd=1.0, bias=0.25)
    case("Softsign", [x], F.softsign(t))
    case("Mish", [x], F.mish(t))
    case("Swish", [x], F.silu(t))
    case("Swish", [x], t * torch.sigmoid(0.5 * t), alpha=0.5)
    case("Gelu", [x], F.gelu(t))
    case("Gelu", [x], F.gelu(t), approximate="none")
    case("Gelu", [x], F.gelu(t, approximate="tanh"), approximate="tanh")
    bias = numbers(5)
    moved = t + torched(bias)
    case("Gelu", [x], F.gelu(t), domain="com.microsoft")
    case("BiasGelu", [x, bias], F.gelu(moved), domain="com.microsoft")
    case("FastGelu", [x], F.gelu(t, approximate="tanh"), domain="com.microsoft")
    case("FastGelu", [x, bias], F.gelu(moved, approximate="tanh"), domain="com.microsoft")
    case("QuickGelu", [x], t * torch.sigmoid(1.702 * t), domain="com.microsoft")
    case("QuickGelu", [x], t * torch.sigmoid(0.5 * t), domain="com.microsoft", alpha=0.5)


# Of integers, of remainders; between types.

def remainders():
    a = np.array([[-2.9375, 1.4375, -0.8125], [2.0625, -2.3125, 0.6875]], FLOATS)  # no multiples of those
    b = np.array([-1.375, 0.9375, 2.5625], FLOATS)
    case("Mod", [a, b], np.fmod(wide(a), wide(b)), fmod=1)
    case("Mod", [a, b], np.mod(wide(a), wide(b)))
    counts, others = integers(7, -7, 9, -9, 8, 0), integers(2, 2, -4, -4, -1, 3)
    case("Mod", [counts, others], np.mod(counts, others))
    case("Mod", [counts, others], np.fmod(counts, others), fmod=1)
    case("BitShift", [integers(1, 5, 3), integers(2, 0, 70)], integers(4, 5, 0), direction="LEFT")
    case("BitShift", [integers(1, 5, 300), integers(2)], integers(0, 1, 75), direction="RIGHT")
    for op, function in {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or,
                         "BitwiseXor": np.bitwise_xor}.items():
        case(op, [counts, others[:, None]], function(counts, others[:, None]))
    case("BitwiseNot", [counts], np.invert(counts))
    ends = np.array([1, np.nan, np.inf, -np.inf], FLOATS)
    case("IsInf", [ends], booleans(0, 0, 1, 1))
    case("IsInf", [ends], booleans(0, 0, 1, 0), detect_negative=0)
    case("IsInf", [ends], booleans(0, 0, 0, 1), detect_positive=0)


def casts():
    x = numbers(2, 3)
    case("Cast", [x], wide(x), to=1, saturate=1, round_mode="up")
    case("Cast", [x], wide(x), to=11, saturate=0)
    case("Cast", [integers(2049, -65519, 4099)], np.array([2048, -65504, 4100], FLOATS), to=10)
    case("Cast", [integers(257, -65519, 1 << 20)], np.array([256, -65536, 1 << 20], FLOATS), to=16)
    case("CastLike", [x, numbers(1)], wide(x), saturate=1, round_mode="up")
    case("CastLike", [x, integers(1, 2)], np.trunc(wide(x)).astype(INTEGERS))
    case("CastLike", [x, booleans(0)], wide(x) != 0)
    case("BitCast", [x], x.view(np.int32).astype(INTEGERS), to=6)
    case("BitCast", [x], x.view(np.uint32).astype(INTEGERS), to=12)
    case("BitCast", [x], wide(x).view(INTEGERS), to=7)
    case("BitCast", [x.view(np.int32).astype(INTEGERS)], x, to=1)
    case("BitCast", [wide(x).view(INTEGERS)], x, to=11)
    case("BitCast", [integers(-1, 4)], integers(255, 4), to=2)
    case("CastLike", [integers(-1, 4), numbers(2)], np.array([-1, 4], FLOATS))


# Along axes, in order; sums of products.

def scans():
    x, counts = numbers(2, 3, 2), integers(2, -3, 4, 5, 0, 7, shape=(2, 3))
    w = wide(x)
    with_zeros = np.array([[2, 0, 0.5, -1.5], [0, 3, 0, 1], [1.25, -2, 0.75, 3]], FLOATS)
    for op, function, neutral in (("CumSum", np.cumsum, 0), ("CumProd", np.cumprod, 1)):
        for axis in (0, 1, -1):
            case(op, [x, np.array(axis)], function(w, axis))

        def shifted(values):
            whole = function(values, 1)
            return np.concatenate([np.full_like(whole[:, :1], neutral), whole[:, :-1]], 1)

        case(op, [x, integers(1)], shifted(w), exclusive=1)
        case(op, [x, np.array(1)], function(w[:, ::-1], 1)[:, ::-1], reverse=1)
        case(op, [x, np.array(1)], shifted(w[:, ::-1])[:, ::-1], exclusive=1, reverse=1)
        case(op, [with_zeros, np.array(1)], function(wide(with_zeros), 1))
        case(op, [with_zeros, np.array(1)], shifted(wide(with_zeros)[:, ::-1])[:, ::-1], exclusive=1, reverse=1)
        case(op, [counts, np.array(1)], function(counts, 1))
        case(op, [counts, np.array(1)], shifted(counts), exclusive=1)


def selections():
    x = numbers(2, 4, 3)
    w = wide(x)
    ties = integers(3, 1, 3, 2, 1, 1, shape=(2, 3))
    odd = np.array([1, np.nan, 2, np.nan], FLOATS)
    for op, function, sign in (("ArgMax", np.argmax, 1), ("ArgMin", np.argmin, -1)):
        case(op, [x], function(w, 0, keepdims=True))
        case(op, [x], function(w, 1), axis=1, keepdims=0)
        case(op, [x], function(w, -1, keepdims=True), axis=-1)
        case(op, [ties], function(ties, 1, keepdims=True), axis=1)
        case(op, [ties], 2 - function(ties[:, ::-1], 1), axis=1, keepdims=0, select_last_index=1)
        case(op, [wide(ties).astype(FLOATS)], 2 - function(ties[:, ::-1], 1), axis=1, keepdims=0, select_last_index=1)
        case(op, [odd], integers(1))

    def best(values, k, axis, largest=True):
        order = np.argsort(-values if largest else values, axis, kind="stable").take(range(k), axis)
        return np.take_along_axis(values, order, axis), order

    case("TopK", [x, integers(2)], best(w, 2, 2))
    case("TopK", [x, integers(3)], best(w, 3, 1), axis=1)
    case("TopK", [x, integers(3)], best(w, 3, 1, False), axis=1, largest=0, sorted=1)
    case("TopK", [x, integers(4)], best(w, 4, 1), axis=-2)
    case("TopK", [x, integers(0)], best(w, 0, 1), axis=1)
    case("TopK", [x, integers(1)], best(w, 1, 0), opset=10, axis=0)
    case("TopK", [x], best(w, 3, 1), opset=9, axis=1, k=3)
    case("TopK", [x], best(w, 2, 2), opset=7, k=2)
    case("TopK", [ties, integers(2)], best(ties, 2, 1))
    case("TopK", [ties, integers(2)], best(ties, 2, 1, False), largest=0)


def einsums():
    """Equations of numpy; the numbers of a letter's axis differ from those of others."""
    shapes = {"i": 2, "j": 3, "k": 4, "l": 2, "b": 2, "q": 3, "d": 4, "h": 1}

    def run(equation, *dims, **more):
        operands = [numbers(*d) for d in dims]
        value = np.einsum(equation, *(wide(o) for o in operands))
        case("Einsum", operands, value, equation=equation, **more)

    terms = ["ij->ji", "ij->i", "ij->", "ij,jk->ik", "ij,jk", "ji,kj->ki", "bij,bjk->bik", "bqd,bkd->bqk", "bqd,bkd->bkq",
             "qbd,kbd->bqk", "i,j->ij", "i,i->i", "i,i", "ij,ij->", "bi,ij,bj->b", "bi,jik,bk->bj", "ij,kl->", "ij,kl->ik",
             "ijk,jl->kli", "ijk,ijl->kl", "bqhd,bkhd->bhqk", "i,j,k->ijk"]
    for equation in terms:
        run(equation, *([shapes[c] for c in term] for term in equation.split("->")[0].split(",")))
    run("->", ())
    run(",i->i", (), (3,))
    run("ii->i", (3, 3))
    run("ii", (3, 3))
    run("iji->ij", (2, 3, 2))
    run("ii,ij->j", (3, 3), (3, 2))
    run("iij,jk->ik", (2, 2, 3), (3, 4))
    run("...ij,...jk->...ik", (2, 3), (2, 3, 4))
    run("...ij, ...jk", (2, 1, 2, 3), (2, 3, 2))
    run("...ii ->...i", (2, 3, 3))
    run("b...,b...->b...", (2, 3), (2, 2, 3))
    run("...,...", (1, 3), (2, 1))
    run("ij...,jk...->ik...", (2, 3, 2), (3, 2, 2))
    run("Ba,ab->Bb", (2, 3), (3, 2))
    one = numbers(2, 3), numbers(1, 4)
    case("Einsum", one, np.einsum("ij,jk->ik", wide(one[0]), np.broadcast_to(wide(one[1]), (3, 4))), equation="ij,jk->ik")
    x = numbers(2, 3)
    case("Einsum", [x], wide(x).sum(0), equation="...i->i")


def determinants():
    x = numbers(2, 3, 3)
    case("Det", [x], np.linalg.det(wide(x)))
    case("Det", [x[0, :2, :2]], np.linalg.det(wide(x)[0, :2, :2]))
    case("Det", [x[:, :1, :1]], wide(x)[:, 0, 0])
    four = numbers(4, 4, low=-1, high=1)
    case("Det", [four], np.linalg.det(wide(four)))
    case("Det", [np.array([[1, 2, 3], [2, 4, 6], [-1, 0.5, 2]], FLOATS)], np.array(0, FLOATS))
    case("Det", [np.array([[1, 2, 3], [2, 4, 6], [3, 6, 9]], FLOATS)], np.array(0, FLOATS))
    case("Det", [np.zeros((2, 2, 2), FLOATS)], np.zeros(2, FLOATS))


for family in (elementwise, arithmetic, products, convolution, pooling, normalizations, reductions, movements,
               shapes, selections, conditions, versions, norms, activations, remainders, casts, scans, einsums,
               determinants):
    rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    family()
write()
