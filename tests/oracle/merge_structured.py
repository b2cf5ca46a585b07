"""merge_structured.py cases SEED: merges random posteriors with a structure by ivon-merge, and compares with dense
matrices in numpy's float64.

Means are stored in f64, so that what is compared is the solution: 1e-5 of the distance that the merge goes from
its start, in the norm of the merged precision, which conjugate gradients stay below: their estimate is of the error
some steps ago. Precisions are stored in f32: 2^-22 of the largest of a tensor."""
import itertools
import json
import subprocess
import sys

import h5py
import numpy as np

# weight: its shape, outputs, inputs, bias, transposed
BLOCKS = {"conv.weight": ((4, 2, 3, 3), 4, 18, "conv.bias", False), "fc/kernel": ((6, 5), 5, 6, "fc/bias", True),
          "head.weight": ((3, 5), 3, 5, None, False), "embedding": ((7, 4), 4, 7, None, True)}
PLAIN = {"norm.scale": (5,)}


def items(group):
    found = {}
    group.visititems(lambda n, o: found.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None)
    return found


def write(path, random, kind, ess=400.0, decay=0.01, spread=1.0, one_sided=(), bases=None, spectra=False):
    """kind: kronecker, diagonal, none (means alone), gram, and "+lowrank" behind the first two."""
    floats = lambda *shape: random.standard_normal(shape).astype("f4")
    basis = lambda n: np.linalg.qr(random.standard_normal((n, n)))[0].astype("f4")
    curvature = lambda *shape: (random.random(shape) ** 2 * 2 + 0.01).astype("f4")
    blocks, _, low = kind.partition("+")
    text = {}
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=2)
        if blocks != "none" and ess:
            f.attrs.update(ess=ess, weight_decay=decay)
        for name, (shape, o, _, bias, _) in BLOCKS.items():
            f["mean/" + name] = spread * floats(*shape)
            if bias:
                f["mean/" + bias] = spread * floats(o)
        for name, shape in PLAIN.items():
            f["mean/" + name] = floats(*shape)
        names = []
        for name, (shape, o, i, bias, transposed) in BLOCKS.items():
            n = i + (bias is not None)
            told = {k: v for k, v in (("bias", bias), ("transposed", transposed)) if v}
            if blocks == "gram":
                a = floats(3 * n, n)
                f["gram/" + name] = (a.T.astype("f8") @ a / (3 * n)).astype("f4")
                text.setdefault("blocks", {})[name] = told
            elif blocks == "kronecker":
                f["hessian/" + name] = curvature(o, n)
                own = bases.get(name) if bases else None
                f["basis_output/" + name] = own[1] if own else basis(o)
                if spectra:
                    f["spectrum_output/" + name] = curvature(o)
                if name not in one_sided:
                    f["basis_input/" + name] = own[0] if own else basis(n)
                    if spectra:
                        f["spectrum_input/" + name] = curvature(n)
                text.setdefault("blocks", {})[name] = told
                names.append(name)
            elif blocks == "diagonal":
                for each, size in ((name, shape), (bias, (o,))):
                    if each:
                        f["hessian/" + each] = curvature(*size)
                        names.append(each)
        for name, shape in PLAIN.items():
            if blocks in ("kronecker", "diagonal"):
                f["hessian/" + name] = curvature(*shape)
                names.append(name)
        if low:
            counts = [f["hessian/" + name].size for name in names]
            vectors = np.linalg.qr(random.standard_normal((sum(counts), 3)))[0].T.astype("f4")
            for name, part in zip(names, np.split(vectors, np.cumsum(counts)[:-1], axis=1)):
                f["lowrank_vectors/" + name] = part
            text["low_rank"] = {"values": [9.5, 1 / 3, -0.25]}
        if text:
            f["structure.json"] = np.frombuffer(json.dumps(text).encode(), "u1")


