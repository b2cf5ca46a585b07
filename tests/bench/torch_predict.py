"""PyTorch's side of predict.sh, and the files that it needs.

torch_predict.py make DIRECTORY     a ResNet-20 and a wide MLP: graph, posterior, data
torch_predict.py lenet SHARED       2,000 images x 64 samples of LeNet-5's weights, seconds
torch_predict.py resnet DIRECTORY   2,000 images through ResNet-20, seconds
"""
import sys
import time

import h5py
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(2)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.short = nn.Sequential()
        if stride != 1:
            self.short = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False),
                                       nn.BatchNorm2d(after))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.short(x))


def resnet20():
    torch.manual_seed(0)
    layers, width = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()], 16
    for after, stride in ((16, 1), (32, 2), (64, 2)):
        for i in range(3):
            layers.append(Block(width, after, stride if i == 0 else 1))
            width = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def mlp():
    torch.manual_seed(0)
    layers = []
    for _ in range(4):
        layers += [nn.Linear(1024, 1024), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def save(directory, name, model, example):
    model.eval()
    torch.onnx.export(model, example, f"{directory}/{name}.onnx", opset_version=13,
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                      input_names=["x"], output_names=["f"],
                      dynamic_axes={"x": {0: "n"}, "f": {0: "n"}})
    with h5py.File(f"{directory}/{name}.h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1e6, weight_decay=1e-3)
        for key, value in model.named_parameters():
            f["mean/" + key] = value.detach().numpy()
            f["hessian/" + key] = np.full(tuple(value.shape), 1e-2, "f4")
        for key, value in model.named_buffers():
            if value.ndim:
                f["buffers/" + key] = value.numpy()


def images(directory):
    return torch.from_numpy(np.random.default_rng(0).random((2000, 3, 32, 32), "f4"))


def make(directory):
    save(directory, "resnet", resnet20(), torch.zeros(2, 3, 32, 32))
    save(directory, "mlp", mlp(), torch.zeros(2, 1024))
    np.save(f"{directory}/images.npy", images(directory).numpy())
    np.save(f"{directory}/rows.npy", np.random.default_rng(1).random((16384, 1024), "f4"))


def lenet(shared):
    """As cifar-lenet of the references: Conv, Tanh, AveragePool twice, Conv, Tanh, two Linear."""
    with h5py.File(f"{shared}/reference/cifar-lenet/posterior.h5") as f:
        mean = {k: torch.from_numpy(v) for k, v in named(f["mean"])}
        sigma = {k: (f.attrs["ess"] * (torch.from_numpy(v) + f.attrs["weight_decay"])).rsqrt()
                 for k, v in named(f["hessian"])}
    with h5py.File(f"{shared}/data/cifar10.h5") as f:
        x = torch.from_numpy(f["test/x"][()].astype("f4") / 255)
    weights = [k for k in mean if k.endswith("weight")]

    def forward(p, x):
        for i, name in enumerate(weights):
            w, b = p[name], p[name[:-6] + "bias"]
            if w.ndim == 4:
                x = torch.tanh(F.conv2d(x, w, b))
                x = F.avg_pool2d(x, 2) if i < 2 else x.flatten(1)
            else:
                x = F.linear(x, w, b)
                x = torch.tanh(x) if i + 1 < len(weights) else x
        return x

    with torch.no_grad():
        forward(mean, x[:64])
        start, total = time.time(), 0
        for _ in range(64):
            p = {k: m + sigma[k] * torch.randn_like(m) for k, m in mean.items()}
            total = total + torch.cat([forward(p, b).softmax(1) for b in x.split(256)])
        print(time.time() - start)


def named(group):
    found = []
    group.visititems(lambda k, v: found.append((k, v[()])) if isinstance(v, h5py.Dataset) else None)
    return found


def resnet(directory):
    model, x = resnet20().eval(), images(directory)
    with torch.no_grad():
        model(x[:256])
        start = time.time()
        torch.cat([model(b).softmax(1) for b in x.split(256)])
        print(time.time() - start)


{"make": make, "lenet": lenet, "resnet": resnet}[sys.argv[1]](*sys.argv[2:])
