"""Merges random posteriors by ivon-merge and by the formulas of ivon-merge(1) in float64 numpy.

usage: merge_cases.py DIRECTORY SEED...

Every method, with weights of either sign, with a sweep and without, for means of every type, with a
base's Hessian and without; Hessian scales, base scales, an ess, and tensors with an ess and a weight
decay of their own. What each model moved, of --json, is compared too.

Tolerance. Both sides evaluate a mean as m0 + share (m - m0) in double. A precision is a sum of terms
of which the largest is at most 1/GAP of it (elements that come nearer to zero are left to the tests
of --on-nonpositive), so that its relative error is below 20 roundings times GAP, 20 * 2^-53 * 100 <
2^-41, and that of a mean so much of the sum of its terms' magnitudes. A stored number is rounded
once more, by half a unit in the last place of its type. Of numpy's side as much again: hence 2^-40.
"""
import itertools
import json
import os
import subprocess
import sys

import h5py
import numpy as np

GAP, DOUBLE = 100, 2.0 ** -40
HALF_UNIT = {"f64": 2.0 ** -53, "f32": 2.0 ** -24, "f16": 2.0 ** -11, "bf16": 2.0 ** -8}
SHAPES = {"scalar": (), "a.bias": (513,), "a.weight": (31, 37)}
METHODS = ["gradient-matching", "hessian", "task-arithmetic", "average"]


def posterior(path, random, hessian=True, level=1.0, kind="f8", decay=(1e-3, 1e-2)):
    """ess and weight_decay are the file's, but a.bias's Hessian has its own."""
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=random.uniform(400, 600),
                       weight_decay=random.uniform(*decay))
        for name, shape in SHAPES.items():
            f["mean/" + name] = random.uniform(-1, 1, shape).astype(kind)
            if hessian:
                f["hessian/" + name] = (level * random.uniform(0.5, 1, shape)).astype("f4")
        if hessian:
            f["hessian/a.bias"].attrs.update(ess=random.uniform(400, 600),
                                             weight_decay=random.uniform(*decay))


class Model:
    def __init__(self, f, name, scale=1.0):
        self.mean = np.float64(f["mean/" + name][()])
        self.has_hessian = "hessian" in f
        if not self.has_hessian:
            return
        stored = f["hessian/" + name]
        self.ess = stored.attrs.get("ess", f.attrs["ess"])
        self.decay = stored.attrs.get("weight_decay", f.attrs["weight_decay"])
        self.h = scale * np.float64(stored[()])
        self.data = self.ess * self.h
        self.full = self.ess * (self.h + self.decay)


def formula(case, factor, base, models):
    """(mean, precision or None, the mean's terms, the precision's terms, each model's share)"""
    weights = [factor * w for w in case["weights"]]
    m0 = base.mean if base else 0.0
    if case["delta0"] is not None:
        s0 = np.full(np.shape(models[0].mean), case["base_scale"] * case["delta0"])
    else:
        s0 = case["base_scale"] * base.full if base else np.zeros(np.shape(models[0].mean))
    own = [m.data if base else m.full for m in models]
    terms = [s0] + [w * p for w, p in zip(weights, own)]
    precision = sum(terms)
    if case["method"] == "gradient-matching":
        shares = [w * (s0 + p) / precision for w, p in zip(weights, own)]
    elif case["method"] == "hessian":
        shares = [w * p / precision for w, p in zip(weights, own)]
    elif case["method"] == "task-arithmetic":
        shares = [w + 0 * s0 for w in weights]
    else:
        shares = [w / sum(weights) + 0 * s0 for w in weights]
    parts = [share * (m.mean - m0) for share, m in zip(shares, models)]
    sizes = [np.abs(m0)] + [np.abs(share) * (np.abs(m.mean) + np.abs(m0))
                            for share, m in zip(shares, models)]
    return m0 + sum(parts), precision, sum(sizes), sum(np.abs(t) for t in terms), shares, parts


