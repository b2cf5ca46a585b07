"""Merges random checkpoints by ivon-merge's methods of other papers and by numpy in float64.

usage: merge_baselines.py DIRECTORY SEED...

ties (arXiv:2306.01708), dare and dare-ties (2311.03099), slerp, model-stock (2403.19522) and
breadcrumbs (2312.06795), tensor by tensor as ivon-merge(1) says, on inputs of every type, with
magnitudes that are equal, tensors of zeros and tensors of several pieces of work, and with weights
of either sign. What each model moved, of --json, is compared too.

Tolerance. Displacements, and so masks, are the same bits on both sides. A mean is then a sum of a
few terms in double: ROUNDINGS of the sum of their magnitudes. An inner product of n terms has an
error of at most n 2^-53 of the product of the norms, 2^-32.9 at n = 1,100,000; coefficients have
slopes of at most a few in it where |cos| is .9995 or less and numbers of models are small, except
model stock's, which is steep where its denominator is small: positive cosines have none. Hence
ANGLES of the sum of magnitudes. A stored f32 is rounded once more, by 2^-24 of it.
"""
import itertools
import json
import os
import struct
import subprocess
import sys

import numpy as np

from normals import words

ROUNDINGS, ANGLES = 2.0 ** -46, 2.0 ** -28
SHAPES = {"scalar": (), "a.bias": (7,), "b.weight": (31, 37), "coarse": (50, 41), "same": (40,), "zero": (5,),
          "part": (600,), "wide": (70, 1000)}
LARGE = {"large": (1050000,), "large.coarse": (1100000,)}  # two pieces each
CODES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def encode(values, kind):
    """The bytes of a tensor, and the numbers that they are."""
    if kind == "BF16":  # truncated
        bits = (np.float32(values).reshape(-1).view("<u4") >> 16).astype("<u2")
        return bits.tobytes(), np.float64((bits.astype("<u4") << 16).view("<f4"))
    stored = np.asarray(values).astype(CODES[kind])
    return stored.tobytes(), np.float64(stored)