class Posterior:
    """Everything as vectors and matrices over the groups: each block's weight with its bias, row by row."""

    def __init__(self, path):
        with h5py.File(path) as f:
            self.ess, self.decay = f.attrs.get("ess", np.nan), f.attrs.get("weight_decay", np.nan)
            self.parts = {part: items(f[part]) for part in f if isinstance(f[part], h5py.Group)}
            text = f.get("structure.json")
            self.text = json.loads(bytes(text[()])) if text is not None else {}
        self.blocks = self.text.get("blocks", {})
        self.values = np.array(self.text.get("low_rank", {}).get("values", []))

    def part(self, part, name):
        found = self.parts.get(part, {}).get(name)
        return None if found is None else np.float64(found)

    def matrix(self, part, name):
        """The group's array of a weight."""
        if name in PLAIN:
            return self.part(part, name).reshape(1, -1)
        shape, o, i, bias, transposed = BLOCKS[name]
        w = self.part(part, name)
        w = w.T if transposed else w.reshape(o, i)
        return np.concatenate([w, self.part(part, bias)[:, None]], 1) if bias else w

    def vector(self):
        return np.concatenate([self.matrix("mean", name).ravel() for name in [*BLOCKS, *PLAIN]])

    def pieces(self):
        """Of each group: turn, h in its coordinates (flat), whether it is a block, vectors."""
        for name in [*BLOCKS, *PLAIN]:
            rank = len(self.values)
            if name in self.blocks and "basis_output/" + name and self.part("hessian", name) is not None:
                h = self.part("hessian", name)
                o, n = h.shape
                u_a, u_b = self.part("basis_input", name), self.part("basis_output", name)
                turn = np.kron(np.eye(o) if u_b is None else u_b, np.eye(n) if u_a is None else u_a)
                v = self.part("lowrank_vectors", name)
                v = np.zeros((rank, h.size)) if v is None else v
            elif self.part("hessian", name) is None:
                yield None
                continue
            else:
                h = self.matrix("hessian", name)
                turn = np.eye(h.size)
                v = np.zeros((rank, h.size))
                if rank:
                    fake = Posterior.__new__(Posterior)
                    for r in range(rank):
                        fake.parts = {"hessian": {k: self.part("lowrank_vectors", k)[r].reshape(self.part("hessian", k).shape)
                                                  for k in self.parts["hessian"]}}
                        v[r] = fake.matrix("hessian", name).ravel()
            yield turn, h.ravel(), v

    def precision(self, scale=1.0, data=True, prior=True):
        """λ (scale h + δ), as a matrix; without data or prior their part is left out."""
        turns, middles, vectors = [], [], []
        for turn, h, v in self.pieces():
            turns.append(turn)
            middles.append(h)
            vectors.append(v)
        size = sum(h.size for h in middles)
        turn = np.zeros((size, size))
        at = 0
        for t in turns:
            turn[at:at + len(t), at:at + len(t)] = t
            at += len(t)
        h, v = np.concatenate(middles), np.concatenate(vectors, 1)
        inner = np.diag(self.ess * h)
        if len(self.values):
            w = np.sqrt(self.ess * (h + self.decay))[:, None] * v.T
            inner = inner + (w * self.values) @ w.T
        total = scale * inner * data + np.eye(size) * self.ess * self.decay * prior
        return turn @ total @ turn.T, turn

    def gram(self, name, shrink=1.0):
        a = self.part("gram", name)
        if a is None:
            u = self.part("basis_input", name)
            a = (u * self.part("spectrum_input", name)) @ u.T
        return np.where(np.eye(len(a)) == 1, a, shrink * a)


