"""Posteriors from and into PyTorch: a model, the optimizer IVON, the network's graph."""
from __future__ import annotations

import copy
import inspect
import io
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

import numpy
import torch

from ._arrays import PosteriorError, Tensors
from ._posterior import Posterior

OPSET = 13


def posterior_of_model(model: torch.nn.Module, example_input: Any, ess: Optional[float],
                       weight_decay: Optional[float], n_train: Optional[int],
                       step: Optional[int]) -> Posterior:
    """Means and buffers, copied, and the graph."""
    check_kinds(model, None)
    model = _unwrapped(model)
    names = _parameter_names(model)
    return Posterior(mean={name: _detached(parameter) for parameter, name in names.items()},
                     buffers={name: _detached(buffer) for name, buffer in _buffers(model).items()},
                     ess=None if ess is None else float(ess),
                     weight_decay=None if weight_decay is None else float(weight_decay),
                     step=step, n_train=n_train, graph=_checked_graph(model, example_input, names))


def posterior_of_optimizer(model: torch.nn.Module, optimizer: torch.optim.Optimizer,
                           example_input: Any, n_train: Optional[int],
                           step: Optional[int]) -> Posterior:
    """What IVON has learnt, as views of model and optimizer."""
    check_kinds(model, optimizer)
    model = _unwrapped(model)
    names = _parameter_names(model)
    groups = _groups(optimizer, names)
    _refuse_sample(optimizer, groups)
    posterior = Posterior(mean={name: parameter for parameter, name in names.items()},
                          buffers=_buffers(model), n_train=n_train,
                          ess=float(groups[0].options["ess"]),
                          weight_decay=float(groups[0].options["weight_decay"]),
                          step=getattr(optimizer, "current_step", None) if step is None else step,
                          graph=_checked_graph(model, example_input, names))
    for group in groups:
        for name, parameter, where in group.slices:
            posterior.hessian[name] = group.flat("hess")[where].reshape(parameter.shape)
            posterior.momentum[name] = group.flat("momentum")[where].reshape(parameter.shape)
            posterior.own_ess[name] = float(group.options["ess"])
            posterior.own_weight_decay[name] = float(group.options["weight_decay"])
    return posterior


def put(posterior: Posterior, model: torch.nn.Module,
        optimizer: Optional[torch.optim.Optimizer]) -> None:
    """Into model and optimizer, all or nothing."""
    model = _unwrapped(model)
    names = _parameter_names(model)
    copies = _model_copies(model, names, posterior)
    updates = _optimizer_updates(optimizer, names, posterior) if optimizer is not None else []
    with torch.no_grad():
        for target, value in copies:
            target.copy_(value)
    for group, values in updates:
        group.update(values)
    if optimizer is not None and posterior.step is not None and hasattr(optimizer, "current_step"):
        optimizer.current_step = posterior.step


# What is given.

def check_kinds(model: Any, optimizer: Any) -> None:
    """Arguments in another order, and state dicts, are common mistakes."""
    for what, value, kind in (("model", model, torch.nn.Module),
                              ("optimizer", optimizer, torch.optim.Optimizer)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"the {what} is of type {type(value).__name__}, expected a "
                            f"torch.{kind.__module__.split('.')[1]}.{kind.__name__}")


# Names.

def _unwrapped(model: Any) -> torch.nn.Module:
    """The model inside DataParallel, DistributedDataParallel and torch.compile."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(model, parallel):
            model = model.module
        elif "_orig_mod" in model._modules:
            model = model._orig_mod
        else:
            return model


def _plain(name: str) -> str:
    """A name without the component that torch.compile puts before a compiled part's."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def _parameter_names(model: torch.nn.Module) -> Dict[torch.nn.Parameter, str]:
    """Every parameter once, under its first name; parameters hash by identity."""
    names = {parameter: _plain(name) for name, parameter in model.named_parameters()}
    if not names:
        raise PosteriorError("the model has no parameters")
    return names


def _some(names: Iterable[str]) -> str:
    """The first of the names, and how many others there are."""
    ordered = sorted(names)
    return f"'{ordered[0]}'" + (f" and {len(ordered) - 1} others" if len(ordered) > 1 else "")


