"""The inputs of the walk, in one directory: for each kind of network a graph, posteriors in every format,
some of them odd or bad on purpose, and data of every format with groups that are degenerate or bad."""
import csv
import json
import os
import sys
import zlib
from collections import OrderedDict

import h5py
import numpy as np
from onnx import TensorProto, helper

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import example_checkpoints  # noqa: E402
import images  # noqa: E402
import safetensors_file  # noqa: E402

FEATURES, CLASSES, EXAMPLES, LENGTH, VOCABULARY, IGNORED = 3, 3, 14, 4, 11, -100
LIKELIHOODS = {"plain": "categorical", "norm": "categorical", "token": "categorical",
               "text": "categorical", "events": "bernoulli", "token_events": "bernoulli",
               "numbers": "gaussian", "token_numbers": "gaussian", "rates": "poisson", "spreads": "heteroscedastic"}
KINDS, NUMBERS = tuple(LIKELIHOODS), ("gaussian", "poisson", "heteroscedastic")
HAS_TOKENS = ("token", "text", "token_events", "token_numbers")

# Posteriors by what is to be expected of them: odd ones are legal, bad ones are to be refused, or told of.
GOOD_POSTERIORS = ("graph.h5", "bare.h5", "posterior.safetensors", "posterior.npz", "deflated.h5",
                   "checkpoint.pt", "other.h5")
ODD_POSTERIORS = ("half.h5", "zero.h5", "wide.h5", "huge.h5", "means.h5", "narrow.h5", "adam.pt",
                  "low.h5")
BAD_POSTERIORS = ("spoilt.h5", "negative.h5", "no_ess.h5", "short.h5", "words.h5", "shape.h5", "absent.h5")
# Names of classes, by the files that list them; no two files have one name.
NAMES = {"classes.txt": ["apple", "pear, green", 'a "fig"'], "events.txt": ["no", "yes"],
         "vocabulary.txt": [f"word{i}" for i in range(VOCABULARY)]}
NUMBER_OF = {name: i for names in NAMES.values() for i, name in enumerate(names)}
GOOD_GROUPS = ("train", "test")
ODD_GROUPS = ("one", "ignored", "constant", "large", "tiny", "missing", "same")
BAD_GROUPS = ("nan", "infinite", "label", "uneven", "none", "all_ignored", "strings", "absent")


def network(kind):
    """(graph, shapes of parameters, of buffers) of a linear network; `norm` has a batch norm behind it."""
    tokens, info = kind in HAS_TOKENS, helper.make_tensor_value_info
    axes = ["n", "t"] if tokens else ["n"]
    classes = VOCABULARY if kind == "text" else 2 * CLASSES if kind == "spreads" else CLASSES
    shapes, buffers = {"weight": (FEATURES, classes), "bias": (classes,)}, {}
    nodes, first, x = [], "x", info("x", TensorProto.FLOAT, [*axes, FEATURES])
    if kind == "text":
        shapes = {"table": (VOCABULARY, FEATURES), "weight": (FEATURES, classes), "bias": (classes,)}
        nodes.append(helper.make_node("Gather", ["table", "x"], ["e"]))
        first, x = "e", info("x", TensorProto.INT64, axes)
    nodes.append(helper.make_node("MatMul", [first, "weight"], ["h"]))
    if kind == "norm":
        shapes.update({"norm.weight": (CLASSES,), "norm.bias": (CLASSES,)})
        buffers = {"norm.running_mean": (CLASSES,), "norm.running_var": (CLASSES,)}
        nodes.append(helper.make_node("BatchNormalization",
                                      ["h", "norm.weight", "norm.bias", *buffers], ["g"]))
    nodes.append(helper.make_node("Add", ["g" if kind == "norm" else "h", "bias"], ["f"]))
    inputs = [x] + [info(name, TensorProto.FLOAT, shape) for name, shape in {**shapes, **buffers}.items()]
    output = info("f", TensorProto.FLOAT, [*axes, classes])
    made = helper.make_model(helper.make_graph(nodes, kind, inputs, [output]),
                             opset_imports=[helper.make_opsetid("", 13)])
    return made.SerializeToString(), shapes, buffers


