"""fit.py against brute force on tiny networks: functions written by hand with full Jacobians, dense
GGN and Fisher matrices; then on files that hold the truth, and on files that hold it wrongly."""
import contextlib
import io
import json
import os
import tempfile

import fit
import h5py
import numpy as np
import onnx
import torch
from normals import words
from onnx import TensorProto, helper

EXAMPLES = 6


def close(name, ours, theirs, tolerance=1e-12):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, (name, ours.shape, theirs.shape)
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-300)
    print(f"{name:44} {error:.1e}")
    assert error < tolerance, name


def model(nodes, parameters, constants, kind, shape, output):
    info = helper.make_tensor_value_info
    inputs = [info("x", kind, ["n", *shape])]
    inputs += [info(n, TensorProto.FLOAT, v.shape) for n, v in parameters.items()]
    fixed = [onnx.numpy_helper.from_array(np.array(v), n) for n, v in constants.items()]
    made = helper.make_graph([helper.make_node(op, i, [o], **a) for op, i, o, a in nodes], "g", inputs,
                             [info("f", TensorProto.FLOAT, ["n", *output])], fixed)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])


class Case:
    """A graph; the same by hand: `hand` takes parameters, one x, and a list of additions to the
    outputs of its products, and gives f (places x K) and the inputs of the products."""

    def __init__(self, name, random, parameters, blocks, likelihood, noise=1.0):
        self.name, self.likelihood, self.noise, self.blocks = name, likelihood, noise, blocks
        self.parameters = {n: random.standard_normal(s).astype("f4") / 2 for n, s in parameters.items()}

    def tensors(self):
        return {n: torch.from_numpy(v).double() for n, v in self.parameters.items()}

    def flat(self, x):
        """J (outputs x P) of one example by torch's own Jacobian, and f."""
        names, values = zip(*self.tensors().items())

        def run(*given):
            return self.hand(dict(zip(names, given)), x, None)[0].reshape(-1)
        parts = torch.autograd.functional.jacobian(run, values)
        return run(*values), {n: p.reshape(len(p), -1).numpy() for n, p in zip(names, parts)}

    def of_products(self, x):
        """Inputs of the products, and the Jacobians of f by their outputs (outputs x T x o)."""
        f, inputs, shapes = self.hand(self.tensors(), x, None)
        zeros = tuple(torch.zeros(s).double() for s in shapes)

        def run(*added):
            return self.hand(self.tensors(), x, added)[0].reshape(-1)
        return inputs, torch.autograd.functional.jacobian(run, zeros)

    def curvature(self, f, y):
        """L, block by block of places, as a dense matrix."""
        f = f.detach()
        if self.likelihood != "categorical":
            p = f.reshape(-1).sigmoid()
            return np.diag((p * (1 - p)).numpy()) if self.likelihood == "bernoulli" else np.eye(
                f.numel()) / self.noise**2
        made = np.zeros((f.numel(), f.numel()))
        classes = f.shape[-1]
        for t, p in enumerate(f.reshape(-1, classes).softmax(1).numpy()):
            if y[t] >= 0:
                at = slice(t * classes, (t + 1) * classes)
                made[at, at] = np.diag(p) - np.outer(p, p)
        return made


class Products(Case):
    def __init__(self, random):
        super().__init__("products", random, {"w1": (5, 4), "b1": (5,), "w2": (5, 3), "b2": (3,),
                                              "w3": (3, 4), "b3": (4,)},
                         {"w1": ("b1", False), "w2": (None, True), "w3": ("b3", True)}, "categorical")
        self.graph = model([("Gemm", ["x", "w1", "b1"], "z1", {"transB": 1}), ("Tanh", ["z1"], "a1", {}),
                            ("MatMul", ["a1", "w2"], "z2", {}), ("Add", ["z2", "b2"], "s2", {}),
                            ("Tanh", ["s2"], "a2", {}),
                            ("Gemm", ["a2", "w3", "b3"], "f", {"alpha": 0.5})],
                           self.parameters, {}, TensorProto.FLOAT, [4], [4])
        self.x = random.standard_normal((EXAMPLES, 4)).astype("f4")
        self.y = random.integers(0, 4, EXAMPLES)

    def hand(self, p, x, added):
        added = added or [0, 0, 0]
        x = torch.from_numpy(x).double()
        one = torch.ones(1).double()
        a1 = torch.tanh(p["w1"] @ x + p["b1"] + added[0])
        a2 = torch.tanh(p["w2"].T @ a1 + p["b2"] + added[1])
        f = 0.5 * p["w3"].T @ a2 + p["b3"] + added[2]
        rows = [torch.cat([x, one])[None], a1[None], torch.cat([a2 / 2, one])[None]]
        return f, dict(zip(("w1", "w2", "w3"), rows)), [5, 3, 4]


