"""Posteriors and data as libivon takes them, from files or memory, and back."""
from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy

from . import _library as lib
from ._arrays import PosteriorError, Stored, array, is_torch, stored, tensor_of
from ._posterior import PARTS, Path, Posterior
from ._trees import from_arrays
from ._write import elements, lists_of_bytes

Given = Union[Path, Posterior, Mapping[str, Any]]
Data = Union[Path, Mapping[str, Any], Tuple[Any, Any], Any]


def read_file(path: str, torch: bool) -> Posterior:
    try:
        lib.library()
    except PosteriorError as error:
        raise PosteriorError(f"{path}: is no HDF5 file, and what else there is libivon reads: "
                             f"{error}") from error
    with opened(path) as source:
        return read_source(source, torch)


@contextmanager
def freed(function: str, handle: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    try:
        yield handle
    finally:
        getattr(lib.library(), function)(handle)


@contextmanager
def made(free: str, name: str, *arguments: Any) -> Iterator[ctypes.c_void_p]:
    """The object that a function makes, until the end of the block."""
    handle = ctypes.c_void_p()
    lib.call(name, ctypes.byref(handle), *arguments)
    with freed(free, handle):
        yield handle


# Posteriors.

@contextmanager
def opened(given: Given) -> Iterator[ctypes.c_void_p]:
    """The source of a file, or of a posterior's own memory."""
    if isinstance(given, (str, os.PathLike)):
        with made("ivon_source_close", "ivon_checkpoint_open", os.fsencode(given), None) as source:
            yield source
        return
    posterior = given if isinstance(given, Posterior) else from_arrays(given)
    tensors, held = _tensors(posterior)
    header = lib.ivon_header(ess=_number(posterior.ess), step=_integer(posterior.step),
                             weight_decay=_number(posterior.weight_decay),
                             n_train=_integer(posterior.n_train), decrement=float("nan"))
    places = (ctypes.c_void_p * len(held))(*(data.ctypes.data for data in held))
    with made("ivon_source_close", "ivon_source_from_memory", b"the posterior", header, tensors,
              places, len(held)) as source:
        yield source


def _number(value: Optional[float]) -> float:
    return float("nan") if value is None else float(value)


def _integer(value: Optional[int]) -> int:
    return -1 if value is None else int(value)


def _tensors(posterior: Posterior) -> Tuple[Any, List[numpy.ndarray]]:
    """Their descriptions, and their elements, which are not copied where numpy has them as they
    are."""
    found = [(part, name, elements(part, tensor)) for part in PARTS
             for name, tensor in getattr(posterior, part).items()]
    found += [(name, name, Stored(numpy.frombuffer(content, "u1")))
              for name, content in lists_of_bytes(posterior).items()]
    described = (lib.ivon_tensor * len(found))()
    for tensor, (part, name, content) in zip(described, found):
        _describe(tensor, name, content, content.data.shape)
        tensor.part = lib.PARTS.index(part)
        tensor.ess = tensor.weight_decay = float("nan")
        if part == "hessian":
            tensor.ess = _number(posterior.own_ess.get(name, posterior.ess))
            tensor.weight_decay = _number(posterior.own_weight_decay.get(
                name, posterior.weight_decay))
    return described, [content.data for _, _, content in found]


def _describe(described: Any, name: str, content: Stored, shape: Tuple[int, ...]) -> None:
    if len(shape) > lib.RANK_MAX:
        raise PosteriorError(f"'{name}' has {len(shape)} dimensions, expected at most "
                             f"{lib.RANK_MAX}")
    described.name = name.encode()
    described.dtype = lib.DTYPES.index("bf16" if content.bfloat16 else content.data.dtype.str[1:])
    described.rank = len(shape)
    for axis, extent in enumerate(shape):
        described.shape[axis] = extent
    described.count = int(numpy.prod(shape, dtype="i8"))


def room(tensor: Any) -> Stored:
    """A place for a tensor's elements."""
    kind = lib.DTYPES[tensor.dtype]
    shape = tuple(tensor.shape[:max(tensor.rank, 0)])
    return Stored(numpy.empty(shape, "u2" if kind == "bf16" else kind), kind == "bf16")


def read_source(source: ctypes.c_void_p, torch: bool = False) -> Posterior:
    """All tensors of a source, but for opaque ones."""
    library = lib.library()
    described, contents = [], []
    for i in range(library.ivon_source_tensor_count(source)):
        tensor = library.ivon_source_tensor(source, i).contents
        if tensor.part >= len(lib.PARTS):
            continue
        content = room(tensor)
        lib.call("ivon_source_read", source, i, 0, tensor.count, content.data.ctypes.data)
        described.append(tensor)
        contents.append(content)
    return posterior_of(library.ivon_source_header(source).contents, described, contents, torch)


def posterior_of(header: Any, described: List[Any], contents: List[Stored],
                 torch: bool = False) -> Posterior:
    posterior = Posterior(ess=_known(header.ess), weight_decay=_known(header.weight_decay),
                          step=header.step if header.step >= 0 else None,
                          n_train=header.n_train if header.n_train >= 0 else None)
    for tensor, content in zip(described, contents):
        part, name = lib.PARTS[tensor.part], tensor.name.decode()
        if part == "model.onnx":
            posterior.graph = content.data.tobytes()
        elif part == "structure.json":
            posterior.structure = json.loads(content.data.tobytes())
        else:
            getattr(posterior, part)[name] = tensor_of(content, torch)
        for key in ("ess", "weight_decay") if part == "hessian" else ():
            own = _known(getattr(tensor, key))
            if own is not None and own != getattr(posterior, key):
                getattr(posterior, "own_" + key)[name] = own
    return posterior


def _known(number: float) -> Optional[float]:
    return None if number != number else number


# Data.

TARGETS = "y"  # the array of targets, where there is one


class Wanted(NamedTuple):
    """What is asked of data: the array or column of the targets, the arrays of the inputs, by
    default those of the network's inputs, or "x" of a single one, and names of classes."""

    targets: str
    target_column: Optional[str] = None
    arrays: Optional[List[str]] = None
    classes: Optional[Sequence[str]] = None


def _class_numbers(targets: Any, classes: Sequence[str]) -> Any:
    """The numbers of targets that are names of classes; other targets as they are."""
    found = targets if is_torch(targets) else numpy.asarray(targets)
    if is_torch(found) or found.dtype.kind not in "USO":
        return found
    numbers = {name: number for number, name in enumerate(classes)}
    named = [name.decode() if isinstance(name, bytes) else name for name in found.ravel()]
    for row, name in enumerate(named):
        if name not in numbers:
            raise PosteriorError(f"target {row} is '{name}', expected the name of one of the "
                                 f"{len(numbers)} classes")
    return numpy.array([numbers[name] for name in named], "i8").reshape(found.shape)


class Memory:
    """Examples in memory. Arrays stay as they are; targets of bytes become 64-bit integers, which
    are no brightnesses, and names of classes their numbers."""

    def __init__(self, arrays: Dict[str, Any], targets: Optional[str],
                 classes: Optional[Sequence[str]] = None) -> None:
        if targets in arrays:
            arrays = {**{name: x for name, x in arrays.items() if name != targets},
                      targets: arrays[targets]}
            if classes is not None:
                arrays[targets] = _class_numbers(arrays[targets], classes)
            if array(arrays[targets]).dtype == "u1":
                arrays[targets] = array(arrays[targets]).astype("i8")
        self.held = [stored(x) for x in arrays.values()]
        rows = {content.data.shape[:1] for content in self.held}
        if len(rows) != 1 or rows == {()}:
            raise PosteriorError("the arrays of the data have " + ", ".join(
                str(content.data.shape) for content in self.held) + ", expected one first axis")
        self.rows = rows.pop()[0]
        self.fields = (lib.ivon_field * len(self.held))()
        for described, name, content in zip(self.fields, arrays, self.held):
            _describe(described, name, content, content.data.shape[1:])
        self.places = (ctypes.c_void_p * len(self.held))(
            *(content.data.ctypes.data for content in self.held))

    def arguments(self) -> Tuple[Any, ...]:
        return b"the data", self.rows, self.fields, self.places, len(self.held)


def _named(data: Data, targets: str) -> Dict[str, Any]:
    if isinstance(data, Mapping):
        if targets not in (TARGETS, *data):
            raise PosteriorError(f"there is no array '{targets}' of targets, but " +
                                 ", ".join(f"'{name}'" for name in data))
        return dict(data)
    if isinstance(data, tuple) and len(data) == 2:
        return {"x": data[0], targets: data[1]}
    return {"x": data}


def network_inputs(network: ctypes.c_void_p) -> List[str]:
    """The inputs of a network that is bound: those that data feed."""
    names: List[str] = []
    while True:
        name = lib.library().ivon_network_input(network, len(names))
        if name is None:
            return names
        names.append(name.decode())


def _names(given: Optional[Sequence[str]], stack: ExitStack) -> Tuple[Any, int]:
    """A list of names for C, which the stack keeps."""
    if given is None:
        return None, 0
    names = (ctypes.c_char_p * len(given))(*(name.encode() for name in given))
    stack.callback(lambda held: None, names)
    return ctypes.cast(names, ctypes.POINTER(ctypes.c_char_p)), len(given)


def _dataset_options(wanted: Wanted, inputs: Optional[List[str]], stack: ExitStack) -> Any:
    options = lib.options(lib.ivon_dataset_options)
    if wanted.targets != TARGETS:
        options.targets = wanted.targets.encode()
    if wanted.target_column is not None:
        options.target_column = str(wanted.target_column).encode()
    options.inputs, options.input_count = _names(inputs, stack)
    options.classes, options.class_count = _names(wanted.classes, stack)
    return options


@contextmanager
def examples(data: Data, wanted: Wanted, inputs: List[str]) -> Iterator[ctypes.c_void_p]:
    """Data of a file, in the syntax of --data, or of arrays, for a network of these inputs."""
    with ExitStack() as stack:
        if not isinstance(data, (str, os.PathLike)):
            memory = Memory(_named(data, wanted.targets), wanted.targets, wanted.classes)
            with made("ivon_examples_close", "ivon_examples_from_memory",
                      *memory.arguments()) as handle:
                yield handle
            return
        names = wanted.arrays if wanted.arrays is not None else (
            inputs if len(inputs) > 1 else None)
        options = _dataset_options(wanted, names, stack)
        handle = ctypes.c_void_p()
        try:
            lib.call("ivon_dataset_open", ctypes.byref(handle), os.fsencode(data), options)
        except PosteriorError as error:
            if names is not None or len(inputs) != 1:
                raise
            options = _dataset_options(wanted, inputs, stack)
            try:
                lib.call("ivon_dataset_open", ctypes.byref(handle), os.fsencode(data), options)
            except PosteriorError:
                raise error from None
        with freed("ivon_examples_close", handle):
            yield handle
