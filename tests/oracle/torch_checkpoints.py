"""Writes PyTorch checkpoints NAME.pt into a directory, and what each holds as NAME.h5.

usage: torch_checkpoints.py DIRECTORY

Exits with 77 where a package is missing. The optimizer here learns nothing: it has the state that
IVON documents, and leaves parameters where IVON leaves them.
"""
import argparse
import json
import os
import sys
from collections import OrderedDict

try:
    import h5py
    import numpy as np
    import torch
    from torch import nn
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)


class FlatOptimizer(torch.optim.Optimizer):
    """Per group, hess and momentum in a row, in the order of its parameters."""

    def __init__(self, params, ess=100, weight_decay=1e-3, hess_init=0.5):
        super().__init__(params, dict(lr=0.1, ess=ess, weight_decay=weight_decay,
                                      hess_init=hess_init))
        for group in self.param_groups:
            first = group["params"][0]
            group["numel"] = sum(p.numel() for p in group["params"])
            group["momentum"] = torch.randn(group["numel"]).to(first.dtype)
            group["hess"] = torch.rand(group["numel"]).to(first.dtype) + group["hess_init"]
        self.state["count"] = 0

    def flat(self, group):
        return torch.cat([p.detach().flatten() for p in group["params"]])

    def place(self, params, flat):
        offset = 0
        for p in params:
            p.data = flat[offset:offset + p.numel()].view(p.shape)
            offset += p.numel()

    def step(self):
        for group in self.param_groups:
            self.place(group["params"], self.flat(group) + 0.01)

    def evaluate(self):
        """Sampling, then restoring the mean, which is one vector over all groups."""
        mean = torch.cat([self.flat(group) for group in self.param_groups])
        self.place([p for group in self.param_groups for p in group["params"]], mean)

    def sample(self):
        for group in self.param_groups:
            for p in group["params"]:
                p.data = (p.detach().flatten() + 0.1).view(p.shape)


def bfloat16_type():
    kind = h5py.h5t.IEEE_F16LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_ebias(127)
    return kind


def put(file, path, tensor, **attributes):
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        parent, name = path.rsplit("/", 1)
        space = h5py.h5s.create_simple(tuple(tensor.shape))
        data = h5py.h5d.create(file.require_group(parent).id, name.encode(), bfloat16_type(), space)
        data.write(h5py.h5s.ALL, h5py.h5s.ALL, tensor.view(torch.int16).numpy(), bfloat16_type())
    else:
        file[path] = tensor.numpy()
    file[path].attrs.update(attributes)


def expect(name, means, buffers=None, hessians=None, momenta=None, ess=None, weight_decay=None,
           own=None):
    with h5py.File(name + ".h5", "w") as file:
        file.attrs.update(format="ivon-posterior", format_version=1)
        for key, value in (("ess", ess), ("weight_decay", weight_decay)):
            if value is not None:
                file.attrs[key] = float(value)
        for part, tensors in (("mean", means), ("buffers", buffers), ("hessian", hessians),
                              ("momentum", momenta)):
            for key, tensor in (tensors or {}).items():
                put(file, f"{part}/{key}", tensor, **((own or {}).get(key, {}) if part == "hessian"
                                                      else {}))


def mapped(optimizer, names, key):
    """The parts of every group's vector, by the names of its parameters."""
    parts = {}
    for group in optimizer.param_groups:
        sizes = [p.numel() for p in group["params"]]
        for p, part in zip(group["params"], torch.split(group[key], sizes)):
            parts[names[p]] = part.view(p.shape)
    return parts


def names_of(model):
    return {p: name for name, p in model.named_parameters()}


def net():
    """Parameters, batch statistics, and a buffer as large as a parameter of another module."""
    torch.manual_seed(1)
    model = nn.Sequential(OrderedDict(
        first=nn.Linear(4, 3), normal=nn.BatchNorm1d(3), second=nn.Linear(3, 4)))
    with torch.no_grad():
        model(torch.randn(8, 4))
    model.first.register_buffer("mask", torch.ones(4, 3))
    model.register_buffer("ids", torch.arange(4))
    return model