class Convolution(Case):
    def __init__(self, random, likelihood):
        super().__init__("convolution, " + likelihood, random,
                         {"c": (3, 2, 3, 2), "cb": (3,), "s": (3, 1, 1), "w": (2, 18), "b": (2,)},
                         {"c": ("cb", False), "w": ("b", False)}, likelihood, 0.5)
        self.graph = model([("Conv", ["x", "c", "cb"], "z", {"pads": [1, 0, 1, 1], "strides": [2, 2]}),
                            ("Mul", ["z", "s"], "m", {}), ("Tanh", ["m"], "a", {}),
                            ("Flatten", ["a"], "g", {}),
                            ("Gemm", ["g", "w", "b"], "f", {"transB": 1})],
                           self.parameters, {}, TensorProto.FLOAT, [2, 5, 4], [2])
        self.x = random.standard_normal((EXAMPLES, 2, 5, 4)).astype("f4")
        self.y = random.standard_normal((EXAMPLES, 2)) if likelihood == "gaussian" else random.integers(
            0, 2, (EXAMPLES, 2))

    def hand(self, p, x, added):
        added = added or [torch.zeros(6, 3).double(), 0]
        image = torch.zeros(2, 7, 5).double()
        image[:, 1:6, :4] = torch.from_numpy(x)
        patches = torch.stack([image[:, 2 * i:2 * i + 3, 2 * j:2 * j + 2].reshape(-1)
                               for i in range(3) for j in range(2)])
        z = patches @ p["c"].reshape(3, -1).T + p["cb"] + added[0]
        a = torch.tanh(z * p["s"].reshape(-1)).T.reshape(-1)
        one = torch.ones(1).double()
        f = p["w"] @ a + p["b"] + added[1]
        return f, {"c": torch.cat([patches, torch.ones(6, 1).double()], 1),
                   "w": torch.cat([a, one])[None]}, [(6, 3), (2,)]


class Tokens(Case):
    """Look-ups, a mixing of tokens by a constant, a product by a transposed weight; `tied` gives the
    embedding as the last product's weight too."""

    def __init__(self, random, tied):
        shapes = {"e": (5, 4), "pos": (3, 4), "w": (4, 4), "b": (4,)}
        blocks = {"e": (None, True), "pos": (None, True), "w": (None, False)}
        if not tied:
            shapes["out"], blocks["out"] = (5, 4), (None, False)
        super().__init__("tokens" + ", tied" * tied, random, shapes, blocks, "categorical")
        self.tied = tied
        self.mix = np.tril(np.ones((3, 3), "f4")) / np.arange(1, 4, dtype="f4")[:, None]
        self.graph = model([("Gather", ["e", "x"], "g", {}), ("Gather", ["pos", "ids"], "h", {}),
                            ("Add", ["g", "h"], "u", {}), ("MatMul", ["mix", "u"], "v", {}),
                            ("Transpose", ["w"], "wt", {"perm": [1, 0]}),
                            ("MatMul", ["v", "wt"], "z", {}), ("Add", ["b", "z"], "s", {}),
                            ("Tanh", ["s"], "a", {}),
                            ("Transpose", ["e" if tied else "out"], "ot", {"perm": [1, 0]}),
                            ("MatMul", ["a", "ot"], "f", {})], self.parameters,
                           {"mix": self.mix, "ids": np.arange(3)[None]}, TensorProto.INT64, [3],
                           [3, 5])
        self.x = random.integers(0, 5, (EXAMPLES, 3))
        self.y = random.integers(0, 5, (EXAMPLES, 3))
        self.y[1, 2] = self.y[3, 0] = self.y[3, 1] = -100

    def hand(self, p, x, added):
        added = added or [0, 0, 0, 0]
        v = torch.from_numpy(self.mix).double() @ (p["e"][x] + added[0] + p["pos"] + added[1])
        a = torch.tanh(v @ p["w"].T + p["b"] + added[2])
        f = a @ p["e" if self.tied else "out"].T + added[3]
        return f, {"e": None, "pos": None, "w": v, "out": a}, [(3, 4), (3, 4), (3, 4), (3, 5)]


