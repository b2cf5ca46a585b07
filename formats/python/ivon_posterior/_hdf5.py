"""ivon-posterior(5) by h5py."""
from __future__ import annotations

import json
from typing import Any, BinaryIO, Optional

import h5py
import numpy

from ._arrays import PosteriorError, Stored, Tensor, Tensors, tensor_of
from ._posterior import PARTS, STRUCTURAL, Posterior
from ._write import (ALIGNMENT, CREATOR, FORMAT, PLAIN, STRUCTURED, elements, lists_of_bytes,
                     own_numbers, version)

ALIGNED = 4096  # bytes, of the least tensor that is aligned: HDF5 is slow in aligning very many


def write_hdf5(output: BinaryIO, posterior: Posterior) -> None:
    with h5py.File(output, "w", track_order=True, alignment_threshold=ALIGNED,
                   alignment_interval=ALIGNMENT) as file:
        _write_header(file, posterior)
        for part in PARTS:
            for name, tensor in getattr(posterior, part).items():
                dataset = _write(file, f"{part}/{name}", elements(part, tensor))
                if part == "hessian":
                    for key, number in own_numbers(posterior, name).items():
                        dataset.attrs[key] = numpy.float64(number)
        for name, content in lists_of_bytes(posterior).items():
            _write(file, name, Stored(numpy.frombuffer(content, "u1")))


def _write_header(file: h5py.File, posterior: Posterior) -> None:
    file.attrs["format"] = FORMAT
    file.attrs["format_version"] = numpy.int64(version(posterior))
    for key in ("ess", "weight_decay"):
        if getattr(posterior, key) is not None:
            file.attrs[key] = numpy.float64(getattr(posterior, key))
    for key in ("step", "n_train"):
        if getattr(posterior, key) is not None:
            file.attrs[key] = numpy.int64(getattr(posterior, key))
    file.attrs["creator"] = CREATOR


def _bfloat16() -> h5py.h5t.TypeID:
    """Sign at bit 15, 8 exponent bits at 7, 7 mantissa bits at 0, bias 127."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_ebias(127)
    kind.set_size(2)
    return kind


def _write(file: h5py.File, path: str, tensor: Stored) -> h5py.Dataset:
    """Writes a tensor contiguously, in its own type."""
    data = tensor.data
    kind = _bfloat16() if tensor.bfloat16 else h5py.h5t.py_create(data.dtype, logical=True)
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_obj_track_times(False)
    space = h5py.h5s.create_simple(data.shape) if data.ndim else h5py.h5s.create(h5py.h5s.SCALAR)
    parent, _, name = path.rpartition("/")
    group = _require_group(file, parent)
    if name in group:
        raise PosteriorError(f"'{path}' is a group of tensors, and HDF5 has none of its name")
    dataset = h5py.h5d.create(group.id, name.encode(), kind, space, plist)
    if data.size:
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, data, kind)
    return h5py.Dataset(dataset)


def _require_group(file: h5py.File, path: str) -> h5py.Group:
    """The group, made with those above it, each in the order of its members' creation."""
    group = file["/"]
    for name in filter(None, path.split("/")):
        group = group[name] if name in group else group.create_group(name, track_order=True)
        if not isinstance(group, h5py.Group):
            raise PosteriorError(f"'{group.name[1:]}' is a tensor, and HDF5 has no other below it: "
                                 f"'{path}'")
    return group


def read_hdf5(path: str, torch: bool) -> Posterior:
    """A PosteriorError that names the file, where it can be read but is no posterior."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise PosteriorError(f"{path}: a damaged HDF5 file ({error})") from error
    with file:
        return _read(file, torch)


def _read(file: h5py.File, torch: bool) -> Posterior:
    form = file.attrs.get("format")  # bytes, where the writer gave it a fixed length
    found = (form.decode() if isinstance(form, bytes) else form, file.attrs.get("format_version"))
    if found not in ((FORMAT, PLAIN), (FORMAT, STRUCTURED)):
        raise PosteriorError(f"{file.filename}: format and version are {found}, expected "
                             f"{(FORMAT, PLAIN)} or {(FORMAT, STRUCTURED)}")
    structured = found[1] == STRUCTURED
    posterior = Posterior(ess=_number(file, "ess", float),
                          weight_decay=_number(file, "weight_decay", float),
                          step=_number(file, "step", int), n_train=_number(file, "n_train", int))
    for part in PARTS:
        if part in file and (structured or part not in STRUCTURAL):
            _read_group(file[part], getattr(posterior, part), torch)
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


def _number(item: Any, key: str, kind: Any) -> Optional[Any]:
    return kind(item.attrs[key]) if key in item.attrs else None


def _read_group(group: h5py.Group, tensors: Tensors, torch: bool, prefix: str = "") -> None:
    for name, item in group.items():
        if isinstance(item, h5py.Group):
            _read_group(item, tensors, torch, prefix + name + "/")
        else:
            tensors[prefix + name] = _read_tensor(item, torch)


def _read_tensor(dataset: h5py.Dataset, torch: bool) -> Tensor:
    if dataset.id.get_type().equal(_bfloat16()):
        bits = numpy.empty(dataset.shape, "u2")
        if bits.size:
            dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, bits, _bfloat16())
        return tensor_of(Stored(bits, True), torch)
    data = dataset[()]
    return tensor_of(Stored(numpy.asarray(data, data.dtype.newbyteorder("="))), torch)
