"""posterior_arrays.py DIRECTORY: saves posteriors of arrays by name with ivon_posterior where there
is no torch, and checks what ivon-convert and ivon-info (on PATH) find in them, and what load()
does."""
import json
import os
import subprocess
import sys
from collections.abc import Mapping

sys.modules["torch"] = None  # importing it fails, as where it is missing
sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("IVON_PYTHON", os.path.join(HERE, "../../formats/python")))
import numpy as np  # noqa: E402

import ivon_posterior  # noqa: E402

FORMATS = "a.h5", "a.hdf5", "a", "a.safetensors", "a.npz"


class Frozen(Mapping):
    """As Flax freezes its trees."""

    def __init__(self, tree):
        self.tree = tree

    def __getitem__(self, key):
        return self.tree[key]

    def __iter__(self):
        return iter(self.tree)

    def __len__(self):
        return len(self.tree)


class Variable:
    """A weight of Keras."""

    def __init__(self, value, **names):
        self.value = value
        vars(self).update(names)

    def numpy(self):
        return self.value


class Keras:
    def __init__(self, *weights):
        self.weights = list(weights)


def refused(part, action, kind=ivon_posterior.PosteriorError):
    try:
        action()
    except kind as error:
        assert part in str(error), error
    else:
        raise AssertionError("was not refused: " + part)


def array(*shape):
    return np.arange(1, 1 + np.prod(shape, dtype=int)).reshape(shape).astype("f4") / 8


def back(path):
    """What the commands find: by ivon-convert to HDF5."""
    subprocess.run(["ivon-convert", "-qf", path, "-o", "back.h5"], check=True)
    return ivon_posterior.load("back.h5")


def check_same(one, other):
    for part in ("mean", "hessian", "momentum", "buffers"):
        a, b = getattr(one, part), getattr(other, part)
        assert a.keys() == b.keys(), (part, a.keys(), b.keys())
        for name in a:
            wanted = np.asarray(a[name], "f4" if part == "hessian" else None)
            assert type(b[name]) is np.ndarray, name
            assert b[name].dtype == wanted.dtype.newbyteorder("="), name
            assert b[name].shape == wanted.shape and np.array_equal(b[name], wanted), name
    for key in ("ess", "weight_decay", "own_ess", "own_weight_decay", "n_train", "step", "graph"):
        assert getattr(one, key) == getattr(other, key), key


def check_dictionary():
    """Pairs, a mean alone, a mean of doubles, halves; and names that mean something else in files
    without groups."""
    tree = {"w": (array(3, 2), 1 / array(3, 2)), "frozen": array(4).astype("f8"),
            "narrow": (array(2).astype("f2"), None), "big-endian": array(2).astype(">f4"),
            "fortran": np.asfortranarray(array(3, 4)), "ess": (array(1), array(1)),
            "hessian/w": array(2), "buffers/w": array(2), "weight_decay/w": array(1),
            "empty": array(0, 2), "scalar": np.float32(3), "count": np.int64(5),
            "flags": np.array([True, False])}
    posterior = ivon_posterior.from_arrays(tree, ess=1000, weight_decay=0.125, n_train=500, step=7)
    assert list(posterior.hessian) == ["w", "ess"] and set(posterior.buffers) == {"count", "flags"}
    posterior.own_ess["w"] = 10.0
    posterior.momentum["w"] = array(3, 2)
    for path in FORMATS:
        ivon_posterior.save(path, posterior)
        check_same(posterior, back(path))
    ivon_posterior.save("given.npz", tree, ess=1000, weight_decay=0.125, n_train=500, step=7)
    posterior.own_ess, posterior.momentum = {}, {}
    check_same(posterior, back("given.npz"))
    plain = np.load("given.npz")  # as anyone reads it
    assert plain["w"].shape == (3, 2) and float(plain["ess"]) == 1000
    told = json.loads(subprocess.check_output(["ivon-info", "--json", "given.npz"]))
    assert told["n_train"] == 500 and told["summary"]["hessian_elements"] == 7, told
    once = open("given.npz", "rb").read()
    ivon_posterior.save("given.npz", tree, ess=1000, weight_decay=0.125, n_train=500, step=7)
    assert open("given.npz", "rb").read() == once
    ivon_posterior.save("means.safetensors", {"w": array(3)})  # no number is needed
    assert back("means.safetensors").mean["w"].shape == (3,)


def check_trees():
    """Flax's nested parameters, statistics and Hessians apart; a model of Keras."""
    params = {"Dense_0": {"kernel": array(4, 3), "bias": array(3)}}
    hessian = {"params": {"Dense_0": {"kernel": 1 + array(4, 3)}}}
    variables = Frozen({"params": params, "batch_stats": {"norm": {"mean": array(3)}}})
    flax = ivon_posterior.from_arrays(variables, hessian=hessian, ess=10, weight_decay=1)
    assert list(flax.mean) == ["params/Dense_0/kernel", "params/Dense_0/bias"]
    assert list(flax.hessian) == ["params/Dense_0/kernel"]
    assert list(flax.buffers) == ["batch_stats/norm/mean"]
    for path in FORMATS:
        flax.save(path)
        check_same(flax, back(path))
    dotted = ivon_posterior.from_arrays(params, separator=".", buffers={"Dense_0.bias": array(3)})
    assert list(dotted.mean) == ["Dense_0.kernel"] and list(dotted.buffers) == ["Dense_0.bias"]
    keras = Keras(Variable(array(2, 2), name="kernel", path="net/dense/kernel"),
                  Variable(array(2), name="mean", path="net/norm/moving_mean"),
                  Variable(array(2), name="bn/moving_variance:0"))
    ivon_posterior.save("keras.h5", keras, hessian={"net/dense/kernel": array(2, 2)}, ess=5,
                        weight_decay=1)
    found = back("keras.h5")
    assert list(found.hessian) == list(found.mean) == ["net/dense/kernel"], found.mean
    assert set(found.buffers) == {"net/norm/moving_mean", "bn/moving_variance:0"}
    trained = ivon_posterior.from_arrays({"running_mean": (array(2), array(2))})
    assert list(trained.mean) == ["running_mean"]
    later = ivon_posterior.from_arrays({"running_mean": array(2)},
                                       hessian={"running_mean": array(2)})
    assert list(later.mean) == ["running_mean"] and not later.buffers


