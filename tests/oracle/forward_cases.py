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
NARROW = {np.dtype(kind): kind.upper() for kind in ("int8", "uint8", "int16", "uint16")}
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
    """`inputs` and `outputs` may hold None, one that is left out; outputs of floats are rounded once. `opset` chooses
    a version of the operator: the newest."""
    made = []
    for output in outputs if isinstance(outputs, tuple) else (outputs,):
        if output is None:
            made.append(output)
            continue
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
    elements = ", ".join(number(v) for v in value.ravel()) or "0"
    if value.dtype in NARROW:
        return f"NARROW(NET_{NARROW[value.dtype]}, {shape}, {elements})"
    return f"{MACROS[value.dtype]}({shape}, {elements})"


def attribute(name, value):
    if isinstance(value, str):
        return f'{{"{name}", NET_TEXT, .text = "{value}"}}'
    if isinstance(value, int):
        return f'{{"{name}", NET_INT, .integer = {value}}}'
    if isinstance(value, float):
        return f'{{"{name}", NET_FLT, .number = {value!r}}}'
    if isinstance(value, np.ndarray):
        return f'{{"{name}", NET_TENSOR, .tensor = {tensor(value)}}}'
    if isinstance(value[0], str):
        texts = "".join(f"{text}\\0" for text in value)
        return f'{{"{name}", NET_TEXTS, .count = {len(value)}, .text = "{texts}"}}'
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


# Older and newer versions of movements, and what they added.

def movement_versions():
    x = numbers(2, 3, 2)
    w = wide(x)
    case("Slice", [x], w[:, 1:3, :-1], opset=9, starts=[1, 0], ends=[9, -1], axes=[1, 2])
    case("Slice", [x], w[1:], opset=7, starts=[-1], ends=[2])
    case("Squeeze", [x[:1, :, :1]], w[0, :, :1], opset=11, axes=[0])
    case("Squeeze", [x[:1, :, :1]], w[0, :, 0], opset=11)
    case("Unsqueeze", [x], w.reshape(1, 2, 3, 1, 2), opset=11, axes=[0, 3])
    case("Split", [x], (w[:, :2], w[:, 2:]), opset=11, axis=1, split=[2, 1])
    case("Split", [x], (w[:1], w[1:]), opset=7)
    case("Split", [x, integers(2, 1)], (w[:, :2], w[:, 2:]), opset=13, axis=-2)
    case("Split", [x], (w[:, :2], w[:, 2:]), axis=1, num_outputs=2)
    plane = numbers(2, 3)
    deep = wide(plane)
    case("Pad", [plane], np.pad(deep, ((1, 0), (0, 2)), constant_values=0.5), opset=10, mode="constant",
         pads=[1, 0, 0, 2], value=0.5)
    case("Pad", [plane], np.pad(deep, ((0, 0), (2, 1)), mode="edge"), opset=7, mode="edge", pads=[0, 2, 0, 1])
    case("Pad", [plane, integers(0, 1, 0, -1), np.array(-2, FLOATS)],
         np.pad(deep[:, :2], ((0, 0), (1, 0)), constant_values=-2), opset=13, mode="constant")
    case("Pad", [plane, integers(1, 2), None, integers(-1)], np.pad(deep, ((0, 0), (1, 2)), mode="reflect"),
         mode="reflect")
    case("Pad", [plane, integers(1, 4), np.array(2, FLOATS), integers(1)],
         np.pad(deep, ((0, 0), (1, 4)), constant_values=2))
    case("Pad", [plane, integers(1, 4, 0, 2)], deep[np.arange(-1, 2)][:, np.arange(-4, 5) % 3], mode="wrap")
    counts = integers(1, 2, 3)
    case("Pad", [counts, integers(1, 1), np.array(7)], integers(7, 1, 2, 3, 7))
    case("CenterCropPad", [x, integers(4, 2, 1)], np.pad(w[:, :2, :1], ((1, 1), (0, 0), (0, 0))))
    case("CenterCropPad", [x, integers(5, 1)], np.pad(w[:, 1:2], ((1, 2), (0, 0), (0, 0))), axes=[0, -2])
    case("CenterCropPad", [counts, integers(2)], integers(1, 2))


# By indices, conditions and comparisons.

def scattered(data, steps, reduction):
    """`steps`: pairs of an index and an update, in order."""
    out = data.copy()
    combine = {"none": lambda a, b: b, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}
    for index, update in steps:
        out[index] = combine[reduction](out[index], update)
    return out


def element_steps(places, updates, axis):
    return [(at[:axis] + (places[at],) + at[axis + 1:], updates[at]) for at in np.ndindex(*places.shape)]


def tuple_steps(places, updates):
    return [(tuple(places[at]), updates[at]) for at in np.ndindex(*places.shape[:-1])]


def scatters():
    x, updates = numbers(2, 3, 2), numbers(2, 2, 2)
    w, u = wide(x), wide(updates)
    places = integers(0, 2, -1, 2, 1, 1, 0, -3, shape=(2, 2, 2))
    steps = element_steps(places, u, 1)
    case("Scatter", [x, places, updates], scattered(w, steps, "none"), axis=1)
    case("ScatterElements", [x, places, updates], scattered(w, steps, "none"), axis=-2)
    flat = integers(1, 0, shape=(1, 2))
    case("ScatterElements", [x[0], flat, updates[0, :1]], scattered(w[0], element_steps(flat, u[0, :1], 0), "none"))
    tuples, rows = integers(1, -1, 0, 0, 1, 2, shape=(3, 2)), numbers(3, 2)
    pairs = tuple_steps(tuples, wide(rows))
    case("ScatterND", [x, tuples, rows], scattered(w, pairs, "none"))
    for reduction in ("add", "mul", "max", "min"):
        case("ScatterElements", [x, places, updates], scattered(w, steps, reduction), axis=1, reduction=reduction)
        case("ScatterND", [x, tuples, rows], scattered(w, pairs, reduction), reduction=reduction)
    # A product with zeros
    with_zeros = rows.copy()
    with_zeros[0] = 0
    case("ScatterND", [x, tuples, with_zeros], scattered(w, tuple_steps(tuples, wide(with_zeros)), "mul"),
         reduction="mul")
    counts, twice = integers(5, 6, 7), integers(2, 0, 2, shape=(3, 1))
    for reduction in ("none", "add", "mul", "max", "min"):
        case("ScatterND", [counts, twice, integers(9, 1, 3)],
             scattered(counts, tuple_steps(twice, integers(9, 1, 3)), reduction), reduction=reduction)
    case("ScatterND", [booleans(0, 1, 0), integers(1, 2, shape=(2, 1)), booleans(0, 1)], booleans(0, 0, 1))
    cache, fresh = numbers(2, 2, 4, 2), numbers(2, 2, 2, 2)
    filled = wide(cache)
    filled[:, :, :2] = fresh
    case("TensorScatter", [cache, fresh], filled)
    filled = wide(cache)
    filled[0, :, 1:3], filled[1, :, 2:] = fresh[0], fresh[1]
    case("TensorScatter", [cache, fresh, integers(1, 2)], filled, axis=2, mode="linear")
    filled = wide(cache)
    filled[0, :, [3, 0]], filled[1, :, [0, 1]] = fresh[0].transpose(1, 0, 2), fresh[1].transpose(1, 0, 2)
    case("TensorScatter", [cache, fresh, integers(3, 0)], filled, mode="circular")


def gathers():
    x = numbers(2, 3, 2)
    w = wide(x)
    tuples = integers(1, -1, 0, 0, 1, 2, 1, 2, shape=(2, 2, 2))
    case("GatherND", [x, tuples], w[tuples[..., 0], tuples[..., 1]])
    case("GatherND", [x, integers(2, -2, shape=(2, 1))], np.stack([w[0, 2], w[1, 1]]), batch_dims=1)
    case("GatherND", [x, integers(1, 0, shape=(2, 1))], w[[1, 0]], opset=11)
    sequences = numbers(3, 2, 2)
    turned = wide(sequences)
    turned[:2, 0], turned[:, 1] = turned[1::-1, 0].copy(), turned[::-1, 1].copy()
    case("ReverseSequence", [sequences, integers(2, 3)], turned)
    case("ReverseSequence", [np.ascontiguousarray(sequences.swapaxes(0, 1)), integers(2, 3)],
         turned.swapaxes(0, 1), batch_axis=0, time_axis=1)
    case("Compress", [x, booleans(0, 1, 1)], w[:, 1:], axis=-2)
    case("Compress", [x, booleans(0, 1, 1, 0, 1)], w.ravel()[[1, 2, 4]])
    case("NonZero", [np.array([[0, 2, 0], [-1, 0, 4]], FLOATS)], integers(0, 1, 1, 1, 0, 2, shape=(2, 3)))
    case("NonZero", [booleans(1, 0, 1)], integers(0, 2, shape=(1, 2)))
    some = np.array([2, 1, 1, 3, 4, 3], FLOATS)
    case("Unique", [some], tuple(np.array(v) for v in np.unique(some, True, True, True)))
    case("Unique", [some], (some[[0, 1, 3, 4]], integers(0, 1, 3, 4), integers(0, 1, 1, 2, 3, 2),
                            integers(1, 2, 2, 1)), sorted=0)
    table = integers(1, 1, 0, 1, 2, 1, 0, 1, 1, 1, 0, 1, 2, 1, 0, 1, shape=(2, 4, 2))
    case("Unique", [table], np.unique(table, True, True, True, axis=1), axis=1)


