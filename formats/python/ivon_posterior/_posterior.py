"""A posterior in memory, of any structure."""
from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Optional, Tuple, Union

import numpy

from ._arrays import (PosteriorError, Tensor, Tensors, array, count, is_torch, like,
                      temperature_of)

Path = Union[str, "os.PathLike[str]"]

STRUCTURAL = ("basis_input", "basis_output", "spectrum_input", "spectrum_output", "gram",
              "lowrank_vectors")
PARTS = ("mean", "hessian", "momentum", *STRUCTURAL, "buffers")
SKEW = 1e-3  # of bases that are orthonormal but for rounding: the largest |U^T U - I|


@dataclass
class Posterior:
    """What a file holds: tensors by name, of numpy, or of torch on the CPU.

    The precision of parameter x is ``ess * (hessian[x] + weight_decay)``; a name in `own_ess` or
    `own_weight_decay` has a value of its own. A parameter without Hessian is not random, but for
    the biases of blocks. `structure` is what structure.json says: its blocks, weights whose
    Hessian is a matrix in bases of their own, and the values of a low-rank correction; see
    ivon-posterior(5). Both are empty where the posterior is diagonal. `summary` is what a fit()
    says of itself, and no part of a file.
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
    summary: Dict[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        blocks = len(self.structure.get("blocks", ()))
        parts = [f"{sum(map(count, self.mean.values()))} parameters in {len(self.mean)} tensors"]
        parts += [f"{blocks} blocks"] * bool(blocks)
        parts += [f"ess {self.ess:g}"] if self.ess is not None else []
        return f"<Posterior: {', '.join(parts)}>"

    def sample(self, generator: Any = None, *, seed: Optional[int] = None,
               posterior_temperature: float = 1.0,
               temperature: Optional[float] = None) -> Tensors:
        """Draw weights, by name, each of its mean's type; those that are not random are the means.

        They are torch's where the means are: of from_model(), of load() with a model or
        kind="torch", and of fit() and merge() of such; else numpy's. `generator` is torch's on the
        CPU, of a posterior of numpy a numpy.random.Generator, or `seed` makes one; the default is
        the library's own. Draws are other numbers than those of ivon-sample. Variances are
        multiplied by `posterior_temperature`; `temperature` is its old name.

        Raises PosteriorError where ess or weight decay is missing, and where h + weight_decay is
        not positive.
        """
        scale = temperature_of("sample", posterior_temperature, temperature) ** 0.5
        wide = any(str(mean.dtype).endswith("float64") for mean in self.mean.values())
        kind = "float64" if wide else "float32"
        noise = self._noise(generator, seed, kind)
        self._correct(noise, kind)
        weights = {name: mean.clone() if is_torch(mean) else numpy.array(mean)
                   for name, mean in self.mean.items()}
        for name, eps in noise.items():
            if name not in weights:
                raise PosteriorError(f"the Hessian of '{name}' has no mean")
            x = eps * scale / numpy.sqrt(self._precision(name).astype(kind))
            for part, value in self._parts(name, self._turned_back(name, x)):
                mean = array(self.mean[part])
                weights[part] = like(mean.astype(kind) + value.reshape(mean.shape),
                                     self.mean[part])
        return weights

    def add_block(self, weight: str, hessian: Tensor, *, basis_input: Optional[Tensor] = None,
                  basis_output: Optional[Tensor] = None, bias: Optional[str] = None,
                  transposed: bool = False, spectrum_input: Optional[Tensor] = None,
                  spectrum_output: Optional[Tensor] = None,
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
                tensors[weight] = like(array(tensor), self.mean[weight], "float32")
        if bias is not None:
            self.hessian.pop(bias, None)
        said = {"bias": bias, "input_rows": input_rows, "transposed": transposed or None}
        blocks = self.structure.setdefault("blocks", {})
        blocks[weight] = {key: value for key, value in said.items() if value is not None}

    def add_factors(self, weight: str, a: Tensor, b: Tensor, *, bias: Optional[str] = None,
                    transposed: bool = False, hessian: Optional[Tensor] = None,
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
            hessian = numpy.outer(spectrum_output, spectrum_input)
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
            elements = count(self.hessian[name])
            if tensor.shape[0] != len(numbers) or count(tensor) != len(numbers) * elements:
                raise PosteriorError(f"vectors of '{name}' have shape {tuple(tensor.shape)}, "
                                     f"expected {len(numbers)} x {elements}")
            flat[name] = array(tensor).astype("f4").reshape(len(numbers), elements)
        if not all(value > -1 for value in numbers):
            raise PosteriorError("a value of the low-rank correction is not above -1")
        _check_basis("the low-rank correction", numpy.concatenate(list(flat.values()), 1).T)
        self.lowrank_vectors = {name: like(rows, self.hessian[name], "float32")
                                for name, rows in flat.items()}
        self.structure["low_rank"] = {"values": numbers}

    def save(self, path: Path) -> None:
        """Write the posterior in the format that the path's suffix names, as save() does: of
        version 2 where it has a structure.

        Raises PosteriorError for another suffix, and where ess or weight decay is missing.
        """
        from . import _write
        for name in self.hessian:
            self._precision(name)
        _write.write(path, self)

    @property
    def structured(self) -> bool:
        """Whether the covariance is not diagonal, or more is kept of its making."""
        return bool(self.structure) or any(getattr(self, part) for part in STRUCTURAL)

    def _noise(self, generator: Any, seed: Optional[int], kind: str) -> Dict[str, numpy.ndarray]:
        """Normal numbers for every Hessian, of the library that has the means."""
        if not any(is_torch(mean) for mean in self.mean.values()):
            numbers: Any = generator or numpy.random.default_rng(seed)
            return {name: numbers.standard_normal(h.shape, dtype=kind)
                    for name, h in self.hessian.items()}
        import torch
        if seed is not None:
            generator = torch.Generator().manual_seed(seed)
        return {name: torch.randn(tuple(h.shape), generator=generator,
                                  dtype=getattr(torch, kind)).numpy()
                for name, h in self.hessian.items()}

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
        if bias is not None and count(self.mean[bias]) != rows:
            raise PosteriorError(f"the bias '{bias}' has {count(self.mean[bias])} elements, "
                                 f"expected {rows}")
        return rows, count(self.mean[weight]) // rows + (bias is not None)

    def _precision(self, name: str) -> numpy.ndarray:
        ess = self.own_ess.get(name, self.ess)
        weight_decay = self.own_weight_decay.get(name, self.weight_decay)
        if ess is None or weight_decay is None:
            raise PosteriorError(f"no {'ess' if ess is None else 'weight decay'} holds for the "
                                 f"Hessian of '{name}'")
        precision = ess * (array(self.hessian[name]).astype("f8") + weight_decay)
        if not (bool((precision > 0).all()) and bool(numpy.isfinite(precision).all())):
            raise PosteriorError(f"the precision of '{name}' is not positive and finite")
        return precision

    def _correct(self, noise: Dict[str, numpy.ndarray], kind: str) -> None:
        """eps += U ((1 + l)^(-1/2) - 1) U^T eps, over all Hessians."""
        values = self.structure.get("low_rank", {}).get("values", [])
        if not values:
            return
        vectors = {name: array(rows).astype(kind) for name, rows in self.lowrank_vectors.items()}
        projected = sum(rows @ noise[name].ravel() for name, rows in vectors.items())
        scaled = ((1 + numpy.array(values)) ** -0.5 - 1).astype(kind) * projected
        for name, rows in vectors.items():
            noise[name] = noise[name] + (scaled @ rows).reshape(noise[name].shape)

    def _turned_back(self, name: str, x: numpy.ndarray) -> numpy.ndarray:
        """U_B X U_A^T of a block's."""
        if self._block(name) is None:
            return x
        if name in self.basis_output:
            x = array(self.basis_output[name]).astype(x.dtype) @ x
        return x @ array(self.basis_input[name]).astype(x.dtype).T \
            if name in self.basis_input else x

    def _parts(self, name: str, x: numpy.ndarray) -> List[Tuple[str, numpy.ndarray]]:
        """What of X belongs to which mean."""
        block = self._block(name)
        if block is None:
            return [(name, x)]
        bias = block.get("bias")
        weight = x[:, :-1] if bias is not None else x
        parts = [(name, weight.T if block.get("transposed") else weight)]
        return parts + ([(bias, x[:, -1])] if bias is not None else [])


