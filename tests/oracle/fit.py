"""Curvature of a network over data, in float64 by PyTorch, and what a fitted posterior holds of it.

usage: fit.py compare POSTERIOR.h5 DATA.h5[:GROUP] [options]
       fit.py labels  POSTERIOR.h5 DATA.h5[:GROUP] -o LABELS.npy [options]
       fit.py - < lines of such arguments
       fit.py selftest

`compare` prints for each tensor the largest difference, relative to the largest number of its kind
in the tensor, and exits with 1 where one is above 1e-4 (--tolerance). The graph (/model.onnx, or
--model) is run node by node by PyTorch, one example at a time: gradients of single examples are
those of automatic differentiation. How the posterior was fitted is read from structure.json's "fit"
(curvature, shared, moments, fisher_samples, seed, likelihood, noise_std), where options say nothing.

The contract
  N     the examples of the data; in token models (outputs T x K) the tokens whose target counts:
        not --ignore-label. An example or token that does not count has e = 0 and no columns; rows a
        of examples of which no output counts are left out.
  e     a column of output adjoints of one example. The sum over them is the expectation E:
        ggn        the columns of a root of L = d2 loss / df2: categorical sqrt(p_k) (p - e_k), k = 1
                   ... K; gaussian e_k / s; bernoulli sqrt(p (1 - p)) e_k. Of tokens a column for each
                   k AND each token (T K passes); with --signs=SEED one for each k, over all tokens
                   at once with the random sign of each token.
        fisher     e = dL/df with labels drawn from the outputs, S of them (--fisher-samples), each
                   column divided by sqrt(S); of tokens all at once, one label each
        empirical  e = dL/df with the data's labels
  a, d  of every use of a weight as a matrix (Gemm, MatMul by a matrix on the right, Conv of one
        group, Gather): inputs a_nt (a convolution's patch: channels, then the kernel) and for each
        column the adjoints d_nt, t = 1 ... T. A bias of Gemm or Conv that no other node uses is one
        more column of the weight, and a 1 in a; alpha of Gemm is in a, beta is the column's number.
        A bias in an Add of its own, norms' scales, all others are diagonal parameters.
  A     1/N sum_n sum_t a a'      (expand);  a_n = mean over t, d_n = sum over t (reduce)
  B     1/M sum_n sum_t E d d', M = the number of rows (n, t) that the sums run over, so that A x B
        stands for 1/N sum E dd' x aa'. Several uses of one weight: sums over all rows of all uses.
        Where their orientations differ (tied embeddings) A and B are not compared.
  h     1/N sum_n E (U_B' G_n U_A)^2, G_n = sum_t d a' over all uses: from the gradients themselves,
        in the bases of the FILE, which are unique only up to signs and rotations; diagonal
        parameters 1/N sum_n E g^2. With moments "factors" h is the product of the file's spectra.
        The precision is lambda (h + delta): h has no prior in it.
  file  U diag(spectrum) U' is compared with A and B, U'U with the identity, /gram with A.
  low rank  Of the whitened precision M = D^-1/2 (lambda (GGN + delta)) D^-1/2 - I, D the base as the
        file has it: U'U with the identity, M U with U diag(values), both to 1e-2 (--rank-tolerance:
        Lanczos vectors are converged to that, not to the rounding), and where all parameters are
        few (2,500) the last |value| with the exact spectrum's.
  draws of labels, signs: word 0 of Philox4x64-10 at key (seed, FNV-1a of "fit"), counter (t S + s,
        n, 0, 0): example n counted in the whole data set, token t (0 without tokens; the output k
        of gaussian and bernoulli), sample s (0 of signs). u = (word >> 11) 2^-53. A class is the
        first k with p_0 + ... + p_k > u; an event is u < p; gaussian labels are f + s z, z normal
        t S + s of lib/core/random.h with the same seed, name, and n as the sample. A sign is negative where the word's top
        bit is set. In float32 a label may differ where u meets a sum of p: --labels takes the
        labels as they were (n x S x T, or its ravel).
"""
import argparse
import json
import shlex
import sys

import h5py
import numpy as np
import onnx
import torch
from normals import normals, words
from onnx import numpy_helper
from torch.nn import functional as F

DENSE = 2500
CHUNK = 256  # columns that are taken back at once
torch.set_num_threads(1)


# The graph.

def converted(array):
    array = np.asarray(array)
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    elif array.dtype.kind in "iu":
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array))