def indicators():
    values = np.array([-0.5, 2], FLOATS)
    off_on = wide(values)
    places = integers(0, 2, -1, 7, shape=(2, 2))
    hot = off_on[(np.array([0, 2, 2, 7]).reshape(2, 2, 1) == np.arange(3)).astype(int)]
    older = off_on[(places[..., None] == np.arange(3)).astype(int)]
    case("OneHot", [places, np.array(3), values], hot)
    case("OneHot", [places, integers(3), values], hot.transpose(0, 2, 1), axis=1)
    case("OneHot", [places, np.array(3), values], older.transpose(2, 0, 1), opset=10, axis=0)
    case("OneHot", [np.array([1, 0], FLOATS), np.array(2, FLOATS), integers(5, 6)], integers(5, 6, 6, 5, shape=(2, 2)))
    case("EyeLike", [numbers(2, 3)], np.eye(2, 3))
    case("EyeLike", [numbers(2, 3)], np.eye(2, 3, 1, INTEGERS), k=1, dtype=6)
    case("EyeLike", [numbers(3, 2)], np.eye(3, 2, -1, BOOLEANS), k=-1, dtype=9)
    x = numbers(2, 3, 4)
    w = wide(x)
    case("Trilu", [x], np.triu(w))
    case("Trilu", [x, np.array(-1)], np.triu(w, -1), upper=1)
    case("Trilu", [x, np.array(1)], np.tril(w, 1), upper=0)
    case("Trilu", [x, np.array(-9)], np.tril(w, -9), upper=0)
    case("Trilu", [booleans(1, 1, 1, 1).reshape(2, 2), np.array(1)], booleans(0, 1, 0, 0).reshape(2, 2))


def blocks():
    x = numbers(1, 8, 2, 3)
    w = wide(x)
    case("DepthToSpace", [x], w.reshape(1, 2, 2, 2, 2, 3).transpose(0, 3, 4, 1, 5, 2).reshape(1, 2, 4, 6), blocksize=2)
    case("DepthToSpace", [x], F.pixel_shuffle(torched(x), 2), blocksize=2, mode="CRD")
    wide_image = numbers(1, 2, 4, 6)
    case("SpaceToDepth", [wide_image],
         wide(wide_image).reshape(1, 2, 2, 2, 3, 2).transpose(0, 3, 5, 1, 2, 4).reshape(1, 8, 2, 3), blocksize=2)
    columns = numbers(1, 8, 4)
    case("Col2Im", [columns, integers(3, 3), integers(2, 2)], F.fold(torched(columns), (3, 3), (2, 2)))
    case("Col2Im", [columns[:, :, :3], integers(4, 3), integers(2, 2)],
         F.fold(torched(columns[:, :, :3]), (4, 3), (2, 2), (1, 2), (1, 0), (2, 1)), dilations=[1, 2],
         pads=[1, 0, 1, 0], strides=[2, 1])
    case("Col2Im", [columns[:, :4, :2], integers(5), integers(2)],
         F.fold(torched(columns[:, :4, :2]), (1, 5), (1, 2), 1, 0, (1, 2))[:, :, 0], strides=[2])


# Interpolation.