def header(case, factor, base, models):
    """(ess, weight_decay) of the result, by the files' numbers."""
    files = [h5py.File(path) for path in case["models"]]
    ess = case["ess"]
    if ess is None and case["base"] and case["delta0"] is None:
        ess = h5py.File(case["base"]).attrs["ess"]
    if ess is None:
        ess = sum(abs(factor * w) * f.attrs["ess"] for w, f in zip(case["weights"], files))
    if case["delta0"] is not None:
        prior = case["base_scale"] * case["delta0"]
    elif case["base"]:
        f = h5py.File(case["base"])
        prior = case["base_scale"] * f.attrs["ess"] * f.attrs["weight_decay"]
    else:
        prior = max(0, sum(w * f.attrs["ess"] * f.attrs["weight_decay"]
                           for w, f in zip(case["weights"], files)))
    return ess, prior / ess


def stored_mean(f, name, kind):
    data = f["mean/" + name]
    if kind != "bf16":
        assert data.dtype == {"f64": "f8", "f32": "f4", "f16": "f2"}[kind], data.dtype
    return np.float64(data[()])


def check(case, factor, path, moved, nonpositive):
    with h5py.File(path) as f, h5py.File(case["base"]) if case["base"] else open(os.devnull) as b:
        files = [h5py.File(p) for p in case["models"]]
        squares = np.zeros(len(files) + 1)
        kept_count, near_count = 0, 0
        ess, decay = header(case, factor, b, files)
        for key, value in ("ess", ess), ("weight_decay", decay):
            assert abs(f.attrs[key] - value) <= 2.0 ** -48 * abs(value), (key, f.attrs[key], value)
        for name in SHAPES:
            base = Model(b, name) if case["base"] else None
            models = [Model(g, name, case["hessian_scale"]) for g in files]
            mean, precision, size, terms, shares, parts = formula(case, factor, base, models)
            kept, near = precision <= 0, np.abs(precision) * GAP < terms
            kept_count, near_count = kept_count + kept.sum(), near_count + near.sum()
            assert case["dropping"] or not (kept | near).any(), "a case too near to zero"
            if case["dropping"]: # --on-nonpositive=base
                mean = np.where(kept, base.mean, mean)
                precision = np.where(kept, base.full, precision)
                parts = [np.where(kept, 0, part) for part in parts]
            found = stored_mean(f, name, case["dtype"])
            bound = HALF_UNIT[case["dtype"]] * np.abs(mean) + DOUBLE * size
            if case["dtype"] == "f16":
                bound = bound + 2.0 ** -25  # subnormal
            assert np.all(near | (np.abs(found - mean) <= bound)), (name, "mean")
            h = np.float64(f["hessian/" + name][()])
            wanted = precision / ess - decay
            bound = 2.0 ** -24 * np.abs(wanted) + DOUBLE * terms / ess
            assert np.all(near | (np.abs(h - wanted) <= bound)), (name, "Hessian")
            for t, model in enumerate(models):
                part = parts[t] if base else shares[t] * (model.mean - mean)
                squares[t] += np.sum(part ** 2)
            if base:
                squares[-1] += np.sum((mean - base.mean) ** 2)
        assert kept_count - near_count <= nonpositive <= kept_count + near_count, nonpositive
        assert not (case["dropping"] and factor < 0) or kept_count > near_count
        if near_count:
            return
        # A sum of squares of up to 1700 terms, in another order: 1700 * 2^-53 < 2^-42 of it.
        for wanted, key in zip(np.sqrt(squares), moved):
            assert abs(wanted - key) <= 2.0 ** -30 * wanted, ("moved", wanted, key)