def write_posterior(path, graph, mean, hessian, buffers, ess=40.0, options=None, command=None):
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, weight_decay=0.01)
        if ess is not None:
            f.attrs["ess"] = ess
        f.attrs["step"] = 7
        if command:  # as ivon-train records its own
            f.attrs["provenance"] = json.dumps({"command": command, "training": {}})
        for group, arrays in (("mean/", mean), ("hessian/", hessian), ("buffers/", buffers)):
            for name, array in arrays.items():
                f.create_dataset(group + name, data=array, **(options or {}))
        if graph:
            f["model.onnx"] = np.frombuffer(graph, "u1")


def write_torch(path, mean, hessian, buffers, adam=False):
    """As torch.save() of a model and its optimizer; of IVON the parameters are views of one storage."""
    tensor, flat = example_checkpoints.Tensor, lambda arrays: np.concatenate(
        [array.ravel() for array in arrays.values()])
    storage, at, model = flat(mean), 0, OrderedDict()
    for name, array in mean.items():
        model[name], at = tensor(storage, at, array.shape), at + array.size
    for name, array in buffers.items():
        model[name] = tensor(array.ravel(), 0, array.shape)
    group = {"params": list(range(len(mean))), "weight_decay": 0.01}
    state = {"count": 0}
    if adam:
        group.update(lr=1e-3, betas=(0.9, 0.999))
        state = {i: {"step": 10, "exp_avg": tensor(np.zeros(array.size), 0, array.shape),
                     "exp_avg_sq": tensor(0.01 * array.ravel(), 0, array.shape)}
                 for i, array in enumerate(hessian.values())}
    else:
        group.update(ess=40.0, hess_init=0.1, numel=storage.size,
                     hess=tensor(flat(hessian), 0, storage.shape),
                     momentum=tensor(np.zeros(storage.size), 0, storage.shape))
    example_checkpoints.save(path, {"model": model, "optimizer": {"state": state, "param_groups": [group]}})


def posteriors(directory, kind, random):
    graph, shapes, buffer_shapes = network(kind)
    name = lambda file: os.path.join(directory, f"{kind}-{file}")  # noqa: E731
    with open(name("model.onnx"), "wb") as file:
        file.write(graph)
    mean = {n: random.standard_normal(s).astype("f4") for n, s in shapes.items()}
    hessian = {n: random.gamma(2.0, 0.2, s).astype("f4") for n, s in shapes.items()}
    buffers = {n: (np.ones(s) if n.endswith("var") else np.zeros(s)).astype("f4")
               for n, s in buffer_shapes.items()}
    change = lambda arrays, f: {n: f(a).astype(a.dtype) for n, a in arrays.items()}  # noqa: E731
    write = lambda file, m=mean, h=hessian, g=graph, **more: write_posterior(  # noqa: E731
        name(file), g, m, h, buffers, **more)
    write("graph.h5")
    write("other.h5", change(mean, lambda a: a + 0.2 * random.standard_normal(a.shape)),
          change(hessian, lambda a: 1.3 * a))
    write("bare.h5", g=None)
    write("deflated.h5", options={"compression": "gzip", "shuffle": True})
    write("half.h5", {n: a.astype("f2") for n, a in mean.items()})
    write("zero.h5", h=change(hessian, np.zeros_like))
    write("wide.h5", ess=1e-6)
    write("narrow.h5", ess=1e12)
    write("huge.h5", change(mean, lambda a: a * 1e30))
    write("means.h5", h={})
    noise = {"gaussian": " --noise-std=0.5"}.get(LIKELIHOODS[kind], "")
    write("run.h5", command=f"ivon-train --model=../world/{kind}-model.onnx --from=../world/{kind}-graph.h5 --data=x "
                            f"--lr=0.01 --steps=3 --batch=5 --likelihood={LIKELIHOODS[kind]}{noise} -o 'a run'")
    write("negative.h5", h=change(hessian, lambda a: a - 2))
    write("no_ess.h5", ess=None)
    broken = {n: a.copy() for n, a in mean.items()}
    broken["bias"][1] = np.nan
    write("spoilt.h5", broken)
    write("shape.h5", {**mean, "bias": mean["bias"][:-1]}, {**hessian, "bias": hessian["bias"][:-1]})
    with open(name("short.h5"), "wb") as file, open(name("graph.h5"), "rb") as whole:
        file.write(whole.read()[:1500])
    with open(name("recipe.yml"), "w") as file:
        file.write("merge_method: linear\nmodels:\n"
                   f"- model: ../world/{kind}-graph.h5\n"
                   f"- {{model: ../world/{kind}-other.h5, parameters: "
                   "{weight: [{filter: bias, value: 2}, {value: 1}]}}\n")
    with open(name("words.h5"), "w") as file:
        file.write("not a checkpoint\n")
    marked = {**mean, **{"hessian/" + n: a for n, a in hessian.items()},
              **{"buffers/" + n: a for n, a in buffers.items()}}
    safetensors_file.write(name("posterior.safetensors"), marked,
                           {"ivon-posterior": "1", "ess": "40", "weight_decay": "0.01"})
    np.savez(name("posterior.npz"), **marked, **{"ivon-posterior": np.int64(1), "ess": np.float64(40),
                                                 "weight_decay": np.float64(0.01)})
    safetensors_file.write(name("fisher.safetensors"), hessian, {"ess": "30", "weight_decay": "0.02"})
    for file, names in ("names.txt", list(mean)), ("fewer.txt", list(mean)[1:]), ("blank.txt", [""]):
        with open(name(file), "w") as lines:
            lines.writelines(n + "\n" for n in names)
    write_torch(name("checkpoint.pt"), mean, hessian, buffers)
    write_torch(name("adam.pt"), mean, hessian, buffers, adam=True)


