"""Posteriors of arrays by name: dictionaries, Flax's trees of parameters, models of Keras."""
from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Dict, Optional, Tuple, Union

from ._arrays import PosteriorError, is_float
from ._posterior import Posterior

# Running statistics, as ivon-formats(5) knows them by their names.
STATISTIC = re.compile(r"(^|[./_])(running_(mean|var|std)|num_batches_tracked|"
                       r"moving_(mean|var|variance))(:0)?$|(^|[./])batch_stats([./]|$)")


def from_arrays(tree: Any, *, hessian: Any = None, buffers: Any = None,
                ess: Optional[float] = None, weight_decay: Optional[float] = None,
                n_train: Optional[int] = None, step: Optional[int] = None,
                graph: Union[None, bytes, str, "os.PathLike[str]"] = None,
                separator: str = "/") -> Posterior:
    """A posterior of arrays by name, of numpy, torch, JAX, or whatever numpy takes.

    `tree` is ``{name: mean}`` or ``{name: (mean, hessian)}``, where the Hessian may be None. It may
    be nested, as Flax's parameters are: names are then the keys with `separator` between them,
    ``params/Dense_0/kernel``. Or it is a model of Keras, whose weights have the names that Keras
    gives them (`path`, or before Keras 3 `name`). `hessian` is a dictionary of Hessians apart, of
    the same names, or some of them; what has none is not random. `buffers` are what is carried
    along and no parameter; integers, booleans and running statistics are that by themselves.
    `graph` is the network, an ONNX file or its bytes.

    Hessians are of the loss of one example, without the weight decay, in their means' shapes. They
    need `ess` and `weight_decay`.

    Raises PosteriorError where names or shapes do not fit.
    """
    posterior = Posterior(ess=None if ess is None else float(ess),
                          weight_decay=None if weight_decay is None else float(weight_decay),
                          step=step, n_train=n_train, graph=_graph(graph))
    leaves = _keras(tree) if hasattr(tree, "weights") else _flattened(tree, separator)
    for name, leaf in leaves.items():
        mean, own = leaf if isinstance(leaf, tuple) and len(leaf) == 2 else (leaf, None)
        _check_array(name, mean)
        part = posterior.buffers if _is_buffer(name, mean) else posterior.mean
        part[name] = mean
        if own is not None:
            _add_hessian(posterior, name, own)
    for name, own in _flattened(hessian or {}, separator).items():
        _add_hessian(posterior, name, own)
    for name, leaf in _flattened(buffers or {}, separator).items():
        _check_array(name, leaf)
        if name in posterior.hessian:
            raise PosteriorError(f"the buffer '{name}' has a Hessian")
        posterior.mean.pop(name, None)
        posterior.buffers[name] = leaf
    if not posterior.mean:
        raise PosteriorError("there are no parameters")
    return posterior


def _graph(graph: Any) -> Optional[bytes]:
    if graph is None or isinstance(graph, bytes):
        return graph
    with open(graph, "rb") as file:
        return file.read()


def _flattened(tree: Any, separator: str) -> Dict[str, Any]:
    if not isinstance(tree, Mapping):
        of_torch = ": from_model(model, example_input) makes of a torch model what is taken here"
        raise PosteriorError(f"a {type(tree).__name__} is given, expected a dictionary of arrays "
                             f"by name{of_torch if hasattr(tree, 'state_dict') else ''}")
    found: Dict[str, Any] = {}
    for key, item in tree.items():
        if not isinstance(key, str):
            raise PosteriorError(f"{key!r} is no name, expected text")
        below = _flattened(item, separator) if isinstance(item, Mapping) else {"": item}
        for rest, leaf in below.items():
            name = key + separator + rest if rest else key
            if name in found:
                raise PosteriorError(f"two tensors have the name '{name}'")
            found[name] = leaf
    return found


def _keras(model: Any) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for variable in model.weights:
        name = getattr(variable, "path", None) or variable.name
        if name in found:
            raise PosteriorError(f"two weights of the model have the name '{name}'")
        found[name] = variable.numpy()
    return found


def _check_array(name: str, leaf: Any) -> None:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        raise PosteriorError(f"'{name}' is a {type(leaf).__name__}, expected an array, or a pair "
                             "of mean and Hessian")


def _is_buffer(name: str, leaf: Any) -> bool:
    return not is_float(leaf) or STATISTIC.search(name) is not None


def _add_hessian(posterior: Posterior, name: str, hessian: Any) -> None:
    _check_array(name, hessian)
    if name in posterior.buffers and is_float(posterior.buffers[name]):
        posterior.mean[name] = posterior.buffers.pop(name)  # trained, whatever its name
    if name not in posterior.mean:
        raise PosteriorError(f"the Hessian of '{name}' has no mean")
    found, wanted = (_shape(tensor) for tensor in (hessian, posterior.mean[name]))
    if found != wanted:
        raise PosteriorError(f"the Hessian of '{name}' has shape {found}, expected {wanted}")
    if name in posterior.hessian:
        raise PosteriorError(f"the Hessian of '{name}' is given twice")
    posterior.hessian[name] = hessian


def _shape(tensor: Any) -> Tuple[int, ...]:
    return tuple(tensor.shape)