def run(case, out):
    command = ["ivon-merge", "--json", "-q", "-f", "--no-provenance", "--method=" + case["method"],
               f"--dtype={case['dtype']}", f"--hessian-scale={case['hessian_scale']!r}"]
    if case["base"]:
        command += ["--base=" + case["base"], f"--base-scale={case['base_scale']!r}"]
    if case["delta0"] is not None:
        command += [f"--delta0={case['delta0']!r}"]
    if case["ess"] is not None:
        command += [f"--ess={case['ess']!r}"]
    if case["dropping"]:
        command += ["--on-nonpositive=base"]
    if case["sweep"]:
        command += ["--sweep=" + case["sweep"]]
    command += ["-o", out if case["sweep"] else out.replace("%g", "1")]
    command += [f"{path}:{weight!r}" for path, weight in zip(case["models"], case["weights"])]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, (command, found.stderr)
    results = json.loads(found.stdout)["results"]
    wanted = {"-1:1:1": 3, "0.25:1.5:0.25": 6, "-0.5:0.5:0.5": 3, None: 1}[case["sweep"]]
    assert len(results) == wanted, results
    for result in results:
        moved = [m["moved"] for m in result["models"]] + ([result["moved"]] if case["base"] else [])
        assert all(m["weight"] == w for m, w in zip(result["models"], case["weights"]))
        check(case, result["scale"], result["output"], moved, result["nonpositive"])
    return wanted


def cases(directory, random):
    models = [f"{directory}/m{t}.h5" for t in range(3)]
    for method, kind, sweep, signs, flat in itertools.product(
            METHODS, HALF_UNIT, [None, "0.25:1.5:0.25", "-0.5:0.5:0.5"], [1, -1], [False, True]):
        based = method in ("gradient-matching", "task-arithmetic")
        if (sweep or flat) and not based:
            continue
        weights = [float(random.uniform(0.5, 1.5)), float(random.uniform(0.3, 1)),
                   float(signs * random.uniform(0.05, 0.15))]
        yield {"method": method, "dtype": kind, "sweep": sweep, "weights": weights,
               "models": models, "base": f"{directory}/{'flat' if flat else 'base'}.h5" if based else None,
               "delta0": float(random.uniform(4e4, 6e4)) if flat else None,
               "base_scale": float(random.uniform(0.5, 2)) if based else 1.0,
               "hessian_scale": float(random.choice([1.0, 0.7])),
               # the factor 0 leaves no ess of the models'
               "ess": float(random.uniform(100, 1000))
               if random.random() < 0.5 or (flat and sweep and sweep[0] == "-") else None,
               "dropping": False}
    plain = {"dtype": "f64", "sweep": None, "base_scale": 1.0, "base": None, "delta0": None,
             "hessian_scale": 1.0, "ess": None, "dropping": False}
    # The weight decays add up to less than nothing, which leaves a prior of zero.
    for method in ("hessian", "average"):
        yield {**plain, "method": method, "weights": [1.0, -0.2],
               "models": [models[0], f"{directory}/decay.h5"]}
    for method in METHODS: # alone, of any weight; at the factors 1 and 0.5 its weight is 1
        based = method in ("gradient-matching", "task-arithmetic")
        for weight, sweep in itertools.product((1.0, 2.0), (None, "0.25:1.5:0.25")):
            if based or not sweep:
                yield {**plain, "method": method, "weights": [weight], "models": models[1:2],
                       "sweep": sweep, "base": f"{directory}/base.h5" if based else None}
    for kind in ("f64", "f32", "bf16"): # the models weigh as much as the base, and less than nothing
        for method in ("gradient-matching", "task-arithmetic"):
            yield {**plain, "method": method, "dtype": kind, "sweep": "-1:1:1",
                   "weights": [40.0, 40.0], "models": models[:2], "base": f"{directory}/base.h5",
                   "dropping": True}


def main(directory, *seeds):
    os.makedirs(directory, exist_ok=True)
    total = 0
    for seed in seeds:
        random = np.random.default_rng(int(seed))
        # A base that is sharper than the models: factors of either sign leave a precision.
        posterior(f"{directory}/base.h5", random, level=50.0)
        posterior(f"{directory}/flat.h5", random, hessian=False)
        for t in range(3):
            posterior(f"{directory}/m{t}.h5", random, kind=["f8", "f4", "f2"][t])
        posterior(f"{directory}/decay.h5", random, decay=(0.1, 0.2))
        for case in cases(directory, random):
            total += run(case, f"{directory}/out-%g.h5")
    print(f"{total} results agree")


main(*sys.argv[1:])