def targets(kind, x, random):
    likelihood = LIKELIHOODS[kind]
    if kind == "text":
        return np.roll(x, -1, 1)
    f = np.cumsum(x, -1)
    if likelihood in ("gaussian", "heteroscedastic"):
        return (f + 0.3 * random.standard_normal(f.shape)).astype("f4")
    if likelihood == "poisson":
        return random.poisson(np.exp(np.clip(f, -3, 3))).astype("f4")
    if likelihood == "bernoulli":
        return (f + random.logistic(size=f.shape) > 0).astype("i8")
    return (f + random.gumbel(size=f.shape)).argmax(-1)


def ignore(kind, y):
    """Padding, and one example that does not count at all; numbers all count."""
    if LIKELIHOODS[kind] in NUMBERS:
        return y
    y = y.copy()
    y[min(3, len(y) - 1)] = IGNORED
    if kind in HAS_TOKENS:
        y[:, -1] = IGNORED
    return y


def groups(kind, random):
    """(x, y) by the group's name."""
    shape = (EXAMPLES, LENGTH) if kind in HAS_TOKENS else (EXAMPLES,)
    def draw():  # noqa: E306
        if kind == "text":
            return random.integers(0, VOCABULARY, shape)
        return random.standard_normal((*shape, FEATURES)).astype("f4")
    x, test = draw(), draw()
    y = targets(kind, x, random)
    real, numbers = x.dtype.kind == "f", LIKELIHOODS[kind] in NUMBERS
    made = {"train": (x, y), "test": (test, targets(kind, test, random)), "one": (x[:1], y[:1]),
            "ignored": (x, ignore(kind, y)), "missing": (x, np.where(y == 1, 0, y)),
            "same": (np.repeat(x[:1], EXAMPLES, 0), np.repeat(y[:1], EXAMPLES, 0)),
            "uneven": (x, y[:-2]), "none": (x[:0], y[:0]),
            "all_ignored": (x, y if numbers else np.full_like(y, IGNORED)),
            "label": (x, y * 0 + 77), "strings": (x, np.array([b"cat"] * EXAMPLES))}
    for name, column in (("constant", 0 * x), ("large", x * 10**6), ("tiny", x * (1e-30 if real else 1))):
        made[name] = (column.astype(x.dtype) if real else x, y)
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        spoilt = x.astype("f4") if real else x.copy()
        spoilt.flat[5] = value if real else VOCABULARY + 5
        made[name] = (spoilt, y)
    if numbers:
        spoilt = y.copy()
        spoilt.flat[7] = np.nan
        made["label"] = (x, spoilt)
    return made