def check_draws():
    """40,000 numbers over their standard deviations: their mean square is 1 within 5 of its errors,
    sqrt(2/n)."""
    n = 40000
    mean, hessian = array(n), 1 + array(n)
    posterior = ivon_posterior.from_arrays({"w": (mean, hessian), "fixed": array(3)}, ess=50,
                                           weight_decay=0.5)
    drawn = posterior.sample(seed=1)
    z = (drawn["w"].astype("f8") - mean) * np.sqrt(50 * (hessian + 0.5))
    assert abs((z ** 2).mean() - 1) < 5 * np.sqrt(2 / n) and drawn["w"].dtype == "f4"
    assert np.array_equal(drawn["fixed"], posterior.mean["fixed"])
    assert np.array_equal(posterior.sample(seed=1)["w"], drawn["w"])
    same = posterior.sample(np.random.default_rng(1))
    assert np.array_equal(same["w"], drawn["w"])
    cold = posterior.sample(seed=1, posterior_temperature=0.25)["w"].astype("f8")
    # Of numbers up to 5000, whose roundings are up to 2^-24 of them.
    assert np.abs((cold - mean) * 2 - (drawn["w"].astype("f8") - mean)).max() < 3 * 5000 * 2**-24


def check_refusals():
    make = ivon_posterior.from_arrays
    refused("the Hessian of 'w' has shape (3,), expected (2,)",
            lambda: make({"w": (array(2), array(3))}))
    refused("the Hessian of 'v' has no mean",
            lambda: make({"w": array(2)}, hessian={"v": array(2)}))
    refused("the Hessian of 'w' is given twice",
            lambda: make({"w": (array(2), array(2))}, hessian={"w": array(2)}))
    refused("two tensors have the name 'a/b'",
            lambda: make({"a": {"b": array(1)}, "a/b": array(1)}))
    refused("'w' is a list, expected an array, or a pair", lambda: make({"w": [1.0, 2.0]}))
    refused("0 is no name", lambda: make({0: array(1)}))
    refused("a list is given, expected a dictionary", lambda: make([array(1)]))
    assert repr(make({"w": array(2, 3), "b": array(3)})) == "<Posterior: 9 parameters in 2 tensors>"
    refused("there are no parameters", lambda: make({}))
    refused("there are no parameters", lambda: make({"count": np.int64(1)}))
    refused("the buffer 'w' has a Hessian",
            lambda: make({"w": (array(2), array(2))}, buffers={"w": array(2)}))
    refused("two weights of the model have the name 'a'",
            lambda: make(Keras(Variable(array(1), name="a"), Variable(array(1), name="a"))))
    save = ivon_posterior.save
    pair = {"w": (array(2), array(2))}
    refused("no ess holds for the Hessian of 'w'", lambda: save("no.h5", pair, weight_decay=1))
    refused("no weight decay holds", lambda: save("no.h5", pair, ess=1))
    refused("the precision of 'w' is not positive",
            lambda: save("no.npz", {"w": (array(2), -array(2))}, ess=1, weight_decay=0.1))
    refused("x.pt: no posterior is written as .pt here, expected a name in .h5, .hdf5, "
            ".safetensors or .npz", lambda: save("x.pt", pair, ess=1, weight_decay=1))
    for bad in "a//b", ".", "x\n", "a/..", "":
        refused("is not a usable name", lambda: save("no.h5", {bad: array(1)}))
    for pair_of in ("a", "a/b"), ("a/b", "a"):
        refused("'mean/a' is a ", lambda: save("no.h5", {name: array(1) for name in pair_of}))
    refused("9 dimensions", lambda: save("no.h5", {"w": array(*[1] * 9)}))
    refused("complex64", lambda: save("no.h5", {"w": array(1), "z": np.zeros(1, "c8")}))
    refused("step is -1", lambda: save("no.npz", {"w": array(1)}, step=-1))
    refused("an example input is for", lambda: save("no.h5", pair, example_input=array(1)),
            TypeError)
    refused("set its members", lambda: save("no.h5", make(pair), ess=3), TypeError)
    refused("the kind is 'jax', expected 'torch' or 'numpy'",
            lambda: ivon_posterior.load("a.h5", kind="jax"))
    refused("nowhere.h5", lambda: ivon_posterior.load("nowhere.h5"), FileNotFoundError)
    assert not [name for name in os.listdir(".") if name.startswith("no.")], os.listdir(".")


def main(directory):
    os.chdir(directory)
    check_dictionary()
    check_trees()
    check_draws()
    check_refusals()
    print("saved and loaded without torch")


main(sys.argv[1])
