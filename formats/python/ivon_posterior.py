"""Keep what the IVON optimizer learnt as an ivon-posterior(5) file, and load it again.

    import ivon_posterior

    ivon_posterior.save("posterior.h5", model, optimizer, example_input, n_train=50000)
    posterior = ivon_posterior.load("posterior.h5", model=model, optimizer=optimizer)

The commands ivon-predict, ivon-merge and so on take the file as it is; with an example input it
holds the network's graph, too. Needs torch and h5py. See ivon-formats(5).
"""
from __future__ import annotations

import copy
import errno
import fcntl
import inspect
import io
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

import h5py
import numpy
import torch

__all__ = ["Posterior", "PosteriorError", "load", "save"]

FORMAT, FORMAT_VERSION, CREATOR = "ivon-posterior", 1, "ivon_posterior.py"
ALIGNMENT = 64  # bytes: readers map the tensors and use them in place
ALIGNED = 4096  # bytes, of the least tensor that is aligned: HDF5 is slow in aligning very many
OPSET = 13

Tensors = Dict[str, torch.Tensor]
Path = Union[str, "os.PathLike[str]"]


class PosteriorError(ValueError):
    """Model, optimizer and file do not go together, or hold no posterior."""


@dataclass
class Posterior:
    """What a file holds: tensors by name, on the CPU.

    The precision of parameter x is ``ess * (hessian[x] + weight_decay)``; a name in `own_ess` or
    `own_weight_decay` has a value of its own. A parameter without Hessian is not random.
    """

    mean: Tensors = field(default_factory=dict)
    hessian: Tensors = field(default_factory=dict)
    momentum: Tensors = field(default_factory=dict)
    buffers: Tensors = field(default_factory=dict)
    ess: Optional[float] = None
    weight_decay: Optional[float] = None
    own_ess: Dict[str, float] = field(default_factory=dict)
    own_weight_decay: Dict[str, float] = field(default_factory=dict)
    step: Optional[int] = None
    n_train: Optional[int] = None
    graph: Optional[bytes] = None  # an ONNX file


def save(path: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer,
         example_input: Any = None, *, n_train: Optional[int] = None,
         step: Optional[int] = None) -> None:
    """Write the posterior of `model`, whose parameters `optimizer` (IVON) trains, to `path`.

    The file is HDF5, and its name ends in .h5 or .hdf5 or has no suffix; ivon-convert makes the
    other formats of it. An existing file is replaced when the new one is complete and on disk; a
    symbolic link is replaced itself, not what it leads to. Parameters that the optimizer does not
    have are frozen: they get a mean without a Hessian. Tied parameters are kept once, under their
    first name. `example_input`, a tensor or a tuple of what forward() takes, makes the file hold
    the graph, with a free first axis. `step` is by default the optimizer's count.

    Raises PosteriorError for another suffix, an optimizer without IVON's state, inside
    sampled_params() (when the optimizer made a step before; a group of one parameter cannot be
    told), and for a graph that lost a parameter's name.
    """
    _check_kinds(model, optimizer)
    _check_suffix(os.fspath(path))
    model = _unwrapped(model)
    names = _parameter_names(model)
    groups = _groups(optimizer, names)
    for key, count in (("step", step), ("n_train", n_train)):
        if count is not None and int(count) < 0:
            raise PosteriorError(f"{key} is {count}, expected zero or more")
    _refuse_sample(optimizer, groups)
    graph = None if example_input is None else _export(model, example_input)
    if graph:
        _check_graph(graph, names.values())
    if step is None:
        step = getattr(optimizer, "current_step", None)
    with _replacing(os.fspath(path)) as output:
        with h5py.File(output, "w", track_order=True, alignment_threshold=ALIGNED,
                       alignment_interval=ALIGNMENT) as file:
            _write_header(file, groups, step, n_train)
            for parameter, name in names.items():
                _write(file, "mean/" + name, parameter)
            _write_groups(file, groups)
            for name, buffer in _buffers(model).items():
                _write(file, "buffers/" + name, buffer)
            if graph:
                _write(file, "model.onnx", torch.frombuffer(bytearray(graph), dtype=torch.uint8))


