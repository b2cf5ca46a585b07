"""python_examples.py DOCUMENT...: runs, here, the Python that the documents show, with what they
take for granted, and checks by the commands what it writes. Exit code 77 where torch is missing.

Flax, Orbax and safetensors are not asked for: where they are missing, what is shown of them meets
stand-ins with the same calls.
"""
import contextlib
import io
import json
import os
import subprocess
import sys
import types
import warnings
from collections import OrderedDict

import h5py
import numpy as np

import posterior_module  # which exits where torch is missing
import safetensors_file
import shown
import torch
from torch import nn


def flatten_dict(tree, sep):
    flat = {}
    for name, item in tree.items():
        below = flatten_dict(item, sep) if isinstance(item, dict) else {None: item}
        for key, leaf in below.items():
            flat[name if key is None else name + sep + key] = leaf
    return flat


def unflatten_dict(flat, sep):
    tree = {}
    for path, leaf in flat.items():
        *groups, name = path.split(sep)
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = leaf
    return tree


def save_file(tensors, path, metadata):
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    safetensors_file.write(path, arrays, metadata)


class Orbax:
    """Restores a training's state, of which the parameters are wanted."""

    def restore(self, directory):
        assert directory == "step/default"
        layer = {"kernel": np.ones((4, 3), "f4"), "bias": np.zeros(3, "f4")}
        return {"params": {"Dense_0": layer}, "opt_state": [None, {"count": 3}], "step": 3}


def stand_in(name, **members):
    try:
        __import__(name)
    except ImportError:
        parts = name.split(".")
        for i in range(len(parts)):
            sys.modules.setdefault(".".join(parts[:i + 1]), types.ModuleType(parts[i]))
        vars(sys.modules[name]).update(members)


def surroundings():
    """A trained model and its optimizer, what that knows by name, parameters of Flax."""
    torch.manual_seed(0)
    model = nn.Sequential(OrderedDict(fc=nn.Linear(4, 3)))
    optimizer = posterior_module.Ivon(model.parameters())
    x = torch.randn(posterior_module.EXAMPLES, 4)
    posterior_module.train(model, (x,), optimizer)
    means = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    flat, hess, at = optimizer.param_groups[0]["hess"], {}, 0
    for name, mean in means.items():
        hess[name] = flat[at:at + mean.numel()].view(mean.shape)
        at += mean.numel()
    layer = {"kernel": np.ones((4, 3), "f4"), "bias": np.zeros(3, "f4")}
    a, d = torch.cat([x, torch.ones(len(x), 1)], 1), torch.randn(len(x), 3)
    return dict(model=model, optimizer=optimizer, example_input=x[:1], x=x, means=means, hess=hess,
                a=a, d=d, directory="step/default", np=np, torch=torch,
                ivon_posterior=posterior_module.ivon_posterior,
                y=torch.arange(len(x)) % 3,
                variables={"params": {"Dense_0": layer}}, fisher={"params": {"Dense_0": layer}})


def info(path):
    return json.loads(subprocess.check_output(["ivon-info", "--json", path]))


def check(found, path):
    """What was written to `path` is the posterior, the graph, or the tree."""
    if path == "flax.safetensors":
        told = info(path)
        assert told["summary"]["hessian_elements"] == 15 and told["ess"] == 60000, told
    elif path == "orbax.safetensors":
        told = info(path)
        assert told["parameters"] == 15 and not told["summary"].get("hessian_elements"), told
        names = {"params/Dense_0/kernel", "params/Dense_0/bias"}
        assert set(safetensors_file.read(path)[0]) == names
    elif path == "params.npz":
        assert info(path)["parameters"] == 15
        assert found["variables"]["params"]["Dense_0"]["kernel"].shape == (4, 3)
    elif path == "model.onnx":
        posterior_module.ivon_posterior.save("whole.h5", found["model"], found["optimizer"])
        x = torch.randn(len(found["x"]) + 13, 4)  # not as many as the graph was exported with
        with h5py.File("data.h5", "w") as file:
            file["x"] = x.numpy()
        subprocess.run(["ivon-predict", "-q", "whole.h5", "--model=model.onnx", "--data=data.h5",
                        "--targets=", "--mean", "--logits", "-o", "out.h5"], check=True)
        with h5py.File("out.h5") as file:
            error = file["logits"][()] - found["model"](x).detach().numpy()
        assert np.abs(error).max() < 1e-5  # sums of 5 terms in binary32
    elif path == "structured.h5":
        told = info(path)
        assert told["structure"]["base"] == "kronecker" and told["structure"]["blocks"] == 1, told
        assert told["parameters"] == told["summary"]["hessian_elements"] in (8, 15), told
        subprocess.run(["ivon-info", "--check", path], check=True)
        subprocess.run(["ivon-sample", "-q", path, "-o", "drawn.h5"], check=True)
    else:
        told = info(path)
        norm = np.sqrt(sum(float((mean.double()**2).sum()) for mean in found["means"].values()))
        least = min(float(h.min()) for h in found["hess"].values())
        assert told["parameters"] == told["summary"]["hessian_elements"] == 15, told
        assert abs(told["summary"]["mean_norm"] / norm - 1) < 1e-6, told
        assert told["summary"]["hessian_min"] == least, told