def whole(t):
    return [int(v) for v in t.reshape(-1)]


def reduced(function):
    def run(a, x, axes=None):
        axes = whole(axes) if axes is not None else list(a.get("axes", range(x.dim())))
        return function(x, axes, bool(a.get("keepdims", 1)))
    return run


def reshaped(a, x, shape):
    shape = whole(shape)
    if not a.get("allowzero", 0):
        shape = [x.shape[i] if v == 0 else v for i, v in enumerate(shape)]
    return x.reshape(shape)


def sliced(a, x, starts=None, ends=None, axes=None, steps=None):
    starts = whole(starts) if starts is not None else list(a["starts"])
    ends = whole(ends) if ends is not None else list(a["ends"])
    axes = whole(axes) if axes is not None else list(a.get("axes", range(len(starts))))
    steps = whole(steps) if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps):
        places = range(x.shape[axis])[slice(start, end if end >= -x.shape[axis] else None, step)]
        x = x.index_select(axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def split(a, x, sizes=None):
    axis = a.get("axis", 0)
    if sizes is None and "split" not in a:
        raise SystemExit("Split without sizes is not known here")
    return x.split(whole(sizes) if sizes is not None else list(a["split"]), axis)


def unsqueezed(a, x, axes=None):
    axes = whole(axes) if axes is not None else list(a["axes"])
    rank = x.dim() + len(axes)
    for axis in sorted(v % rank for v in axes):
        x = x.unsqueeze(axis)
    return x


def squeezed(a, x, axes=None):
    axes = whole(axes) if axes is not None else list(
        a.get("axes", [i for i, n in enumerate(x.shape) if n == 1]))
    for axis in sorted((v % x.dim() for v in axes), reverse=True):
        x = x.squeeze(axis)
    return x


def sides(pads):
    """ONNX's begins, then ends, as F.pad takes them."""
    half = len(pads) // 2
    return [p for axis in reversed(range(half)) for p in (pads[axis], pads[half + axis])]


def padded(a, x, pads=None, value=None, axes=None):
    pads = whole(pads) if pads is not None else list(a["pads"])
    value = float(value) if value is not None else a.get("value", 0.0)
    assert a.get("mode", b"constant") == b"constant" and axes is None
    return F.pad(x, sides(pads), value=value)


def pooled(function, fill):
    def run(a, x):
        kernel = list(a["kernel_shape"])
        pads, strides = list(a.get("pads", [0] * 2 * len(kernel))), list(a.get("strides", [1] * len(kernel)))
        assert a.get("auto_pad", b"NOTSET") == b"NOTSET" and not a.get("ceil_mode", 0)
        assert fill != 0 or not any(pads) or a.get("count_include_pad", 0)
        return function(len(kernel))(F.pad(x, sides(pads), value=fill), kernel, strides)
    return run


def cast(a, x):
    kind = onnx.TensorProto.DataType.Name(a["to"])
    return x.bool() if kind == "BOOL" else x.double() if "FLOAT" in kind or kind == "DOUBLE" else x.long()


def divided(a, x, y):
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def normalized(a, x, scale, bias=None):
    axis = a.get("axis", -1) % x.dim()
    made = F.layer_norm(x, x.shape[axis:], eps=a.get("epsilon", 1e-5)) * scale
    return made if bias is None else made + bias


def batch_normalized(a, x, scale, bias, mean, variance):
    shape = [1, -1] + [1] * (x.dim() - 2)
    x = (x - mean.reshape(shape)) / torch.sqrt(variance.reshape(shape) + a.get("epsilon", 1e-5))
    return x * scale.reshape(shape) + bias.reshape(shape)


def pool2(kind):
    return lambda rank: getattr(F, f"{kind}_pool{rank}d")


def taken(a, x, indices):
    axis = a.get("axis", 0) % x.dim()
    flat = x.index_select(axis, (indices % x.shape[axis]).reshape(-1))
    return flat.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1:])


def expanded(a, x, shape):
    return x.expand(torch.broadcast_shapes(x.shape, tuple(whole(shape))))


