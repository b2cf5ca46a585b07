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


for family in (elementwise, arithmetic, products, convolution, pooling, normalizations, reductions, movements,
               shapes, volumes, transposed):
    rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    family()
write()
