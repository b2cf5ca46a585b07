"""save(), load() and from_model(): posteriors from and into files and PyTorch."""
from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Optional, Union

from ._arrays import PosteriorError
from ._posterior import Path, Posterior
from ._trees import from_arrays
from ._write import check_suffix, write

if TYPE_CHECKING:
    import torch

SIGNATURE = b"\x89HDF\r\n\x1a\n"


def from_model(model: torch.nn.Module, example_input: Any = None, *, ess: Optional[float] = None,
               weight_decay: Optional[float] = None, n_train: Optional[int] = None,
               step: Optional[int] = None) -> Posterior:
    """A posterior whose means and buffers are the model's, and that has no Hessian yet.

    Names and graph are as save() has them. Give it Hessians by `hessian[name]`, in the parameter's
    shape, or by add_block and add_factors; a parameter without one is not random. fit() takes it as
    it is.
    """
    from ._model import posterior_of_model
    return posterior_of_model(model, example_input, ess, weight_decay, n_train, step)


def save(path: Path, model: Any, optimizer: Optional[torch.optim.Optimizer] = None,
         example_input: Any = None, *, n_train: Optional[int] = None, step: Optional[int] = None,
         hessian: Any = None, buffers: Any = None, ess: Optional[float] = None,
         weight_decay: Optional[float] = None,
         graph: Union[None, bytes, str, os.PathLike[str]] = None, separator: str = "/") -> None:
    """Write a posterior to `path`: .h5 and .hdf5, as which a name without a suffix counts,
    .safetensors or .npz.

    The posterior is that of a torch `model` whose parameters `optimizer` (IVON) trains, or that of
    arrays by name, with ess and weight decay: a dictionary, a tree of Flax's, a model of Keras, as
    from_arrays() takes them with the arguments from `hessian` on; or a Posterior.

    An existing file is replaced when the new one is complete and on disk; a symbolic link is
    replaced itself, not what it leads to. Parameters that the optimizer does not have are frozen:
    they get a mean without a Hessian. Tied parameters are kept once, under their first name.
    `example_input`, a tensor or a tuple of what forward() takes, makes the file hold the graph,
    with a free first axis. `step` is by default the optimizer's count.

    Raises PosteriorError for another suffix, an optimizer without IVON's state, inside
    sampled_params() (when the optimizer made a step before; a group of one parameter cannot be
    told), for a graph that lost a parameter's name, for a type that the format lacks, and where a
    precision is not positive.
    """
    check_suffix(path)
    arrays = dict(hessian=hessian, buffers=buffers, ess=ess, weight_decay=weight_decay, graph=graph)
    given = [name for name, value in arrays.items() if value is not None]
    if optimizer is not None:
        if given:
            raise TypeError(f"{given[0]} is for arrays by name: the optimizer has its own")
        from ._model import posterior_of_optimizer
        write(path, posterior_of_optimizer(model, optimizer, example_input, n_train, step))
        return
    if example_input is not None:
        raise TypeError("an example input is for a torch model and its optimizer: arrays take a "
                        "graph")
    if hasattr(model, "named_parameters"):
        raise TypeError("a torch model is saved with the optimizer IVON; from_model() makes a "
                        "posterior of it alone")
    if isinstance(model, Posterior):
        if given or n_train is not None or step is not None:
            raise TypeError("a Posterior is saved as it is: set its members")
        model.save(path)
        return
    from_arrays(model, n_train=n_train, step=step, separator=separator, **arrays).save(path)


def load(path: Path, *, model: Optional[torch.nn.Module] = None,
         optimizer: Optional[torch.optim.Optimizer] = None,
         kind: Optional[str] = None) -> Posterior:
    """Read a file, and put what it holds into `model` and `optimizer` where they are given.

    Tensors are of torch where a model is given or `kind` is "torch", else of numpy, where bfloat16
    becomes float32. HDF5 is read by h5py, all else that ivon-formats(5) names, PyTorch's own files
    and models' directories too, by libivon.

    The model takes means and buffers, the optimizer (which needs the model, for the names) Hessian,
    momentum, ess, weight_decay and step. Where names or shapes differ, PosteriorError is raised and
    nothing is changed; so it is where an optimizer is to take a posterior that is not diagonal.
    """
    if optimizer is not None and model is None:
        raise TypeError("an optimizer is loaded by the names of its model: give the model, too")
    if kind not in (None, "numpy", "torch") or (kind == "numpy" and model is not None):
        raise PosteriorError(f"the kind is '{kind}', expected 'torch'" +
                             (" or 'numpy'" if model is None else " with a model"))
    if model is not None:
        from ._model import check_kinds, put
        check_kinds(model, optimizer)
    posterior = _read(os.fspath(path), model is not None or kind == "torch")
    if model is not None:
        put(posterior, model, optimizer)
    return posterior


def _read(path: str, torch: bool) -> Posterior:
    if not os.path.isdir(path):
        with open(path, "rb") as file:
            hdf5 = file.read(len(SIGNATURE)) == SIGNATURE
        if hdf5:
            from ._hdf5 import read_hdf5
            return read_hdf5(path, torch)
    from ._sources import read_file
    return read_file(path, torch)
