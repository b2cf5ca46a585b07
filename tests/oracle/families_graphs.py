"""Graphs that PyTorch's exporter of today, tf2onnx and skl2onnx write, node by node: onnx 1.12 and torch 1.13
have none of them. For tests/oracle/families.py; the networks are in families_networks.py.
"""
import os

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from families_networks import TOKENS

PACKAGE = "pkg.onnxscript.torch_lib"


class Graph:
    """Nodes in order; methods return the names of their outputs."""

    def __init__(self, opset, ir_version):
        self.opset, self.ir_version = opset, ir_version
        self.nodes, self.initializers, self.functions, self.values = [], {}, [], []
        self.domains = {"": opset}

    def name(self, given=None):
        return given or f"val_{len(self.nodes) + len(self.initializers)}"

    def node(self, kind, *inputs, out=None, domain="", outputs=1, **attributes):
        first = self.name(out)
        names = [first] + [f"{first}_{i}" for i in range(1, outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=f"node_{kind}_{len(self.nodes)}",
                                           domain=domain, **attributes))
        return first if outputs == 1 else names

    def value(self, array, name=None):
        name = self.name(name)
        self.initializers[name] = np.asarray(array)
        return name

    def integers(self, *numbers):
        return self.value(np.int64(numbers))

    def scalar(self, number):
        return self.value(np.float32(number))

    def parameters(self, model):
        """Parameters and buffers under their names."""
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.ndim:
                self.value(tensor.detach().numpy(), name)

    def used(self):
        return {name for node in self.nodes for name in node.input}

    def model(self, inputs, outputs, producer):
        info = lambda given: helper.make_tensor_value_info(*given)
        tensors = [numpy_helper.from_array(a, n) for n, a in self.initializers.items() if n in self.used()]
        graph = helper.make_graph(self.nodes, "main_graph", list(map(info, inputs)), list(map(info, outputs)),
                                  tensors, value_info=list(map(info, self.values)))
        imports = [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        made = helper.make_model(graph, opset_imports=imports, functions=self.functions, producer_name=producer)
        made.ir_version = self.ir_version
        return made


def add_metadata(node):
    """metadata_props of a node, which onnx 1.12 does not know: field 9, of a key (1) and a value (2)."""
    def field(number, data):
        return bytes([number << 3 | 2, len(data)]) + data
    scopes = "['', 'layers.0', 'linear']"
    for key, value in (("namespace", ": Module/layers.0: Linear/linear"), ("pkg.torch.onnx.name_scopes", scopes)):
        node.MergeFromString(field(9, field(1, key.encode()) + field(2, value.encode())))


def save_dynamo(model, path):
    """With all tensors of at least 256 bytes in one file beside the graph, and every node's metadata."""
    for node in model.graph.node:
        add_metadata(node)
    offset = 0
    with open(path + ".data", "wb") as data:
        for tensor in model.graph.initializer:
            raw = tensor.raw_data
            if len(raw) < 256:
                continue
            tensor.ClearField("raw_data")
            tensor.data_location = T.EXTERNAL
            for key, value in (("location", os.path.basename(path) + ".data"), ("offset", offset),
                               ("length", len(raw))):
                tensor.external_data.add(key=key, value=str(value))
            data.write(raw)
            offset += len(raw)
    with open(path, "wb") as f:
        f.write(model.SerializeToString())


def function(g, name, inputs, outputs, nodes):
    """A local function, in the domain that PyTorch's exporter gives them."""
    g.domains[PACKAGE] = 1
    g.functions.append(helper.make_function(PACKAGE, name, inputs, outputs, nodes,
                                            [helper.make_opsetid("", g.opset)]))


def gelu_function(g):
    """x (1 + erf(x / √2)) / 2, in terms of a function of its own."""
    constant = lambda name, number: helper.make_node("Constant", [], [name], value=numpy_helper.from_array(
        np.float32(number)))
    node = helper.make_node
    function(g, "_erf_part", ["z"], ["part"], [
        constant("root", 2**0.5), node("Div", ["z", "root"], ["scaled"]), node("Erf", ["scaled"], ["erf"]),
        constant("one", 1), node("Add", ["erf", "one"], ["part"])])
    function(g, "aten_gelu", ["x"], ["result"], [
        node("_erf_part", ["x"], ["part"], domain=PACKAGE), constant("half", 0.5),
        node("Mul", ["x", "half"], ["halved"]), node("Mul", ["halved", "part"], ["result"])])
    g.functions[-1].opset_import.add(domain=PACKAGE, version=1)


def rms_function(g):
    """x / √(mean x² + ε) times the weight; ε is an attribute of the calling node."""
    node = helper.make_node
    epsilon = node("Constant", [], ["epsilon"])
    epsilon.attribute.add(name="value_float", ref_attr_name="eps", type=onnx.AttributeProto.FLOAT)
    function(g, "rms_norm", ["x", "weight"], ["result"], [
        node("Constant", [], ["axes"], value_ints=[-1]), node("Mul", ["x", "x"], ["square"]),
        node("ReduceMean", ["square", "axes"], ["mean"], keepdims=1), epsilon,
        node("Add", ["mean", "epsilon"], ["more"]), node("Sqrt", ["more"], ["root"]),
        node("Reciprocal", ["root"], ["inverse"]), node("Mul", ["x", "inverse"], ["normal"]),
        node("Mul", ["normal", "weight"], ["result"])])
    g.functions[-1].attribute.append("eps")


def linear(g, x, name, folded=False):
    """A Linear on three axes. `folded`: its weight was transposed when it was exported."""
    if folded:
        weight = g.value(np.ascontiguousarray(g.initializers[name + ".weight"].T))
    else:
        weight = g.node("Transpose", name + ".weight", perm=[1, 0])
    return g.node("Add", g.node("MatMul", x, weight), name + ".bias")


def dynamo_mlp(model, opset, folded=False):
    """Linear on two axes; the example input had a batch of any size."""
    g = Graph(opset, 10)
    g.parameters(model)
    x = "x"
    for layer in ("fc1", "fc2"):
        x = g.node("Relu", g.node("Gemm", x, layer + ".weight", layer + ".bias", alpha=1.0, beta=1.0, transA=0,
                                  transB=1), out=f"relu_{layer}")
        g.values.append((x, T.FLOAT, ["s77", 5]))
    g.node("Gemm", x, "fc3.weight", "fc3.bias", alpha=1.0, beta=1.0, transA=0, transB=1, out="logits")
    return g.model([("x", T.FLOAT, ["s77", 6])], [("logits", T.FLOAT, ["s77", 4])], "pytorch")


def dynamo_cnn(model, opset, folded=False):
    g = Graph(opset, 10)
    g.parameters(model)
    norm = lambda x, name: g.node("BatchNormalization", x, *(f"{name}.{part}" for part in (
        "weight", "bias", "running_mean", "running_var")), epsilon=1e-5, momentum=0.9, training_mode=0)
    conv = lambda x, name, stride, *bias: g.node("Conv", x, name + ".weight", *bias, group=1, auto_pad="NOTSET",
                                                 dilations=[1, 1], pads=[1, 1, 1, 1], strides=[stride] * 2)
    x = g.node("Relu", norm(conv("x", "conv1", 1, "conv1.bias"), "bn1"))
    x = g.node("MaxPool", x, ceil_mode=0, auto_pad="NOTSET", storage_order=0, dilations=[1, 1], kernel_shape=[2, 2],
               pads=[0] * 4, strides=[2, 2])
    x = g.node("Relu", norm(conv(x, "conv2", 2), "bn2"))
    x = g.node("ReduceMean", x, g.integers(2, 3), keepdims=0, noop_with_empty_axes=0)
    g.node("Gemm", x, "fc.weight", "fc.bias", alpha=1.0, beta=1.0, transB=1, out="logits")
    return g.model([("x", T.FLOAT, ["batch", 3, 8, 8])], [("logits", T.FLOAT, ["batch", 4])], "pytorch")


def dynamo_attention(g, x, name, mask, width, heads, folded):
    """scaled_dot_product_attention, as it is decomposed below opset 23: the last axes of the keys swap in a
    tensor of three axes, and the root of the scale is applied to both sides."""
    split = g.node("Concat", g.node("Shape", x, start=0, end=1), g.integers(-1, heads, width // heads), axis=0)
    query, key, value = (g.node("Transpose", g.node("Reshape", linear(g, x, f"{name}.{part}", folded), split,
                                                    allowzero=1 if opset_allows(g) else 0), perm=[0, 2, 1, 3])
                         for part in ("query", "key", "value"))
    shape = g.node("Shape", key)
    last = g.node("Slice", shape, g.integers(-1), g.integers(2**63 - 1))
    second = g.node("Slice", shape, g.integers(-2), g.integers(-1))
    first = g.node("Slice", shape, g.integers(0), g.integers(-2))
    key = g.node("Reshape", key, g.node("Concat", g.integers(-1), second, last, axis=0), allowzero=0)
    key = g.node("Reshape", g.node("Transpose", key, perm=[0, 2, 1]),
                 g.node("Concat", first, last, second, axis=0), allowzero=0)
    root = g.scalar((width // heads)**-0.25)
    scores = g.node("MatMul", g.node("Mul", query, root), g.node("Mul", key, root))
    weights = g.node("Softmax", g.node("Add", scores, mask), axis=-1)
    if g.opset >= 20:  # rows that the mask hides altogether are not a number
        weights = g.node("Where", g.node("IsNaN", weights), g.scalar(0), weights)
    mixed = g.node("Transpose", g.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = g.node("Concat", g.node("Shape", x, start=0, end=1), g.integers(-1, width), axis=0)
    return g.node("Reshape", mixed, joined, allowzero=0)


def opset_allows(g):
    return g.opset >= 14


def dynamo_bert(model, opset, folded=False):
    """BERT with its local function for GELU (an operator of its own from opset 20 on), and the least float
    where the mask is 0. `folded`: weights are transposed already, under other names."""
    g = Graph(opset, 10)
    g.parameters(model)
    if opset < 20:
        gelu_function(g)
    norm = lambda x, name: g.node("LayerNormalization", x, name + ".weight", name + ".bias", axis=-1, epsilon=1e-12,
                                  stash_type=1)
    positions = g.node("Slice", "position_ids", g.integers(0), g.integers(TOKENS), g.integers(1), g.integers(1))
    x = g.node("Add", g.node("Gather", "word.weight", "input_ids", axis=0),
               g.node("Gather", "kind.weight", "token_type_ids", axis=0))
    x = norm(g.node("Add", x, g.node("Gather", "position.weight", positions, axis=0)), "norm")
    mask = g.node("Unsqueeze", "attention_mask", g.integers(1, 2))
    shape = g.node("Concat", g.node("Shape", "input_ids", start=0, end=1), g.integers(1, TOKENS, TOKENS), axis=0)
    mask = g.node("Cast", g.node("Expand", mask, shape), to=T.BOOL)
    mask = g.node("Where", mask, g.scalar(0), g.scalar(np.finfo(np.float32).min))
    for i, layer in enumerate(model.layers):
        name = f"layers.{i}"
        width, heads = layer.dense.weight.shape[0], layer.attention.heads
        y = dynamo_attention(g, x, name + ".attention", mask, width, heads, folded)
        x = norm(g.node("Add", linear(g, y, name + ".dense", folded), x), name + ".norm")
        y = linear(g, x, name + ".intermediate", folded)
        y = g.node("Gelu", y, approximate="none") if opset >= 20 else g.node("aten_gelu", y, domain=PACKAGE)
        x = norm(g.node("Add", linear(g, y, name + ".output", folded), x), name + ".output_norm")
    x = g.node("Gather", x, g.value(np.int64(0)), axis=1)
    x = g.node("Tanh", g.node("Gemm", x, "pooler.weight", "pooler.bias", alpha=1.0, beta=1.0, transB=1))
    g.node("Gemm", x, "classifier.weight", "classifier.bias", alpha=1.0, beta=1.0, transB=1, out="logits")
    return g.model([(n, T.INT64, ["batch", TOKENS]) for n in model.names], [("logits", T.FLOAT, ["batch", 4])],
                   "pytorch")


def dynamo_llama(model, opset, folded=False):
    """Llama with its local function for RMSNorm, a causal mask by Trilu, and split parts of rotary positions."""
    g = Graph(opset, 10)
    g.parameters(model)
    rms_function(g)
    layer = model.layers[0]
    size, groups, heads = layer.size, layer.groups, layer.heads
    norm = lambda x, name: g.node("rms_norm", x, name + ".weight", domain=PACKAGE, eps=1e-6)
    product = lambda x, name: g.node("MatMul", x, g.node("Transpose", name + ".weight", perm=[1, 0]))
    batch = g.node("Shape", "input_ids", start=0, end=1)
    x = g.node("Gather", "embed_tokens.weight", "input_ids", axis=0)
    positions = g.node("Cast", g.node("Range", g.value(np.int64(0)), g.value(np.int64(TOKENS)), g.value(np.int64(1))),
                       to=T.FLOAT)
    angles = g.node("Mul", g.node("Unsqueeze", positions, g.integers(1)), "inv_freq")
    angles = g.node("Concat", angles, angles, axis=-1)
    cos, sin = g.node("Cos", angles), g.node("Sin", angles)
    mask = g.node("Expand", g.scalar(-np.inf), g.integers(TOKENS, TOKENS))
    mask = g.node("Trilu", mask, g.value(np.int64(1)), upper=1)

    def heads_of(y, count):
        shape = g.node("Concat", batch, g.integers(TOKENS, count, size), axis=0)
        return g.node("Transpose", g.node("Reshape", y, shape, allowzero=0), perm=[0, 2, 1, 3])

    def rotate(y):
        one, two = g.node("Split", y, axis=-1, num_outputs=2, outputs=2)
        turned = g.node("Concat", g.node("Neg", two), one, axis=-1)
        return g.node("Add", g.node("Mul", y, cos), g.node("Mul", turned, sin))

    def repeat(y):
        wide = g.node("Concat", batch, g.integers(groups, heads // groups, TOKENS, size), axis=0)
        flat = g.node("Concat", batch, g.integers(heads, TOKENS, size), axis=0)
        return g.node("Reshape", g.node("Expand", g.node("Unsqueeze", y, g.integers(2)), wide), flat, allowzero=0)

    for i in range(len(model.layers)):
        name = f"layers.{i}"
        y = norm(x, name + ".input_norm")
        query = rotate(heads_of(product(y, name + ".q_proj"), heads))
        key = rotate(heads_of(product(y, name + ".k_proj"), groups))
        value = heads_of(product(y, name + ".v_proj"), groups)
        scores = g.node("MatMul", query, g.node("Transpose", repeat(key), perm=[0, 1, 3, 2]))
        scores = g.node("Add", g.node("Mul", scores, g.scalar(size**-0.5)), mask)
        y = g.node("MatMul", g.node("Softmax", scores, axis=-1), repeat(value))
        flat = g.node("Concat", batch, g.integers(TOKENS, heads * size), axis=0)
        y = g.node("Reshape", g.node("Transpose", y, perm=[0, 2, 1, 3]), flat, allowzero=0)
        x = g.node("Add", x, product(y, name + ".o_proj"))
        y = norm(x, name + ".post_norm")
        gate = product(y, name + ".gate_proj")
        y = g.node("Mul", g.node("Mul", gate, g.node("Sigmoid", gate)), product(y, name + ".up_proj"))
        x = g.node("Add", x, product(y, name + ".down_proj"))
    weight = g.node("Transpose", "lm_head.weight", perm=[1, 0])
    g.node("MatMul", norm(x, "norm"), weight, out="logits")
    return g.model([("input_ids", T.INT64, ["batch", TOKENS])], [("logits", T.FLOAT, ["batch", TOKENS, 13])],
                   "pytorch")


def keras(model, opset, side=6):
    """tf2onnx: channels last outside, transposes around the convolution, products and sums for Dense, and a
    Softmax at the end. Weights have the names of variables being read; the kernel is transposed already."""
    g = Graph(opset, 8)
    initial = {n: p.detach().numpy() for n, p in model.named_parameters()}
    g.value(initial["kernel"], "kernel")
    for name in ("bias", "kernel_1", "bias_1", "kernel_2", "bias_2"):
        g.value(initial[name], name)
    x = g.node("Transpose", "x", perm=[0, 3, 1, 2], out="model/conv2d/Conv2D__6:0")
    kernel = g.node("Transpose", "kernel", perm=[3, 2, 0, 1])
    x = g.node("Conv", x, kernel, "bias", dilations=[1, 1], strides=[1, 1], kernel_shape=[3, 3], group=1,
               out="model/conv2d/BiasAdd:0")
    x = g.node("Relu", x, out="model/conv2d/Relu:0")
    x = g.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], out="model/pool/MaxPool:0")
    x = g.node("Transpose", x, perm=[0, 2, 3, 1], out="model/pool/MaxPool__15:0")
    x = g.node("Reshape", x, g.value(np.int64([-1, 16]), "const_fold_opt__22"), out="model/flatten/Reshape:0")
    x = g.node("Add", g.node("MatMul", x, "kernel_1"), "bias_1", out="model/dense/BiasAdd:0")
    x = g.node("Relu", x, out="model/dense/Relu:0")
    x = g.node("Add", g.node("MatMul", x, "kernel_2"), "bias_2", out="model/dense_1/BiasAdd:0")
    g.node("Softmax", x, out="dense_1", **({"axis": 1} if opset < 13 else {}))
    return g.model([("x", T.FLOAT, ["unk__24", side, side, 2])], [("dense_1", T.FLOAT, ["unk__25", 4])], "tf2onnx")


def sklearn(model, opset):
    """skl2onnx's MLPClassifier without a ZipMap: the label first, the probabilities second."""
    g = Graph(opset, 8)
    g.domains["ai.onnx.ml"] = 1
    g.parameters(model)
    g.value(np.int64([0, 1, 2, 3]), "classes")
    x = g.node("Cast", "X", to=T.FLOAT, out="cast_input")
    x = g.node("Relu", g.node("Add", g.node("MatMul", x, "coefficient", out="mul_result"), "intercepts",
                              out="add_result"), out="next_activations")
    x = g.node("Add", g.node("MatMul", x, "coefficient1", out="mul_result1"), "intercepts1", out="add_result1")
    g.node("Softmax", x, axis=1, out="probabilities")
    best = g.node("ArgMax", "probabilities", axis=1, keepdims=1, out="argmax_output")
    best = g.node("ArrayFeatureExtractor", "classes", best, domain="ai.onnx.ml", out="array_feature_extractor_result")
    best = g.node("Reshape", best, g.value(np.int64([-1]), "shape_tensor"), out="reshaped_result")
    g.node("Cast", best, to=T.INT64, out="label")
    return g.model([("X", T.FLOAT, ["N", 6])], [("label", T.INT64, ["N"]), ("probabilities", T.FLOAT, ["N", 4])],
                   "skl2onnx")