def kernel(mode, t, a):
    t = abs(t)
    if mode == "linear":
        return max(1 - t, 0)
    return (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0


def resize_matrix(extent, positions, mode, a=-0.75, scale=1.0, exclude=False, crop=False):
    """The dense matrix that takes an axis to these positions; rows of a crop outside are NaN."""
    matrix = np.zeros((len(positions), extent))
    for row, x in enumerate(positions):
        for i in range(int(np.floor(x - 2 / scale)) - 1, int(np.ceil(x + 2 / scale)) + 2):
            weight = float(i == x) if mode == "nearest" else kernel(mode, (i - x) * scale, a)
            if not exclude or 0 <= i < extent:
                matrix[row, min(max(i, 0), extent - 1)] += weight
        matrix[row] = matrix[row] / matrix[row].sum() if not crop or 0 <= x <= extent - 1 else np.nan
    return matrix


def resized(x, *matrices):
    """Along the last axes."""
    for axis, matrix in enumerate(matrices, x.ndim - len(matrices)):
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def half_pixels(count, scale):
    return [(o + 0.5) / scale - 0.5 for o in range(count)]


def resizes():
    x = numbers(1, 2, 3, 4)
    t, w = torched(x), wide(x)
    doubled = np.array([1, 1, 2, 2], FLOATS)
    nearest = F.interpolate(t, scale_factor=2, mode="nearest")
    asymmetric = [resize_matrix(n, [o / 2 for o in range(2 * n)], "linear") for n in (3, 4)]
    case("Upsample", [x], nearest, opset=7, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")
    case("Upsample", [x, doubled], resized(w, *asymmetric), mode="linear")
    case("Resize", [x, doubled], nearest, opset=10, mode="nearest")
    case("Resize", [x, np.array([1, 1, 0.5, 0.5], FLOATS)], w[:, :, ::2, ::2][:, :, :1], opset=10)
    case("Resize", [x, doubled], resized(w, *asymmetric), opset=10, mode="linear")
    linear = F.interpolate(t, (5, 3), mode="bilinear")
    for opset in (13, 0):
        sizes, cubic = integers(1, 2, 5, 3), {"mode": "cubic", "cubic_coeff_a": -0.5, "exclude_outside": 1}
        case("Resize", [x, None, None, sizes], linear, opset=opset, mode="linear")
        case("Resize", [x, None, doubled], F.interpolate(t, scale_factor=2, mode="bicubic"), opset=opset, mode="cubic")
        case("Resize", [x, None, None, sizes], F.interpolate(t, (5, 3), mode="bilinear", align_corners=True),
             opset=opset, mode="linear", coordinate_transformation_mode="align_corners")
        rows, columns = (resize_matrix(n, half_pixels(m, m / n), "cubic", -0.5, exclude=True) for n, m in ((3, 5), (4, 3)))
        case("Resize", [x, None, None, sizes], resized(w, rows, columns), opset=opset, **cubic)
        for rounding, row, column in (("round_prefer_floor", [0, 1, 1, 2], [0, 1, 3]), ("ceil", [0, 1, 2, 2], [1, 2, 3]),
                                      ("floor", [0, 0, 1, 2], [0, 1, 2]), ("round_prefer_ceil", [0, 1, 1, 2], [0, 2, 3])):
            case("Resize", [x, None, None, integers(1, 2, 4, 3)], w[:, :, row][..., column],
                 opset=opset, mode="nearest", nearest_mode=rounding)
        roi = np.array([0, 0, 0.25, 0.25, 1, 1, 1.25, 0.75], FLOATS)
        crop = resized(w, resize_matrix(3, [0.5, 1.5, 2.5], "linear", crop=True),
                       resize_matrix(4, [0.75, 2.25], "linear", crop=True))
        case("Resize", [x, roi, None, integers(1, 2, 3, 2)], np.where(np.isnan(crop), 7, crop), opset=opset, mode="linear",
             coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.0)
    case("Resize", [x, None, None, integers(1, 2, 2, 2)], F.interpolate(t, (2, 2), mode="bilinear", antialias=True),
         mode="linear", antialias=1, exclude_outside=1)
    narrow = [resize_matrix(n, half_pixels(2, 2 / n), "cubic", scale=2 / n) for n in (3, 4)]
    case("Resize", [x, None, None, integers(2, 2)], resized(w, *narrow), mode="cubic", antialias=1, axes=[2, -1])
    case("Resize", [x, None, np.array([1.75], FLOATS)],
         resized(w, resize_matrix(4, [(o + 0.5) / 1.75 - 0.5 for o in range(7)], "linear")), mode="linear", axes=[3])
    symmetric = resize_matrix(4, [(o + 0.5) / 0.625 - 0.5 + 2 * (1 - 2 / 2.5) for o in range(2)], "linear")
    case("Resize", [x, None, np.array([0.625], FLOATS)], resized(w, symmetric), mode="linear", axes=[-1],
         coordinate_transformation_mode="half_pixel_symmetric")
    case("Resize", [x, None, None, integers(1, 3)], resized(w, resize_matrix(3, [0], "linear"),
                                                            resize_matrix(4, half_pixels(3, 0.75), "linear")),
         mode="linear", axes=[2, 3], coordinate_transformation_mode="pytorch_half_pixel")
    square = numbers(1, 1, 2, 4)
    for policy, extents in (("not_larger", (1, 2)), ("not_smaller", (2, 4)), ("stretch", (1, 4))):
        case("Resize", [square, None, None, integers(1, 4)],
             F.interpolate(torched(square), extents, mode="nearest-exact") if policy == "not_smaller" else
             F.interpolate(torched(square), extents, mode="bilinear"), axes=[2, 3], mode="linear",
             keep_aspect_ratio_policy=policy)
    case("Resize", [integers(1, 2, 3).reshape(1, 3), None, np.array([1, 2], FLOATS)],
         integers(1, 1, 2, 2, 3, 3).reshape(1, 6), mode="nearest")
    volume = numbers(1, 1, 2, 2, 3)
    case("Resize", [volume, None, None, integers(1, 1, 3, 4, 2)],
         F.interpolate(torched(volume), (3, 4, 2), mode="trilinear"), mode="linear")


def samples():
    x = numbers(1, 2, 3, 4)
    grid = numbers(1, 2, 3, 2, low=-1, high=1) * np.array([1, 0.75], FLOATS)
    beyond = numbers(1, 2, 2, 2) * FLOATS(0.9375)
    for mode in ("bilinear", "nearest", "bicubic"):
        for align in (0, 1):
            case("GridSample", [x, grid], F.grid_sample(torched(x), torched(grid), mode, "zeros", bool(align)),
                 mode=mode, align_corners=align)
    for padding in ("zeros", "border", "reflection"):
        for align in (0, 1):
            case("GridSample", [x, beyond], F.grid_sample(torched(x), torched(beyond), "bilinear", padding, bool(align)),
                 mode="linear", padding_mode=padding, align_corners=align)
            case("GridSample", [x, beyond], F.grid_sample(torched(x), torched(beyond), "nearest", padding, bool(align)),
                 mode="nearest", padding_mode=padding, align_corners=align)
    case("GridSample", [x, grid], F.grid_sample(torched(x), torched(grid), "bilinear", "zeros", False))
    volume, points = numbers(1, 1, 2, 3, 2), numbers(1, 1, 2, 2, 3, low=-1, high=1) * FLOATS(0.875)
    case("GridSample", [volume, points], F.grid_sample(torched(volume), torched(points), "bilinear", "border", False),
         padding_mode="border")
    for align in (0, 1):
        theta = numbers(2, 2, 3)
        case("AffineGrid", [theta, integers(2, 1, 2, 3)], F.affine_grid(torched(theta), (2, 1, 2, 3), bool(align)),
             align_corners=align)
        theta = numbers(1, 3, 4)
        case("AffineGrid", [theta, integers(1, 1, 2, 3, 2)], F.affine_grid(torched(theta), (1, 1, 2, 3, 2), bool(align)),
             align_corners=align)


def bilinear_terms(image, y, x):
    """The four weighted elements whose sum is the value at a position; 0 if that is far outside."""
    axes = []
    for at, extent in zip((y, x), image.shape):
        if at < -1 or at > extent:
            return np.zeros(4)
        at = max(at, 0)
        low = int(at)
        if low >= extent - 1:
            axes.append([(extent - 1, 1), (extent - 1, 0)])
        else:
            axes.append([(low, low + 1 - at), (low + 1, at - low)])
    return np.array([image[i, j] * a * b for i, a in axes[0] for j, b in axes[1]])


def aligned_regions(x, regions, images, extents, ratio, scale, offset, mode):
    out = np.zeros((len(regions), x.shape[1], *extents))
    for r, c, p, q in np.ndindex(*out.shape):
        x1, y1, x2, y2 = wide(regions[r]) * scale - offset
        sides = np.array([y2 - y1, x2 - x1])
        sides = sides if offset else np.maximum(sides, 1)
        counts = [ratio or int(np.ceil(side / n)) for side, n in zip(sides, extents)]
        terms = [bilinear_terms(wide(x[images[r], c]), y1 + (p + (i + 0.5) / counts[0]) * sides[0] / extents[0],
                                x1 + (q + (j + 0.5) / counts[1]) * sides[1] / extents[1]) for i, j in np.ndindex(*counts)]
        out[r, c, p, q] = np.mean([t.sum() for t in terms]) if mode == "avg" else np.max(terms)
    return out


def regions():
    x, images = numbers(2, 1, 4, 5), integers(1, 0)
    # x1, y1, x2, y2
    ends = np.array([[0.8125, 0.6875, 6.4375, 5.3125], [1.5625, 2.0625, 2.1875, 9.1875]], FLOATS)
    for opset, offset, more in ((10, 0, {}), (0, 0.5, {}), (0, 0.5, {"coordinate_transformation_mode": "half_pixel"}),
                                (0, 0, {"coordinate_transformation_mode": "output_half_pixel"})):
        for mode in ("avg", "max"):
            case("RoiAlign", [x, ends, images], aligned_regions(x, ends, images, (2, 3), 2, 0.5, offset, mode), opset=opset,
                 mode=mode, output_height=2, output_width=3, sampling_ratio=2, spatial_scale=0.5, **more)
    case("RoiAlign", [x, ends, images], aligned_regions(x, ends, images, (1, 2), 0, 0.75, 0.5, "avg"), output_width=2,
         spatial_scale=0.75)


# Pools over any number of axes: by the definition, tap by tap.

def window_taps(extent, kernel, stride, dilation, before, after, ceil=False):
    """Of each output along an axis the positions of its taps, also those in the padding."""
    free = extent + before + after - (kernel - 1) * dilation - 1
    count = (-(-free // stride) if ceil else free // stride) + 1
    if ceil and (count - 1) * stride >= extent + before:
        count -= 1
    return [[i * stride - before + k * dilation for k in range(kernel)] for i in range(count)]


def pooled(x, function, kernel, strides=None, dilations=None, pads=None, ceil_mode=0):
    """function(elements inside, number of taps that are inside the padded input) of each window."""
    axes = len(kernel)
    strides, dilations, pads = strides or [1] * axes, dilations or [1] * axes, pads or [0] * 2 * axes
    taps = [window_taps(x.shape[2 + i], kernel[i], strides[i], dilations[i], pads[i], pads[axes + i], ceil_mode)
            for i in range(axes)]
    y = np.empty(x.shape[:2] + tuple(len(t) for t in taps))
    for at in np.ndindex(*y.shape):
        places = [taps[i][at[2 + i]] for i in range(axes)]
        inside = [[p for p in places[i] if 0 <= p < x.shape[2 + i]] for i in range(axes)]
        counted = np.prod([sum(-pads[i] <= p < x.shape[2 + i] + pads[axes + i] for p in places[i])
                           for i in range(axes)])
        y[at] = function(x[at[:2]][np.ix_(*inside)], counted)
    return y


def pools_of_volumes():
    x = numbers(1, 1, 3, 4, 3)
    w = wide(x)
    mean, all_taps = (lambda v, n: v.mean()), (lambda v, n: v.sum() / n)
    length = lambda v, n: np.sqrt((v * v).sum())
    cube = dict(kernel=[2, 2, 2], strides=[1, 2, 1])
    named = dict(kernel_shape=[2, 2, 2], strides=[1, 2, 1])
    dilated = dict(dilations=[2, 1, 2], pads=[1, 0, 1, 0, 1, 1])
    case("AveragePool", [x], pooled(w, mean, **cube), **named)
    case("AveragePool", [x], pooled(w, mean, **cube, **dilated), **named, **dilated)
    case("AveragePool", [x], pooled(w, all_taps, **cube, **dilated), count_include_pad=1, **named, **dilated)
    case("AveragePool", [x], pooled(w, mean, [2, 3, 2], [2, 2, 2], ceil_mode=1), kernel_shape=[2, 3, 2],
         strides=[2, 2, 2], ceil_mode=1)
    line = numbers(1, 1, 9)
    case("AveragePool", [line], pooled(wide(line), mean, [3], [2], [2]), kernel_shape=[3], strides=[2], dilations=[2])
    four = numbers(1, 1, 2, 2, 2, 3)
    case("AveragePool", [four], pooled(wide(four), mean, [2, 1, 2, 2], pads=[1, 0, 0, 0, 0, 0, 0, 1]),
         kernel_shape=[2, 1, 2, 2], pads=[1, 0, 0, 0, 0, 0, 0, 1])
    values, places = F.max_pool3d(torched(x), 2, (1, 2, 1), return_indices=True)
    case("MaxPool", [x], (values, places), **named)
    by_column = places // 12 + places // 3 % 4 * 3 + places % 3 * 12
    case("MaxPool", [x], (values, by_column), storage_order=1, **named)
    case("MaxPool", [x], pooled(w, lambda v, n: v.max(), **cube, **dilated), **named, **dilated)
    counts = integers(3, -7, 9, 200, 0, 5, shape=(1, 1, 2, 3))
    case("MaxPool", [counts], (integers(200, 9, shape=(1, 1, 1, 2)), integers(3, 2, shape=(1, 1, 1, 2))),
         kernel_shape=[2, 2])
    case("LpPool", [x], pooled(w, length, **cube, **dilated), **named, **dilated)
    plane = numbers(1, 2, 3, 4)
    case("LpPool", [plane], pooled(wide(plane), lambda v, n: np.abs(v).sum(), [2, 2], [2, 2], ceil_mode=1), p=1,
         kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    case("LpPool", [plane], pooled(wide(plane), lambda v, n: (np.abs(v) ** 3).sum() ** (1 / 3), [3, 4]), p=3,
         kernel_shape=[3, 4], auto_pad="VALID")
    for p in (1, 2, 3):
        case("GlobalLpPool", [plane], (np.abs(wide(plane)) ** p).sum((2, 3), keepdims=True) ** (1 / p), p=p)
    small = numbers(1, 1, 2, 2)
    spread = np.zeros((1, 1, 4, 4))
    spread[0, 0, [1, 1, 3, 3], [1, 3, 1, 3]] = small.ravel()
    at = integers(5, 7, 13, 15, shape=(1, 1, 2, 2))
    case("MaxUnpool", [small, at], spread, kernel_shape=[2, 2], strides=[2, 2])
    case("MaxUnpool", [small, at, integers(1, 1, 5, 5)], np.pad(spread, ((0, 0), (0, 0), (0, 1), (0, 1))),
         kernel_shape=[2, 2], strides=[2, 2])
    case("MaxUnpool", [small, at, integers(1, 1, 4, 3)], spread[..., :3], kernel_shape=[2, 2], strides=[2, 2])
    case("MaxUnpool", [small, integers(0, 2, 3, 3, shape=(1, 1, 2, 2))],
         np.array([[[[small[0, 0, 0, 0], 0], [small[0, 0, 0, 1], small[0, 0, 1, 1]]]]]), kernel_shape=[2, 2],
         strides=[2, 2], pads=[1, 1, 1, 1])


def older_normalizations():
    x, scale, bias, mean = numbers(2, 3, 2), numbers(3), numbers(3), numbers(3)
    variance = numbers(3, low=1, high=3)
    plain = F.batch_norm(torched(x), torched(mean), torched(variance), torched(scale), torched(bias), False, 0.1, 0.25)
    for opset in (7, 9):
        more = dict(spatial=1) if opset == 7 else {}
        case("BatchNormalization", [x, scale, bias, mean, variance], plain, opset, epsilon=0.25, momentum=0.5, **more)
        case("BatchNormalization", [x, scale, bias, mean, variance],
             (plain, mean, variance, mean, variance), opset, epsilon=0.25)
    of_each = [numbers(3, 2) for _ in range(3)] + [numbers(3, 2, low=1, high=3)]
    s, b, m, v = (wide(a) for a in of_each)
    case("BatchNormalization", [x] + of_each, (wide(x) - m) / np.sqrt(v + 0.25) * s + b, 7, epsilon=0.25, spatial=0)


# Layers whose state goes from step to step, by ONNX's formulas, step by step and sequence by sequence.

def softsign(x):
    return x / (1 + np.abs(x))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def recurrent(kind, x, w, r, b=None, lengths=None, h0=None, c0=None, p=None, reverse=False, clip=np.inf, fs=None,
              coupled=False, after=False):
    """Y, Y_h, Y_c of one direction; x is steps x batch x inputs."""
    steps, batch, hidden = x.shape[0], x.shape[1], r.shape[1]
    gates = r.shape[0] // hidden
    cut = lambda v: np.clip(v, -clip, clip)
    b = np.zeros(2 * gates * hidden) if b is None else b
    p = np.zeros(3 * hidden) if p is None else p
    fs = fs or {"LSTM": [sigmoid, np.tanh, np.tanh], "GRU": [sigmoid, np.tanh], "RNN": [np.tanh]}[kind]
    wb, rb = np.split(b, 2)
    y = np.zeros((steps, batch, hidden))
    last, cells = np.zeros((batch, hidden)), np.zeros((batch, hidden))
    for k in range(batch):
        h = np.zeros(hidden) if h0 is None else h0[k]
        c = np.zeros(hidden) if c0 is None else c0[k]
        end = steps if lengths is None else lengths[k]
        for t in range(end - 1, -1, -1) if reverse else range(end):
            a, u = w @ x[t, k] + wb, r @ h + rb
            if kind == "RNN":
                h = fs[0](cut(a + u))
            elif kind == "LSTM":
                (ai, ao, af, ac), (pi, po, pf) = np.split(a + u, 4), np.split(p, 3)
                i = fs[0](cut(ai + pi * c))
                f = 1 - i if coupled else fs[0](cut(af + pf * c))
                c = f * c + i * fs[1](cut(ac))
                h = fs[0](cut(ao + po * c)) * fs[2](c)
            else:
                (az, ar, ah), (uz, ur, uh) = np.split(a, 3), np.split(u, 3)
                z, reset = fs[0](cut(az + uz)), fs[0](cut(ar + ur))
                uh = reset * uh if after else r[2 * hidden:] @ (reset * h) + rb[2 * hidden:]
                h = (1 - z) * fs[1](cut(ah + uh)) + z * h
            y[t, k] = h
        last[k], cells[k] = h, c
    return y, last, cells


def recurrent_case(kind, operands, directions, opset=0, layout=0, options={}, **attributes):
    """operands: X, W, R, B, lengths, h, c, P of ONNX, with the batch behind the steps."""
    x, w, r, b, lengths, h, c, p = (list(operands) + [None] * 8)[:8]
    parts = [recurrent(kind, wide(x), *(None if o is None else wide(o[d]) for o in (w, r, b)),
                       None if lengths is None else lengths,
                       *(None if o is None else wide(o[d]) for o in (h, c, p)), reverse=reverse,
                       **{key: value[d] if key == "fs" else value for key, value in options.items()})
             for d, reverse in enumerate(directions)]
    y, last, cells = (np.stack([part[i] for part in parts], 1 if i == 0 else 0) for i in range(3))
    if layout:
        x, h, c = (None if o is None else np.ascontiguousarray(o.swapaxes(0, 1)) for o in (x, h, c))
        y, last, cells = y.transpose(2, 0, 1, 3), last.swapaxes(0, 1), cells.swapaxes(0, 1)
        attributes["layout"] = 1
    inputs = [x, w, r, b, lengths, h, c, p][:8 if kind == "LSTM" else 6]
    while inputs[-1] is None:
        inputs.pop()
    outputs = (y, last, cells) if kind == "LSTM" else (y, last)
    case(kind, inputs, tuple(np.ascontiguousarray(o) for o in outputs), opset, **attributes)


def recurrences():
    steps, batch, inputs, hidden = 3, 2, 2, 2
    for kind, gates in ("LSTM", 4), ("GRU", 3), ("RNN", 1):
        def operands(directions, number=8):
            shapes = [(steps, batch, inputs), (directions, gates * hidden, inputs),
                      (directions, gates * hidden, hidden), (directions, 2 * gates * hidden), None,
                      (directions, batch, hidden), (directions, batch, hidden), (directions, 3 * hidden)]
            made = [s and numbers(*s) / FLOATS(4) for s in shapes]
            made[4] = integers(3, 1)
            return made[:number]
        recurrent_case(kind, operands(1, 3), [False], hidden_size=hidden)
        recurrent_case(kind, operands(1), [True], direction="reverse")
        recurrent_case(kind, operands(2), [False, True], direction="bidirectional", hidden_size=hidden)
        recurrent_case(kind, operands(2), [False, True], layout=1, direction="bidirectional")
        without_lengths = operands(1)
        without_lengths[4] = None
        recurrent_case(kind, without_lengths, [False], 7, options=dict(clip=0.375), clip=0.375)
        if kind == "LSTM":
            recurrent_case(kind, operands(1), [False], options=dict(coupled=True), input_forget=1)
        if kind == "GRU":
            recurrent_case(kind, operands(2), [False, True], options=dict(after=True), linear_before_reset=1,
                           direction="bidirectional")
            recurrent_case(kind, operands(1, 3), [False], options=dict(after=True), linear_before_reset=1)
        names = {"LSTM": ["HardSigmoid", "ScaledTanh", "Softsign"], "GRU": ["HardSigmoid", "ScaledTanh"],
                 "RNN": ["ScaledTanh"]}[kind]
        functions = {"HardSigmoid": lambda v: np.clip(0.125 * v + 0.5, 0, 1),
                     "ScaledTanh": lambda v: 1.5 * np.tanh(0.5 * v), "Softsign": softsign}
        alphas = [{"HardSigmoid": 0.125, "ScaledTanh": 1.5}[n] for n in names if n != "Softsign"]
        betas = [0.5 for n in names if n != "Softsign"]
        recurrent_case(kind, operands(1), [False], options=dict(fs=[[functions[n] for n in names]]),
                       activations=names, activation_alpha=alphas, activation_beta=betas)
    plain = [numbers(2, 1, 2), numbers(1, 2, 2, low=-1, high=1), numbers(1, 2, 2, low=-1, high=1)]
    for name, function in {"Affine": lambda v: 0.5 * v + 0.25, "Elu": lambda v: np.where(v > 0, v, np.expm1(v)),
                           "LeakyRelu": lambda v: np.where(v > 0, v, 0.01 * v), "relu": lambda v: np.maximum(v, 0),
                           "Sigmoid": sigmoid, "Softplus": lambda v: np.logaddexp(0, v),
                           "ThresholdedRelu": lambda v: np.where(v > 1, v, 0)}.items():
        more = dict(activation_alpha=[0.5], activation_beta=[0.25]) if name == "Affine" else {}
        recurrent_case("RNN", plain, [False], options=dict(fs=[[function]]), activations=[name], **more)


def normalizations_by_rows():
    x = numbers(2, 4, 3)
    t, w = torched(x), wide(x)
    scale, bias, of_groups, shift = numbers(4), numbers(4), numbers(2), numbers(2)
    grouped = F.group_norm(t, 2, eps=0.25)
    case("GroupNormalization", [x, scale, bias], F.group_norm(t, 2, torched(scale), torched(bias), 0.25), num_groups=2,
         epsilon=0.25, stash_type=1)
    case("GroupNormalization", [x, scale, bias], F.group_norm(t, 4, torched(scale), torched(bias)), num_groups=4)
    spread = lambda v: np.repeat(wide(v), 2).reshape(1, 4, 1)
    case("GroupNormalization", [x, of_groups, shift], grouped.numpy() * spread(of_groups) + spread(shift), 18,
         num_groups=2, epsilon=0.25)
    centered = w - w.mean((0, 2), keepdims=True)
    case("MeanVarianceNormalization", [x], centered / (w.std((0, 2), keepdims=True) + 1e-9), axes=[0, -1])
    images = numbers(2, 3, 2, 2)
    v = wide(images)
    case("MeanVarianceNormalization", [images], (v - v.mean((0, 2, 3), keepdims=True)) /
         (v.std((0, 2, 3), keepdims=True) + 1e-9))
    case("MeanVarianceNormalization", [images], (v - v.mean((1, 2, 3), keepdims=True)) /
         (v.std((1, 2, 3), keepdims=True) + 1e-9), axes=[1, 2, 3])
    case("LpNormalization", [x], w / np.sqrt((w * w).sum(1, keepdims=True)), axis=1)
    case("LpNormalization", [x], w / np.abs(w).sum(-1, keepdims=True), p=1)
    weight = numbers(4, 3)
    root = 1 / np.sqrt((w * w).mean((1, 2), keepdims=True) + 0.25)
    case("RMSNormalization", [x, weight], w * root * wide(weight), axis=1, epsilon=0.25, stash_type=1)
    last = numbers(3)
    plain = 1 / np.sqrt((w * w).mean(-1, keepdims=True) + 1e-5)
    case("RMSNormalization", [x, last], w * plain * wide(last))
    for domain, opset in (None, 17), ("com.microsoft", 1):
        case("SimplifiedLayerNormalization", [x, weight], (w * root * wide(weight), root), opset, domain, axis=1,
             epsilon=0.25, stash_type=1)
    skip, beta, added = numbers(2, 4, 3), numbers(3), numbers(3)
    for of, more in (skip, beta), (skip[1:], None), (skip[0], None):
        full = w + wide(of) + (0 if more is None else wide(added))
        mean = full.mean(-1, keepdims=True)
        inverse = 1 / np.sqrt(full.var(-1, keepdims=True) + 0.25)
        y = (full - mean) * inverse * wide(last) + (0 if more is None else wide(beta))
        inputs = [x, of, last] + ([] if more is None else [beta, added])
        case("SkipLayerNormalization", inputs, (y, mean, inverse, full), 1, "com.microsoft", epsilon=0.25)
        inverse = 1 / np.sqrt((full * full).mean(-1, keepdims=True) + 0.25)
        inputs = [x, of, last] + ([] if more is None else [added])
        case("SkipSimplifiedLayerNormalization", inputs, (full * inverse * wide(last), 0 * inverse, inverse, full), 1,
             "com.microsoft", epsilon=0.25)
    words, segments, positions, gains = numbers(5, 3), numbers(2, 3), numbers(4, 3), numbers(3)
    ids, kinds, places = (integers(*v, shape=(2, 2)) for v in ((4, 0, 0, 2), (1, 1, 0, 1), (3, 1, 0, 3)))
    mask = integers(1, 0, 1, 1, shape=(2, 2))
    for inputs, full, counts in (
            ([ids, kinds, words, positions, segments, gains, added, mask, places],
             wide(words)[ids] + wide(segments)[kinds] + wide(positions)[places], integers(1, 2)),
            ([ids, None, words, positions, None, gains, added], wide(words)[ids] + wide(positions)[:2],
             integers(0, 0))):
        normal = (full - full.mean(-1, keepdims=True)) / np.sqrt(full.var(-1, keepdims=True) + 0.25)
        case("EmbedLayerNormalization", inputs, (normal * wide(gains) + wide(added), counts, full), 1, "com.microsoft",
             epsilon=0.25)
    for size in (1, 2, 3, 9):
        before, after = (size - 1) // 2, size // 2
        squares = np.stack([(w[:, max(0, c - before):c + after + 1] ** 2).sum(1) for c in range(4)], 1)
        case("LRN", [x], w / (1.5 + 0.5 / size * squares) ** 0.25, alpha=0.5, beta=0.25, bias=1.5, size=size)


def fused_products():
    """Gemm before opset 11, and ONNX Runtime's products."""
    a, b, bias = numbers(2, 3), numbers(3, 4), numbers(4)
    turned = np.ascontiguousarray
    case("Gemm", [a, b, bias], 0.5 * (wide(a) @ wide(b)) - wide(bias), 7, alpha=0.5, beta=-1.0)
    case("Gemm", [turned(a.T), turned(b.T), bias], wide(a) @ wide(b) + wide(bias), 7, transA=1, transB=1)
    many, others = numbers(2, 2, 3), numbers(2, 3, 4)
    product = 0.25 * (wide(many) @ wide(others))
    microsoft = dict(domain="com.microsoft", opset=1)
    case("FusedMatMul", [many, others], product, alpha=0.25, **microsoft)
    case("FusedMatMul", [turned(many.transpose(0, 2, 1)), turned(others.transpose(0, 2, 1))], 4 * product,
         transA=1, transB=1, **microsoft)
    case("FusedMatMul", [turned(many.transpose(1, 0, 2)), turned(others.transpose(1, 0, 2))], 4 * product,
         transBatchA=1, transBatchB=1, **microsoft)
    case("FusedMatMul", [turned(many.transpose(2, 0, 1)), turned(others.transpose(2, 0, 1))], product, alpha=0.25,
         transA=1, transB=1, transBatchA=1, transBatchB=1, **microsoft)
    deep, wider = numbers(1, 2, 2, 3), numbers(2, 2, 3, 2)
    case("FusedMatMul", [turned(deep.transpose(2, 0, 1, 3)), turned(wider.transpose(2, 0, 1, 3))],
         wide(deep) @ wide(wider), transBatchA=1, transBatchB=1, **microsoft)
    g = wide(a) @ wide(b)
    case("FusedGemm", [a, b], np.tanh(0.125 * g), activation="Tanh", alpha=0.125, **microsoft)
    case("FusedGemm", [turned(a.T), turned(b.T), bias], 1 / (1 + np.exp(-g - 0.5 * wide(bias))), beta=0.5,
         activation="Sigmoid", transA=1, transB=1, **microsoft)


def attend(q, k, v, scale=None, cap=0.0, masks=(), seen=None):
    """Of examples x heads x positions x size, in double: y and the scores scaled, capped, masked, as probabilities."""
    q, k, v = wide(q), wide(k), wide(v)
    shared = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, shared, 1), np.repeat(v, shared, 1)
    scaled = q @ k.swapaxes(-1, -2) * (scale or q.shape[-1] ** -0.5)
    capped = cap * np.tanh(scaled / cap) if cap else scaled
    masked = capped
    for mask in masks:
        masked = np.where(mask, masked, -np.inf) if mask.dtype == BOOLEANS else masked + mask
    if seen is not None:
        masked = np.where(seen, masked, -np.inf)
    largest = masked.max(-1, keepdims=True)
    e = np.exp(masked - np.where(np.isinf(largest), 0, largest))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    return p @ v, scaled, capped, masked, p


def by_head(x, heads):
    """Examples x positions x (heads x size), by heads."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def by_row(x):
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def causal(queries, keys, offset=0, left=None, right=0):
    """Which keys a query sees."""
    place, key = np.arange(queries)[:, None] + offset, np.arange(keys)
    return (key <= place + right) & (key >= place - (keys + queries if left is None else left))


def attention():
    q, k, v = numbers(1, 2, 3, 2), numbers(1, 2, 4, 2), numbers(1, 2, 4, 3)
    for opset in (23, 0):
        case("Attention", [q, k, v], attend(q, k, v)[0], opset)
        case("Attention", [q, k, v], attend(q, k, v, 0.25, 2.0, seen=causal(3, 4))[0], opset, is_causal=1, scale=0.25,
             softcap=2.0, softmax_precision=1)
        rows = [numbers(2, 2, 8), numbers(2, 3, 4), numbers(2, 3, 2)]  # four heads of queries, two of keys
        heads = [by_head(x, n) for x, n in zip(rows, (4, 2, 2))]
        mask = numbers(2, 1, 3)
        y, scaled, capped, masked, p = attend(*heads, 0.125, 3.0, [wide(mask)[:, None]])
        for mode, scores in enumerate((scaled, capped, masked, p)):
            case("Attention", rows + [mask[:, None]], (by_row(y), None, None, scores), opset,
                 q_num_heads=4, kv_num_heads=2, scale=0.125, softcap=3.0, qk_matmul_output_mode=mode)
        past_k, past_v = numbers(1, 2, 2, 2), numbers(1, 2, 2, 3)
        both_k, both_v = np.concatenate([past_k, k], 2), np.concatenate([past_v, v], 2)
        kept = rng.integers(0, 4, (3, 6)) > 0
        kept[1] = False  # a query that sees none
        case("Attention", [q, k, v, kept, past_k, past_v],
             (attend(q, both_k, both_v, 0.25, masks=[kept], seen=causal(3, 6, 2))[0], wide(both_k), wide(both_v)), opset,
             is_causal=1, scale=0.25)
    lengths = integers(4, 2)
    q, k, v = numbers(2, 1, 2, 2), numbers(2, 1, 4, 2), numbers(2, 1, 4, 2)
    seen = np.stack([causal(2, 4, 4 - 2), causal(2, 4, 2 - 2) & (np.arange(4) < 2)])[:, None]
    case("Attention", [q, k, v, None, None, None, lengths], attend(q, k, v, 0.25, seen=seen)[0], is_causal=1, scale=0.25)
    short = numbers(2, 1, 2, 3)
    padded = np.pad(wide(short), ((0, 0), (0, 0), (0, 0), (0, 1)), constant_values=-np.inf)
    case("Attention", [q, k, v, short], attend(q, k, v, 0.25, masks=[padded])[0], scale=0.25)
    case("Attention", [q, k, v], attend(q, k, v, 0.25, seen=causal(2, 4, 0, 0, 1))[0], scale=0.25, left_window_size=0,
         right_window_size=1)
    case("Attention", [q, k, v], attend(q, k, v, 0.25, seen=causal(2, 4, 0, 1, 0))[0], scale=0.25, left_window_size=1,
         is_causal=1)


def microsoft_attention():
    """ONNX Runtime's rows."""
    microsoft = dict(domain="com.microsoft", opset=1)
    x, w, b = numbers(2, 3, 2), numbers(2, 10), numbers(10)
    weights = [4, 4, 2]  # columns of queries, keys, values
    parts = np.split(wide(x) @ wide(w) + wide(b), np.cumsum(weights)[:2], 2)
    q, k, v = (by_head(part, 2) for part in parts)
    case("Attention", [x, w, b], by_row(attend(q, k, v, 0.0625, seen=causal(3, 3))[0]), num_heads=2, scale=0.0625,
         qkv_hidden_sizes=weights, unidirectional=1, do_rotary=0, **microsoft)
    kept, bias = integers(1, 1, 0, 1, 0, 1, shape=(2, 3)), numbers(1, 2, 3, 3)
    masks = [2.0 * (kept[:, None, None] - 1), wide(bias)]
    case("Attention", [x, w, b, kept, None, bias], by_row(attend(q, k, v, 0.0625, masks=masks)[0]), num_heads=2,
         scale=0.0625, qkv_hidden_sizes=weights, mask_filter_value=-2.0, **microsoft)
    small = numbers(2, 6, low=-1, high=1)
    q, k, v = (by_head(part, 1) for part in np.split(wide(x) @ wide(small), 3, 2))
    lengths = integers(3, 2)
    seen = np.arange(3) < lengths[:, None, None, None]
    case("Attention", [x, small, None, lengths], by_row(attend(q, k, v, seen=seen)[0]), num_heads=1, **microsoft)
    q, k, v = numbers(2, 2, 4), numbers(2, 3, 4), numbers(2, 3, 2)
    heads = [by_head(x, 2) for x in (q, k, v)]
    case("MultiHeadAttention", [q, k, v], by_row(attend(*heads, 0.25, seen=causal(2, 3))[0]), num_heads=2, scale=0.25,
         unidirectional=1, **microsoft)
    case("MultiHeadAttention", [q, heads[1], heads[2], None, lengths], by_row(attend(*heads, seen=seen)[0]), num_heads=2,
         **microsoft)
    bias, scores = numbers(10), numbers(1, 2, 2, 3)
    moved = [by_head(wide(x) + wide(part), 2) for x, part in zip((q, k, v), np.split(bias, [4, 8]))]
    kept = integers(1, 0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, shape=(2, 2, 3))
    masks = [2.0 * (kept[:, None] - 1), wide(scores)]
    case("MultiHeadAttention", [q, k, v, bias, kept, scores], by_row(attend(*moved, 0.0625, masks=masks)[0]), num_heads=2,
         scale=0.0625, mask_filter_value=-2.0, **microsoft)


def turned(x, cosine, sine, neighbours=False):
    """Examples x heads x positions x size, the pairs at its front turned; tables of examples x positions x pairs."""
    x, half = wide(x).copy(), cosine.shape[-1]
    cosine, sine = wide(cosine)[:, None], wide(sine)[:, None]
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if neighbours else (slice(half), slice(half, 2 * half))
    a, b = x[..., first].copy(), x[..., second].copy()
    x[..., first], x[..., second] = cosine * a - sine * b, sine * a + cosine * b
    return x


def rotations():
    x, ids = numbers(2, 1, 2, 6), integers(3, 0, 1, 3, shape=(2, 2))
    cosine, sine = numbers(4, 3), numbers(4, 3)
    case("RotaryEmbedding", [x, cosine, sine, ids], turned(x, cosine[ids], sine[ids]))
    case("RotaryEmbedding", [x, cosine, sine, ids], turned(x, cosine[ids], sine[ids], True), interleaved=1)
    rows, cosine, sine = numbers(2, 2, 8), numbers(2, 2, 1), numbers(2, 2, 1)
    case("RotaryEmbedding", [rows, cosine, sine], by_row(turned(by_head(rows, 2), cosine, sine)), num_heads=2,
         rotary_embedding_dim=2)
    microsoft = dict(domain="com.microsoft", opset=1)
    cosine, sine = numbers(4, 2), numbers(4, 2)
    case("RotaryEmbedding", [rows, ids, cosine, sine], by_row(turned(by_head(rows, 2), cosine[ids], sine[ids], True)),
         interleaved=1, scale=1.0, is_packed_batching=0, **microsoft)
    from_one = np.stack([cosine[1:3], cosine[1:3]]), np.stack([sine[1:3], sine[1:3]])
    case("RotaryEmbedding", [x, integers(1), cosine, sine], turned(x, *from_one), num_heads=1, rotary_embedding_dim=4,
         **microsoft)


def losses():
    x, weights, labels = numbers(3, 4), numbers(4, low=1, high=3), integers(2, 0, 3)
    t, w, c = torched(x), torched(weights), torch.tensor(labels)
    deep, places = numbers(2, 3, 2), integers(0, 2, 1, 0, shape=(2, 2))
    u, v, d = torched(deep), torched(weights[:3]), torch.tensor(places)
    for op, function in {"NegativeLogLikelihoodLoss": F.nll_loss, "SoftmaxCrossEntropyLoss": F.cross_entropy}.items():
        case(op, [x, labels], function(t, c))
        for reduction in ("none", "sum", "mean"):
            case(op, [x, labels, weights], function(t, c, w, ignore_index=0, reduction=reduction), reduction=reduction,
                 ignore_index=0)
            case(op, [deep, places, weights[:3]], function(u, d, v, reduction=reduction), reduction=reduction)
    case("SoftmaxCrossEntropyLoss", [deep, places, weights[:3]], (F.cross_entropy(u, d, v), torch.log_softmax(u, 1)))
    case("SoftmaxCrossEntropyLoss", [deep, integers(-1, 2, -1, 0, shape=(2, 2))],
         (F.cross_entropy(u, torch.tensor([[-1, 2], [-1, 0]]), ignore_index=-1), torch.log_softmax(u, 1)),
         ignore_index=-1)


def saturated(x, zero):
    """Rounded to even, as integers of the type of `zero`."""
    limits = np.iinfo(zero.dtype)
    return np.clip(np.rint(x) + zero, limits.min, limits.max).astype(zero.dtype)


def quantizations():
    x, scale = numbers(2, 3, low=-6, high=6), np.array(0.03125, FLOATS)
    w, s = wide(x), wide(scale)
    byte, signed = np.array(7, np.uint8), np.array(-3, np.int8)
    for opset in (10, 0):
        case("QuantizeLinear", [x, scale, byte], saturated(w / s, byte), opset)
        case("QuantizeLinear", [x, scale], saturated(w / s, np.uint8(0)), opset)
        case("DequantizeLinear", [saturated(w / s, byte), scale, byte], (saturated(w / s, byte) - 7.0) * s, opset)
    scales, zeros = np.array([0.0625, 0.25, 0.03125], FLOATS), np.array([1, -128, 5], np.int8)
    q = saturated(w / wide(scales), zeros)
    for opset in (19, 0):
        case("QuantizeLinear", [x, scales, zeros], q, opset, axis=-1, saturate=1)
        case("DequantizeLinear", [q, scales, zeros], (q - wide(zeros.astype(FLOATS))) * wide(scales), opset, axis=1)
    fine = np.array(0.0001220703125, FLOATS)
    for kind in (np.int16, np.uint16):
        case("QuantizeLinear", [x, fine, np.array(100, kind)], saturated(w / wide(fine), np.array(100, kind)))
    case("QuantizeLinear", [x, fine], saturated(w / wide(fine), np.int16(0)), output_dtype=5, precision=1)
    blocks = np.array([[0.0625, 0.5], [0.25, 0.125]], FLOATS)
    spread, zero = np.repeat(wide(blocks), 2, 1)[:, :3], np.array([[1, 2], [3, 4]], np.uint8)
    zeros = np.repeat(zero, 2, 1)[:, :3]
    q = saturated(w / spread, zeros)
    case("QuantizeLinear", [x, blocks, zero], q, axis=1, block_size=2)
    case("DequantizeLinear", [q, blocks, zero], (q.astype(float) - zeros) * spread, axis=1, block_size=2, output_dtype=1)
    low, high = min(w.min(), 0), max(w.max(), 0)
    step = FLOATS((FLOATS(high) - FLOATS(low)) / FLOATS(255))
    zero = saturated(-low / step, np.uint8(0))
    case("DynamicQuantizeLinear", [x], (saturated(x / step, zero), np.array(step, FLOATS), np.array(zero)))


def quantized_products():
    draw = lambda kind, *shape: rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)
    whole = lambda array: array.astype(INTEGERS)
    a, b = draw(np.uint8, 2, 3, 5), draw(np.int8, 5, 4)
    zero, zeros = np.array(130, np.uint8), np.array([3, -2, 0, 5], np.int8)
    exact = (whole(a) - 130) @ (whole(b) - zeros)
    case("MatMulInteger", [a, b], whole(a) @ whole(b))
    case("MatMulInteger", [a, b, zero, zeros], exact)
    scale, scales, step = np.array(0.0625, FLOATS), np.array([0.5, 0.25, 0.125, 0.0625], FLOATS), np.array(4, FLOATS)
    case("QLinearMatMul", [a, scale, zero, b, scales, zeros, step, np.array(9, np.uint8)],
         saturated(exact * 0.0625 * wide(scales) / 4, np.uint8(9)))
    x, w = draw(np.uint8, 1, 2, 4, 5), draw(np.int8, 2, 2, 2, 3)
    moved = torch.from_numpy(x.astype(float) - 130), torch.from_numpy(w.astype(float) - [[[[4]]], [[[-6]]]])
    plain = F.conv2d(moved[0], torch.from_numpy(w.astype(float)))
    case("ConvInteger", [x, w, zero], whole(plain.numpy()))
    wanted = F.conv2d(F.pad(moved[0], (1, 0, 1, 1)), moved[1], stride=(2, 1))
    kernels = np.array([4, -6], np.int8)
    more = dict(pads=[1, 1, 1, 0], strides=[2, 1], kernel_shape=[2, 3])
    case("ConvInteger", [x, w, zero, kernels], whole(wanted.numpy()), **more)
    case("QLinearConv", [x, scale, zero, w, scales[:2], kernels, step, np.array(-1, np.int8), integers(40, -300)],
         saturated((wanted.numpy() + [[[[40]], [[-300]]]]) * 0.0625 * wide(scales[:2])[:, None, None] / 4, np.int8(-1)),
         **more)
    grouped = draw(np.int8, 4, 1, 2, 2)
    separate = F.conv2d(moved[0], torch.from_numpy(grouped.astype(float)), groups=2, dilation=(1, 2))
    case("ConvInteger", [x, grouped, zero], whole(separate.numpy()), group=2, dilations=[1, 2], auto_pad="VALID")
    case("QLinearConv", [x, scale, zero, grouped, scale, np.array(0, np.int8), step, np.array(100, np.uint8)],
         saturated(separate.numpy() * 0.0625**2 / 4, np.uint8(100)), group=2, dilations=[1, 2], auto_pad="VALID")


def sequences():
    """What newer networks of sequences have beside attention."""
    a, b = numbers(2, 3), numbers(3)
    for alpha in (1.0, 0.5):
        given = {} if alpha == 1 else {"alpha": alpha}
        case("SwiGLU", [a, b], wide(a) / (1 + np.exp(-alpha * wide(a))) * wide(b), **given)
    x, kernel, bias, past = numbers(2, 2, 4), numbers(2, 1, 3), numbers(2), numbers(2, 2, 2)
    for before, given in ((np.zeros((2, 2, 2)), [x, kernel]), (wide(past), [x, kernel, bias, past])):
        line = torch.from_numpy(np.concatenate([before, wide(x)], 2))
        f = F.conv1d(line, torched(kernel), torched(bias) if len(given) > 2 else None, groups=2)
        case("CausalConvWithState", given, (f, line[:, :, -2:]))
        case("CausalConvWithState", given[:2] + [None] * (len(given) - 2), F.silu(F.conv1d(
            F.pad(torched(x), (2, 0)), torched(kernel), groups=2)), activation="silu")


# Convolutions of volumes, and their adjoints.

def volumes():
    x = numbers(1, 2, 3, 2, 3)
    w = numbers(2, 2, 2, 1, 2)
    bias = numbers(2)
    padded = F.pad(torched(x), (1, 0, 0, 0, 0, 1))
    case("Conv", [x, w, bias], F.conv3d(padded, torched(w), torched(bias), stride=(2, 1, 1), dilation=(1, 1, 2)),
         pads=[0, 0, 1, 1, 0, 0], strides=[2, 1, 1], dilations=[1, 1, 2])
    w = numbers(2, 1, 2, 2, 1)
    case("Conv", [x, w], F.conv3d(F.pad(torched(x), (0, 0, 0, 1, 0, 1)), torched(w), groups=2), group=2,
         auto_pad="SAME_UPPER")
    x = numbers(1, 1, 2, 2, 3, 2)
    w = numbers(1, 1, 2, 1, 2, 1)
    wide_x, wide_w = wide(x), wide(w).ravel()
    sums = sum(wide_w[2 * i + j] * wide_x[:, :, i:i + 1, :, j:j + 2] for i in range(2) for j in range(2))
    case("Conv", [x, w], sums)


def transposed():
    x = numbers(2, 2, 2, 3)
    w = numbers(2, 2, 2, 3)
    bias = numbers(2)
    case("ConvTranspose", [x, w, bias], F.conv_transpose2d(torched(x), torched(w), torched(bias)))
    whole = F.conv_transpose2d(torched(x), torched(w), stride=(3, 2), output_padding=(2, 0), dilation=(1, 2))
    case("ConvTranspose", [x, w], whole[:, :, 1:, 1:-2], strides=[3, 2], dilations=[1, 2], output_padding=[2, 0],
         pads=[1, 1, 0, 2], kernel_shape=[2, 3])
    case("ConvTranspose", [x, w], F.conv_transpose2d(torched(x), torched(w))[:, :, 1:, 1:-1], output_shape=[2, 3])
    case("ConvTranspose", [x, w], F.conv_transpose2d(torched(x), torched(w))[:, :, :-1, 1:-1], auto_pad="SAME_UPPER")
    case("ConvTranspose", [x, w], F.conv_transpose2d(torched(x), torched(w))[:, :, 1:, 1:-1], auto_pad="SAME_LOWER")
    case("ConvTranspose", [x, w], F.conv_transpose2d(torched(x), torched(w)), auto_pad="VALID", pads=[1, 1, 1, 1])
    line = numbers(1, 4, 3)
    kernel = numbers(4, 1, 2)
    case("ConvTranspose", [line, kernel], F.conv_transpose1d(torched(line), torched(kernel), groups=2, stride=3),
         group=2, strides=[3])
    x = numbers(1, 2, 2, 2, 2)
    w = numbers(2, 1, 2, 1, 2)
    case("ConvTranspose", [x, w], F.conv_transpose3d(torched(x), torched(w), stride=(2, 1, 1), padding=(1, 0, 0)),
         strides=[2, 1, 1], pads=[1, 0, 0, 1, 0, 0])


# Attention with a state.

def recur(q, k, v, past=None, decay=None, beta=None, scale=0.0):
    """LinearAttention: queries and outputs as positions × heads × numbers of each example."""
    examples, positions, heads = q.shape[:3]
    group, size = heads // k.shape[2], q.shape[3]
    out = np.zeros((examples, positions, heads, v.shape[3]))
    states = np.zeros((examples, k.shape[2], size, v.shape[3])) if past is None else wide(past).copy()
    for n, t, head in np.ndindex(examples, positions, heads):
        state = states[n, head // group]
        if head % group == 0:
            key, update = wide(k[n, t, head // group]), wide(v[n, t, head // group])
            if decay is not None:
                state *= np.exp(wide(decay[n, t, head // group]))[:, None]
            if beta is not None:
                rates = wide(beta[n, t])
                update = rates[head // group % len(rates)] * (update - state.T @ key)
            state += np.outer(key, update)
        out[n, t, head] = state.T @ wide(q[n, t, head]) * (scale or size ** -0.5)
    return out, states


def linear_attention():
    def rows(x):
        return None if x is None else x.reshape(*x.shape[:2], -1)

    def small(*shape):
        return numbers(*shape) / FLOATS(4)

    def check(q, k, v, past=None, decay=None, beta=None, **given):
        y, state = recur(q, k, v, past, decay, beta, given.get("scale", 0.0))
        inputs = [rows(q), rows(k), rows(v), past, rows(decay), beta]
        while inputs[-1] is None:
            inputs.pop()
        case("LinearAttention", inputs, (rows(y), state), q_num_heads=q.shape[2], kv_num_heads=k.shape[2], **given)

    q, k, v = small(1, 4, 4, 3), small(1, 4, 2, 3), small(1, 4, 2, 2)  # two heads of queries read each state
    past, beta = small(1, 2, 3, 2), numbers(1, 4, 2, low=0, high=1)
    decay = -numbers(1, 4, 2, 3, low=0) / FLOATS(2)
    check(q, k, v, update_rule="linear")
    check(q, k, v, past, update_rule="linear", scale=0.75)
    check(q, k, v, decay=decay, update_rule="gated")
    check(q, k, v, past, decay[..., :1], update_rule="gated")
    check(q, k, v, beta=beta, update_rule="delta")
    check(q, k, v, past, decay, beta, update_rule="gated_delta", chunk_size=2)
    check(q, k, v, past, decay[..., 1:2], beta[..., :1])
    q, k, v = small(2, 3, 1, 2), small(2, 3, 1, 2), small(2, 3, 1, 8)
    check(q, k, v, None, -numbers(2, 3, 1, 2, low=0), numbers(2, 3, 1, low=0, high=1))
    y, state = recur(q, k, v)
    case("LinearAttention", [rows(x) for x in (q, k, v)], rows(y), q_num_heads=1, kv_num_heads=1, update_rule="linear")
    case("LinearAttention", [rows(x) for x in (q, k, v)], (None, state), q_num_heads=1, kv_num_heads=1,
         update_rule="linear")


# Convolutions of elements between elements, and those with a function behind them.

def deform(x, w, offset, bias=None, mask=None, strides=1, dilations=1, pads=None, group=1, offset_group=1):
    """DeformConv, element by element of the input: each has the weight Π max(0, 1 − distance)."""
    axes, outputs, kernel = x.ndim - 2, offset.shape[2:], w.shape[2:]
    strides, dilations = np.broadcast_to(strides, axes), np.broadcast_to(dilations, axes)
    offset = wide(offset).reshape(len(x), offset_group, *kernel, axes, *outputs)
    mask = np.ones((len(x), offset_group, *kernel, *outputs)) if mask is None else wide(mask).reshape(
        len(x), offset_group, *kernel, *outputs)
    y = np.zeros((len(x), len(w), *outputs)) if bias is None else np.broadcast_to(
        wide(bias).reshape(-1, *[1] * axes), (len(x), len(w), *outputs)).copy()
    for n, m, c in np.ndindex(len(x), len(w), w.shape[1]):
        channel = m // (len(w) // group) * w.shape[1] + c
        of = channel // (x.shape[1] // offset_group)
        for k, p in ((k, p) for k in np.ndindex(*kernel) for p in np.ndindex(*outputs)):
            at = np.multiply(strides, p) + np.multiply(dilations, k) - (0 if pads is None else pads[:axes])
            at = at + offset[(n, of, *k, slice(None), *p)]
            weight = np.ones(())
            for i in range(axes):
                weight = weight[..., None] * np.maximum(0, 1 - abs(at[i] - np.arange(x.shape[2 + i])))
            y[(n, m, *p)] += wide(w)[(m, c, *k)] * mask[(n, of, *k, *p)] * (weight * wide(x[n, channel])).sum()
    return y


def deformed():
    def odd(*shape):  # some twice
        return ((2 * rng.integers(-12, 12, shape) + 1) / 16).astype(FLOATS)

    x, w, bias = numbers(1, 4, 3, 3), numbers(2, 2, 2, 2) / FLOATS(4), numbers(2)
    offset, mask = odd(1, 16, 2, 2), odd(1, 8, 2, 2)
    given = dict(strides=[2, 1], pads=[1, 0, 0, 1], dilations=[1, 2], group=2, offset_group=2)
    case("DeformConv", [x, w, offset, bias, mask], deform(x, w, offset, bias, mask, **given), kernel_shape=[2, 2], **given)
    case("DeformConv", [x, w, offset, None, mask], deform(x, w, offset, None, mask, **given), **given)
    x, w, offset = numbers(2, 2, 4), numbers(3, 2, 2) / FLOATS(4), odd(2, 2, 3)
    case("DeformConv", [x, w, offset], deform(x, w, offset))
    x, w, offset, bias = numbers(1, 1, 2, 2, 3), numbers(1, 1, 2, 1, 2) / FLOATS(4), odd(1, 12, 1, 2, 2), numbers(1)
    case("DeformConv", [x, w, offset, bias], deform(x, w, offset, bias))


def fused_convolutions():
    functions = {"Relu": (torch.relu, [0]), "Tanh": (torch.tanh, []), "Sigmoid": (torch.sigmoid, []),
                 "LeakyRelu": (lambda g: F.leaky_relu(g, 0.25), [0]),
                 "Clip": (lambda g: g.clamp(-0.5, 1.5), [-0.5, 1.5]),
                 "HardSigmoid": (lambda g: (0.125 * g + 0.5).clamp(0, 1), [-4, 4])}
    settings = {"LeakyRelu": [0.25], "Clip": [-0.5, 1.5], "HardSigmoid": [0.125, 0.5]}
    microsoft = dict(domain="com.microsoft", opset=1)

    def draw(kinks, *shapes, **convolution):
        """Inputs whose convolution is far from every kink."""
        while True:
            x, w, bias, more = (numbers(*shape) for shape in shapes)
            g = F.conv2d(torched(x), torched(w), torched(bias), **convolution)
            if all((abs(f - kink) > 0.125).all() for kink in kinks for f in (g, g + torched(more))):
                return (x, w, bias, more), g

    for name, (function, kinks) in functions.items():
        (x, w, bias, more), g = draw(kinks, (1, 2, 3, 2), (2, 2, 2, 1), (2,), (1, 2, 2, 2))
        given = {"activation_params": settings[name]} if name in settings else {}
        case("FusedConv", [x, w, bias], function(g), activation=name, **given, **microsoft)
        case("FusedConv", [x, w, bias, more], function(g + torched(more)), activation=name, **given, **microsoft)
    (x, w, _, more), _ = draw([], (1, 2, 3, 3), (2, 1, 2, 2), (2,), (1, 2, 2, 2), groups=2)
    g = F.conv2d(F.pad(torched(x), (0, 1, 1, 0)), torched(w), stride=(2, 1), dilation=(1, 2), groups=2)
    case("FusedConv", [x, w, None, more], g + torched(more), pads=[1, 0, 0, 1], strides=[2, 1], dilations=[1, 2],
         kernel_shape=[2, 2], group=2, **microsoft)
    case("FusedConv", [x, w], torch.tanh(F.conv2d(torched(x), torched(w), groups=2)), auto_pad="VALID", group=2,
         activation="Tanh", **microsoft)
    line, kernel = numbers(2, 2, 4), numbers(1, 2, 2)
    case("FusedConv", [line, kernel], torch.sigmoid(F.conv1d(torched(line), torched(kernel))), activation="Sigmoid",
         **microsoft)


for family in (elementwise, arithmetic, products, convolution, pooling, normalizations, reductions, movements,
               shapes, selections, conditions, versions, norms, activations, remainders, casts,
               scans, einsums, determinants, movement_versions, scatters, gathers, indicators,
               blocks, resizes, samples, regions, pools_of_volumes, older_normalizations,
               recurrences, normalizations_by_rows, fused_products, attention, microsoft_attention,
               rotations, losses, quantizations, quantized_products, sequences, volumes, transposed,
               linear_attention, deformed, fused_convolutions):
    rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    family()

if __name__ == "__main__":
    write()
