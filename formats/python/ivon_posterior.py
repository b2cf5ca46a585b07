"""Keep what the IVON optimizer learnt as an ivon-posterior(5) file, and load it again.

    import ivon_posterior

    ivon_posterior.save("posterior.h5", model, optimizer, example_input, n_train=50000)
    posterior = ivon_posterior.load("posterior.h5", model=model, optimizer=optimizer)

Posteriors of any structure give weights to predict with, and take the factors that a training has:

    model.load_state_dict(posterior.sample(seed=1), strict=False)

    posterior = ivon_posterior.from_model(model, ess=50000, weight_decay=1e-4)
    posterior.add_factors("fc.weight", a, b, bias="fc.bias")  # K-FAC's
    posterior.save("structured.h5")

The commands ivon-predict, ivon-merge and so on take the file as it is; with an example input it
holds the network's graph, too. Needs torch and h5py. See ivon-formats(5).
"""
from __future__ import annotations

import copy
import errno
import fcntl
import inspect
import io
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Dict, Iterable, Iterator, List, Optional, Set, Tuple, Union

import h5py
import numpy
import torch

__all__ = ["Posterior", "PosteriorError", "from_model", "load", "save"]

FORMAT, CREATOR = "ivon-posterior", "ivon_posterior.py"
PLAIN, STRUCTURED = 1, 2  # versions of the format
STRUCTURAL = ("basis_input", "basis_output", "spectrum_input", "spectrum_output", "gram",
              "lowrank_vectors")