OPERATORS = {
    "Abs": lambda a, x: x.abs(), "Add": lambda a, x, y: x + y, "And": lambda a, x, y: x & y,
    "AveragePool": pooled(pool2("avg"), 0.0), "MaxPool": pooled(pool2("max"), -np.inf),
    "BatchNormalization": batch_normalized, "Cast": cast,
    "Clip": lambda a, x, low=None, high=None: x.clamp(
        None if low is None and "min" not in a else float(low if low is not None else a["min"]),
        None if high is None and "max" not in a else float(high if high is not None else a["max"])),
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "ConstantOfShape": lambda a, shape: torch.full(whole(shape), converted(
        numpy_helper.to_array(a["value"])).item() if "value" in a else 0.0),
    "Div": divided, "Dropout": lambda a, x, *rest: x, "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Equal": lambda a, x, y: x == y, "Erf": lambda a, x: x.erf(), "Exp": lambda a, x: x.exp(),
    "Expand": expanded, "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[:a.get("axis", 1)])), -1),
    "Gather": taken, "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.dim())), keepdim=True),
    "Greater": lambda a, x, y: x > y, "Identity": lambda a, x: x, "Less": lambda a, x, y: x < y,
    "LayerNormalization": normalized, "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": lambda a, x: x.log(), "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "MatMul": lambda a, x, y: x @ y, "Max": lambda a, x, y: torch.maximum(x, y),
    "Min": lambda a, x, y: torch.minimum(x, y), "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x, "Not": lambda a, x: ~x, "Pad": padded, "Pow": lambda a, x, y: x**y,
    "Range": lambda a, x, y, z: torch.arange(x.item(), y.item(), z.item()),
    "Reciprocal": lambda a, x: 1 / x, "ReduceMax": reduced(lambda x, d, k: x.amax(d, k)),
    "ReduceMean": reduced(lambda x, d, k: x.mean(d, k)), "ReduceSum": reduced(lambda x, d, k: x.sum(d, k)),
    "Relu": lambda a, x: x.relu(), "Reshape": reshaped,
    "Shape": lambda a, x: torch.tensor(x.shape[a.get("start", 0):a.get("end", None)]),
    "Sigmoid": lambda a, x: x.sigmoid(), "Slice": sliced, "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Softplus": lambda a, x: F.softplus(x), "Split": split, "Sqrt": lambda a, x: x.sqrt(),
    "Squeeze": squeezed, "Sub": lambda a, x, y: x - y, "Tanh": lambda a, x: x.tanh(),
    "Transpose": lambda a, x: x.permute(*a.get("perm", range(x.dim())[::-1])),
    "Unsqueeze": unsqueezed, "Where": lambda a, c, x, y: torch.where(c, x, y),
}


class Use:
    """Rows a of a weight's inputs (T x n), and the output z whose adjoints are d."""

    def __init__(self, weight, bias, rows, z, transposed, lookup=False, channels=False):
        self.weight, self.bias, self.z = weight, bias, z
        self.transposed, self.lookup, self.channels = transposed, lookup, channels
        self.rows = rows.detach() if rows is not None else None

    def adjoints(self, d):
        """columns x T x o."""
        if self.channels:  # columns x 1 x o x ...
            return d.flatten(3)[:, 0].transpose(1, 2) if d.dim() > 3 else d
        return d.reshape(len(d), -1, d.shape[-1])