def dense(case, roots):
    """1/N sum J'LJ over all parameters in order, N; L by `roots` of an example (f, y, number)."""
    total, count = 0, 0
    for i, (x, y) in enumerate(zip(case.x, case.y)):
        f, parts = case.flat(x)
        jacobian = np.concatenate(list(parts.values()), 1)
        total = total + jacobian.T @ roots(f, y, i) @ jacobian
        count += (np.asarray(y) >= 0).sum() if case.name.startswith("tokens") else 1
    return total / count, int(count)


def places(case):
    at, made = 0, {}
    for name, value in case.parameters.items():
        made[name] = slice(at, at + value.size)
        at += value.size
    return made


def block_matrix(case, matrix, weight):
    """The part of a block in the order of [W | b], o x n."""
    bias, transposed = case.blocks[weight]
    at, value = places(case), case.parameters[weight]
    order = np.arange(at[weight].start, at[weight].stop).reshape(len(value), -1)
    order = order.T if transposed else order
    if bias:
        order = np.c_[order, np.arange(at[bias].start, at[bias].stop)]
    return matrix[np.ix_(order.ravel(), order.ravel())], order.shape


def orthonormal(random, size):
    return np.linalg.qr(random.standard_normal((size, size)))[0]


def summed(case, shared="expand", bases=None, low=None, rows=None, **columns):
    network = fit.Network(case.graph.graph, case.parameters, {})
    sums = fit.Sums(network, fit.Columns(case.likelihood, noise=case.noise, **columns), shared, bases,
                    low)
    for i in range(EXAMPLES) if rows is None else rows:
        sums.add({"x": fit.converted(case.x[i:i + 1])}, case.y[i], i)
    return sums


def check_moments(case, random):
    """h of single parameters and in random bases: the diagonal of the dense matrix there."""
    bases = {}
    for weight, (bias, transposed) in case.blocks.items():
        o, n = block_matrix(case, np.eye(sum(v.size for v in case.parameters.values())), weight)[1]
        bases[weight] = (fit.Block(weight, bias, transposed), torch.from_numpy(orthonormal(random, n)),
                         torch.from_numpy(orthonormal(random, o)))

    def labelled(f, y, labels):
        f = f.detach().reshape(-1, 5) if case.name.startswith("tokens") else f.detach()[None]
        e = f.softmax(1).numpy()
        for t, k in enumerate(np.ravel(labels)):
            e[t, max(k, 0)] -= 1
        e[np.ravel(y) < 0] = 0
        return np.outer(e.ravel(), e.ravel())

    def gaussian_like(f, y, labels):
        mean = f.detach().sigmoid().numpy() if case.likelihood == "bernoulli" else f.detach().numpy()
        e = (mean - labels) / (1 if case.likelihood == "bernoulli" else case.noise**2)
        return np.outer(e, e)

    outer = labelled if case.likelihood == "categorical" else gaussian_like
    shape = np.shape(case.y) if np.ndim(case.y) > 1 else (EXAMPLES, 1)
    drawn = [random.integers(0, 2, (EXAMPLES, 2, shape[1])) for _ in range(1)][0]
    settings = {
        "ggn": ({}, lambda f, y, i: case.curvature(
            f.reshape(-1, 5) if case.name.startswith("tokens") else f, np.ravel(y))),
        "fisher": ({"curvature": "fisher", "samples": 2, "labels": drawn},
                   lambda f, y, i: sum(outer(f, y, d) for d in drawn[i]) / 2),
        "empirical": ({"curvature": "empirical"}, lambda f, y, i: outer(f, y, y))}
    for name, (given, root) in settings.items():
        found = summed(case, bases=bases, **given).finish()
        matrix, count = dense(case, root)
        assert found["n"] == count
        for parameter, at in places(case).items():
            close(f"{case.name}, {name}: h of {parameter}", found["h"][parameter].reshape(-1),
                  np.diag(matrix)[at])
        for weight, (_, ua, ub) in bases.items():
            part, (o, n) = block_matrix(case, matrix, weight)
            basis = np.kron(ub.numpy(), ua.numpy())
            close(f"{case.name}, {name}: h of {weight} in bases", found["rotated"][weight],
                  np.diag(basis.T @ part @ basis).reshape(o, n))