def buffers_of(model):
    return {name: b.clone() for name, b in model.named_buffers()}


def expect_net(name, model, optimizer, frozen=(), means=None, **more):
    names = names_of(model)
    means = means or {n: p.detach().clone() for p, n in names.items()}
    if "own" not in more:
        group = optimizer.param_groups[0]
        more.update(ess=group["ess"], weight_decay=group["weight_decay"])
    expect(name, means, buffers_of(model), mapped(optimizer, names, "hess"),
           mapped(optimizer, names, "momentum"), **more)


def save(name, model, optimizer, **more):
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **more},
               name + ".pt")


def copied(model):
    return OrderedDict((k, v.cpu().clone()) for k, v in model.state_dict().items())


def one_group():
    model = net()
    optimizer = FlatOptimizer(model.parameters())
    optimizer.step()
    return model, optimizer


def plain():
    model, optimizer = one_group()
    # What else is in a checkpoint is not looked into.
    save("flat", model, optimizer, args=argparse.Namespace(lr=0.1, path="x"), epoch=3,
         device=torch.device("cpu"), best=np.float64(0.5), seed=torch.get_rng_state(),
         shape=torch.Size([1, 2]), types={torch.float32, int}, big=2**100)
    expect_net("flat", model, optimizer)
    torch.save({"state_dict": OrderedDict(("module._orig_mod." + k, v)
                                          for k, v in model.state_dict().items()),
                "optimizer_states": [optimizer.state_dict()]}, "prefixed.pt")
    expect_net("prefixed", model, optimizer)
    torch.save({"args": argparse.Namespace(ema={"model": copied(model)}), "ema.model": {"x": 1},
                "model": model.state_dict(), "ema": {"model": {}, "net.1": net().state_dict()},
                "optimizer": optimizer.state_dict()}, "nested.pt")
    torch.save({"model": model.state_dict(), "ema": net().state_dict()}, "several.pt")
    other = net()
    buffers = buffers_of(other)
    expect("several", {**dict(other.named_parameters()), "first.mask": buffers.pop("first.mask")},
           buffers)
    torch.save({n: h for n, h in mapped(optimizer, names_of(model), "hess").items()},
               "squares.pt", pickle_protocol=4)
    expect("squares", mapped(optimizer, names_of(model), "hess"))


def copies():
    """Two floats are left over: 'first.mask' and another of 12 elements."""
    model, optimizer = one_group()
    expect_net("copied", model, optimizer)
    torch.save({"model": copied(model), "optimizer": optimizer.state_dict()}, "copied.pt")
    optimizer.sample()
    save("sample", model, optimizer)
    expect_net("sample", model, optimizer)
    small = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    small.register_buffer("scale", torch.ones(7))
    optimizer = FlatOptimizer(small.parameters())
    torch.save({"model": copied(small), "optimizer": optimizer.state_dict()}, "settled.pt")
    expect_net("settled", small, optimizer)


def groups_of(model):
    return [{"params": [model.first.weight, model.second.weight], "ess": np.int32(10),
             "weight_decay": np.float64(1e-3)},
            {"params": [model.first.bias, model.normal.weight, model.normal.bias,
                        model.second.bias], "ess": torch.tensor(20), "weight_decay": np.float32(0)}]


