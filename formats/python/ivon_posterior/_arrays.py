"""Tensors of numpy, torch and others that numpy takes, on their way to numpy and back."""
from __future__ import annotations

import math
import warnings
from typing import Any, Dict, NamedTuple, Optional

import numpy

Tensor = Any  # numpy.ndarray or torch.Tensor
Tensors = Dict[str, Tensor]


class PosteriorError(ValueError):
    """What is given does not go together, a file holds no posterior, or a call of libivon failed,
    whose own words the message is then."""


class Stored(NamedTuple):
    """Elements as files hold them; those of bfloat16, which numpy lacks, as their bits (u2)."""

    data: numpy.ndarray
    bfloat16: bool = False


def is_torch(tensor: Any) -> bool:
    return hasattr(tensor, "detach") and hasattr(tensor, "cpu")


def is_float(tensor: Tensor) -> bool:
    """Of torch, or of numpy in either byte order."""
    return "float" in str(getattr(tensor.dtype, "name", tensor.dtype))


def count(tensor: Tensor) -> int:
    return math.prod(tensor.shape)


def stored(tensor: Any) -> Stored:
    """The elements in C's order and the machine's byte order, without a copy where they are so."""
    if is_torch(tensor):
        tensor = tensor.detach().cpu().contiguous()
        bits = str(tensor.dtype) == "torch.bfloat16"
        if bits:
            import torch
            tensor = tensor.view(torch.int16)
        return Stored(tensor.numpy().view("u2") if bits else tensor.numpy(), bits)
    data = numpy.asarray(tensor)
    if data.dtype.name == "bfloat16":  # of ml_dtypes, which JAX has
        return Stored(numpy.ascontiguousarray(data).view("u2").reshape(data.shape), True)
    if data.dtype.kind not in "fiub" or data.dtype.itemsize > 8:
        raise PosteriorError(f"elements of type {data.dtype}, expected numbers of at most 64 bits")
    return Stored(numpy.asarray(data, data.dtype.newbyteorder("="), order="C"))


def widened(elements: Stored) -> numpy.ndarray:
    """As numpy has it: bfloat16 becomes float32, which holds every one of its numbers."""
    if not elements.bfloat16:
        return elements.data
    return (elements.data.astype("u4") << 16).view("f4")


def array(tensor: Any) -> numpy.ndarray:
    return widened(stored(tensor))


def tensor_of(elements: Stored, torch: bool) -> Tensor:
    """A tensor of torch, each in its own type, or of numpy."""
    if not torch:
        return widened(elements)
    import torch as library
    if elements.bfloat16:
        return library.from_numpy(elements.data.view("i2")).view(library.bfloat16)
    return library.from_numpy(elements.data)


def like(value: numpy.ndarray, tensor: Tensor, dtype: Optional[str] = None) -> Tensor:
    """`value` as a tensor of the other's library, of its type or another."""
    if not is_torch(tensor):
        return numpy.asarray(value, dtype or tensor.dtype)
    import torch
    return torch.from_numpy(numpy.ascontiguousarray(value)).to(
        getattr(torch, dtype) if dtype else tensor.dtype)


def temperature_of(call: str, posterior_temperature: float, old: Optional[float]) -> float:
    """The temperature of a call, which called it otherwise before."""
    if old is None:
        return posterior_temperature
    warnings.warn(f"{call}(): 'temperature' is now 'posterior_temperature'", DeprecationWarning,
                  stacklevel=3)
    return old
