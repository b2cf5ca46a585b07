"""onnxruntime_models.py DIRECTORY: what onnxruntime.sh runs, each with random weights in DIRECTORY/NAME/: model.onnx,
exported by PyTorch with its names kept, posterior.h5, data.h5, and for ONNX Runtime inputs.json with a file of raw
elements for each input. Prints, for each, its name, the examples of a short and of a long run, and how many
examples ONNX Runtime takes at a time, at which it was the fastest of 1, 4, 16, 64 and 256.
"""
import json
import os
import sys
import warnings

import h5py
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../oracle"))
from families_networks import Bert, Gpt2, Inverted, Squeeze, Vit, conv_norm  # noqa: E402


class Named(nn.Sequential):
    names = "x",


def mlp():
    return Named(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def lenet():
    return Named(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
                 nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))


class TextCnn(nn.Module):
    names = "x",

    def __init__(self, vocabulary=14634, width=64, filters=100):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.convolutions = nn.ModuleList(nn.Conv1d(width, filters, size) for size in (3, 4, 5))
        self.fc = nn.Linear(3 * filters, 2)

    def forward(self, x):
        x = self.embedding(x).transpose(1, 2)
        return self.fc(torch.cat([F.relu(c(x)).max(dim=2)[0] for c in self.convolutions], 1))


class ResponseNorm(nn.Module):
    """Filter response normalization, and its thresholded unit."""

    def __init__(self, width):
        super().__init__()
        shape = 1, width, 1, 1
        self.gamma, self.beta, self.tau = (nn.Parameter(f(shape)) for f in (torch.ones, torch.zeros, torch.zeros))

    def forward(self, x):
        x = x * torch.rsqrt(x.pow(2).mean([2, 3], keepdim=True) + 1e-6)
        return torch.max(self.gamma * x + self.beta, self.tau)


class Block(nn.Module):
    """The basic block of residual networks."""

    def __init__(self, before, after, stride, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2, self.short = norm(after), norm(after), nn.Sequential()
        if stride != 1:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), norm(after))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


def resnet(stem, widths, count, norm, classes):
    layers, width = list(stem), widths[0]
    for after in widths:
        for i in range(count):
            layers.append(Block(width, after, 2 if i == 0 and after != widths[0] else 1, norm))
            width = after
    return Named(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def resnet20(norm=nn.BatchNorm2d):
    stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False), norm(16), nn.ReLU()
    return resnet(stem, (16, 32, 64), 3, norm, 10)


def resnet18():
    stem = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
    return resnet(stem, (64, 128, 256, 512), 2, nn.BatchNorm2d, 1000)


class First(nn.Module):
    """MobileNetV2's block without an expansion."""

    def __init__(self):
        super().__init__()
        self.depth = conv_norm(32, 32, 3, 1, 32, nn.ReLU6)
        self.project = conv_norm(32, 16, 1, activation=None)

    def forward(self, x):
        return self.project(self.depth(x))