def two_groups():
    own = {}
    model = net()
    optimizer = FlatOptimizer(groups_of(model))
    for p, name in names_of(model).items():
        matrix = p.dim() == 2
        own[name] = dict(ess=10.0 if matrix else 20.0, weight_decay=1e-3 if matrix else 0.0)
    optimizer.step()
    save("groups", model, optimizer)
    expect_net("groups", model, optimizer, own=own)
    optimizer.evaluate()
    save("evaluated", model, optimizer)
    expect_net("evaluated", model, optimizer, own=own)
    # Names that the optimizer has settle what order and layout do not.
    state = {**optimizer.state_dict(), "current_step": 7}
    names = names_of(model)
    for group, parameters in zip(state["param_groups"], optimizer.param_groups):
        group["param_names"] = ["module." + names[p] for p in parameters["params"]]
    torch.save({"model": copied(model), "optimizer": state}, "named.pt")
    expect_net("named", model, optimizer, own=own)
    for group in state["param_groups"]:
        group["params"] = group.pop("param_names")
    torch.save({"model": copied(model), "optimizer": state}, "keyed.pt")
    expect_net("keyed", model, optimizer, own=own)
    # Groups as large as each other, in any order.
    twins = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = FlatOptimizer([{"params": list(m.parameters())} for m in reversed(twins)])
    optimizer.step()
    save("twins", twins, optimizer)
    optimizer = FlatOptimizer([{"params": list(m.parameters())} for m in twins])
    torch.save({"model": copied(twins), "optimizer": optimizer.state_dict()}, "ordered.pt")
    # Groups whose sizes leave one way, whichever comes first.
    apart = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    optimizer = FlatOptimizer([{"params": list(m.parameters())} for m in reversed(apart)])
    torch.save({"model": copied(apart), "optimizer": optimizer.state_dict()}, "apart.pt")
    expect_net("apart", apart, optimizer)
    # The same, in two files.
    torch.save(copied(apart), "apart-model.pt")
    torch.save(optimizer.state_dict(), "apart-optimizer.pt")


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.start = nn.Parameter(torch.randn(2), requires_grad=False)
        self.wte = nn.Embedding(7, 4)
        self.position = nn.Parameter(torch.randn(5, 4))
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, 7, bias=False)
        self.head.weight = self.wte.weight
        self.body.register_buffer("mask", torch.ones(4, 4))
        self.body.register_buffer("scale", torch.ones(1, dtype=torch.float64))


def tied_and_frozen():
    torch.manual_seed(2)
    model = Tied()
    model.body.bias.requires_grad_(False)
    model.body.last = nn.Parameter(torch.randn(3).half(), requires_grad=False)
    optimizer = FlatOptimizer(p for p in model.parameters() if p.requires_grad)
    optimizer.step()
    save("tied", model, optimizer)
    means = {n: p.detach() for n, p in model.named_parameters() if n != "body.last"}
    buffers = {"body.mask": model.body.mask, "body.scale": model.body.scale,
               "body.last": model.body.last}
    names = names_of(model)
    expect("tied", means, buffers, mapped(optimizer, names, "hess"),
           mapped(optimizer, names, "momentum"), ess=100, weight_decay=1e-3)
    means["body.last"] = buffers.pop("body.last")
    expect("told", means, buffers, mapped(optimizer, names, "hess"),
           mapped(optimizer, names, "momentum"), ess=100, weight_decay=1e-3)


def types():
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16), ("f64", torch.float64)):
        model = net().to(dtype)
        optimizer = FlatOptimizer(model.parameters())
        optimizer.step()
        save(name, model, optimizer)
        expect_net(name, model, optimizer)
    integers = {f"b.{i}": torch.arange(3).to(dtype) for i, dtype in enumerate(
        (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool))}
    torch.save({"w": torch.ones(2), **integers}, "integers.pt")
    expect("integers", {"w": torch.ones(2)}, integers)
    torch.save({"w": torch.ones(2, dtype=torch.complex64)}, "complex.pt")
    torch.save({"model": {"w": torch.ones(2)}, "z": torch.ones(2, dtype=torch.complex64)},
               "complex-beside.pt")
    expect("complex-beside", {"w": torch.ones(2)})