class Network:
    def __init__(self, graph, parameters, buffers):
        self.graph = graph
        self.parameters = {n: converted(v).requires_grad_() for n, v in parameters.items()}
        self.fixed = {i.name: converted(numpy_helper.to_array(i)) for i in graph.initializer}
        self.fixed.update({n: converted(v) for n, v in buffers.items()})
        self.fixed.update(self.parameters)
        self.inputs = [i.name for i in graph.input if i.name not in self.fixed]
        used = [name for node in graph.node for name in node.input]
        self.counts = {name: used.count(name) for name in self.parameters}
        self.attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
                           for node in graph.node]

    def run(self, inputs):
        """Output 0 at one example (a batch of 1), and the uses of weights."""
        values, origin, uses = dict(self.fixed), {n: (n, False) for n in self.parameters}, []
        values.update(inputs)
        for node, a in zip(self.graph.node, self.attributes):
            if node.op_type == "Constant":
                values[node.output[0]] = converted(
                    numpy_helper.to_array(a["value"]) if "value" in a else
                    a.get("value_float", a.get("value_int", a.get("value_floats", a.get("value_ints")))))
                continue
            if node.op_type == "Identity" and node.output[0] in self.fixed:
                continue  # A parameter that had an equal one's value when the graph was made.
            x = [values[name] if name else None for name in node.input]
            if node.op_type == "Gemm":
                made = self.gemm(node, a, x, origin, uses)
            elif node.op_type == "Conv":
                made = self.convolution(node, a, x, origin, uses)
            else:
                made = OPERATORS[node.op_type](a, *x)
                self.follow(node, a, x, made, origin, uses)
            made = made if isinstance(made, (tuple, list)) else [made]
            for name, value in zip(node.output, made):
                values[name] = value
        return values[self.graph.output[0].name], uses

    def follow(self, node, a, x, made, origin, uses):
        """Products by a parameter or by its transpose, and look-ups of its rows."""
        first = origin.get(node.input[0]) if node.input else None
        second = origin.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type in ("Transpose", "Identity") and first:
            turned = node.op_type == "Transpose" and list(a.get("perm", [1, 0])) == [1, 0]
            if node.op_type == "Identity" or turned and x[0].dim() == 2:
                origin[node.output[0]] = (first[0], first[1] != turned)
        elif node.op_type == "MatMul" and second and x[1].dim() == 2:
            rows = x[0].reshape(-1, x[0].shape[-1])
            uses.append(Use(second[0], None, rows, made, not second[1]))
        elif node.op_type == "Gather" and first and x[0].dim() == 2 and not a.get("axis", 0):
            uses.append(Use(first[0], None, None, made, not first[1], lookup=True))

    def own_bias(self, name, size):
        own = name in self.parameters and self.counts[name] == 1
        return name if own and self.parameters[name].numel() == size else None

    def gemm(self, node, a, x, origin, uses):
        alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
        left = x[0].T if a.get("transA", 0) else x[0]
        right = x[1].T if a.get("transB", 0) else x[1]
        made = alpha * (left @ right)
        bias = None
        if len(x) > 2 and x[2] is not None:
            made = made + beta * x[2]
            bias = self.own_bias(node.input[2], right.shape[1])
        if node.input[1] in origin:
            name, turned = origin[node.input[1]]
            rows = alpha * left
            if bias:
                rows = torch.cat([rows, torch.full_like(rows[:, :1], beta)], 1)
            uses.append(Use(name, bias, rows, made, turned == bool(a.get("transB", 0))))
        return made

    def convolution(self, node, a, x, origin, uses):
        kernel = list(x[1].shape[2:])
        rank, group = len(kernel), a.get("group", 1)
        pads, strides = list(a.get("pads", [0] * 2 * rank)), list(a.get("strides", [1] * rank))
        dilations = list(a.get("dilations", [1] * rank))
        assert a.get("auto_pad", b"NOTSET") == b"NOTSET"
        padded_input = F.pad(x[0], sides(pads))
        bias = x[2] if len(x) > 2 else None
        made = (F.conv1d, F.conv2d, F.conv3d)[rank - 1](padded_input, x[1], bias, strides, 0, dilations,
                                                     group)
        if node.input[1] in self.parameters and group == 1 and rank < 3:
            own = self.own_bias(node.input[2], len(x[1])) if bias is not None else None
            lift = (lambda v: [1] + v) if rank == 1 else list
            image = padded_input.unsqueeze(2) if rank == 1 else padded_input
            rows = F.unfold(image, lift(kernel), lift(dilations), 0, lift(strides))[0].T
            if own:
                rows = torch.cat([rows, torch.ones_like(rows[:, :1])], 1)
            uses.append(Use(node.input[1], own, rows, made, False, channels=True))
        return made


# Columns of output adjoints.

