"""Trains a small network by AdamW, as anybody would, and finetunes it; writes what ivon takes.

train.h5, held.h5, test.h5   2,000, 500 and 1,000 drawn images (x) of eight kinds (y), 5 % mislabelled
wrong.txt                    which rows of train.h5 are
network.onnx                 the network, with its weights
dark.h5, dark-test.h5        images that are dark where the others are bright
dark.onnx                    the network finetuned on these
second.h5, second-test.h5    the first images with their pixels in another order
third.h5, third-test.h5      and in another
"""
import h5py
import numpy
import torch

random = numpy.random.default_rng(0)
torch.manual_seed(0)


def draw(count):
    """Thick and thin bars at four angles, somewhere on 12 x 12 noisy pixels."""
    y = random.integers(0, 8, count)
    angle = numpy.pi / 4 * (y // 2) + random.normal(0, 0.12, count)
    column, row = numpy.meshgrid(numpy.arange(12) - 5.5, numpy.arange(12) - 5.5)
    across = (column * numpy.cos(angle)[:, None, None] + row * numpy.sin(angle)[:, None, None]
              - random.uniform(-3, 3, count)[:, None, None])
    bar = numpy.exp(-(across / (0.8 + 1.2 * (y % 2))[:, None, None])**4)
    return (bar + random.normal(0, 0.35, bar.shape)).astype("f4")[:, None], y


def write(name, x, y):
    with h5py.File(name + ".h5", "w") as file:
        file["x"], file["y"] = x, y
    return torch.from_numpy(x), torch.from_numpy(y)


def train(model, x, y, epochs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(epochs):
        for rows in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()


def export(model, name):
    torch.onnx.export(model, torch.zeros(1, 1, 12, 12), name, input_names=["x"],
                      dynamic_axes={"x": {0: "n"}})


for name, count in (("test", 1000), ("held", 500), ("train", 2000)):
    x, y = draw(count)
    wrong = random.choice(count, count // 20, replace=False)
    y[wrong] = (y[wrong] + random.integers(1, 8, len(wrong))) % 8
    x, y = write(name, x, y)
numpy.savetxt("wrong.txt", numpy.sort(wrong), "%d")

model = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
                            torch.nn.Flatten(), torch.nn.Linear(200, 32), torch.nn.ReLU(),
                            torch.nn.Linear(32, 8))
train(model, x, y, 30)
export(model, "network.onnx")

for name, count in (("dark-test", 1000), ("dark", 2000)):
    x, y = draw(count)
    x, y = write(name, 1 - x, y)
train(model, x, y, 10)
export(model, "dark.onnx")

for name in ("second", "third"):
    order = random.permutation(144)
    for first, suffix in (("train", ""), ("test", "-test")):
        with h5py.File(first + ".h5") as file:
            x, y = file["x"][()], file["y"][()]
        write(name + suffix, x.reshape(-1, 144)[:, order].reshape(x.shape), y)