def strides():
    base = torch.arange(120.0)
    cube = base.view(4, 5, 6)
    tensors = {"transposed": cube.permute(2, 0, 1), "t": base.view(10, 12).t(),
               "expanded": base[3:6].view(3, 1).expand(3, 4), "every": base[5::7],
               "columns": base.view(10, 12)[2:9, 3:7], "scalar": base[17],
               "empty": torch.zeros(0, 3), "ones": cube[:, 2:3, 1:2],
               "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    torch.save(tensors, "strides.pt")
    expect("strides", tensors)


def adam_moments(optimizer, names, batch):
    moments = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state[p]
            scale = batch / (1 - np.float64(group["betas"][1]) ** float(state["step"]))
            moments[names[p]] = (state["exp_avg_sq"].double() * scale).float()
    return moments


def train(model, optimizer):
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()


def adam():
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.75))
    train(model, optimizer)
    save("adam", model, optimizer)
    means = {n: p for n, p in model.named_parameters()}
    buffers = {n: b for n, b in buffers_of(model).items()}
    expect("adam", means, buffers, adam_moments(optimizer, names_of(model), 8))
    # A buffer of the shape of the parameter in front of it.
    weights = OrderedDict()
    for key, value in copied(model).items():
        weights[key] = value
        if key == "first.bias":
            weights["first.scale"] = torch.ones(3)
    torch.save({"model": weights, "optimizer": optimizer.state_dict()}, "adam-open.pt")
    expect("adam-open", means, {**buffers, "first.scale": torch.ones(3)},
           adam_moments(optimizer, names_of(model), 8))
    means["first.mask"] = buffers.pop("first.mask")
    expect("no-ivon", means, buffers)
    model = net()
    del model.first.mask
    optimizer = torch.optim.AdamW([
        {"params": [model.first.weight, model.second.weight]},
        {"params": [model.first.bias, model.normal.weight, model.normal.bias, model.second.bias],
         "weight_decay": 0.0}], betas=(0.9, 0.75))
    train(model, optimizer)
    save("adamw", model, optimizer)
    expect("adamw", dict(model.named_parameters()), buffers_of(model),
           adam_moments(optimizer, names_of(model), 8))


def adam_layers():
    """Groups whose tensors' shapes leave more than one way, and orders that are not the model's."""
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))
    names = names_of(model)
    for name, groups in (
            ("adam-layers", [{"params": list(m.parameters()), "lr": 0.1}
                             for m in reversed(model)]),
            ("adam-reversed", list(model.parameters())[::-1])):
        optimizer = torch.optim.AdamW(groups)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 3)).square().sum().backward()
            optimizer.step()
        save(name, model, optimizer)
        expect(name, dict(model.named_parameters()), {}, adam_moments(optimizer, names, 8))
        with open(name + ".txt", "w", encoding="utf-8") as file:
            file.writelines("module." + names[p].replace(".", "._orig_mod.") + "\n"
                            for group in optimizer.param_groups for p in group["params"])
    # Shapes of one parameter each settle any order.
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    optimizer = torch.optim.Adam(list(model.parameters())[::-1])
    train(model, optimizer)
    save("adam-shapes", model, optimizer)
    expect("adam-shapes", dict(model.named_parameters()), {},
           adam_moments(optimizer, names_of(model), 8))


def trainer():
    """Weights and the optimizer's state in two files, as trainers leave them."""
    model = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
    model[1].register_buffer("count", torch.arange(3))
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices}, {"params": vectors, "weight_decay": 0.0}])
    train(model, optimizer)
    means = dict(model.named_parameters())
    torch.save(model.state_dict(), "trainer-model.pt")
    np.savez("trainer-model.npz", **{k: v.numpy() for k, v in model.state_dict().items()})
    torch.save(optimizer.state_dict(), "trainer-optimizer.pt")
    expect("trainer", means, {"1.count": model[1].count},
           adam_moments(optimizer, names_of(model), 8))
    with open("trainer.txt", "w", encoding="utf-8") as file:
        file.writelines(names_of(model)[p] + "\n" for p in matrices + vectors)
    # A frozen parameter, which the optimizer has nothing of.
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.Adam(p for p in model.parameters() if p.requires_grad)
    train(model, optimizer)
    torch.save(model.state_dict(), "frozen-model.pt")
    torch.save(optimizer.state_dict(), "frozen-optimizer.pt")
    expect("frozen", means, {"1.count": model[1].count},
           adam_moments(optimizer, names_of(model), 8))


