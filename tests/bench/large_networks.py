"""large_networks.py gpt|gpt2|gpt2-small|resnet DIRECTORY: the graph, a posterior with random weights
and Hessians, and a few random examples of
  gpt      a character GPT as PyTorch exports it: 2 pre-norm blocks, 256 wide, 4 heads, causal mask
           as a constant, 1,024 tokens, 65 characters; 8 sequences
  gpt2     GPT-2 in its large size: 36 blocks, 1,280 wide, 20 heads, 50,257 tokens, the embedding tied
           to the head: 774 million parameters; 16 sequences of 256 tokens
  gpt2-small  the same in its first size: 12 blocks, 768 wide, 12 heads, 124 million parameters
  resnet   ResNet-50: 25.6 million parameters, batch norm, 1,000 classes; 4 images of 224 x 224
"""
import sys

import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Nodes in order; methods return the names of their outputs. Parameters have torch's shapes."""

    def __init__(self, seed):
        self.nodes, self.parameters, self.buffers = [], {}, {}
        self.random = np.random.default_rng(seed)

    def node(self, kind, *inputs, **attributes):
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value):
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(value)))

    def scalar(self, value):
        return self.constant(np.float32(value))

    def parameter(self, name, *shape, scale=None, value=None):
        self.parameters[name] = (np.full(shape, value, "f4") if value is not None else
                                 scale * self.random.standard_normal(shape, "f4"))
        return name

    def linear(self, x, name, inputs, outputs, image=False):
        weight = self.parameter(name + ".weight", outputs, inputs, scale=inputs**-0.5)
        bias = self.parameter(name + ".bias", outputs, value=0)
        if image:
            return self.node("Gemm", x, weight, bias, transB=1)
        return self.node("Add", bias, self.node("MatMul", x, self.node("Transpose", weight,
                                                                       perm=[1, 0])))

    def write(self, directory, input_type, input_shape, output_shape, data, opset=13):
        info = helper.make_tensor_value_info
        self.nodes[-1].output[0] = "f"
        inputs = [info("x", input_type, ["n", *input_shape])]
        for name, value in [*self.parameters.items(), *self.buffers.items()]:
            inputs.append(info(name, TensorProto.FLOAT, value.shape))
        made = helper.make_graph(self.nodes, "large", inputs,
                                 [info("f", TensorProto.FLOAT, ["n", *output_shape])])
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)]),
                  f"{directory}/model.onnx")
        with h5py.File(f"{directory}/posterior.h5", "w") as f:
            f.attrs.update(format="ivon-posterior", format_version=1, ess=1e6, weight_decay=1e-4)
            for name, value in self.parameters.items():
                f["mean/" + name] = value
                f["hessian/" + name] = self.random.standard_gamma(1, value.shape, "f4") * 0.1
            for name, value in self.buffers.items():
                f["buffers/" + name] = value
        with h5py.File(f"{directory}/data.h5", "w") as f:
            f["x"], f["y"] = data
        print(f"{sum(v.size for v in self.parameters.values()):,} parameters")


def layer_norm(g, x, name, width):
    centred = g.node("Sub", x, g.node("ReduceMean", x, axes=[-1]))
    variance = g.node("ReduceMean", g.node("Pow", centred, g.scalar(2)), axes=[-1])
    scaled = g.node("Div", centred, g.node("Sqrt", g.node("Add", variance, g.scalar(1e-5))))
    weight = g.parameter(name + ".weight", width, value=1)
    return g.node("Add", g.node("Mul", scaled, weight), g.parameter(name + ".bias", width, value=0))


