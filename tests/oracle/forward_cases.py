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
    return f"{MACROS[value.dtype]}({shape}, {', '.join(number(v) for v in value.ravel())})"


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
        case(op, [x], function(w, axis=(0, 2)), axes=[0, -1], keepdims=0)
        case(op, [x], function(w, keepdims=True))
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


for family in (elementwise, arithmetic, products, convolution, pooling, normalizations, reductions, movements,
               shapes, pools_of_volumes, older_normalizations, recurrences,
               normalizations_by_rows):
    rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    family()
write()
