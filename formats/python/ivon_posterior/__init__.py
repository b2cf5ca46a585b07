"""Posteriors of networks in Python: what the IVON optimizer learnt, as files that the ivon commands
read, and their computations on numpy arrays.

    import ivon_posterior

    ivon_posterior.save("posterior.h5", model, optimizer, example_input, n_train=50000)
    posterior = ivon_posterior.load("posterior.h5", model=model, optimizer=optimizer)

Without PyTorch, arrays by name are saved, and loaded as numpy's:

    ivon_posterior.save("posterior.npz", {"w": (mean, hessian)}, ess=50000, weight_decay=1e-4)
    posterior = ivon_posterior.load("posterior.npz")

Posteriors of any structure give weights to predict with, and take the factors that a training has:

    model.load_state_dict(posterior.sample(seed=1), strict=False)

    posterior = ivon_posterior.from_model(model, ess=50000, weight_decay=1e-4)
    posterior.add_factors("fc.weight", a, b, bias="fc.bias")  # K-FAC's
    posterior.save("structured.h5")

What the commands do, on arrays, where libivon is installed:

    fitted = ivon_posterior.fit(ivon_posterior.from_model(model, x[:1]), (x, y))
    scores = ivon_posterior.sensitivity(fitted, (x, y), scores=["deviation", "loo_loss"])
    averaged = ivon_posterior.predict(fitted, (x, y))["metrics"]

Files in HDF5 need h5py, models and optimizers torch. See ivon-formats(5) and ivon-python(7).
"""
from ._arrays import PosteriorError
from ._calls import Task, fit, influence, info, merge, predict, sensitivity
from ._files import from_model, load, save
from ._posterior import STRUCTURAL, Posterior
from ._trees import from_arrays

__all__ = ["Posterior", "PosteriorError", "Task", "fit", "from_arrays", "from_model", "influence",
           "info", "load", "merge", "predict", "sensitivity", "save"]