def attention(g, x, name, width, heads, mask, tokens):
    parts = []
    for part in "query", "key", "value":
        split = g.constant(np.int64([0, tokens, heads, width // heads]))
        parts.append(g.node("Reshape", g.linear(x, f"{name}.{part}", width, width), split))
    query, value = (g.node("Transpose", parts[i], perm=[0, 2, 1, 3]) for i in (0, 2))
    scores = g.node("MatMul", query, g.node("Transpose", parts[1], perm=[0, 2, 3, 1]))
    scores = g.node("Mul", scores, g.scalar((width / heads)**-0.5))
    weights = g.node("Softmax", g.node("Where", mask, scores, g.scalar(-np.inf)), axis=-1)
    mixed = g.node("Transpose", g.node("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = g.node("Reshape", mixed, g.constant(np.int64([0, tokens, width])))
    return g.linear(joined, name + ".output", width, width)


def gelu(g, x):
    erf = g.node("Erf", g.node("Div", x, g.scalar(2**0.5)))
    return g.node("Mul", g.node("Mul", x, g.node("Add", erf, g.scalar(1))), g.scalar(0.5))


def gpt(directory, tokens=1024, width=256, heads=4, vocabulary=65, sequences=8):
    g = Graph(0)
    mask = g.constant(np.tri(tokens, dtype=bool)[None, None])
    x = g.node("Gather", g.parameter("wte.weight", vocabulary, width, scale=0.5), "x", axis=0)
    x = g.node("Add", x, g.parameter("wpe.weight", tokens, width, scale=0.5))
    for block in "h.0", "h.1":
        inner = layer_norm(g, x, block + ".ln_1", width)
        x = g.node("Add", x, attention(g, inner, block + ".attention", width, heads, mask, tokens))
        inner = layer_norm(g, x, block + ".ln_2", width)
        inner = gelu(g, g.linear(inner, block + ".mlp.0", width, 4 * width))
        x = g.node("Add", x, g.linear(inner, block + ".mlp.1", 4 * width, width))
    g.linear(layer_norm(g, x, "ln_f", width), "head", width, vocabulary)
    text = g.random.integers(0, vocabulary, (sequences, tokens + 1))
    g.write(directory, TensorProto.INT64, [tokens], [tokens, vocabulary],
            (text[:, :-1], text[:, 1:]))


def gpt2(directory, tokens=256, width=1280, heads=20, vocabulary=50257, blocks=36, sequences=16):
    """Random weights as GPT-2 begins with, in its own layout: inputs x outputs."""
    g = Graph(0)
    mask = g.constant(np.tri(tokens, dtype=bool)[None, None])

    def norm(x, name):
        return g.node("LayerNormalization", x, g.parameter(name + ".weight", width, value=1),
                      g.parameter(name + ".bias", width, value=0), axis=-1, epsilon=1e-5)

    def linear(x, name, inputs, outputs, scale=0.02):
        product = g.node("MatMul", x, g.parameter(name + ".weight", inputs, outputs, scale=scale))
        return g.node("Add", product, g.parameter(name + ".bias", outputs, value=0))

    wte = g.parameter("wte.weight", vocabulary, width, scale=0.02)
    x = g.node("Gather", wte, "x", axis=0)
    position = g.parameter("wpe.weight", 1024, width, scale=0.01)
    ends = (g.constant(np.int64([value])) for value in (0, tokens, 0))
    x = g.node("Add", x, g.node("Slice", position, *ends))
    for block in range(blocks):
        name = f"h.{block}"
        joined = linear(norm(x, name + ".ln_1"), name + ".attn.c_attn", width, 3 * width)
        thirds = [f"{name}.{part}" for part in "qkv"]
        g.nodes.append(helper.make_node("Split", [joined, g.constant(np.int64([width] * 3))], thirds, axis=-1))
        split = g.constant(np.int64([0, tokens, heads, width // heads]))
        q, k, v = (g.node("Reshape", third, split) for third in thirds)
        scores = g.node("MatMul", g.node("Transpose", q, perm=[0, 2, 1, 3]),
                        g.node("Transpose", k, perm=[0, 2, 3, 1]))
        scores = g.node("Div", scores, g.scalar((width / heads)**0.5))
        weights = g.node("Softmax", g.node("Where", mask, scores, g.scalar(-3e38)), axis=-1)
        mixed = g.node("Transpose", g.node("MatMul", weights, g.node("Transpose", v, perm=[0, 2, 1, 3])),
                       perm=[0, 2, 1, 3])
        mixed = g.node("Reshape", mixed, g.constant(np.int64([0, tokens, width])))
        x = g.node("Add", x, linear(mixed, name + ".attn.c_proj", width, width))
        inner = linear(norm(x, name + ".ln_2"), name + ".mlp.c_fc", width, 4 * width)
        cube = g.node("Mul", g.node("Pow", inner, g.scalar(3)), g.scalar(0.044715))
        bent = g.node("Tanh", g.node("Mul", g.node("Add", inner, cube), g.scalar((2 / np.pi)**0.5)))
        inner = g.node("Mul", g.node("Mul", inner, g.scalar(0.5)), g.node("Add", bent, g.scalar(1)))
        x = g.node("Add", x, linear(inner, name + ".mlp.c_proj", 4 * width, width))
    g.node("MatMul", norm(x, "ln_f"), g.node("Transpose", wte, perm=[1, 0]))
    text = g.random.integers(0, vocabulary, (sequences, tokens + 1))
    g.write(directory, TensorProto.INT64, [tokens], [tokens, vocabulary], (text[:, :-1], text[:, 1:]),
            opset=17)


def convolution(g, x, name, before, after, size, stride=1, relu=True, gain=1):
    weight = g.parameter(name + ".weight", after, before, size, size,
                         scale=(2 / (before * size * size))**0.5)
    x = g.node("Conv", x, weight, kernel_shape=[size] * 2, strides=[stride] * 2,
               pads=[size // 2] * 4)
    norm = name + "_norm"
    g.buffers[norm + ".mean"] = np.zeros(after, "f4")
    g.buffers[norm + ".var"] = np.ones(after, "f4")
    x = g.node("BatchNormalization", x, g.parameter(norm + ".weight", after, value=gain),
               g.parameter(norm + ".bias", after, value=0), norm + ".mean", norm + ".var")
    return g.node("Relu", x) if relu else x


def resnet(directory, images=4, classes=1000):
    g = Graph(0)
    x = convolution(g, "x", "conv", 3, 64, 7, stride=2)
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    before = 64
    for stage, (width, count) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
        for block in range(count):
            name, stride = f"stage{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = convolution(g, x, name + ".conv1", before, width, 1)
            y = convolution(g, y, name + ".conv2", width, width, 3, stride)
            y = convolution(g, y, name + ".conv3", width, 4 * width, 1, relu=False, gain=0.3)
            if block == 0:
                x = convolution(g, x, name + ".short", before, 4 * width, 1, stride, relu=False)
            x, before = g.node("Relu", g.node("Add", y, x)), 4 * width
    x = g.node("Flatten", g.node("GlobalAveragePool", x), axis=1)
    g.linear(x, "head", before, classes, image=True)
    g.write(directory, TensorProto.FLOAT, [3, 224, 224], [classes],
            (g.random.standard_normal((images, 3, 224, 224), "f4"),
             g.random.integers(0, classes, images)))


def gpt2_small(directory):
    gpt2(directory, width=768, heads=12, blocks=12)


{"gpt": gpt, "gpt2": gpt2, "gpt2-small": gpt2_small, "resnet": resnet}[sys.argv[1]](sys.argv[2])