def _buffers(model: torch.nn.Module) -> Tensors:
    """The buffers of the state dict. Others are constants of the graph."""
    persistent = model.state_dict().keys()
    return {_plain(name): buffer for name, buffer in model.named_buffers() if name in persistent}


# The optimizer.

@dataclass
class _Group:
    """A parameter group, and where in its flat `hess` and `momentum` each parameter lies."""

    options: Dict[str, Any]
    slices: List[Tuple[str, torch.nn.Parameter, slice]]

    def flat(self, key: str) -> torch.Tensor:
        return self.options[key].detach()


def _groups(optimizer: torch.optim.Optimizer,
            names: Dict[torch.nn.Parameter, str]) -> List[_Group]:
    groups = []
    for number, options in enumerate(optimizer.param_groups):
        missing = [key for key in ("hess", "momentum", "ess", "weight_decay")
                   if key not in options]
        if missing:
            raise PosteriorError(f"parameter group {number} has no '{missing[0]}': is the "
                                 "optimizer IVON?")
        slices, end = [], 0
        for parameter in options["params"]:
            if parameter is None:
                continue
            if parameter not in names:
                raise PosteriorError(f"parameter group {number} has a parameter of shape "
                                     f"{tuple(parameter.shape)} that is not the model's")
            start, end = end, end + parameter.numel()
            slices.append((names[parameter], parameter, slice(start, end)))
        for key in ("hess", "momentum"):
            if options[key].numel() != end:
                raise PosteriorError(f"parameter group {number}: '{key}' has "
                                     f"{options[key].numel()} elements, its parameters {end}")
        groups.append(_Group(options, slices))
    if not groups:
        raise PosteriorError("the optimizer has no parameters")
    return groups


def _storage(tensor: torch.Tensor) -> int:
    get = getattr(tensor, "untyped_storage", tensor.storage)
    return get().data_ptr()


def _refuse_sample(optimizer: torch.optim.Optimizer, groups: List[_Group]) -> None:
    """A step leaves a group's parameters as consecutive views of one storage; a sample inside
    sampled_params() has a storage for each. A model that was moved since tells nothing."""
    if not getattr(optimizer, "current_step", 0):
        return
    for group in groups:
        hess = group.flat("hess")
        members = [(parameter, where.start) for _, parameter, where in group.slices
                   if parameter.numel()]
        if not members:
            continue
        first = members[0][0]
        if any(p.device != hess.device or p.dtype != hess.dtype for p, _ in members):
            continue
        if any(_storage(p) != _storage(first) or
               p.storage_offset() != first.storage_offset() + start for p, start in members):
            raise PosteriorError(
                "the parameters are not laid out as a step leaves them: they are a sample. Save "
                "outside sampled_params(). If the model was changed since the last step, "
                "'with optimizer.sampled_params(): pass' lays it out again")


# Reading.

def _agree(what: str, found: Tensors, wanted: Mapping[str, torch.Tensor]) -> None:
    """Raises unless the file's tensors are the model's, by names and shapes."""
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing:
        raise PosteriorError(f"the file lacks {what} {_some(missing)}")
    if extra:
        raise PosteriorError(f"the model lacks {what} {_some(extra)}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise PosteriorError(f"{what} '{name}': shape {tuple(tensor.shape)} in the file, "
                                 f"{tuple(wanted[name].shape)} in the model")


def _model_copies(model: torch.nn.Module, names: Dict[torch.nn.Parameter, str],
                  posterior: Posterior) -> List[Tuple[torch.Tensor, torch.Tensor]]:
    """What goes where in the model."""
    parameters: Dict[str, torch.Tensor] = {name: parameter for parameter, name in names.items()}
    _agree("parameter", posterior.mean, parameters)
    buffers = _buffers(model)
    _agree("buffer", posterior.buffers, buffers)
    return ([(parameters[name], value) for name, value in posterior.mean.items()] +
            [(buffers[name], value) for name, value in posterior.buffers.items()])