def _check_basis(what: str, basis: Optional[Tensor]) -> None:
    """Raises unless the columns are orthonormal."""
    if basis is None:
        return
    wide = array(basis).astype("f8")
    skew = numpy.abs(wide.T @ wide - numpy.eye(wide.shape[1])).max()
    if not skew <= SKEW:
        raise PosteriorError(f"{what} is not orthonormal: U^T U - I has {float(skew):.3g}")


def _eigen(what: str, factor: Tensor) -> Tuple[numpy.ndarray, numpy.ndarray]:
    """The eigenvalues, rising, and the eigenvectors, in columns."""
    if len(factor.shape) != 2 or factor.shape[0] != factor.shape[1]:
        raise PosteriorError(f"{what} has shape {tuple(factor.shape)}, expected a square")
    wide = array(factor).astype("f8")
    size = numpy.abs(wide).max() if wide.size else 0.0
    if not (numpy.isfinite(size) and bool((numpy.abs(wide - wide.T) <= 1e-3 * size).all())):
        raise PosteriorError(f"{what} is not symmetric, or not finite")
    values, vectors = numpy.linalg.eigh((wide + wide.T) / 2)
    if bool((values < -1e-4 * abs(values[-1])).any()):
        raise PosteriorError(f"{what} is not positive: an eigenvalue is {float(values[0]):.3g}")
    return values.clip(min=0), vectors