def merge(*arguments):
    done = subprocess.run(["ivon-merge", "-q", "--no-provenance", "-f", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


def refuse(line, *arguments):
    done = subprocess.run(["ivon-merge", "-q", "--no-provenance", "-f", *arguments], capture_output=True, text=True)
    assert done.returncode == 65 and line in done.stderr, (arguments, done)


def check_means(what, found, expected, start, precision):
    norm = lambda x: np.sqrt(x @ precision @ x)
    error = norm(found - expected) / norm(expected - start)
    assert error < 1e-5, (what, error)
    return error


def check_precision(what, path, expected):
    """The result's own precision is the diagonal of `expected` in its bases, or all of it."""
    found = Posterior(path)
    dense, turn = found.precision()
    # in the bases, which are orthonormal to rounding
    inner = turn.T @ expected @ turn
    if len(found.values):
        error = np.abs(dense - expected).max() / np.abs(expected).max()
        assert error < 3e-6, (what, error)
        return error
    mine = np.concatenate([found.ess * (h + found.decay) for _, h, _ in found.pieces()])
    error = np.max(np.abs(mine - np.diag(inner)) / np.abs(np.diag(inner)).max())
    assert error < 2 ** -22, (what, error)
    return error


def check_moved(what, summary, mean, start, precision, method, models, base, weights, base_scale, hessian_scale, delta0):
    """The norms of the models' terms, which are solved for to 1e-4."""
    result = summary["results"][0]
    size = len(mean)
    for w, m, told in zip(weights, models, result["models"]):
        if method == "gradient-matching":
            s0 = base_scale * (delta0 * np.eye(size) if delta0 is not None else base.precision()[0])
            term = w * np.linalg.solve(precision, (s0 + m.precision(hessian_scale, prior=False)[0]) @ (m.vector() - start))
        elif method == "hessian":
            term = w * np.linalg.solve(precision, m.precision(hessian_scale)[0] @ (m.vector() - mean))
        else:
            term = w * (m.vector() - (start if method == "task-arithmetic" else mean)) / \
                (1 if method == "task-arithmetic" else sum(weights))
        assert abs(told["moved"] - np.linalg.norm(term)) < 1e-3 * np.linalg.norm(term), (what, told, np.linalg.norm(term))
    if "moved" in result:
        assert abs(result["moved"] - np.linalg.norm(mean - start)) < 1e-5 * result["moved"], what
    assert all(solved["converged"] for solved in summary["solved"]), what
    assert bool(summary["solved"]) == (method in ("gradient-matching", "hessian")), what


def evaluate(method, base, models, weights, base_scale, hessian_scale, delta0, scale):
    size = len(models[0].vector())
    start = base.vector() if base else sum(m.vector() for m in models) / len(models)
    if method in ("hessian", "average"):
        sums = [w * m.precision(hessian_scale)[0] for m, w in zip(models, weights)]
        precision = sum(sums)
        if method == "average":
            return sum(w * m.vector() for m, w in zip(models, weights)) / sum(weights), precision, start
        return np.linalg.solve(precision, sum(s @ m.vector() for s, m in zip(sums, models))), precision, start
    s0 = base_scale * (delta0 * np.eye(size) if delta0 is not None else base.precision()[0])
    data = [m.precision(hessian_scale, prior=False)[0] for m in models]
    precision = s0 + scale * sum(w * h for w, h in zip(weights, data))
    if method == "task-arithmetic":
        return start + scale * sum(w * (m.vector() - start) for m, w in zip(models, weights)), precision, start
    right = scale * sum(w * (s0 + h) @ (m.vector() - start) for m, w, h in zip(models, weights, data))
    return start + np.linalg.solve(precision, right), precision, start


def solve_cases(seed):
    random = np.random.default_rng(seed)
    kinds = {"kronecker": ["kronecker"] * 3, "mixed": ["kronecker", "diagonal", "kronecker"],
             "mixed base": ["diagonal", "kronecker", "kronecker"], "bare base": ["none", "kronecker", "diagonal"],
             "low": ["diagonal+lowrank"] * 3, "low mixed": ["diagonal", "diagonal+lowrank", "diagonal"],
             "low kronecker": ["kronecker+lowrank", "diagonal+lowrank", "kronecker"],
             "low bare": ["none", "diagonal+lowrank", "diagonal+lowrank"]}
    methods = ("gradient-matching", "hessian", "task-arithmetic", "average")
    worst = worst_precision = refused = 0
    for turn, (label, kind) in enumerate(kinds.items()):
        paths = [f"{k}.h5" for k in ("base", "one", "two")]
        for k, path in enumerate(paths):
            write(path, random, kind[k], ess=100.0 * (k + 1), decay=0.02 * (k + 1), spread=1 + k,
                  one_sided=("embedding",) if k else ("embedding", "head.weight"), spectra="mixed" not in label)
        base, *models = map(Posterior, paths)
        delta0 = 30.0 if kind[0] == "none" else None
        outs = [None, "diagonal", "kronecker"]
        if "low" in label and "kronecker" not in label:
            outs.append("lowrank")
        # A third of all: every method with every structure, and with every kind of posteriors.
        for method, out in itertools.product(methods, outs):
            if (turn + methods.index(method) + outs.index(out)) % 3:
                continue
            weights = [0.7, 1.3] if method in ("hessian", "average") else [0.7, random.choice([1.2, -0.01])]
            base_scale, hessian_scale = random.choice([(1.0, 1.0), (0.5, 1.5)])
            based = method in ("gradient-matching", "task-arithmetic")
            arguments = ["--method=" + method, f"--hessian-scale={hessian_scale}", "--dtype=f64", "-omerged.h5",
                         *[f"{p}:{w}" for p, w in zip(paths[1:], weights)]]
            if based:
                arguments += ["--base=base.h5", f"--base-scale={base_scale}"]
                arguments += [f"--delta0={delta0}"] if delta0 is not None else []
            if out:
                arguments.append("--out-structure=" + out)
            mean, precision, start = evaluate(method, base if based else None, models, weights, base_scale,
                                              hessian_scale, delta0, 1)
            what = (label, method, out, weights, base_scale)
            if np.linalg.eigvalsh(precision)[0] <= 0:
                refuse("is not positive", *arguments)
                refused += 1
                continue
            summary = json.loads(merge("--json", *arguments))
            check_moved(what, summary, mean, start, precision, method, models, base, weights, base_scale,
                        hessian_scale, delta0)
            worst = max(worst, check_means(what, Posterior("merged.h5").vector(), mean, start, precision))
            worst_precision = max(worst_precision, check_precision(what, "merged.h5", precision))
        if label in ("kronecker", "low"):
            merge("--base=base.h5", "one.h5:0.5", "two.h5", "--sweep=0.5:1:0.25", "--dtype=f64", "-osweep-%g.h5")
            for scale in (0.5, 0.75, 1):
                mean, precision, start = evaluate("gradient-matching", base, models, [0.5, 1], 1, 1, None, scale)
                check_means((label, scale), Posterior(f"sweep-{scale:g}.h5").vector(), mean, start, precision)
                merge("--base=base.h5", f"one.h5:{0.5 * scale}", f"two.h5:{scale}", "--dtype=f64", "-ox.h5")
                a, b = Posterior("x.h5"), Posterior(f"sweep-{scale:g}.h5")
                for name in BLOCKS:  # bit by bit: nothing of one result enters another
                    assert (a.matrix("mean", name) == b.matrix("mean", name)).all(), (label, scale, name)
                    assert (a.part("hessian", name) == b.part("hessian", name)).all(), (label, scale, name)
    print(f"refused {refused}; means {worst:.1e} in the posterior's norm, precisions {worst_precision:.1e}")


def regmean(paths, weights, shrink):
    models = [Posterior(path) for path in paths]
    result = {}
    for name in BLOCKS:
        n = BLOCKS[name][2] + (models[0].blocks[name].get("bias") is not None)
        w = [m.matrix("mean", name)[:, :n] for m in models]
        c = [a * (1 if np.isnan(m.ess) else m.ess) for a, m in zip(weights, models)]
        a = [m.gram(name, shrink) for m in models]
        average = sum(x * y for x, y in zip(weights, w)) / sum(weights)
        total = sum(x * y for x, y in zip(c, a))
        total = total + np.eye(n) * np.sqrt(n) * 2 ** -23 * np.trace(total) / n
        right = sum(x * (y - average) @ z for x, y, z in zip(c, w, a))
        result[name] = (average + np.linalg.solve(total, right.T).T,
                        sum(x * m.gram(name) for x, m in zip(c, models)) / sum(c))
    plain = sum(x * m.part("mean", "norm.scale") for x, m in zip(weights, models)) / sum(weights)
    return result, plain


def regmean_cases(seed):
    random = np.random.default_rng(seed)
    paths = ["one.h5", "two.h5", "three.h5"]
    for k, path in enumerate(paths):
        write(path, random, ["gram", "kronecker", "gram"][k], ess=[50.0, 200.0, None][k], spectra=True)
    for weights, shrink in (([1, 1, 1], 1), ([0.3, 2, 1], 0.9), ([1, 1, -0.02], 1), ([1, 2, 1], 0)):
        merge("--method=regmean", f"--shrink={shrink}", "--dtype=f64", "-omerged.h5",
              *[f"{p}:{w}" for p, w in zip(paths, weights)])
        expected, plain = regmean(paths, weights, shrink)
        found = Posterior("merged.h5")
        for name, (mean, gram) in expected.items():
            error = np.abs(found.matrix("mean", name) - mean).max() / np.abs(mean).max()
            assert error < 1e-9, (name, weights, shrink, error)
            assert np.abs(found.part("gram", name) - gram).max() < 2 ** -22 * np.abs(gram).max(), name
        assert np.abs(found.part("mean", "norm.scale") - plain).max() < 1e-15
        assert set(found.blocks) == set(BLOCKS) and "hessian" not in found.parts
    # What is merged merges again as its models would: to ε, and the rounding of the sum to f32.
    for k, path in enumerate(paths):
        write(path, random, "gram", ess=50.0 * (k + 1))
    merge("--method=regmean", "one.h5", "two.h5", "-opair.h5", "--dtype=f64")
    merge("--method=regmean", "pair.h5", "three.h5", "-oagain.h5", "--dtype=f64")
    merge("--method=regmean", *paths, "-oall.h5", "--dtype=f64")
    for name in BLOCKS:
        a, b = (Posterior(p).matrix("mean", name) for p in ("again.h5", "all.h5"))
        assert np.abs(a - b).max() < 1e-4 * np.abs(b).max(), name


def identity_cases(seed):
    """B = I and δ = 0 is RegMean; U = I is the diagonal form; rank 0 the base's result; order changes no byte."""
    random = np.random.default_rng(seed)
    for path in ("one.h5", "two.h5"):
        write(path, random, "kronecker", spectra=True, decay=0.0)
        with h5py.File(path, "a") as f:  # h the input's eigenvalues, for every output
            for name in BLOCKS:
                del f["basis_output/" + name]
                a = f["spectrum_input/" + name][()]
                f["hessian/" + name][...] = np.broadcast_to(a, f["hessian/" + name].shape)
    for first, second in (("hessian", "regmean"),):
        merge("--method=" + first, "one.h5", "two.h5:0.5", "--dtype=f64", "-oa.h5")
        merge("--method=" + second, "one.h5", "two.h5:0.5", "--dtype=f64", "-ob.h5")
        for name in BLOCKS:
            a, b = (Posterior(p).matrix("mean", name) for p in ("a.h5", "b.h5"))
            assert np.abs(a - b).max() < 1e-4 * np.abs(b).max(), (name, np.abs(a - b).max())  # ε over the least value
    for k, path in enumerate(("base.h5", "one.h5", "two.h5")):
        write(path, random, "kronecker", ess=100.0 * (k + 1))
        with h5py.File(path, "a") as f, h5py.File("plain-" + path, "w") as plain:
            plain.attrs.update(f.attrs)
            plain.attrs["format_version"] = 1
            for name, value in items(f["mean"]).items():
                plain["mean/" + name] = value
            for name, (shape, o, i, bias, transposed) in BLOCKS.items():
                for part in ("basis_input/", "basis_output/"):
                    size = f[part + name].shape[0]
                    f[part + name][...] = np.eye(size)
                h = f["hessian/" + name][()]
                plain["hessian/" + name] = (h[:, :i].T if transposed else h[:, :i]).reshape(shape)
                if bias:
                    plain["hessian/" + bias] = h[:, i]
            plain["hessian/norm.scale"] = f["hessian/norm.scale"][()]
    for method in ("gradient-matching", "hessian", "task-arithmetic", "average"):
        base = ["--base={}base.h5"] if method in ("gradient-matching", "task-arithmetic") else []
        for prefix, out in (("", "a.h5"), ("plain-", "b.h5")):
            merge("--method=" + method, *[b.format(prefix) for b in base], prefix + "one.h5:0.5", prefix + "two.h5",
                  "--out-structure=diagonal", "--dtype=f64", "-o" + out)
        a, b = items(h5py.File("a.h5")), items(h5py.File("b.h5"))
        assert set(a) == set(b)
        for name in a:
            assert np.abs(a[name] - b[name]).max() <= 1e-6 * np.abs(b[name]).max() + 0, (method, name)
            if name.startswith("mean"):
                assert np.abs(a[name] - b[name]).max() <= 1e-13 * np.abs(b[name]).max(), (method, name)
    for k, path in enumerate(("base.h5", "one.h5", "two.h5")):
        write(path, random, "kronecker", ess=100.0 * (k + 1))
    for method in ("gradient-matching", "hessian", "average", "task-arithmetic"):
        base = ["--base=base.h5"] if method in ("gradient-matching", "task-arithmetic") else []
        merge("--method=" + method, *base, "one.h5:0.5", "two.h5", "-j1", "-oa.h5")
        merge("--method=" + method, *base, "two.h5", "one.h5:0.5", "-j3", "-ob.h5")
        assert open("a.h5", "rb").read() == open("b.h5", "rb").read(), method
        # One model is given back to the bit.
        merge("--method=" + method, *base, "one.h5", "-oa.h5")
        a, b = items(h5py.File("a.h5")["mean"]), items(h5py.File("one.h5")["mean"])
        same = all((a[name] == b[name]).all() for name in b)
        assert same or method == "task-arithmetic", method
    with h5py.File("one.h5", "a") as f:  # a correction of rank 0
        text = json.loads(bytes(f["structure.json"][()]))
        del f["structure.json"]
        merge_text = json.dumps(text | {"low_rank": {"values": []}}).encode()
        f["structure.json"] = np.frombuffer(merge_text, "u1")
    merge("--base=base.h5", "one.h5:0.5", "two.h5", "-ob.h5")
    write_back = merge("--base=base.h5", "two.h5", "one.h5:0.5", "-oa.h5")
    assert open("a.h5", "rb").read() == open("b.h5", "rb").read() and not write_back


def write_large(path, random, ess, decay, shape, bases, spectra):
    """One layer, [W | bias] of `shape`: several tiles of a product, and panels of a sum."""
    near = lambda u: np.linalg.qr(u + 0.1 / np.sqrt(len(u)) * random.standard_normal(u.shape))[0].astype("f4")
    mean = random.standard_normal(shape)
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=2, ess=ess, weight_decay=decay)
        f["mean/w"], f["mean/b"] = mean[:, :-1], mean[:, -1]
        f["hessian/w"] = np.outer(*spectra) * random.gamma(4, 0.25, shape).astype("f4")
        f["basis_output/w"], f["basis_input/w"] = near(bases[0]), near(bases[1])
        f["structure.json"] = np.frombuffer(b'{"blocks": {"w": {"bias": "b"}}}', "u1")


class Large:
    def __init__(self, path):
        with h5py.File(path) as f:
            self.ess, self.decay = f.attrs["ess"], f.attrs["weight_decay"]
            read = lambda name: np.float64(f[name][()])
            self.mean = np.concatenate([read("mean/w"), read("mean/b")[:, None]], 1)
            self.h, self.output, self.input = (read(p + "/w") for p in ("hessian", "basis_output", "basis_input"))

    def apply(self, x, prior):
        """λ (h + δ) in the bases, or with prior 0 λ h."""
        y = self.ess * (self.h + prior * self.decay) * (self.output.T @ x @ self.input)
        return self.output @ y @ self.input.T

    def diagonal_in(self, other, prior):
        s = self.ess * (self.h + prior * self.decay)
        return (other.output.T @ self.output) ** 2 @ s @ ((other.input.T @ self.input) ** 2).T


def solve_large(apply, diagonal, turn, right):
    """Conjugate gradients in float64, to 1e-8, preconditioned in a basis."""
    divide = lambda r: turn.output @ ((turn.output.T @ r @ turn.input) / diagonal) @ turn.input.T
    x, r = np.zeros_like(right), right.copy()
    p = z = divide(r)
    first = size = np.sum(r * z)
    while size > 1e-16 * first:
        q = apply(p)
        step = size / np.sum(p * q)
        x, r = x + step * p, r - step * q
        z = divide(r)
        before, size = size, np.sum(r * z)
        p = z + size / before * p
    return x


def large_cases(seed):
    random = np.random.default_rng(seed)
    shape = (321, 641)  # a row and a column more than a tile
    bases = [np.linalg.qr(random.standard_normal((n, n)))[0] for n in shape]
    spectra = [np.float32(random.random(n) ** 3) for n in shape]
    paths = [f"large-{name}.h5" for name in ("base", "one", "two")]
    for k, path in enumerate(paths):
        write_large(path, random, 100.0 * (k + 1), 0.1, shape, bases, spectra)
    base, one, two = map(Large, paths)
    for method in ("gradient-matching", "hessian"):
        based = method == "gradient-matching"
        prior, weights = (0 if based else 1), (0.7, 1.3)
        arguments = ["--method=" + method, "--dtype=f64", "large-one.h5:0.7", "large-two.h5:1.3",
                     *(["--base=large-base.h5"] if based else [])]
        told = json.loads(merge("--json", "-j1", "-omerged.h5", *arguments))["solved"]
        if based:
            merge("-j2", "-oagain.h5", *arguments)
            assert open("merged.h5", "rb").read() == open("again.h5", "rb").read()
        found = Large("merged.h5")
        start = base.mean if based else (one.mean + two.mean) / 2
        terms = [(w, m, prior) for w, m in zip(weights, (one, two))] + [(1, base, 1)] * based
        apply = lambda x: sum(c * m.apply(x, p) for c, m, p in terms)
        right = sum(w * (m.apply(m.mean - start, prior) + based * base.apply(m.mean - start, 1))
                    for w, m in zip(weights, (one, two)))
        diagonal = sum(c * m.diagonal_in(found, p) for c, m, p in terms)
        moved = solve_large(apply, diagonal, found, right)
        error = found.mean - start - moved
        error = np.sqrt(np.sum(error * apply(error)) / np.sum(moved * apply(moved)))
        assert error < 1e-5 and told[0]["converged"] and told[0]["iterations"] < 25, (method, error, told)
        mine = found.ess * (found.h + found.decay)
        assert np.abs(mine - diagonal).max() < 2 ** -21 * diagonal.max(), method
        print(f"{method}, {shape}: {told[0]['iterations']} iterations, error {error:.1e}")
    # Where the sum is not positive the base's block is kept, in its own bases.
    merge("--base=large-base.h5", "large-one.h5:-1", "--on-nonpositive=base", "-okept.h5")
    kept = Large("kept.h5")
    assert (kept.input == base.input).all() and (kept.output == base.output).all()
    assert np.abs(kept.mean - base.mean).max() < 1e-6 and np.abs(kept.h - base.h).max() < 1e-6


seed = int(sys.argv[2])
solve_cases(seed)
regmean_cases(seed)
identity_cases(seed)
large_cases(seed)
