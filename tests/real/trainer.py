"""Directories of checkpoints as transformers' Trainer leaves them, and whether one loads.

usage: trainer.py make         base/, and of each of two finetunings one/checkpoint-60 and two/checkpoint-60 with
                               one.h5 and two.h5; both.h5; classifier.onnx
       trainer.py load MERGED  fails unless the module of one/checkpoint-60 takes its weights, and its files are those
                               of a model; prints the accuracies of both models and the merged one on both.h5
"""
import copy
import json
import os
import sys

import h5py
import numpy
import torch
from torch import nn

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../oracle"))
import safetensors_file  # noqa: E402


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(50, 16)
        self.dense = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(16)
        self.classifier = nn.Linear(16, 3)

    def forward(self, tokens):
        return self.classifier(self.norm(torch.tanh(self.dense(self.embeddings(tokens)))).mean(1))


def draw(name, random, low, high):
    """The class is how many of eight tokens are multiples of three, by threes."""
    x = random.integers(low, high, (300, 8))
    y = (x % 3 == 0).sum(1) // 3
    with h5py.File(name + ".h5", "w") as file:
        file["x"], file["y"] = x, y
    return torch.from_numpy(x), torch.from_numpy(y)


def train(model, x, y):
    """As Trainer: no decay of biases and norms, which are a group of their own."""
    groups = [[p for n, p in model.named_parameters() if ("bias" in n or "norm" in n) == still] for still in (0, 1)]
    optimizer = torch.optim.AdamW([{"params": groups[0], "weight_decay": 0.01}, {"params": groups[1], "weight_decay": 0}],
                                  lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return optimizer


def save(model, directory, optimizer):
    os.makedirs(directory)
    arrays = {name: values.numpy() for name, values in model.state_dict().items()}
    safetensors_file.write(f"{directory}/model.safetensors", arrays, {"format": "pt"})
    for name, text in {"config.json": {"architectures": ["Classifier"], "torch_dtype": "float32"}, "tokenizer.json": {},
                       "tokenizer_config.json": {}, "trainer_state.json": {"global_step": 60}}.items():
        with open(f"{directory}/{name}", "w") as file:
            json.dump(text, file)
    for name, state in {"optimizer.pt": optimizer.state_dict(), "scheduler.pt": {"last_epoch": 60},
                        "rng_state.pth": {"cpu": torch.get_rng_state()}, "training_args.bin": {"seed": 0}}.items():
        torch.save(state, f"{directory}/{name}")


def make():
    random = numpy.random.default_rng(0)
    torch.manual_seed(0)
    base = Classifier()
    x, y = draw("both", random, 0, 50)
    save(base, "base", train(base, x, y))
    for name, low in ("one", 0), ("two", 25):
        model = copy.deepcopy(base)
        save(model, f"{name}/checkpoint-60", train(model, *draw(name, random, low, low + 25)))
    torch.onnx.export(base, x[:1], "classifier.onnx", input_names=["tokens"], dynamic_axes={"tokens": {0: "n"}},
                      training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)


def loaded(directory):
    """The module with the weights of a directory, of which none is missing and none unknown."""
    arrays, metadata = safetensors_file.read(f"{directory}/model.safetensors", ordered=False)
    assert metadata["format"] == "pt", metadata
    model = Classifier()
    for name, values in model.state_dict().items():
        assert str(values.dtype).endswith(str(arrays[name].dtype)), (name, arrays[name].dtype)
    tensors = {name: torch.from_numpy(values.copy()) for name, values in arrays.items()}
    model.load_state_dict(tensors)
    return model.eval()


def load(directory):
    first = "one/checkpoint-60"
    assert sorted(os.listdir(directory)) == ["README.md", "config.json", "model.safetensors", "tokenizer.json",
                                             "tokenizer_config.json"], os.listdir(directory)
    for name in "config.json", "tokenizer.json", "tokenizer_config.json":
        with open(f"{directory}/{name}") as file, open(f"{first}/{name}") as original:
            assert json.load(file) == json.load(original), name
    with h5py.File("both.h5") as file:
        x, y = torch.from_numpy(file["x"][:]), torch.from_numpy(file["y"][:])
    accuracy = {}
    for name in first, "two/checkpoint-60", directory:
        accuracy[name] = (loaded(name)(x).argmax(1) == y).double().mean().item()
        print(f"{name}: {accuracy[name]:.3f}")
    assert accuracy[directory] > accuracy["two/checkpoint-60"], accuracy


if __name__ == "__main__":
    make() if sys.argv[1] == "make" else load(sys.argv[2])