def check_calls(found):
    """The calls are of the network, its fit, and both posteriors."""
    scores, averaged = found["scores"], found["averaged"]
    loss = nn.functional.cross_entropy(found["model"](found["x"]), found["y"], reduction="none")
    assert np.allclose(scores["loss"], loss.detach(), atol=1e-5)  # sums of 5 terms in binary32
    assert (scores["loo_loss"] > scores["loss"]).all() and averaged["metrics"]["nll"] < 2
    assert averaged["probabilities"].shape == (len(found["x"]), 3)
    assert found["merged"].ess == len(found["x"]) + 0.5 * 100


def main(paths):
    stand_in("flax.traverse_util", flatten_dict=flatten_dict, unflatten_dict=unflatten_dict)
    stand_in("safetensors.torch", save_file=save_file)
    stand_in("orbax.checkpoint", PyTreeCheckpointer=Orbax)
    # Of an axis that has no input, which torch.onnx.export passes over.
    warnings.filterwarnings("error", "Provided key")
    found, checked = surroundings(), []
    found["ivon_posterior"].save("given.h5", found["model"], found["optimizer"])
    for path in paths:
        with open(path) as file:
            text = file.read()
        python = [block for block in shown.blocks(path, text) if not block.startswith(("$ ", "python3 "))
                  and (not path.endswith(".md") or f"```python\n{block}" in text)]
        for block in python:
            print(f"{os.path.basename(path)}:\n{block}", flush=True)
            for name in "posterior.npz", "trained.h5":
                subprocess.run(["ivon-convert", "-qf", "given.h5", "-o", name], check=True)
            before = set(os.listdir("."))
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile(block, path, "exec"), found)
            written = sorted(set(os.listdir(".")) - before)
            for name in written:
                check(found, name)
                if "optimizer, example_input" in block:
                    assert info(name)["model.onnx"]["bytes"] > 0
                checked.append(name)
            if not written and "print" in block:
                order = [p for group in found["optimizer"].param_groups for p in group["params"]]
                names = {p: name for name, p in found["model"].named_parameters()}
                assert said.getvalue().split() == [names[p] for p in order], said.getvalue()
                checked.append("names")
            elif "sensitivity(" in block:
                check_calls(found)
                checked.append("calls")
            elif ".sample(" in block:
                drawn = found["posterior"].sample(seed=1)
                weights = dict(found["model"].named_parameters())
                assert all(torch.equal(drawn[name], weights[name]) and
                           not torch.equal(drawn[name], mean) for name, mean in found["means"].items())
                found["model"].load_state_dict(found["means"])
                checked.append("sample")
            elif not written:
                weight = found["hess"]["fc.weight"].numpy()
                # One rounding of each operation.
                assert np.allclose(found["precision"], 100 * (weight + 1e-3), rtol=1e-6)
                checked.append("precision")
            for name in set(os.listdir(".")) - {"given.h5"}:
                os.unlink(name)
    assert sorted(checked) == ["arrays.npz", "calls", "flax.safetensors", "model.onnx", "names",
                               "orbax.safetensors", "params.npz", *["posterior.h5"] * 3,
                               "posterior.safetensors", "precision", "sample",
                               *["structured.h5"] * 2], checked
    print(f"{len(checked)} results are what the commands read")


main(sys.argv[1:])