def _optimizer_updates(optimizer: torch.optim.Optimizer, names: Dict[torch.nn.Parameter, str],
                       posterior: Posterior) -> List[Tuple[Dict[str, Any], Dict[str, Any]]]:
    """What changes in each parameter group. Without a momentum in the file it is zero."""
    if posterior.structure.get("blocks") or posterior.structure.get("low_rank"):
        raise PosteriorError("the posterior has blocks or a low-rank correction, and an optimizer "
                             "takes a diagonal: ivon-convert --structure=diagonal makes one of it")
    updates = []
    for group in _groups(optimizer, names):
        values: Dict[str, Any] = {key: group.flat(key).clone() for key in ("hess", "momentum")}
        values["momentum"].zero_()
        for name, parameter, where in group.slices:
            hessian, momentum = posterior.hessian.get(name), posterior.momentum.get(name)
            if hessian is None:
                raise PosteriorError(f"the file has no Hessian of parameter '{name}', which the "
                                     "optimizer trains")
            for part, value in (("hess", hessian), ("momentum", momentum)):
                if value is not None and value.shape != parameter.shape:
                    raise PosteriorError(f"{part} of '{name}': shape {tuple(value.shape)} in the "
                                         f"file, {tuple(parameter.shape)} in the model")
                if value is not None:
                    values[part][where] = value.reshape(-1).to(values[part])
        for key in ("ess", "weight_decay"):
            found = {getattr(posterior, "own_" + key).get(name, getattr(posterior, key))
                     for name, _, _ in group.slices}
            if len(found) > 1 or None in found:
                raise PosteriorError(f"the file has {'no' if None in found else 'more than one'} "
                                     f"{key} for the parameters of one group")
            values.update({key: value for value in found})
        updates.append((group.options, values))
    return updates


def _detached(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, which later steps of the training do not change."""
    return tensor.detach().cpu().clone()


# The graph.

def _checked_graph(model: torch.nn.Module, example_input: Any,
                   names: Dict[torch.nn.Parameter, str]) -> Optional[bytes]:
    if example_input is None:
        return None
    graph = _export(model, example_input)
    _check_graph(graph, names.values())
    return graph


def _export(model: torch.nn.Module, example_input: Any) -> bytes:
    """The graph with parameters and buffers as inputs, so that every name survives."""
    given = example_input if isinstance(example_input, tuple) else (example_input,)
    inputs = tuple(torch.from_numpy(i) if isinstance(i, numpy.ndarray) else i for i in given)
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        model = copy.deepcopy(model).float()  # graphs compute in f32, whatever is stored
        inputs = tuple(x.float() if torch.is_tensor(x) and x.is_floating_point() else x
                       for x in inputs)
    names = _input_names(model, inputs)
    axes = {name: {0: "n"} for name, x in zip(names, inputs) if torch.is_tensor(x) and x.ndim}
    axes["f"] = {0: "n"}
    options: Dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    graph = io.BytesIO()
    with _evaluating(model), torch.no_grad():
        torch.onnx.export(model, inputs, graph, opset_version=OPSET, export_params=False,
                          training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
                          input_names=names, output_names=["f"], dynamic_axes=axes, **options)
    return graph.getvalue()


def _input_names(model: torch.nn.Module, inputs: Tuple[Any, ...]) -> List[str]:
    """The names of forward()'s parameters, as far as it names them."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    named = [parameter.name for parameter in inspect.signature(model.forward).parameters.values()
             if parameter.kind in kinds]
    return [named[i] if i < len(named) else f"x{i}" for i in range(len(inputs))]


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module is in its own again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _fields(message: memoryview) -> Iterator[Tuple[int, memoryview]]:
    """The fields of a protocol buffer that hold bytes: their numbers and contents."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            varint()
        elif kind == 2:
            size = varint()
            yield key >> 3, message[at:at + size]
            at += size
        else:
            at += 8 if kind == 1 else 4


def _graph_names(graph: bytes) -> Set[str]:
    """What the nodes of an ONNX file take and give: ModelProto.graph is field 7, GraphProto.node 1,
    NodeProto.input 1 and output 2."""
    return {bytes(name).decode()
            for model_field, body in _fields(memoryview(graph)) if model_field == 7
            for graph_field, node in _fields(body) if graph_field == 1
            for node_field, name in _fields(node) if node_field in (1, 2)}


def _check_graph(graph: bytes, names: Iterable[str]) -> None:
    lost = set(names) - _graph_names(graph)
    if lost:
        raise PosteriorError(
            f"the exported graph has no parameter {_some(lost)}: forward() does not use it for "
            "this example_input, or the exporter put another tensor in its place. Without "
            "example_input the posterior is saved without a graph")