class Columns:
    """Gives of one example's outputs the columns e (C x the outputs' shape), and the count of what
    counts of it."""

    def __init__(self, likelihood="categorical", curvature="ggn", noise=1.0, samples=1, seed=0,
                 labels=None, signs=None, ignore=-100):
        self.likelihood, self.curvature, self.noise = likelihood, curvature, noise
        self.samples, self.seed, self.labels, self.signs, self.ignore = (samples, seed, labels, signs,
                                                                         ignore)
        self.drawn = []

    def uniform_words(self, example, places, samples):
        # Four words to a block; word 0 is the number.
        return words(self.seed, example, "fit", 0, places * samples)[::4].reshape(places, samples)

    def draw(self, f, example):
        """Labels S x T of outputs T x K (categorical), or S x K."""
        places = len(f) if self.likelihood == "categorical" else f.numel()
        if self.labels is not None:
            return torch.from_numpy(np.asarray(self.labels)[example].reshape(self.samples, places))
        raw = self.uniform_words(example, places, self.samples).T
        uniform = torch.from_numpy((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53)
        if self.likelihood == "categorical":
            reached = f.softmax(1).cumsum(1)[None] > uniform[..., None]
            return torch.where(reached.any(2), reached.double().argmax(2), f.shape[1] - 1)
        if self.likelihood == "bernoulli":
            return (uniform < f.reshape(-1).sigmoid()).double()
        normal = normals(self.seed, example, "fit", places * self.samples).reshape(places, self.samples).T
        return f.reshape(-1) + self.noise * torch.from_numpy(normal)

    def of(self, f, y, example):
        shape = f.shape
        if self.likelihood == "categorical":
            f = f.detach().reshape(-1, shape[-1])
            y = torch.as_tensor(y).reshape(-1).long()
            counts = y != self.ignore
            columns = self.categorical(f, y, counts, example)
            return columns.reshape(-1, *shape), int(counts.sum())
        return self.of_numbers(f.detach().reshape(-1), y, example).reshape(-1, *shape), 1

    def categorical(self, f, y, counts, example):
        p = f.softmax(1)
        tokens, classes = f.shape
        unit = torch.eye(classes, dtype=f.dtype)
        if self.curvature == "ggn":
            roots = p.sqrt()[:, :, None] * (p[:, None] - unit)  # T x columns k x K
            roots = roots * counts[:, None, None]
            if self.signs is not None:
                negative = words(self.signs, example, "fit", 0, tokens)[::4] >> np.uint64(63)
                sign = torch.from_numpy(1 - 2.0 * negative.astype(np.float64))
                return (sign[:, None, None] * roots).transpose(0, 1)
            columns = torch.zeros(tokens, classes, tokens, classes, dtype=f.dtype)
            columns[range(tokens), :, range(tokens)] = roots
            return columns.flatten(0, 1)[counts.repeat_interleave(classes)]
        if self.curvature == "fisher":
            drawn = self.draw(f, example)
            self.drawn.append(drawn.numpy())
            return (p - unit[drawn]) * counts[:, None] / self.samples**0.5
        assert self.curvature == "empirical"
        return ((p - unit[y.clamp(0, classes - 1)]) * counts[:, None])[None]

    def of_numbers(self, f, y, example):
        bernoulli = self.likelihood == "bernoulli"
        assert bernoulli or self.likelihood == "gaussian"
        mean = f.sigmoid() if bernoulli else f
        scale = 1.0 if bernoulli else self.noise**-2
        if self.curvature == "ggn":
            variance = mean * (1 - mean) if bernoulli else torch.full_like(f, scale)
            return torch.diag(variance.sqrt())
        if self.curvature == "fisher":
            drawn = self.draw(f, example)
            self.drawn.append(drawn.numpy())
            return (mean - drawn) * scale / self.samples**0.5
        return ((mean - torch.as_tensor(y).double().reshape(-1)) * scale)[None]


# Curvature.

def gradients(network, inputs, y, example, columns):
    """Of one example: (columns' gradients by parameter, uses with their adjoints) in chunks, and the
    count of what counts."""
    f, uses = network.run(inputs)
    e, count = columns.of(f, y, example)
    wanted = list(network.parameters.items())
    chunks = []
    for part in e.split(CHUNK):
        made = torch.autograd.grad(f, [u.z for u in uses] + [v for _, v in wanted], part,
                                   retain_graph=True, is_grads_batched=True, allow_unused=True)
        adjoints = [None if d is None else use.adjoints(d) for use, d in zip(uses, made)]
        by_name = {name: (torch.zeros(len(part), *v.shape, dtype=v.dtype) if g is None else g)
                   for (name, v), g in zip(wanted, made[len(uses):])}
        chunks.append((by_name, adjoints))
    return uses, chunks, count


class Block:
    """X = [W | bias], o x n, as a file's structure or a use of the network has it."""

    def __init__(self, weight, bias=None, transposed=False):
        self.weight, self.bias, self.transposed = weight, bias, transposed

    def gather(self, values):
        """C x o x n from arrays with leading C."""
        w = values[self.weight]
        w = w.reshape(len(w), w.shape[1], -1)
        if self.transposed:
            w = w.transpose(1, 2)
        return w if self.bias is None else torch.cat([w, values[self.bias].reshape(len(w), -1, 1)], 2)


def blocks_of(uses):
    """The block of each weight that is used as a matrix; None where its uses are turned."""
    made = {}
    for use in uses:
        block = Block(use.weight, use.bias, use.transposed)
        if use.weight in made:
            other = made[use.weight]
            same = other and other.transposed == block.transposed and other.bias == block.bias
            block = other if same else None
        made[use.weight] = block
    return made


class Sums:
    """Sums over examples of everything that a posterior holds of the curvature. `bases` gives by
    weight the block and (U_A, U_B), None for the identity."""

    def __init__(self, network, columns, shared="expand", bases=None, low_rank=None):
        self.network, self.columns, self.shared = network, columns, shared
        self.bases, self.low_rank = bases or {}, low_rank
        self.count, self.h, self.rotated = 0, {}, {}
        self.a, self.b, self.rows, self.blocks = {}, {}, {}, {}

    def add(self, inputs, y, example):
        uses, chunks, count = gradients(self.network, inputs, y, example, self.columns)
        self.blocks = blocks_of(uses)
        self.count += count
        if not count:
            return
        for use in uses:
            if use.lookup:
                self.rows[use.weight] = self.rows.get(use.weight, 0) + (
                    1 if self.shared == "reduce" else use.adjoints(use.z[None]).shape[1])
                continue
            rows = use.rows.mean(0, keepdim=True) if self.shared == "reduce" else use.rows
            self.a[use.weight] = self.a.get(use.weight, 0) + rows.T @ rows \
                if self.blocks[use.weight] else None
            self.rows[use.weight] = self.rows.get(use.weight, 0) + len(rows)
        for by_name, adjoints in chunks:
            for use, d in zip(uses, adjoints):
                if d is not None and self.blocks[use.weight]:
                    d = d.sum(1) if self.shared == "reduce" else d.flatten(0, 1)
                    self.b[use.weight] = self.b.get(use.weight, 0) + d.T @ d
            self.add_moments(by_name)

    def add_moments(self, by_name):
        for name, g in by_name.items():
            self.h[name] = self.h.get(name, 0) + (g**2).sum(0)
        for name, (block, ua, ub) in self.bases.items():
            x = block.gather(by_name)
            x = x if ua is None else x @ ua
            x = x if ub is None else ub.T @ x
            self.rotated[name] = self.rotated.get(name, 0) + (x**2).sum(0)
        if self.low_rank is not None:
            self.low_rank.add(by_name)

    def finish(self):
        n = self.count
        return {"h": {k: v / n for k, v in self.h.items()},
                "rotated": {k: v / n for k, v in self.rotated.items()},
                "a": {k: v / n for k, v in self.a.items() if v is not None},
                "b": {k: v / self.rows[k] for k, v in self.b.items()}, "n": n, "blocks": self.blocks}


class LowRank:
    """M U for the whitened precision M of Posterior `file`, over the same gradients."""

    def __init__(self, file):
        self.file = file
        self.vectors, self.values = file.vectors, file.values
        self.product = torch.zeros_like(self.vectors)
        size = len(self.vectors)
        self.dense = torch.zeros(size, size, dtype=torch.float64) if size <= DENSE else None

    def add(self, by_name):
        white = self.file.whiten(by_name)
        self.product += white.T @ (white @ self.vectors)
        if self.dense is not None:
            self.dense += white.T @ white

    def finish(self, n, report, tolerance):
        ess, delta = self.file.ess, self.file.delta
        s2 = self.file.whitened_ones()**2
        product = ess / n * self.product + (ess * delta * s2 - 1)[:, None] * self.vectors
        gram = self.vectors.T @ self.vectors
        report("low rank: U'U", gram, torch.eye(len(gram), dtype=gram.dtype), tolerance)
        report("low rank: M U", product, self.vectors * self.values, tolerance)
        if self.dense is not None:
            dense = ess / n * self.dense + torch.diag(ess * delta * s2 - 1)
            exact = torch.linalg.eigvalsh(dense).abs().sort(descending=True)[0][:len(self.values)]
            report("low rank: |values|", self.values.abs().sort(descending=True)[0], exact, tolerance)


class File:
    """A posterior of any version, as float64 tensors."""

    def __init__(self, path):
        self.parts, self.graph = {}, None
        with h5py.File(path) as f:
            self.ess = float(f.attrs.get("ess", np.nan))
            self.delta = float(f.attrs.get("weight_decay", np.nan))
            self.n_train = int(f.attrs.get("n_train", -1))
            for part in ("mean", "hessian", "buffers", "basis_input", "basis_output", "spectrum_input",
                         "spectrum_output", "gram", "lowrank_vectors"):
                self.parts[part] = {}
                if part in f:
                    f[part].visititems(lambda n, o, p=part: self.parts[p].update({n: o[()]})
                                       if isinstance(o, h5py.Dataset) else None)
            if "model.onnx" in f:
                self.graph = onnx.load_from_string(f["model.onnx"][()].tobytes())
            text = f["structure.json"][()] if "structure.json" in f else b"{}"
        text = text.tobytes() if isinstance(text, np.ndarray) else text
        self.structure = json.loads(text)
        self.fit = self.structure.get("fit", {})
        self.blocks = {name: Block(name, d.get("bias"), bool(d.get("transposed")))
                       for name, d in self.structure.get("blocks", {}).items()}
        self.names = list(self.parts["hessian"])
        if self.parts["lowrank_vectors"]:
            self.values = torch.tensor(self.structure["low_rank"]["values"], dtype=torch.float64)
            rank = len(self.values)
            self.vectors = torch.cat([
                (self.tensor("lowrank_vectors", n).reshape(rank, -1)
                 if n in self.parts["lowrank_vectors"] else
                 torch.zeros(rank, self.parts["hessian"][n].size, dtype=torch.float64))
                for n in self.names], 1).T.contiguous()

    def tensor(self, part, name):
        value = self.parts[part].get(name)
        return None if value is None else torch.from_numpy(np.asarray(value, np.float64))

    def bases(self):
        return {name: (block, self.tensor("basis_input", name), self.tensor("basis_output", name))
                for name, block in self.blocks.items()}

    def scale(self, name):
        return (self.ess * (self.tensor("hessian", name) + self.delta)).reshape(-1)**-0.5

    def whitened_ones(self):
        return torch.cat([self.scale(n) for n in self.names])

    def whiten(self, by_name):
        """Gradients C x ... in rotated coordinates times the base's root, C x all."""
        made = []
        for name in self.names:
            if name in self.blocks:
                x, ua, ub = self.blocks[name].gather(by_name), *self.bases()[name][1:]
                x = x if ua is None else x @ ua
                x = x if ub is None else ub.T @ x
            else:
                x = by_name[name]
            made.append(x.flatten(1) * self.scale(name))
        return torch.cat(made, 1)


# Comparing.

class Report:
    def __init__(self, tolerance):
        self.tolerance, self.failed, self.quiet = tolerance, [], False

    def __call__(self, name, ours, theirs, tolerance=None):
        if ours.shape != theirs.shape:
            self.failed.append(name)
            print(f"{name}: shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}")
            return
        largest = theirs.abs().max().item()
        error = (ours - theirs).abs().max().item() / (largest or 1.0)
        wrong = not error <= (tolerance or self.tolerance)
        if wrong:
            self.failed.append(name)
        if wrong or not self.quiet:
            print(f"{'FAILED ' if wrong else ''}{name}: {error:.1e} of {largest:.3g}")


def compare_block(report, file, found, name, moments):
    block = file.blocks[name]
    for side, mine in ("input", "a"), ("output", "b"):
        u, spectrum = file.tensor("basis_" + side, name), file.tensor("spectrum_" + side, name)
        if u is None:
            continue
        report(f"{name}: {side} basis", u.T @ u, torch.eye(len(u), dtype=u.dtype))
        if name not in found[mine]:
            print(f"{name}: {side} factor: not compared")
        elif spectrum is not None:
            report(f"{name}: {side} factor", u * spectrum @ u.T, found[mine][name])
    own = found["blocks"].get(name)
    if own and (own.bias, own.transposed) != (block.bias, block.transposed):
        report.failed.append(name)
        print(f"{name}: bias {block.bias}, transposed {block.transposed}; the graph has "
              f"{own.bias}, {own.transposed}")
    h = file.tensor("hessian", name)
    if h is None:
        return
    if moments == "factors":
        spectra = [file.tensor("spectrum_" + side, name) for side in ("output", "input")]
        report(f"{name}: h", h, torch.outer(*spectra))
    else:
        report(f"{name}: h", h, found["rotated"][name])


def compare(file, found, moments, tolerance):
    report = Report(tolerance)
    covered = {b.bias for b in file.blocks.values()} - {None}
    for name in file.blocks:
        compare_block(report, file, found, name, moments)
    for name, value in file.parts["gram"].items():
        report(f"{name}: gram", torch.from_numpy(np.float64(value)), found["a"][name])
    for name in file.parts["hessian"]:
        if name in covered:
            report.failed.append(name)
            print(f"{name}: has a Hessian, and is the bias of a block")
        elif name not in file.blocks:
            report(f"{name}: h", file.tensor("hessian", name), found["h"][name])
            if file.blocks and found["blocks"].get(name):
                print(f"{name}: could be a block")
    return report


def rows_of(path, inputs, targets, scale, rows):
    path, _, group = path.partition(":")
    with h5py.File(path) as f:
        g = f[group] if group else f
        x = {name: g[array][()] for name, array in inputs.items()}
        y = g[targets][()]
    for number in rows:
        values = {}
        for name, array in x.items():
            value = converted(array[number:number + 1])
            values[name] = value.double() / scale if scale else value
        yield number, values, y[number]


def options(arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["compare", "labels"])
    parser.add_argument("posterior")
    parser.add_argument("data")
    parser.add_argument("-o", dest="output")
    parser.add_argument("--model")
    parser.add_argument("--inputs", action="append", default=[], help="INPUT=ARRAY")
    parser.add_argument("--targets", default="y")
    parser.add_argument("--scale", type=float, help="divides the inputs")
    parser.add_argument("--limit", type=int, help="the first rows alone")
    parser.add_argument("--rows", help="a .npy of row numbers")
    parser.add_argument("--likelihood")
    parser.add_argument("--noise-std", type=float)
    parser.add_argument("--curvature", choices=["ggn", "fisher", "empirical"])
    parser.add_argument("--shared", choices=["expand", "reduce"])
    parser.add_argument("--moments")
    parser.add_argument("--fisher-samples", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--labels", help="drawn labels, .npy: n x samples x tokens")
    parser.add_argument("--signs", type=int, metavar="SEED")
    parser.add_argument("--ignore-label", type=int, default=-100)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    parser.add_argument("--rank-tolerance", type=float, default=1e-2)
    return parser.parse_args(arguments)


def told(o, file, name, otherwise):
    given = getattr(o, name)
    return given if given is not None else file.fit.get(name, otherwise)


def main(arguments):
    o = options(arguments)
    file = File(o.posterior)
    graph = (onnx.load(o.model) if o.model else file.graph).graph
    network = Network(graph, file.parts["mean"], file.parts["buffers"])
    inputs = dict(i.split("=") for i in o.inputs) or {network.inputs[0]: "x"}
    with h5py.File(o.data.partition(":")[0]) as f:
        group = o.data.partition(":")[2]
        count = len((f[group] if group else f)[o.targets])
    rows = np.load(o.rows) if o.rows else range(count if o.limit is None else min(count, o.limit))
    columns = Columns(told(o, file, "likelihood", "categorical"), told(o, file, "curvature", "ggn"),
                      told(o, file, "noise_std", 1.0), told(o, file, "fisher_samples", 1),
                      told(o, file, "seed", 0), np.load(o.labels) if o.labels else None, o.signs,
                      o.ignore_label)
    low = LowRank(file) if file.parts["lowrank_vectors"] else None
    sums = Sums(network, columns, told(o, file, "shared", "expand"), file.bases(), low)
    for number, x, y in rows_of(o.data, inputs, o.targets, o.scale, rows):
        sums.add(x, y, number)
    if o.command == "labels":
        np.save(o.output, np.stack(columns.drawn))
        return 0
    found = sums.finish()
    print(f"{columns.curvature}, N = {found['n']}, ess {file.ess:g}")
    base = file.fit.get("structure", "") in ("", "diagonal", "kronecker") or low is None or \
        file.fit.get("base") != "posterior"
    report = compare(file, found, told(o, file, "moments", "exact"), o.tolerance) if base else Report(
        o.tolerance)
    if low is not None:
        low.finish(found["n"], report, o.rank_tolerance)
    if report.failed:
        print(f"{len(report.failed)} of these differ by more than they may")
    return int(bool(report.failed))


def each(run, arguments):
    """Runs what arguments say, or each line of standard input where they are "-": PyTorch takes seconds to load."""
    if arguments != ["-"]:
        return run(arguments)
    for line in sys.stdin:
        print(line, end="", flush=True)
        if run(shlex.split(line, comments=True)):
            return 1
    return 0


if __name__ == "__main__":
    if sys.argv[1:] == ["selftest"]:
        import fit_selftest
        fit_selftest.main()
    else:
        sys.exit(each(main, sys.argv[1:]))
