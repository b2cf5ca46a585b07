"""PyTorch's side of train.sh: seconds of an epoch of IVON's training on two threads, batches of 50.

torch_train.py lenet|mlp|resnet SHARED
"""
import sys
import time

import h5py
import torch
from torch import nn
from torch.nn import functional as F

torch.set_num_threads(2)


class Ivon:
    """Algorithm 1 of Shen et al. (ICML 2024), all parameters of the model as one vector."""

    def __init__(self, model, lr, ess, h0, beta1=0.9, beta2=0.99999, decay=1e-4):
        self.parameters, self.step_number = list(model.parameters()), 0
        self.mean = torch.cat([p.detach().flatten() for p in self.parameters])
        self.hessian, self.momentum = torch.full_like(self.mean, h0), torch.zeros_like(self.mean)
        self.rate, self.ess, self.decay = lr * (h0 + decay), ess, decay
        self.beta1, self.beta2 = beta1, beta2

    def place(self, vector):
        at = 0
        for p in self.parameters:
            p.data = vector[at:at + p.numel()].view_as(p)
            at += p.numel()

    def sample(self):
        self.noise = torch.randn_like(self.mean) * (self.ess * (self.hessian + self.decay)).rsqrt()
        self.place(self.mean + self.noise)

    def step(self):
        g = torch.cat([p.grad.flatten() for p in self.parameters])
        self.step_number += 1
        self.momentum.mul_(self.beta1).add_(g, alpha=1 - self.beta1)
        grown = g * self.noise * self.ess * (self.hessian + self.decay)
        change, gain = self.hessian - grown, 1 - self.beta2
        correction = change.square().mul_(0.5 * gain * gain).div_(self.hessian + self.decay)
        self.hessian.mul_(self.beta2).add_(grown, alpha=gain).add_(correction)
        debiased = self.momentum / (1 - self.beta1 ** self.step_number)
        direction = debiased.add_(self.mean, alpha=self.decay).div_(self.hessian + self.decay)
        self.mean.sub_(direction, alpha=self.rate)


def lenet():
    return nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5),
                         nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(16, 120, 5), nn.Tanh(),
                         nn.Flatten(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10))


def mlp():
    return nn.Sequential(nn.Linear(64, 500), nn.ReLU(), nn.Linear(500, 300), nn.ReLU(),
                         nn.Linear(300, 10))


class FilterResponse(nn.Module):
    def __init__(self, planes):
        super().__init__()
        shape = (1, planes, 1, 1)
        self.weight, self.bias = nn.Parameter(torch.ones(shape)), nn.Parameter(torch.zeros(shape))
        self.tau = nn.Parameter(torch.zeros(shape))

    def forward(self, x, shortcut=None):
        y = x * torch.rsqrt(x.square().mean((2, 3), keepdim=True) + 1e-6) * self.weight + self.bias
        return torch.maximum(y if shortcut is None else y + shortcut, self.tau)


class Block(nn.Module):
    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(before, after, 3, stride, 1, bias=False), FilterResponse(after)
        self.conv2, self.norm2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), FilterResponse(after)
        self.stride, self.extra = stride, after - before

    def forward(self, x):
        y = self.conv2(self.norm1(self.conv1(x)))
        if self.stride > 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return self.norm2(y, x)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3, 1, 1, bias=False), FilterResponse(16)
        widths = [16] * 4 + [32] * 3 + [64] * 3
        self.blocks = nn.Sequential(*[Block(a, b, 1 + (a != b)) for a, b in zip(widths, widths[1:])])
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(self.blocks(self.norm(self.conv(x))).mean((2, 3)))


def main(what, shared):
    torch.manual_seed(0)
    with h5py.File(f"{shared}/data/{'digits' if what == 'mlp' else 'cifar10'}.h5") as f:
        rows = 1000 if what == "resnet" else None
        x = torch.from_numpy(f["train/x"][:rows]).float() / (1 if what == "mlp" else 255)
        y = torch.from_numpy(f["train/y"][:rows]).long()
    model = {"lenet": lenet, "mlp": mlp, "resnet": ResNet}[what]()
    ivon = Ivon(model, 0.1, len(x), 0.1)
    times = []
    for _ in range(6 if what == "mlp" else 2):
        start = time.perf_counter()
        for batch in torch.randperm(len(x))[:len(x) // 50 * 50].view(-1, 50):
            ivon.sample()
            for p in model.parameters():
                p.grad = None
            F.cross_entropy(model(x[batch]), y[batch]).backward()
            ivon.step()
        times.append(time.perf_counter() - start)
    print(min(times[1:]))  # the first one warms up


main(*sys.argv[1:])