def data(directory, kind, random):
    made = groups(kind, random)
    base = os.path.join(directory, kind)
    with h5py.File(base + "-data.h5", "w") as f:
        for group, (x, y) in made.items():
            f[f"{group}/x"], f[f"{group}/y"] = x, y
            f[f"{group}/group"] = np.arange(len(x)) % 3
            f[f"{group}/lonely"] = np.arange(len(x)) // max(1, len(x) - 1)
            f[f"{group}/real"] = np.full(len(x), 0.5)
            if group == "train":  # the root holds them, too
                f["x"], f["y"], f["group"] = x, y, np.arange(len(x)) % 3
    x, y = made["train"]
    np.savez(base + "-data.npz", x=x, y=y, group=np.arange(len(x)) % 3)
    np.savez_compressed(base + "-deflated.npz", x=x.astype("f8") if x.dtype.kind == "f" else x, y=y)
    np.save(base + "-x.npy", x)
    np.save(base + "-y.npy", y)
    if kind in ("plain", "norm"):
        rows = [",".join(map(repr, map(float, row))) + f",{label}" for row, label in zip(x, y)]
        with open(base + "-data.csv", "w") as file:
            file.write("\n".join(["a,b,c,label", *rows]) + "\n")
        with open(base + "-named.csv", "w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerows([*map(repr, map(float, row)), NAMES["classes.txt"][label]] for row, label in zip(x, y))
        for suffix, array in (("x", (x * 20 + 128).astype("u1")), ("y", y.astype("u1"))):
            with open(f"{base}-{suffix}.idx", "wb") as file:
                file.write(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes())
                file.write(array.tobytes())
        images.write_folder(base + "-images", (x * 20 + 128).astype("u1")[:, :, None, None], y)
    if kind == "text":
        letters = "abcde\nfghi "
        with open(base + "-data.txt", "w") as file:
            file.write("".join(letters[i] for i in random.integers(0, VOCABULARY, 150)) + letters)
        np.save(base + "-tokens.npy", random.integers(0, VOCABULARY, 60))


def tables(directory):
    """What ivon-plot draws, and what ivon-predict averages, beside what the walk's own commands write."""
    rows = [{"scale": i / 4, "accuracy": 0.5 + i / 10, "nll": 1.2 - i / 5, "nll_se": 0.1,
             "samples": 2**i, "step": i, "train_loss": 1 / (i + 1), "loo_loss": 1.5 / (i + 1),
             "loo_loss_se": 0.05} for i in range(4)]
    with open(os.path.join(directory, "table.csv"), "w") as file:
        file.write(",".join(rows[0]) + "\n")
        file.writelines(",".join(map(str, row.values())) + "\n" for row in rows)
    with open(os.path.join(directory, "front.csv"), "w") as file:
        file.write("index,weight0,weight1,nll.a,nll.a_se,nll.b,nll.b_se,front,pick\n0,0,1,3,1,1,1,1,0\n"
                   "1,0.5,0.5,2,1,2,1,1,1\n2,1,0,2,1,3,1,0,0\n")
    with open(os.path.join(directory, "influence.csv"), "w") as file:
        file.write("query,rank,row,influence\n0,1,3,0.5\n0,2,1,0.25\n0,-1,0,-1\n1,-1,2,-0.5\n")
    for name, names in {**NAMES, "double.txt": ["a", "b", "a"]}.items():
        with open(os.path.join(directory, name), "w") as file:
            file.writelines(line + "\n" for line in names)
    random = np.random.default_rng(zlib.crc32(b"tables"))
    for name in ("first.npy", "second.npy"):
        p = random.gamma(1.0, 1.0, (EXAMPLES, CLASSES)).astype("f4")
        np.save(os.path.join(directory, name), p / p.sum(1, keepdims=True))


def build(directory):
    example_checkpoints.stand_in_for_torch()
    for kind in KINDS:
        random = np.random.default_rng(zlib.crc32(kind.encode()))
        posteriors(directory, kind, random)
        data(directory, kind, random)
    tables(directory)
    return directory


if __name__ == "__main__":
    build(sys.argv[1])
