"""Posteriors as files: HDF5, safetensors and npz, as ivon-posterior(5) and ivon-formats(5) say."""
from __future__ import annotations

import errno
import fcntl
import json
import os
import zipfile
from contextlib import contextmanager
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Tuple

import numpy

from ._arrays import PosteriorError, Stored, is_float, stored
from ._posterior import PARTS, STRUCTURAL, Path, Posterior

FORMAT, CREATOR = "ivon-posterior", "ivon_posterior"
PLAIN, STRUCTURED = 1, 2  # versions of the format
ALIGNMENT = 64  # bytes: readers map the tensors and use them in place
RANK_MAX = 8
NUMBERS = ("ess", "weight_decay", "step", "n_train")
# Names that mean something else where a file has no groups.
OWN_KEYS = {FORMAT, "creator", "provenance", "newton_decrement", "model.onnx", "structure.json",
            *NUMBERS}
SAFETENSORS = {"f8": "F64", "f4": "F32", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16",
               "i1": "I8", "u8": "U64", "u4": "U32", "u2": "U16", "u1": "U8", "b1": "BOOL"}


def write(path: Path, posterior: Posterior) -> None:
    """Writes the file, whole or absent."""
    path = os.fspath(path)
    writer = check_suffix(path)
    for key in ("step", "n_train"):
        count = getattr(posterior, key)
        if count is not None and int(count) < 0:
            raise PosteriorError(f"{key} is {count}, expected zero or more")
    for part in PARTS:
        for name, tensor in getattr(posterior, part).items():
            _check_tensor(part, name, tensor)
    with _replacing(path) as file:
        writer(file, posterior)


def check_suffix(path: Path) -> Callable[[BinaryIO, Posterior], None]:
    """The writer of the format. A dot that begins the name, or stands before a digit, begins no
    suffix."""
    path = os.fspath(path)
    suffix = os.path.splitext(path)[1]
    if suffix in ("", ".h5", ".hdf5") or suffix[1:2].isdigit():
        from ._hdf5 import write_hdf5
        return write_hdf5
    if suffix == ".safetensors":
        return _write_safetensors
    if suffix == ".npz":
        return _write_npz
    raise PosteriorError(f"{path}: no posterior is written as {suffix} here, expected a name in "
                         ".h5, .hdf5, .safetensors or .npz")


def _check_tensor(part: str, name: str, tensor: Any) -> None:
    if not name or any(c in ("", ".", "..") for c in name.split("/")) or \
            any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        raise PosteriorError(f"'{name}' is not a usable name for a tensor")
    if len(tensor.shape) > RANK_MAX:
        raise PosteriorError(f"'{name}' has {len(tensor.shape)} dimensions, expected at most "
                             f"{RANK_MAX}")
    if part != "buffers" and not is_float(tensor):
        raise PosteriorError(f"'{name}' has elements of type {tensor.dtype}, expected floating "
                             "point")


def version(posterior: Posterior) -> int:
    return STRUCTURED if posterior.structured else PLAIN


def elements(part: str, tensor: Any) -> Stored:
    """As they are stored: a Hessian as float32."""
    found = stored(tensor)
    if part != "hessian" or (found.data.dtype == "f4" and not found.bfloat16):
        return found
    return Stored((found.data.astype("u4") << 16).view("f4") if found.bfloat16
                  else found.data.astype("f4"))


def own_numbers(posterior: Posterior, name: str) -> Dict[str, float]:
    """What holds of one Hessian, where it is not the file's."""
    found = {"ess": posterior.own_ess.get(name), "weight_decay":
             posterior.own_weight_decay.get(name)}
    return {key: float(value) for key, value in found.items()
            if value is not None and value != getattr(posterior, key)}


def lists_of_bytes(posterior: Posterior) -> Dict[str, bytes]:
    found = {"model.onnx": posterior.graph or b"",
             "structure.json": json.dumps(posterior.structure).encode() if posterior.structure
             else b""}
    return {name: content for name, content in found.items() if content}


# Files without groups.

def _stored_name(part: str, name: str, prefixes: Tuple[str, ...]) -> str:
    """Means have their bare names, unless these look like something else."""
    plain = part == "mean" and name not in OWN_KEYS and name.split("/")[0] not in prefixes
    return name if plain else f"{part}/{name}"


def _flat(posterior: Posterior) -> Tuple[Dict[str, Stored], Dict[str, Any]]:
    """The tensors by their names in the file, and the numbers and strings of the header."""
    structured = version(posterior) == STRUCTURED
    prefixes = ("mean", "hessian", "momentum", "buffers", "ess", "weight_decay",
                *(STRUCTURAL if structured else ()))
    tensors = {_stored_name(part, name, prefixes): elements(part, tensor)
               for part in PARTS for name, tensor in getattr(posterior, part).items()}
    for name, content in lists_of_bytes(posterior).items():
        tensors[name] = Stored(numpy.frombuffer(content, "u1"))
    header: Dict[str, Any] = {FORMAT: version(posterior)}
    for key in NUMBERS:
        value = getattr(posterior, key)
        if value is not None:
            header[key] = float(value) if key in ("ess", "weight_decay") else int(value)
    for name in posterior.hessian:
        for key, number in own_numbers(posterior, name).items():
            header[f"{key}/{name}"] = number
    header["creator"] = CREATOR
    return tensors, header


def _write_safetensors(file: BinaryIO, posterior: Posterior) -> None:
    """The tensors by the size of their elements, the largest first, so that all are aligned."""
    tensors, numbers = _flat(posterior)
    order = sorted(tensors, key=lambda name: (-tensors[name].data.dtype.itemsize, name))
    header: Dict[str, Any] = {"__metadata__": {
        key: value if isinstance(value, str) else repr(value) for key, value in numbers.items()}}
    at = 0
    for name in order:
        data = tensors[name].data
        header[name] = {"dtype": "BF16" if tensors[name].bfloat16
                        else SAFETENSORS[data.dtype.str[1:]],
                        "shape": list(data.shape), "data_offsets": [at, at + data.nbytes]}
        at += data.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    file.write(len(text).to_bytes(8, "little") + text)
    for name in order:
        _write_elements(file, tensors[name].data)


def _write_elements(file: BinaryIO, data: numpy.ndarray) -> None:
    """All of them: a file without a buffer may take a part."""
    left = data.reshape(-1).view("u1").data
    while left:
        left = left[file.write(left):]


def _write_npz(file: BinaryIO, posterior: Posterior) -> None:
    """Stored, not compressed."""
    tensors, numbers = _flat(posterior)
    arrays: List[Tuple[str, numpy.ndarray]] = []
    for name, tensor in tensors.items():
        if tensor.bfloat16:
            raise PosteriorError(f"'{name}' has elements of type bfloat16, which npz does not have")
        arrays.append((name, tensor.data))
    for key, value in numbers.items():
        arrays.append((key, numpy.frombuffer(value.encode(), "u1") if isinstance(value, str)
                       else numpy.array(value)))
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in arrays:
            member = zipfile.ZipInfo(name + ".npy")  # of 1980: equal posteriors have equal bytes
            with archive.open(member, "w", force_zip64=True) as output:
                numpy.lib.format.write_array(output, data, allow_pickle=False)


# Whole or absent.

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