def load(path: Path, *, model: Optional[torch.nn.Module] = None,
         optimizer: Optional[torch.optim.Optimizer] = None) -> Posterior:
    """Read a file, and put what it holds into `model` and `optimizer` where they are given.

    The model takes means and buffers, the optimizer (which needs the model, for the names) Hessian,
    momentum, ess, weight_decay and step. Where names or shapes differ, PosteriorError is raised and
    nothing is changed.
    """
    if optimizer is not None and model is None:
        raise TypeError("an optimizer is loaded by the names of its model: give the model, too")
    _check_kinds(model, optimizer)
    with _opened(os.fspath(path)) as file:
        posterior = _read(file)
    if model is not None:
        model = _unwrapped(model)
        names = _parameter_names(model)
        copies = _model_copies(model, names, posterior)
        updates = _optimizer_updates(optimizer, names, posterior) if optimizer is not None else []
        with torch.no_grad():
            for target, value in copies:
                target.copy_(value)
        for group, values in updates:
            group.update(values)
        if posterior.step is not None and hasattr(optimizer, "current_step"):
            optimizer.current_step = posterior.step
    return posterior


# What is given.

def _check_kinds(model: Any, optimizer: Any) -> None:
    """Arguments in another order, and state dicts, are common mistakes."""
    for what, value, kind in (("model", model, torch.nn.Module),
                              ("optimizer", optimizer, torch.optim.Optimizer)):
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"the {what} is of type {type(value).__name__}, expected a "
                            f"torch.{kind.__module__.split('.')[1]}.{kind.__name__}")


def _check_suffix(path: str) -> None:
    """A dot that begins the name, or stands before a digit, begins no suffix."""
    suffix = os.path.splitext(path)[1]
    if suffix not in ("", ".h5", ".hdf5") and not suffix[1:2].isdigit():
        raise PosteriorError(f"{path}: no posterior is written as {suffix} here, expected a name in "
                             ".h5 or .hdf5; ivon-convert makes .safetensors and .npz of one")


# Names.

def _unwrapped(model: torch.nn.Module) -> torch.nn.Module:
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
        first = members[0][0] if members else None
        if any(p.device != hess.device or p.dtype != hess.dtype for p, _ in members):
            continue
        if any(_storage(p) != _storage(first) or
               p.storage_offset() != first.storage_offset() + start for p, start in members):
            raise PosteriorError(
                "the parameters are not laid out as a step leaves them: they are a sample. Save "
                "outside sampled_params(). If the model was changed since the last step, "
                "'with optimizer.sampled_params(): pass' lays it out again")


# Writing.

@contextmanager
def _replacing(path: str) -> Iterator[BinaryIO]:
    """A temporary file beside `path` that takes its name if all goes well, else is gone.

    Its name is that which the commands use, and it is locked: the next writer of `path` takes over
    what a killed one left, and two at once do not disturb each other.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.ivon-tmp")
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = _locked(temporary)
    except OSError as error:
        raise type(error)(error.errno, error.strerror, path) from None
    with file:
        try:
            file.truncate(0)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    _sync(folder or ".")


def _locked(path: str) -> BinaryIO:
    """The file of that name, made if need be, once no other process has it."""
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        file = os.fdopen(descriptor, "r+b", buffering=0)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            opened, named = os.fstat(descriptor), os.lstat(path)
            if (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino):
                return file
        except FileNotFoundError:
            pass  # renamed in between, like one that is another file by now
        except BaseException:
            file.close()
            raise
        file.close()


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_header(file: h5py.File, groups: List[_Group], step: Optional[int],
                  n_train: Optional[int]) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = numpy.int64(FORMAT_VERSION)
    for key in ("ess", "weight_decay"):
        file.attrs[key] = numpy.float64(groups[0].options[key])
    for key, value in (("step", step), ("n_train", n_train)):
        if value is not None:
            file.attrs[key] = numpy.int64(value)
    file.attrs["creator"] = CREATOR


def _write_groups(file: h5py.File, groups: List[_Group]) -> None:
    for group in groups:
        for name, parameter, where in group.slices:
            hessian = group.flat("hess")[where].reshape(parameter.shape)
            dataset = _write(file, "hessian/" + name, hessian.to(torch.float32))
            for key in ("ess", "weight_decay"):
                if numpy.float64(group.options[key]) != file.attrs[key]:
                    dataset.attrs[key] = numpy.float64(group.options[key])
    for group in groups:
        for name, parameter, where in group.slices:
            _write(file, "momentum/" + name, group.flat("momentum")[where].reshape(parameter.shape))


def _bfloat16() -> h5py.h5t.TypeID:
    """Sign at bit 15, 8 exponent bits at 7, 7 mantissa bits at 0, bias 127."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_ebias(127)
    kind.set_size(2)
    return kind