def mobilenet_v2():
    layers, before = [conv_norm(3, 32, 3, 2, activation=nn.ReLU6), First()], 16
    for after, count, stride in ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1)):
        for i in range(count):
            layers.append(Inverted(before, 6 * before, after, 3, stride if i == 0 else 1, nn.ReLU6,
                                   lambda width: nn.Identity()))
            before = after
    return Named(*layers, conv_norm(before, 1280, 1, activation=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                 nn.Linear(1280, 1000))


def text_direction():
    """As PP-OCR's classifier of text directions: MobileNetV3 small at 0.35, strides of height alone."""
    scale = lambda width: max(8, (int(0.35 * width) + 4) // 8 * 8)
    squeezed = lambda width: Squeeze(width, max(1, width // 4), F.relu, F.hardsigmoid)
    plain = lambda width: nn.Identity()
    layers, before = [conv_norm(3, 8, 3, 2, activation=nn.Hardswish)], 8
    for size, inner, after, squeeze, activation, stride in (
            (3, 16, 16, squeezed, nn.ReLU, 1), (3, 72, 24, plain, nn.ReLU, (2, 1)), (3, 88, 24, plain, nn.ReLU, 1),
            (5, 96, 40, squeezed, nn.Hardswish, (2, 1)), (5, 240, 40, squeezed, nn.Hardswish, 1),
            (5, 240, 40, squeezed, nn.Hardswish, 1), (5, 120, 48, squeezed, nn.Hardswish, 1),
            (5, 144, 48, squeezed, nn.Hardswish, 1), (5, 288, 96, squeezed, nn.Hardswish, (2, 1)),
            (5, 576, 96, squeezed, nn.Hardswish, 1), (5, 576, 96, squeezed, nn.Hardswish, 1)):
        layers.append(Inverted(before, scale(inner), scale(after), size, stride, activation, squeeze))
        before = scale(after)
    return Named(*layers, conv_norm(before, scale(576), 1, activation=nn.Hardswish), nn.MaxPool2d(2),
                 nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(scale(576), 2))


class PreNorm(nn.Module):
    """A block of the reference transformers: one Linear for queries, keys and values."""

    def __init__(self, width, heads, tokens, causal):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.ln1, self.ln2, self.qkv = nn.LayerNorm(width), nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.register_buffer("mask", torch.tril(torch.ones(1, 1, tokens, tokens)))

    def forward(self, x, mask):
        n, tokens, width = x.shape
        parts = self.qkv(self.ln1(x)).view(n, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].transpose(-2, -1) / (width // self.heads)**0.5
        scores = scores.masked_fill((self.mask if self.causal else mask) == 0, -1e9)
        mixed = (scores.softmax(-1) @ parts[2]).transpose(1, 2).reshape(n, tokens, width)
        x = x + self.proj(mixed)
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    """The reference networks: of texts, whose classes are of the mean of the tokens, or of characters."""
    names = "x",

    def __init__(self, vocabulary, tokens, causal, outputs, width=64, heads=4):
        super().__init__()
        self.tok, self.pos = nn.Embedding(vocabulary, width), nn.Parameter(torch.randn(1, tokens, width))
        self.layers = nn.ModuleList(PreNorm(width, heads, tokens, causal) for _ in range(2))
        self.ln, self.fc, self.causal = nn.LayerNorm(width), nn.Linear(width, outputs), causal

    def forward(self, x):
        real = (x != 0).float()
        y = self.tok(x) + self.pos
        for layer in self.layers:
            y = layer(y, real[:, None, None, :])
        y = self.ln(y)
        if not self.causal:
            y = (y * real[:, :, None]).sum(1) / real.sum(1, keepdim=True).clamp(min=1)
        return self.fc(y)


class MiniLm(Bert):
    """Six layers of BERT, 384 wide, and the mean over the tokens that are no padding, of length 1."""

    def __init__(self):
        super().__init__(384, 12, 6, 1536, 30522, 128)
        del self.pooler, self.classifier

    def forward(self, input_ids, attention_mask, token_type_ids):
        x = self.encode(input_ids, attention_mask, token_type_ids)
        real = attention_mask.unsqueeze(-1).expand(x.size()).float()
        return F.normalize((x * real).sum(1) / torch.clamp(real.sum(1), min=1e-9), p=2.0, dim=1)


def image(*shape):
    return lambda n: [torch.randn(n, *shape)]


def text(vocabulary, tokens):
    return lambda n: [torch.randint(1, vocabulary, (n, tokens))]


def sentences(n):
    ids = torch.randint(1, 30522, (n, 128))
    return [ids, torch.ones_like(ids), torch.zeros_like(ids)]


# Name: network, inputs, examples of the short and of the long run, examples at a time.
MODELS = {
    "digits-mlp": (mlp, image(64), 20000, 400000, 256),
    "lenet": (lenet, image(3, 32, 32), 500, 6000, 16),
    "textcnn": (TextCnn, text(14634, 48), 300, 3000, 16),
    "resnet20": (resnet20, image(3, 32, 32), 40, 400, 64),
    "resnet20-frn": (lambda: resnet20(ResponseNorm), image(3, 32, 32), 40, 300, 64),
    "transformer": (lambda: Transformer(14634, 48, False, 2), text(14634, 48), 100, 1000, 16),
    "gpt-char": (lambda: Transformer(65, 64, True, 65), text(65, 64), 100, 1000, 4),
    "gpt-tied": (lambda: Gpt2(128, 4, 4, 1000, 64), text(1000, 64), 20, 200, 16),
    "minilm-6": (MiniLm, sentences, 4, 28, 4),
    "vit-tiny": (lambda: Vit(192, 3, 12, 224, 16, 1000), image(3, 224, 224), 4, 28, 4),
    "resnet18": (resnet18, image(3, 224, 224), 4, 28, 4),
    "mobilenetv2": (mobilenet_v2, image(3, 224, 224), 8, 72, 1),
    "text-direction": (text_direction, image(3, 48, 192), 40, 400, 4)}


def write(name, directory):
    network, inputs, short, long, batch = MODELS[name]
    torch.manual_seed(0)
    network, inputs = network().eval(), inputs(long)
    os.makedirs(directory)
    names = network.names
    torch.onnx.export(network, tuple(x[:2] for x in inputs), f"{directory}/model.onnx", opset_version=17,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False, input_names=list(names),
                      output_names=["f"], dynamic_axes={key: {0: "n"} for key in (*names, "f")})
    with h5py.File(f"{directory}/posterior.h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1e6, weight_decay=1e-3)
        for key, value in network.named_parameters():
            f["mean/" + key] = value.detach().numpy()
        for key, value in network.named_buffers():
            if value.ndim:
                f["buffers/" + key] = value.numpy()
    given = dict(zip(names, inputs))
    with h5py.File(f"{directory}/data.h5", "w") as f:
        for key, value in given.items():
            f[key] = value.numpy()
            value.numpy().tofile(f"{directory}/{key}.raw")
    with open(f"{directory}/inputs.json", "w", encoding="utf-8") as f:
        json.dump({key: {"type": "float32" if value.is_floating_point() else "int64", "dims": list(value.shape)}
                   for key, value in given.items()}, f)
    print(name, short, long, batch, ",".join(f"{key}={key}" for key in names))


warnings.filterwarnings("ignore")
for chosen in sys.argv[2:] or MODELS:
    write(chosen, os.path.join(sys.argv[1], chosen))