SKEW = 1e-3  # of bases that are orthonormal but for rounding: the largest |U^T U - I|
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
    `own_weight_decay` has a value of its own. A parameter without Hessian is not random, but for
    the biases of blocks. `structure` is what structure.json says: its blocks, weights whose
    Hessian is a matrix in bases of their own, and the values of a low-rank correction; see
    ivon-posterior(5). Both are empty where the posterior is diagonal.
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
    structure: Dict[str, Any] = field(default_factory=dict)
    basis_input: Tensors = field(default_factory=dict)
    basis_output: Tensors = field(default_factory=dict)
    spectrum_input: Tensors = field(default_factory=dict)
    spectrum_output: Tensors = field(default_factory=dict)
    gram: Tensors = field(default_factory=dict)
    lowrank_vectors: Tensors = field(default_factory=dict)

    def sample(self, generator: Optional[torch.Generator] = None, *, seed: Optional[int] = None,
               temperature: float = 1.0) -> Tensors:
        """Draw weights, by name, each of its mean's type; those that are not random are the means.

        `generator` is torch's on the CPU, or `seed` makes one; the default is torch's own. Draws
        are other numbers than those of ivon-sample. Variances are multiplied by `temperature`.

        Raises PosteriorError where ess or weight decay is missing, and where h + weight_decay is
        not positive.
        """
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
        wide = any(mean.dtype == torch.float64 for mean in self.mean.values())
        kind = torch.float64 if wide else torch.float32
        noise = {name: torch.randn(h.shape, generator=generator, dtype=kind)
                 for name, h in self.hessian.items()}
        self._correct(noise, kind)
        weights = {name: mean.clone() for name, mean in self.mean.items()}
        for name, eps in noise.items():
            if name not in weights:
                raise PosteriorError(f"the Hessian of '{name}' has no mean")
            x = eps * temperature ** 0.5 / self._precision(name).to(kind).sqrt()
            for part, value in self._parts(name, self._turned_back(name, x)):
                mean = self.mean[part]
                weights[part] = (mean.to(kind) + value.reshape(mean.shape)).to(mean.dtype)
        return weights

    def add_block(self, weight: str, hessian: torch.Tensor, *,
                  basis_input: Optional[torch.Tensor] = None,
                  basis_output: Optional[torch.Tensor] = None, bias: Optional[str] = None,
                  transposed: bool = False, spectrum_input: Optional[torch.Tensor] = None,
                  spectrum_output: Optional[torch.Tensor] = None,
                  input_rows: Optional[int] = None) -> None:
        """Make `weight`, and the bias that the same layer adds, a block.

        With o outputs and n inputs, one more of them for the bias, `hessian` is h in the basis,
        o x n; the columns of `basis_input` (n x n) and `basis_output` (o x o) are orthonormal, and
        without one that side is not turned. A weight is o x inputs, of convolutions
        o x channels x taps; a `transposed` one has a row for each input, as tables of embeddings
        do. Spectra are the eigenvalues of the factors, and `input_rows` says how many rows of
        inputs these are from; ivon-info --check looks at both. A block of that name is replaced.

        Raises PosteriorError where shapes do not fit, and where a basis is not orthonormal.
        """
        rows, columns = self._block_shape(weight, bias, transposed)
        parts = {"hessian": (hessian, (rows, columns)),
                 "basis_input": (basis_input, (columns, columns)),
                 "basis_output": (basis_output, (rows, rows)),
                 "spectrum_input": (spectrum_input, (columns,)),
                 "spectrum_output": (spectrum_output, (rows,))}
        for part, (tensor, shape) in parts.items():
            if tensor is not None and tuple(tensor.shape) != shape:
                raise PosteriorError(f"{part} of '{weight}' has shape {tuple(tensor.shape)}, "
                                     f"expected {shape}")
        for part in ("basis_input", "basis_output"):
            _check_basis(f"{part} of '{weight}'", parts[part][0])
        for part, (tensor, _) in parts.items():
            tensors = getattr(self, part)
            tensors.pop(weight, None)
            if tensor is not None:
                tensors[weight] = tensor.detach().cpu().to(torch.float32).contiguous()
        if bias is not None:
            self.hessian.pop(bias, None)
        said = {"bias": bias, "input_rows": input_rows, "transposed": transposed or None}
        blocks = self.structure.setdefault("blocks", {})
        blocks[weight] = {key: value for key, value in said.items() if value is not None}

    def add_factors(self, weight: str, a: torch.Tensor, b: torch.Tensor, *,
                    bias: Optional[str] = None, transposed: bool = False,
                    hessian: Optional[torch.Tensor] = None,
                    input_rows: Optional[int] = None) -> None:
        """Make `weight` a block of K-FAC's factors.

        `a` (n x n) is the mean over the examples of the products of its inputs, with a 1 behind
        them where there is a bias, `b` (o x o) that of the gradients of its outputs, of the loss of
        one example. Their eigenvectors are the bases, and h the products of their eigenvalues, or
        `hessian`, the second moments in those bases (EK-FAC). Other arguments are add_block's.

        Raises PosteriorError where a factor is not symmetric or not positive.
        """
        spectrum_input, basis_input = _eigen(f"the input factor of '{weight}'", a)
        spectrum_output, basis_output = _eigen(f"the output factor of '{weight}'", b)
        if hessian is None:
            hessian = torch.outer(spectrum_output, spectrum_input)
        self.add_block(weight, hessian, basis_input=basis_input, basis_output=basis_output,
                       bias=bias, transposed=transposed, spectrum_input=spectrum_input,
                       spectrum_output=spectrum_output, input_rows=input_rows)

    def add_low_rank(self, values: Iterable[float], vectors: Tensors) -> None:
        """Put a low-rank correction upon the Hessians as they are now.

        With D the precision of the base, turned into the bases of blocks, `values` l and `vectors`
        u are eigenpairs of D^(-1/2) P D^(-1/2) - I, where P is the precision that is to be: for
        each Hessian's name a tensor whose first axis counts the pairs, with the Hessian's elements
        behind it. They are orthonormal over all Hessians together, and hold for one weight decay.

        Raises PosteriorError where they are not, and for values that are not above -1.
        """
        numbers = [float(value) for value in values]
        flat = {}
        for name, tensor in vectors.items():
            if name not in self.hessian:
                raise PosteriorError(f"vectors of '{name}', which has no Hessian")
            count = self.hessian[name].numel()
            if tensor.shape[0] != len(numbers) or tensor.numel() != len(numbers) * count:
                raise PosteriorError(f"vectors of '{name}' have shape {tuple(tensor.shape)}, "
                                     f"expected {len(numbers)} x {count}")
            flat[name] = tensor.detach().cpu().to(torch.float32).reshape(len(numbers), count)
        if not all(value > -1 for value in numbers):
            raise PosteriorError("a value of the low-rank correction is not above -1")
        _check_basis("the low-rank correction", torch.cat(list(flat.values()), 1).T)
        self.lowrank_vectors = flat
        self.structure["low_rank"] = {"values": numbers}

    def save(self, path: Path) -> None:
        """Write the posterior as HDF5, as save() does: of version 2 where it has a structure.

        Raises PosteriorError for another suffix, and where ess or weight decay is missing.
        """
        _check_suffix(os.fspath(path))
        _check_counts(self.step, self.n_train)
        for name in self.hessian:
            self._precision(name)
        structured = bool(self.structure) or any(getattr(self, part) for part in STRUCTURAL)
        with _created(os.fspath(path)) as file:
            _write_header(file, self.ess, self.weight_decay, self.step, self.n_train,
                          STRUCTURED if structured else PLAIN)
            for part in ("mean", "hessian", "momentum", *STRUCTURAL, "buffers"):
                for name, tensor in getattr(self, part).items():
                    dataset = _write(file, f"{part}/{name}",
                                     tensor.to(torch.float32) if part == "hessian" else tensor)
                    if part == "hessian":
                        _write_own(dataset, self.own_ess.get(name), self.own_weight_decay.get(name))
            _write_bytes(file, "model.onnx", self.graph)
            if self.structure:
                _write_bytes(file, "structure.json", json.dumps(self.structure).encode())

    def _block(self, name: str) -> Optional[Dict[str, Any]]:
        return self.structure.get("blocks", {}).get(name)

    def _block_shape(self, weight: str, bias: Optional[str],
                     transposed: bool) -> Tuple[int, int]:
        """o and n."""
        for name in filter(None, (weight, bias)):
            if name not in self.mean:
                raise PosteriorError(f"there is no mean '{name}'")
        shape = self.mean[weight].shape
        if len(shape) < 2 or (transposed and len(shape) != 2):
            raise PosteriorError(f"'{weight}' has shape {tuple(shape)}, expected two dimensions" +
                                 ("" if transposed else " or more"))
        rows = shape[1 if transposed else 0]
        if bias is not None and self.mean[bias].numel() != rows:
            raise PosteriorError(f"the bias '{bias}' has {self.mean[bias].numel()} elements, "
                                 f"expected {rows}")
        return rows, self.mean[weight].numel() // rows + (bias is not None)

    def _precision(self, name: str) -> torch.Tensor:
        ess = self.own_ess.get(name, self.ess)
        weight_decay = self.own_weight_decay.get(name, self.weight_decay)
        if ess is None or weight_decay is None:
            raise PosteriorError(f"no {'ess' if ess is None else 'weight decay'} holds for the "
                                 f"Hessian of '{name}'")
        precision = ess * (self.hessian[name].double() + weight_decay)
        if not (bool((precision > 0).all()) and bool(torch.isfinite(precision).all())):
            raise PosteriorError(f"the precision of '{name}' is not positive and finite")
        return precision

    def _correct(self, noise: Tensors, kind: torch.dtype) -> None:
        """eps += U ((1 + l)^(-1/2) - 1) U^T eps, over all Hessians."""
        values = self.structure.get("low_rank", {}).get("values", [])
        if not values:
            return
        projected = sum(self.lowrank_vectors[name].to(kind) @ noise[name].flatten()
                        for name in self.lowrank_vectors)
        scaled = ((1 + torch.tensor(values, dtype=torch.float64)).rsqrt() - 1).to(kind) * projected
        for name, vectors in self.lowrank_vectors.items():
            noise[name] = noise[name] + (scaled @ vectors.to(kind)).reshape(noise[name].shape)

    def _turned_back(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """U_B X U_A^T of a block's."""
        if self._block(name) is None:
            return x
        if name in self.basis_output:
            x = self.basis_output[name].to(x.dtype) @ x
        return x @ self.basis_input[name].to(x.dtype).T if name in self.basis_input else x

    def _parts(self, name: str, x: torch.Tensor) -> List[Tuple[str, torch.Tensor]]:
        """What of X belongs to which mean."""
        block = self._block(name)
        if block is None:
            return [(name, x)]
        bias = block.get("bias")
        weight = x[:, :-1] if bias is not None else x
        parts = [(name, weight.T if block.get("transposed") else weight)]
        return parts + ([(bias, x[:, -1])] if bias is not None else [])


def from_model(model: torch.nn.Module, example_input: Any = None, *, ess: float,
               weight_decay: float, n_train: Optional[int] = None,
               step: Optional[int] = None) -> Posterior:
    """A posterior whose means and buffers are the model's, and that has no Hessian yet.

    Names and graph are as save() has them. Give it Hessians by `hessian[name]`, in the parameter's
    shape, or by add_block and add_factors; a parameter without one is not random.
    """
    _check_kinds(model, None)
    model = _unwrapped(model)
    names = _parameter_names(model)
    graph = None if example_input is None else _export(model, example_input)
    if graph:
        _check_graph(graph, names.values())
    return Posterior(mean={name: _detached(parameter) for parameter, name in names.items()},
                     buffers={name: _detached(buffer) for name, buffer in _buffers(model).items()},
                     ess=float(ess), weight_decay=float(weight_decay), step=step, n_train=n_train,
                     graph=graph)


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
    _check_counts(step, n_train)
    _refuse_sample(optimizer, groups)
    graph = None if example_input is None else _export(model, example_input)
    if graph:
        _check_graph(graph, names.values())
    if step is None:
        step = getattr(optimizer, "current_step", None)
    with _created(os.fspath(path)) as file:
        options = groups[0].options
        _write_header(file, options["ess"], options["weight_decay"], step, n_train, PLAIN)
        for parameter, name in names.items():
            _write(file, "mean/" + name, parameter)
        _write_groups(file, groups)
        for name, buffer in _buffers(model).items():
            _write(file, "buffers/" + name, buffer)
        _write_bytes(file, "model.onnx", graph)


def load(path: Path, *, model: Optional[torch.nn.Module] = None,
         optimizer: Optional[torch.optim.Optimizer] = None) -> Posterior:
    """Read a file, and put what it holds into `model` and `optimizer` where they are given.

    The model takes means and buffers, the optimizer (which needs the model, for the names) Hessian,
    momentum, ess, weight_decay and step. Where names or shapes differ, PosteriorError is raised and
    nothing is changed; so it is where an optimizer is to take a posterior that is not diagonal.
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


def _check_counts(step: Optional[int], n_train: Optional[int]) -> None:
    for key, count in (("step", step), ("n_train", n_train)):
        if count is not None and int(count) < 0:
            raise PosteriorError(f"{key} is {count}, expected zero or more")


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


@contextmanager
def _created(path: str) -> Iterator[h5py.File]:
    """A new HDF5 file, as _replacing makes it."""
    with _replacing(path) as output:
        with h5py.File(output, "w", track_order=True, alignment_threshold=ALIGNED,
                       alignment_interval=ALIGNMENT) as file:
            yield file


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_header(file: h5py.File, ess: Optional[float], weight_decay: Optional[float],
                  step: Optional[int], n_train: Optional[int], version: int) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = numpy.int64(version)
    for key, number in (("ess", ess), ("weight_decay", weight_decay)):
        if number is not None:
            file.attrs[key] = numpy.float64(number)
    for key, value in (("step", step), ("n_train", n_train)):
        if value is not None:
            file.attrs[key] = numpy.int64(value)
    file.attrs["creator"] = CREATOR


def _write_own(dataset: h5py.Dataset, ess: Optional[float],
               weight_decay: Optional[float]) -> None:
    """What holds of one Hessian, where it is not the file's."""
    for key, value in (("ess", ess), ("weight_decay", weight_decay)):
        if value is not None and dataset.file.attrs.get(key) != numpy.float64(value):
            dataset.attrs[key] = numpy.float64(value)


def _write_bytes(file: h5py.File, name: str, content: Optional[bytes]) -> None:
    if content:
        _write(file, name, torch.frombuffer(bytearray(content), dtype=torch.uint8))


def _write_groups(file: h5py.File, groups: List[_Group]) -> None:
    for group in groups:
        for name, parameter, where in group.slices:
            hessian = group.flat("hess")[where].reshape(parameter.shape)
            dataset = _write(file, "hessian/" + name, hessian.to(torch.float32))
            _write_own(dataset, group.options["ess"], group.options["weight_decay"])
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
    if found not in ((FORMAT, PLAIN), (FORMAT, STRUCTURED)):
        raise PosteriorError(f"{file.filename}: format and version are {found}, expected "
                             f"{(FORMAT, PLAIN)} or {(FORMAT, STRUCTURED)}")
    structured = found[1] == STRUCTURED
    posterior = Posterior(ess=_number(file, "ess", float),
                          weight_decay=_number(file, "weight_decay", float),
                          step=_number(file, "step", int), n_train=_number(file, "n_train", int))
    for part in ("mean", "hessian", "momentum", "buffers") + STRUCTURAL * structured:
        if part in file:
            _read_group(file[part], getattr(posterior, part))
    for name in posterior.hessian:
        for key in ("ess", "weight_decay"):
            own = _number(file["hessian/" + name], key, float)
            if own is not None:
                getattr(posterior, "own_" + key)[name] = own
    if "model.onnx" in file:
        posterior.graph = file["model.onnx"][()].tobytes()
    if structured and "structure.json" in file:
        posterior.structure = json.loads(file["structure.json"][()].tobytes())
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


# Factors.

def _detached(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, which later steps of the training do not change."""
    return tensor.detach().cpu().clone()


def _check_basis(what: str, basis: Optional[torch.Tensor]) -> None:
    """Raises unless the columns are orthonormal."""
    if basis is None:
        return
    wide = basis.detach().cpu().double()
    skew = (wide.T @ wide - torch.eye(wide.shape[1], dtype=torch.float64)).abs().max()
    if not skew <= SKEW:
        raise PosteriorError(f"{what} is not orthonormal: U^T U - I has {float(skew):.3g}")


def _eigen(what: str, factor: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    """The eigenvalues, rising, and the eigenvectors, in columns."""
    if factor.dim() != 2 or factor.shape[0] != factor.shape[1]:
        raise PosteriorError(f"{what} has shape {tuple(factor.shape)}, expected a square")
    wide = factor.detach().cpu().double()
    size = wide.abs().max() if wide.numel() else torch.tensor(0.0)
    if not (bool(torch.isfinite(size)) and bool(((wide - wide.T).abs() <= 1e-3 * size).all())):
        raise PosteriorError(f"{what} is not symmetric, or not finite")
    values, vectors = torch.linalg.eigh((wide + wide.T) / 2)
    if bool((values < -1e-4 * values[-1].abs()).any()):
        raise PosteriorError(f"{what} is not positive: an eigenvalue is {float(values[0]):.3g}")
    return values.clamp(min=0), vectors


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