def _write(file: h5py.File, path: str, tensor: torch.Tensor) -> h5py.Dataset:
    """Writes a tensor contiguously, in its own type."""
    tensor = tensor.detach().cpu().contiguous()
    bits = tensor.dtype == torch.bfloat16
    data = (tensor.view(torch.int16) if bits else tensor).numpy()
    kind = _bfloat16() if bits else h5py.h5t.py_create(data.dtype, logical=True)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_obj_track_times(False)
    space = h5py.h5s.create_simple(data.shape) if data.ndim else h5py.h5s.create(h5py.h5s.SCALAR)
    parent, _, name = path.rpartition("/")
    group = _require_group(file, parent)
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, plist)
    if data.size:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data, kind)
    return h5py.Dataset(dataset)


def _require_group(file: h5py.File, path: str) -> h5py.Group:
    """The group, made with those above it, each in the order of its members' creation."""
    group = file["/"]
    for name in filter(None, path.split("/")):
        group = group[name] if name in group else group.create_group(name, track_order=True)
    return group


# Reading.

def _opened(path: str) -> h5py.File:
    """The file; a PosteriorError that names it, where it can be read but is no HDF5 file."""
    with open(path, "rb"):
        pass
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise PosteriorError(f"{path}: no HDF5 file, or a damaged one ({error}); ivon-convert "
                             "makes one of other checkpoints") from error


def _read(file: h5py.File) -> Posterior:
    form = file.attrs.get("format")  # bytes, where the writer gave it a fixed length
    found = (form.decode() if isinstance(form, bytes) else form, file.attrs.get("format_version"))
    if found != (FORMAT, FORMAT_VERSION):
        raise PosteriorError(f"{file.filename}: format and version are {found}, expected "
                             f"{(FORMAT, FORMAT_VERSION)}")
    posterior = Posterior(ess=_number(file, "ess", float),
                          weight_decay=_number(file, "weight_decay", float),
                          step=_number(file, "step", int), n_train=_number(file, "n_train", int))
    for part in ("mean", "hessian", "momentum", "buffers"):
        if part in file:
            _read_group(file[part], getattr(posterior, part))
    for name in posterior.hessian:
        for key in ("ess", "weight_decay"):
            own = _number(file["hessian/" + name], key, float)
            if own is not None:
                getattr(posterior, "own_" + key)[name] = own
    if "model.onnx" in file:
        posterior.graph = file["model.onnx"][()].tobytes()
    return posterior


def _number(item: Any, key: str, kind: Any) -> Any:
    return kind(item.attrs[key]) if key in item.attrs else None


def _read_group(group: h5py.Group, tensors: Tensors, prefix: str = "") -> None:
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            _read_group(item, tensors, prefix + name + "/")
        else:
            tensors[prefix + name] = _read_tensor(item)


def _read_tensor(dataset: h5py.Dataset) -> torch.Tensor:
    if dataset.id.get_type().equal(_bfloat16()):
        bits = numpy.empty(dataset.shape, "<i2")
        if bits.size:
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, bits, _bfloat16())
        return torch.from_numpy(bits).view(torch.bfloat16)
    data = dataset[()]
    return torch.from_numpy(numpy.asarray(data, data.dtype.newbyteorder("=")))


def _agree(what: str, found: Tensors, wanted: Dict[str, torch.Tensor]) -> None:
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
    parameters = {name: parameter for parameter, name in names.items()}
    _agree("parameter", posterior.mean, parameters)
    buffers = _buffers(model)
    _agree("buffer", posterior.buffers, buffers)
    return ([(parameters[name], value) for name, value in posterior.mean.items()] +
            [(buffers[name], value) for name, value in posterior.buffers.items()])


def _optimizer_updates(optimizer: torch.optim.Optimizer, names: Dict[torch.nn.Parameter, str],
                       posterior: Posterior) -> List[Tuple[Dict[str, Any], Dict[str, Any]]]:
    """What changes in each parameter group. Without a momentum in the file it is zero."""
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


# The graph.

def _export(model: torch.nn.Module, example_input: Any) -> bytes:
    """The graph with parameters and buffers as inputs, so that every name survives."""
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
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