def check_factors(case):
    for shared in ("expand", "reduce"):
        a, b, rows, count = {}, {}, {}, 0
        for x, y in zip(case.x, case.y):
            f = case.hand(case.tensors(), x, None)[0]
            if case.name.startswith("tokens") and not (y >= 0).any():
                continue
            middle = case.curvature(f, np.ravel(y))
            inputs, jacobians = case.of_products(x)
            count += (y >= 0).sum() if case.name.startswith("tokens") else 1
            for (weight, mine), j in zip(inputs.items(), jacobians):
                j = j.numpy().reshape(f.numel(), -1, j.shape[-1])
                j = j.sum(1, keepdims=True) if shared == "reduce" else j
                b[weight] = b.get(weight, 0) + np.einsum("kto,kl,ltp->op", j, middle, j)
                rows[weight] = rows.get(weight, 0) + j.shape[1]
                if mine is not None:
                    mine = mine.mean(0, keepdims=True) if shared == "reduce" else mine
                    a[weight] = a.get(weight, 0) + (mine.T @ mine).numpy()
        found = summed(case, shared).finish()
        for weight in case.blocks:
            if weight == "e" and case.tied:
                assert weight not in found["b"] or found["blocks"][weight] is None
                continue
            close(f"{case.name}, {shared}: B of {weight}", found["b"][weight], b[weight] / rows[weight])
            if weight in a:
                close(f"{case.name}, {shared}: A of {weight}", found["a"][weight], a[weight] / count)


def check_signs(case):
    """Columns with signs: their mean over many seeds is the exact h."""
    exact = summed(case).finish()["h"]
    made = [summed(case, signs=seed).finish()["h"] for seed in range(300)]
    for name in ("w", "b"):
        mean = torch.stack([m[name] for m in made]).mean(0)
        close(f"tokens: h of {name} by random signs", mean, exact[name], 0.1)


def check_draws():
    """Each number at its own address; frequencies of what is drawn."""
    columns = fit.Columns(curvature="fisher", samples=3, seed=7)
    raw = columns.uniform_words(5, 4, 3)
    close("addresses", raw.astype(float), [[float(words(7, 5, "fit", 3 * t + s, 1)[0])
                                           for s in range(3)] for t in range(4)])
    f = torch.tensor([[0.0, 1.0, -1.0]]).double()
    columns = fit.Columns(curvature="fisher", samples=20000, seed=1)
    frequency = np.bincount(columns.draw(f, 3).numpy().ravel(), minlength=3) / 20000
    close("frequencies of labels", frequency, f.softmax(1)[0], 0.03)
    columns = fit.Columns("gaussian", "fisher", 2.0, 20000, 1)
    drawn = columns.draw(torch.tensor([1.0]).double(), 3).numpy()
    close("mean and deviation of drawn numbers", [drawn.mean(), drawn.std()], [1, 2], 0.05)
    columns = fit.Columns("bernoulli", "fisher", samples=20000, seed=1)
    close("frequency of events", columns.draw(torch.tensor([-1.0]).double(), 3).mean(),
          torch.sigmoid(torch.tensor(-1.0).double()), 0.05)


