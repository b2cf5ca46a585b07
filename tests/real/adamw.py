"""adamw.py CIFAR10.h5 ROWS: trains a small convolutional network by AdamW on ROWS images.

5 % of these have another label, as in held.h5 and test.h5. Writes these, train.h5, wrong.txt, which has the rows of
train.h5 that have, and network.onnx. Rate, weight decay and initial weights are PyTorch's.
"""
import sys

import h5py
import numpy
import torch
from torch.nn import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, functional

path, rows = sys.argv[1], int(sys.argv[2])
random = numpy.random.default_rng(0)
torch.manual_seed(0)
parts = {"held": ("test", 0, 1000), "test": ("test", 1000, 2000), "train": ("train", 0, rows)}
for name, (group, begin, end) in parts.items():
    with h5py.File(path) as file:
        x, y = file[group]["x"][begin:end], file[group]["y"][begin:end].astype("i8")
    wrong = numpy.sort(random.choice(len(y), len(y) // 20, replace=False))
    y[wrong] = (y[wrong] + random.integers(1, 10, len(wrong))) % 10
    with h5py.File(name + ".h5", "w") as file:
        file["x"], file["y"] = x, y
numpy.savetxt("wrong.txt", wrong, "%d")

model = Sequential(Conv2d(3, 16, 5, stride=2, padding=2), ReLU(), Conv2d(16, 32, 3, stride=2, padding=1), ReLU(),
                   MaxPool2d(2), Flatten(), Linear(512, 64), ReLU(), Linear(64, 10))
optimizer = torch.optim.AdamW(model.parameters())
x, y = torch.from_numpy(x).float() / 255, torch.from_numpy(y)
for epoch in range(20):
    for batch in torch.randperm(rows).split(50):
        optimizer.zero_grad()
        functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
torch.onnx.export(model, x[:1], "network.onnx", input_names=["x"], dynamic_axes={"x": {0: "n"}})
