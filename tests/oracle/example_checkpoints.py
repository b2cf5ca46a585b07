"""example_checkpoints.py DIRECTORY: what the examples of ivon-formats(5) take, by numpy alone: two
files as torch.save() writes them, a model's directory with two shards of safetensors, a Hessian for it,
another finetuned from it, in shards and whole, an adapter, parameters of Flax in npz. The classifier is example_files.py's."""
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np

sys.dont_write_bytecode = True
import safetensors_file  # noqa: E402

FEATURES, CLASSES = 4, 3


def _rebuild_tensor_v2(*arguments):
    raise NotImplementedError  # only its name is stored


class FloatStorage:
    """Only its name is stored."""


def _stand_in(name, **members):
    module = types.ModuleType(name)
    for key, member in members.items():
        member.__module__, member.__qualname__ = name, key
        setattr(module, key, member)
    sys.modules[name] = module


class Tensor:
    """A view of a storage, which is a flat array."""

    def __init__(self, storage, offset, shape):
        self.storage, self.offset, self.shape = storage, offset, shape

    def __reduce__(self):
        strides = tuple(int(np.prod(self.shape[i + 1:])) for i in range(len(self.shape)))
        return _rebuild_tensor_v2, (Storage(self.storage), self.offset, self.shape, strides, False,
                                    OrderedDict())


class Storage:
    def __init__(self, array):
        self.array = array


class Pickler(pickle.Pickler):
    """Storages are persistent: entries of the archive, once each."""

    def __init__(self, file):
        super().__init__(file, 2)
        self.keys = {}

    def persistent_id(self, thing):
        if not isinstance(thing, Storage):
            return None
        key = str(list(self.keys).index(id(thing.array)) if id(thing.array) in self.keys
                  else len(self.keys))
        self.keys[id(thing.array)] = thing.array
        return "storage", FloatStorage, key, "cpu", thing.array.size


def save(path, contents):
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data.pkl", "w") as file:
            pickler = Pickler(file)
            pickler.dump(contents)
        for key, array in enumerate(pickler.keys.values()):
            archive.writestr(f"archive/data/{key}", array.astype("<f4").tobytes())
        archive.writestr("archive/version", "3\n")


def torch_files(random, numbers):
    """IVON keeps flat vectors, of which the parameters are views; Adam a state for each."""
    shapes = {"weight": (CLASSES, FEATURES), "bias": (CLASSES,)}
    starts = {"weight": 0, "bias": CLASSES * FEATURES}
    flat = np.concatenate([numbers[name].ravel() for name in shapes])
    whole = lambda array: Tensor(array, 0, array.shape)  # noqa: E731
    model = OrderedDict((name, Tensor(flat, starts[name], shape)) for name, shape in shapes.items())
    group = {"ess": 100.0, "weight_decay": 1e-3, "hess_init": 0.1, "numel": flat.size,
             "hess": whole(np.full(flat.size, 0.1)), "momentum": whole(np.zeros(flat.size)),
             "params": [0, 1]}
    save("checkpoint.pt", {"model": model, "optimizer": {"state": {"count": 0},
                                                         "param_groups": [group]}})
    moments = {i: {"step": 100, "exp_avg": Tensor(np.zeros(flat.size), 0, shape),
                   "exp_avg_sq": Tensor(random.gamma(1.0, 0.01, flat.size), 0, shape)}
               for i, shape in enumerate(shapes.values())}
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.0, "params": [0, 1]}
    save("adam.pt", {"model": model, "optimizer": {"state": moments, "param_groups": [group]}})


def hub_files(random):
    names = ["model.embed.weight", "model.layers.0.weight"]
    for directory in ("hub", "tuned"):
        os.makedirs(directory, exist_ok=True)
        shards = {f"model-0000{i + 1}-of-00002.safetensors":
                  {name: random.standard_normal((6, 4)).astype("f4")}
                  for i, name in enumerate(names)}
        safetensors_file.write_index(f"{directory}/model.safetensors.index.json", shards,
                                     {"format": "pt"})
        for name, text in (("config.json", '{"torch_dtype": "float32"}'), ("tokenizer.json", "{}")):
            with open(f"{directory}/{name}", "w") as file:
                file.write(text + "\n")
    safetensors_file.write("model.safetensors", {name: array for shard in shards.values()
                                                 for name, array in shard.items()})
    safetensors_file.write("fisher.safetensors", {name: random.gamma(1.0, 0.1, (6, 4)).astype("f4")
                                                  for name in names})


def adapter_files(random):
    """An adapter as PEFT stores it, upon model.safetensors."""
    os.makedirs("adapter", exist_ok=True)
    factors = {"base_model.model.model.layers.0.lora_A.weight": (2, 4),
               "base_model.model.model.layers.0.lora_B.weight": (6, 2)}
    safetensors_file.write("adapter/adapter_model.safetensors", {
        name: random.standard_normal(shape).astype("f4") for name, shape in factors.items()})
    with open("adapter/adapter_config.json", "w") as file:
        file.write('{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["0"]}\n')


def flax_files(random):
    params = {"params/Dense_0/kernel": (4, 8), "params/Dense_0/bias": (8,)}
    np.savez("params.npz", **{name: random.standard_normal(shape).astype("f4")
                              for name, shape in params.items()})
    np.savez("fisher.npz", **{name: random.gamma(1.0, 0.1, shape).astype("f4")
                              for name, shape in params.items()})


def stand_in_for_torch():
    """What a pickle names of torch, which need not be installed to write it."""
    _stand_in("torch", FloatStorage=FloatStorage)
    _stand_in("torch._utils", _rebuild_tensor_v2=_rebuild_tensor_v2)


def main(directory):
    os.chdir(directory)
    random = np.random.default_rng(0)
    numbers = {"weight": random.standard_normal((CLASSES, FEATURES)),
               "bias": random.standard_normal(CLASSES)}  # as in example_files.py
    stand_in_for_torch()
    torch_files(random, numbers)
    hub_files(random)
    flax_files(random)
    adapter_files(random)


if __name__ == "__main__":
    main(sys.argv[1])