def write(path, case, found, ess, delta, rank):
    """A posterior of version 2 with the true factors, h, and low-rank pairs, in float32."""
    blocks = {}
    with h5py.File(path, "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=2, ess=ess, weight_decay=delta)
        f["model.onnx"] = np.frombuffer(case.graph.SerializeToString(), np.uint8)
        for name, value in case.parameters.items():
            f["mean/" + name] = value
        biases = {b for b, _ in case.blocks.values()}
        bases = {}
        for weight, (bias, transposed) in case.blocks.items():
            blocks[weight] = {"transposed": transposed, **({"bias": bias} if bias else {})}
            kept = [None, None]
            for at, (side, factor) in enumerate((("input", "a"), ("output", "b"))):
                if weight in found[factor]:
                    spectrum, u = torch.linalg.eigh(found[factor][weight])
                    f[f"basis_{side}/{weight}"] = u.float().numpy()
                    f[f"spectrum_{side}/{weight}"] = spectrum.float().numpy()
                    kept[at] = u.float().double()
            bases[weight] = (fit.Block(weight, bias, transposed), *kept)
        again = summed(case, bases=bases).finish()
        for name in case.parameters:
            if name in case.blocks:
                f["hessian/" + name] = again["rotated"][name].float().numpy()
            elif name not in biases:
                f["hessian/" + name] = again["h"][name].float().numpy()
        f["structure.json"] = np.frombuffer(json.dumps({"blocks": blocks}).encode(), np.uint8)
    if rank:
        add_pairs(path, case, rank)


def add_pairs(path, case, rank):
    file = fit.File(path)
    size = sum(v.size for v in file.parts["hessian"].values())
    file.vectors, file.values = torch.zeros(size, 1).double(), torch.zeros(1).double()
    low = fit.LowRank(file)
    n = summed(case, low=low).finish()["n"]
    matrix = file.ess / n * low.dense + torch.diag(file.ess * file.delta * file.whitened_ones()**2 - 1)
    values, vectors = torch.linalg.eigh(matrix)
    order = values.abs().argsort(descending=True)[:rank]
    at = 0
    with h5py.File(path, "a") as f:
        for name in file.names:
            count = file.parts["hessian"][name].size
            f["lowrank_vectors/" + name] = vectors[at:at + count, order].T.float().numpy()
            at += count
        del f["structure.json"]
        f["structure.json"] = np.frombuffer(json.dumps(
            {**file.structure, "low_rank": {"values": values[order].tolist()}}).encode(), np.uint8)


def compared(*arguments):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        status = fit.main(["compare", *arguments])
    return status, said.getvalue()


def check_files(case):
    """A true file passes; a change of 1e-3 of any one number's kind does not."""
    with tempfile.TemporaryDirectory() as folder:
        path, data = f"{folder}/p.h5", f"{folder}/d.h5"
        write(path, case, summed(case).finish(), 50.0, 0.01, 5)
        with h5py.File(data, "w") as f:
            f["train/x"], f["train/y"] = case.x, case.y
        given = (path, data + ":train", "--likelihood=" + case.likelihood, f"--noise-std={case.noise}")
        status, said = compared(*given)
        assert status == 0, said
        parts = []
        with h5py.File(path) as f:
            f.visititems(lambda n, o: parts.append(n) if isinstance(o, h5py.Dataset) else None)
        for part in [p for p in parts if p.split("/")[0] not in ("mean", "model.onnx", "structure.json")]:
            with h5py.File(path, "a") as f:
                kept = f[part][()]
                largest = np.unravel_index(np.abs(kept).argmax(), kept.shape)
                changed = kept.copy()
                changed[largest] *= 1.2 if "lowrank" in part else 1.001
                f[part][...] = changed
            status, said = compared(*given)
            assert status == 1, (part, said)
            with h5py.File(path, "a") as f:
                f[part][...] = kept
        print(f"{case.name}: a true file passes, {len(parts)} wrong ones do not")
        assert os.path.exists(path)


def main():
    random = np.random.default_rng(0)
    cases = [Products(random), Convolution(random, "gaussian"), Convolution(random, "bernoulli"),
             Tokens(random, False), Tokens(random, True)]
    for case in cases:
        case.tied = getattr(case, "tied", False)
        check_moments(case, random)
        check_factors(case)
    check_signs(cases[3])
    check_draws()
    for case in cases[:4]:
        check_files(case)
    print("all hold")
