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
    values = ', '.join(number(v) for v in value.ravel())
    if value.dtype in NARROW:
        return f"NARROW(NET_{NARROW[value.dtype]}, {shape}, {values})"
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


for family in (elementwise, arithmetic, products, convolution, pooling, normalizations, reductions, movements,
               shapes, fused_products, attention, microsoft_attention, rotations, losses,
               quantizations, quantized_products, sequences):
    rng = np.random.default_rng(zlib.crc32(family.__name__.encode()))
    family()
write()