def write(path, tensors, kind):
    header, data, numbers = {}, b"", {}
    for name, values in tensors.items():
        raw, exact = encode(values, kind)
        header[name] = {"dtype": kind, "shape": list(np.shape(values)),
                        "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
        numbers[name] = exact.reshape(np.shape(values))
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
    return numbers


def read(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = np.frombuffer(data[begin:end], CODES[entry["dtype"]]).reshape(entry["shape"])
    return found


def changed(random, base, name, step):
    """A model's tensor: `coarse` ones have few magnitudes, `same` none, `part` only some;
    `zero` is zero but in the first model."""
    change = step * random.standard_normal(base.shape)
    if "coarse" in name:
        change = np.round(change * 8 / step) / 128
    if name == "same" or name == "zero" and step > 0.4:  # the first model's is another
        change = 0 * change
    if name == "part":
        change = np.where(random.random(base.shape) < 0.1, change, 0)
    return base + change


def rank(d):
    """Elements by falling magnitude, then rising index."""
    return np.argsort(-np.abs(d).ravel(), kind="stable")


def keep(d, first, last):
    mask = np.zeros(d.size)
    mask[rank(d)[first:last]] = 1
    return (d.ravel() * mask).reshape(d.shape)


def kept_count(density, n):
    return max(1, int(np.floor(density * n + 0.5)))


def elect(terms, weights):
    total = sum(terms)
    agree = [np.sign(v) * np.sign(total) > 0 for v in terms]
    mass = sum(abs(a) * g for a, g in zip(weights, agree))
    return [np.divide(v * g, mass, out=np.zeros_like(v), where=mass > 0)
            for v, g in zip(terms, agree)]


def cosine(a, b):
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return 0.0 if norms == 0 else float(np.vdot(a, b)) / norms


def slerp(a, b, t):
    """(coefficient of a, coefficient of b)"""
    c = np.clip(cosine(a, b), -1, 1)
    if not a.any() or not b.any() or abs(c) > 0.9995:
        return 1 - t, t
    angle = np.arccos(c)
    return np.sin((1 - t) * angle) / np.sin(angle), np.sin(t * angle) / np.sin(angle)


def shares(case, name, scale, m0, models):
    """The models' parts of m - m0 by their place, for the methods that have a sum."""
    weights = case["weights"]
    d = [m - m0 for m in models]
    n = m0.size
    k = kept_count(case["density"], n)
    if case["method"] == "ties":
        parts = elect([a * keep(v, 0, k) for a, v in zip(weights, d)], weights)
    elif case["method"] == "breadcrumbs":
        b = min(int(np.floor(case["outliers"] * n + 0.5)), n - k)
        parts = [a * keep(v, b, b + k) for a, v in zip(weights, d)]
    elif case["method"] in ("dare", "dare-ties"):
        parts = []
        for t, (a, v) in enumerate(zip(weights, d)):
            halves = words(case["seed"], t, name, 0, -(-n // 8)).view("<u4")[:n]
            parts.append(a * v * (halves < case["density"] * 2.0 ** 32).reshape(v.shape)
                         / case["density"])
        if case["method"] == "dare-ties":
            parts = elect(parts, weights)
    else:  # model-stock
        count = len(d)
        c = np.mean([cosine(x, y) for x, y in itertools.combinations(d, 2)])
        ratio = count * c / (1 + (count - 1) * c) if c > 0 else 0
        parts = [ratio * v / count for v in d]
    return [scale * part for part in parts]


def wanted(case, name, scale, base, models):
    """(mean, sum of magnitudes, the models' parts)"""
    if case["method"] != "slerp":
        m0 = base[name]
        parts = shares(case, name, scale, m0, [m[name] for m in models])
        return m0 + sum(parts), np.abs(m0) + sum(np.abs(p) for p in parts), parts
    if base:
        a, b, t = base[name], models[0][name], scale * case["weights"][0]
    else:
        a, b = (m[name] for m in models)
        t = case["weights"][1] / sum(case["weights"])
    first, second = slerp(a, b, t)
    mean = first * a + second * b
    size = np.abs(first * a) + np.abs(second * b)
    parts = [second * (b - a)] if base else [first * (a - mean), second * (b - mean)]
    return mean, size + sum(np.abs(p) for p in parts), parts


def check(case, result, base, models, names):
    merged = read(result["output"])
    assert sorted(merged) == sorted(names), sorted(merged)
    bound = ANGLES if case["method"] in ("slerp", "model-stock") else ROUNDINGS
    squares, sizes = np.zeros(len(models) + 1), 0.0
    for name in names:
        mean, size, parts = wanted(case, name, result["scale"], base, models)
        found = np.float64(merged[name])
        stored = 2.0 ** -24 * np.abs(mean) if case["dtype"] == "f32" else 0
        error = np.abs(found - mean)
        assert np.all(error <= bound * size + stored), (case, name, np.max(error))
        unchanged = base and all(np.all(m[name] == base[name]) for m in models)
        assert not unchanged or case["method"] == "slerp" or np.all(found == base[name])
        squares[:-1] += [np.sum(p ** 2) for p in parts]
        squares[-1] += np.sum((mean - base[name]) ** 2) if base else 0
        sizes += np.sum(size ** 2)
    moved = [m["moved"] for m in result["models"]] + ([result["moved"]] if base else [])
    for norm, value in zip(np.sqrt(squares), moved):
        assert abs(norm - value) <= 4 * bound * np.sqrt(sizes) + 2.0 ** -30 * norm, (case, norm, value)


def run(case, paths, base_path, out):
    command = ["ivon-merge", "--json", "-q", "-f", "--no-provenance", "--method=" + case["method"],
               "--dtype=" + case["dtype"]]
    command += ["--base=" + base_path] if base_path else []
    for option in ("density", "outliers", "seed", "scale", "sweep"):
        if case.get(option) is not None and not (option == "density" and case["default"]):
            command += [f"--{option}={case[option]}"]
    command += ["-o", out if case.get("sweep") else out.replace("%g", "1")]
    command += [f"{path}:{weight!r}" for path, weight in zip(paths, case["weights"])]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, (command, found.stderr)
    results = json.loads(found.stdout)["results"]
    assert len(results) == (3 if case.get("sweep") else 1)
    return results


def cases(random, dtype):
    """Of every method; the weights' number is that of the models."""
    for method, count in itertools.product(
            ["ties", "dare", "dare-ties", "breadcrumbs", "model-stock", "slerp"], [1, 2, 3]):
        if method == "model-stock" and count == 1 or method == "slerp" and count == 3:
            continue
        weights = [float(w) for w in random.uniform(0.3, 1.2, count)]
        case = {"method": method, "dtype": dtype, "weights": weights, "density": 0.2,
                "default": True}
        if method == "model-stock":
            yield {**case, "weights": [1.0] * count}
            continue
        if method == "slerp":
            yield case
            yield {**case, "weights": [1.0, 1e-3][:count]}
            if count == 1:
                yield {**case, "sweep": "-0.5:1.5:1"}
            continue
        yield {**case, "seed": 0 if "dare" in method else None,
               "outliers": 0.01 if method == "breadcrumbs" else None}
        case["default"] = False
        for density in (0.003, 0.5, 1):
            more = {"density": density, "scale": float(random.uniform(0.3, 1))}
            if "dare" in method:
                more["seed"] = int(random.integers(2 ** 62))
            if method == "breadcrumbs":
                more["outliers"] = float(random.choice([0, 0.013, 0.3, 0.9]))
            if count > 1:
                more["weights"] = weights[:-1] + [-weights[-1]]
            yield {**case, **more}
        more = {"seed": 1} if "dare" in method else {"outliers": 0.1} if method == "breadcrumbs" else {}
        yield {**case, **more, "sweep": "-0.5:1.5:1"}


def large_cases(random):
    """One of each method that looks at whole tensors, and of random masks."""
    case = {"dtype": "f64", "weights": [0.8, -0.7], "density": 0.2, "default": False}
    yield {**case, "method": "ties"}
    yield {**case, "method": "breadcrumbs", "outliers": 0.3, "weights": [0.5]}
    yield {**case, "method": "dare", "seed": 5, "weights": [0.5]}
    yield {**case, "method": "model-stock", "weights": [1.0, 1.0], "default": True}
    yield {**case, "method": "slerp", "weights": [0.4], "default": True}


def main(directory, *seeds):
    os.makedirs(directory, exist_ok=True)
    total = 0
    for seed in seeds:
        random = np.random.default_rng(int(seed))
        for shapes, kinds, list_cases in [
                (SHAPES, ["F32", "F64", "F16", "BF16"], lambda r: cases(r, "f64")),
                (SHAPES, ["BF16"] * 4, lambda r: cases(r, "f32")),
                (LARGE, ["F32", "F32", "F16"], large_cases)]:
            start = {name: random.standard_normal(shape) for name, shape in shapes.items()}
            start = {name: np.round(x * 8) / 8 if "coarse" in name else x for name, x in start.items()}
            start = {name: 0 * x if name == "zero" else x for name, x in start.items()}
            common = {name: random.standard_normal(shape) for name, shape in shapes.items()}
            base_path = f"{directory}/base.safetensors"
            base = write(base_path, start, kinds[0])
            paths = [f"{directory}/m{t}.safetensors" for t in range(len(kinds) - 1)]
            models = [write(path, {name: changed(random, base[name], name, 0.3 * (t + 1))
                                   + (name == "wide") * common[name] for name in shapes},
                            kinds[t + 1]) for t, path in enumerate(paths)]
            for case in list_cases(random):
                count = len(case["weights"])
                with_base = case["method"] != "slerp" or count == 1
                results = run(case, paths[:count], base_path if with_base else None,
                              f"{directory}/out-%g.safetensors")
                for result in results:
                    check(case, result, base if with_base else None, models[:count], list(shapes))
                    total += 1
    print(f"{total} results agree")


if __name__ == "__main__":
    main(*sys.argv[1:])