def wrapped():
    """Names with what torch.compile, FSDP and activation checkpointing put into them."""
    model = net()
    optimizer = FlatOptimizer(model.parameters())
    optimizer.step()
    weights = OrderedDict()
    for key, value in model.state_dict().items():
        head, dot, tail = key.rpartition(".")
        inner = head + dot + "_checkpoint_wrapped_module._orig_mod." + tail
        weights["module._fsdp_wrapped_module." + inner] = value
    torch.save({"model": weights, "optimizer": optimizer.state_dict()}, "wrapped.pt")
    expect_net("wrapped", model, optimizer)
    # "module" within a name is a module of the model's own.
    torch.save({"a.module.w": torch.ones(2), "module.b": torch.zeros(3)}, "own-module.pt")
    expect("own-module", {"a.module.w": torch.ones(2), "module.b": torch.zeros(3)})


class Flagged:
    """A tensor with the flags that PyTorch 2 saves."""
    def __init__(self, tensor, **flags):
        self.tensor, self.flags = tensor, flags

    def __reduce__(self):
        tensor = self.tensor
        return (torch._utils._rebuild_tensor_v2,
                (tensor.storage(), tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), False,
                 OrderedDict(), self.flags))


def flags():
    values = torch.tensor([[1.5, -0.0, 3.0], [float("inf"), -2.0, 7.0]])
    tensors, found = {}, {}
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for name, view in (("rows", values.to(dtype)), ("columns", values.to(dtype).t())):
            tensors[f"{dtype}.{name}"] = view
            found[f"{dtype}.{name}"] = Flagged(view, neg=True)
    expect("flags", {**{k: -v for k, v in tensors.items()}, "plain": values})
    torch.save({**found, "plain": Flagged(values, neg=False)}, "flags.pt")
    torch.save({"w": Flagged(values, zero=True), "v": values}, "flags-strange.pt")


def sharded():
    """A state dict in two files with an index, tied names within one."""
    shards = {"weights-1.bin": {"module.a": torch.randn(3), "module.b": torch.randn(2, 2)},
              "weights-2.bin": {"c.running_mean": torch.randn(4), "c.weight": torch.ones(4)}}
    shards["weights-2.bin"]["z"] = shards["weights-2.bin"]["c.weight"]
    names = {}
    for path, tensors in shards.items():
        torch.save(tensors, path)
        names.update({name: path for name in tensors})
    with open("weights.bin.index.json", "w", encoding="utf-8") as file:
        json.dump({"metadata": {"total_size": 64}, "weight_map": names}, file)
    with open("short.bin.index.json", "w", encoding="utf-8") as file:
        json.dump({"weight_map": {n: p for n, p in names.items() if n != "z"}}, file)
    with open("long.bin.index.json", "w", encoding="utf-8") as file:
        json.dump({"weight_map": {**names, "gone": "weights-1.bin"}}, file)
    merged = {**shards["weights-1.bin"], "c.weight": torch.ones(4)}
    expect("weights", merged, {"c.running_mean": shards["weights-2.bin"]["c.running_mean"]})


class Call:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


def refused():
    model, optimizer = one_group()
    torch.save(model.state_dict(), "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(model, "module.pt")
    torch.save({"net": model, "epoch": 1}, "module-within.pt")
    torch.jit.script(nn.Linear(2, 2)).save("script.pt")
    torch.save({"a": 1, "b": [2]}, "nothing.pt")
    call = Call(os.system, "touch called")
    torch.save({"model": call}, "call.pt")
    torch.save({"model": {"w": torch.ones(2), "x": call}}, "call-within.pt")
    torch.save({"model": {"w": torch.ones(2)}, "x": call}, "call-beside.pt")
    expect("call-beside", {"w": torch.ones(2)})
    state = optimizer.state_dict()
    state["param_groups"][0]["numel"] += 1
    torch.save({"model": model.state_dict(), "optimizer": state}, "numel.pt")


os.chdir(sys.argv[1])
torch.manual_seed(0)
for write in (plain, copies, two_groups, tied_and_frozen, types, strides, adam, adam_layers,
              trainer, wrapped, flags, sharded, refused):
    write()
