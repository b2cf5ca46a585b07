"""Recomputes calibrations and conformal sets with numpy and writes them as C, for the unit tests.

usage: calibration_reference.py > tests/unit/calibration_fixture.h

Written from the formulas of lib/ivon/calibrate.h: dense Newton and bisection for the scalings, the
minimum of maxima of means for isotonic regression, one class at a time for scores and sets. Inputs are
multiples of 1/64 (probabilities) and 1/16, exact in binary32. Uniform numbers are those of normals.py.
"""
import numpy as np
from math import ceil, erf, sqrt

import normals

ROWS, CLASSES, NEW, FIRST_NEW, SEED = 60, 4, 40, 1000, 9
COVERAGE, PENALTY, FREE, FOLDS, OUTPUTS, EVENTS = 0.6, 0.125, 1, 4, 2, 3
rng = np.random.default_rng(11)


def array(kind, name, values):
    lines, line = [], "   "
    for number in (repr(v) for v in np.asarray(values).ravel().tolist()):
        if len(line) + len(number) > 96:
            lines.append(line)
            line = "   "
        line += f" {number},"
    print(f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line.rstrip(',')]) + "};\n")


def number(name, value):
    print(f"static const double {name} = {float(value)!r};\n")


def draw(count):
    """Probabilities, and classes that are right less often than they say; some others have 0."""
    logits = rng.normal(size=(count, CLASSES)) * 2.5
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    whole = np.maximum(np.floor(p * 64).astype(int), 1)
    truth = softmax(0.6 * logits)
    labels = np.array([rng.choice(CLASSES, p=t) for t in truth])
    for i, row in enumerate(whole):
        row[row.argmin()] *= i % 8 > 0 or row.argmin() == labels[i]
        row[row.argmax()] += 64 - row.sum()
    return whole / 64, labels


def uniform(purpose, row, c=0):
    word = int(normals.words(SEED, int(row), purpose, int(c) // 4, 1)[c % 4])
    return (word >> 11) * 2.0**-53 + 2.0**-54


def logs(p):
    return np.log(np.maximum(p, 2.0**-126))


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def temperature(p, y):
    """The root of the derivative of the NLL by 1/T, by bisection."""
    l, low, high = logs(p), 1 / 64, 64.0
    for _ in range(200):
        beta = (low + high) / 2
        q = softmax(beta * l)
        slope = ((q * l).sum(1) - l[np.arange(len(y)), y]).sum()
        low, high = (low, beta) if slope > 0 else (beta, high)
    return 1 / beta


def vector(l, y):
    """Newton's method with the whole Hessian, damped until the objective falls."""
    k = l.shape[1]
    one = np.eye(k)[y]
    x = np.r_[np.ones(k), np.zeros(k)]
    start = x.copy()
    # z = F x, F of shape rows × classes × parameters
    f = np.concatenate([l[:, :, None] * np.eye(k), np.broadcast_to(np.eye(k), (len(y), k, k))], 2)

    def value(x):
        z = f @ x
        return (np.logaddexp.reduce(z, 1) - (z * one).sum(1)).sum() + 0.005 * ((x - start)**2).sum()

    for _ in range(500):
        q = softmax(f @ x)
        gradient = np.einsum("nc,ncp->p", q - one, f) + 0.01 * (x - start)
        curvature = np.einsum("nc,cd->ncd", q, np.eye(k)) - q[:, :, None] * q[:, None, :]
        hessian = np.einsum("ncp,ncd,ndq->pq", f, curvature, f) + 0.01 * np.eye(2 * k)
        step, length = np.linalg.solve(hessian, gradient), 1.0
        while value(x - length * step) > value(x) and length > 1e-9:
            length /= 2
        x = x - length * step
    assert np.abs(gradient).max() < 1e-9
    return x[:k], x[k:]


def isotonic(x, y, at):
    """At the distinct numbers u: max over a <= i of min over b >= i of the mean of u_a ... u_b."""
    u = np.unique(x)
    total, count = np.array([(y[x == v].sum(), (x == v).sum()) for v in u]).T
    mean = np.array([[total[a:b + 1].sum() / count[a:b + 1].sum() if b >= a else np.inf
                      for b in range(len(u))] for a in range(len(u))])
    fitted = np.array([max(mean[a, i:].min() for a in range(i + 1)) for i in range(len(u))])
    least = 1 / (len(x) + 2)
    return np.interp(at, u, np.clip(fitted, least, 1 - least))


def isotonic_rows(p, y, at):
    z = np.stack([isotonic(p[:, c], y == c, at[:, c]) for c in range(CLASSES)], 1)
    return z / z.sum(1, keepdims=True)


def score(kind, p, c, u):
    if kind == "thr":
        return 1 - p[c]
    before = [k for k in range(CLASSES) if p[k] > p[c] or (p[k] == p[c] and k < c)]
    s = sum(sorted((p[k] for k in before), reverse=True)) + u * p[c]
    return s + (PENALTY * max(0, len(before) + 1 - FREE) if kind == "raps" else 0)


def threshold(pairs, coverage=COVERAGE):
    rank = ceil((len(pairs) + 1) * coverage - 1e-9)
    return sorted(pairs)[rank - 1] if rank <= len(pairs) else (np.inf, 1)


def held_out(kind, p, y, rows):
    return threshold([(score(kind, p[i], y[i], uniform("conformal.score.held_out", r)),
                       uniform("conformal.tie.held_out", r, y[i])) for i, r in enumerate(rows)])


def sets(kind, q, p, rows):
    return np.array([[(score(kind, p[i], c, uniform("conformal.score.new", r)),
                       uniform("conformal.tie.new", r, c)) <= q for c in range(CLASSES)]
                     for i, r in enumerate(rows)]).astype(int)


def error(values):
    return np.std(values, ddof=1) / sqrt(len(values))


def folds(rows):
    return np.array([int(uniform("calibration.fold", r) * FOLDS) for r in rows])


def normal_quantile(coverage):
    low, high = 0.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if erf(middle / sqrt(2)) < coverage else (low, middle)
    return high


def print_scalings(p, y, new):
    number("fixture_temperature", temperature(p, y))
    array("float", "fixture_tempered", softmax(logs(new) / temperature(p, y)).astype("f4"))
    w, b = vector(logs(p), y)
    array("double", "fixture_weights", w)
    array("double", "fixture_biases", b)
    array("float", "fixture_scaled", softmax(w * logs(new) + b).astype("f4"))
    array("float", "fixture_isotonic", isotonic_rows(p, y, new).astype("f4"))


def print_sets(p, y, new):
    rows, after = range(ROWS), range(FIRST_NEW, FIRST_NEW + NEW)
    for kind in ("thr", "aps", "raps"):
        q = held_out(kind, p, y, rows)
        number(f"fixture_{kind}", q[0])
        array("int64_t", f"fixture_sets_{kind}", sets(kind, q, new, after))
    # Half of the rows give the temperature, the others the threshold.
    half = np.array([uniform("calibration.half", r) < 0.5 for r in rows])
    t = temperature(p[half], y[half])
    scaled = softmax(logs(p[~half]) / t).astype("f4").astype(float)
    number("fixture_half_temperature", t)
    number("fixture_half_quantile", held_out("aps", scaled, y[~half], np.arange(ROWS)[~half])[0])


def print_validation(p, y):
    """NLL by temperature, and sets by aps without one, of rows that were not fitted to."""
    fold, nll, hits, sizes = folds(range(ROWS)), np.zeros(ROWS), np.zeros(ROWS), np.zeros(ROWS)
    for f in range(FOLDS):
        there, here = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        q = softmax(logs(p[here]) / temperature(p[there], y[there]))
        nll[here] = -np.log(q[np.arange(len(here)), y[here]])
        own = sets("aps", held_out("aps", p[there], y[there], there), p[here], here)
        hits[here], sizes[here] = own[np.arange(len(here)), y[here]], own.sum(1)
    before = sets("aps", (COVERAGE, 1), p, range(ROWS))
    array("double", "fixture_validation", [
        nll.mean(), error(nll), hits.mean(), error(hits), sizes.mean(), error(sizes),
        (sizes == 0).mean(), before[np.arange(ROWS), y].mean(), before.sum(1).mean(),
        (before.sum(1) == 0).mean()])
    assert 0 < (sizes == 0).mean() != (before.sum(1) == 0).mean() > 0


def print_regression():
    mean, noise = rng.integers(-32, 32, (2, ROWS, OUTPUTS)) / 16
    std = rng.integers(4, 40, (ROWS, OUTPUTS)) / 16
    target = mean + np.round(noise * std * 16) / 16
    array("float", "fixture_means", mean)
    array("float", "fixture_deviations", std)
    array("float", "fixture_numbers", target)
    residual = np.abs(target - mean)
    for name, s in (("absolute", residual), ("normalised", residual / std)):
        array("double", f"fixture_{name}", [threshold([(v, 0) for v in s[:, k]])[0]
                                            for k in range(OUTPUTS)])
    fold, hits, widths = folds(range(ROWS)), np.zeros((ROWS, OUTPUTS)), np.zeros((ROWS, OUTPUTS))
    for f in range(FOLDS):
        here = fold == f
        for k in range(OUTPUTS):
            q = threshold([(v, 0) for v in (residual / std)[~here, k]])[0] * std[here, k]
            hits[here, k], widths[here, k] = residual[here, k] <= q, 2 * q
    z = normal_quantile(COVERAGE) * std
    array("double", "fixture_intervals", [
        hits.mean(), error(hits.mean(1)), widths.mean(), error(widths.mean(1)),
        (residual <= z).mean(), 2 * z.mean()])


def event_logs(p):
    return np.log(np.maximum(np.stack([1 - p, p], -1), [2.0**-25, 2.0**-126]))


def print_events():
    """Of K events by themselves; some predictions are certain, and one of these is wrong."""
    logits = rng.normal(size=(ROWS + NEW, EVENTS)) * 3
    p = np.round(64 / (1 + np.exp(-logits))) / 64
    y = (rng.random((ROWS, EVENTS)) < 1 / (1 + np.exp(-0.5 * logits[:ROWS]))).astype(int)
    p, new = p[:ROWS], p[ROWS:]
    p[0, 0], y[0, 0], new[:3, 0] = 1, 0, (0, 0.5, 1)
    array("float", "fixture_events", p)
    array("int64_t", "fixture_happened", y)
    array("float", "fixture_new_events", new)
    logit, low, high = np.diff(event_logs(p))[..., 0], 1 / 64, 64.0
    for _ in range(200): # the derivative by 1/T
        beta = (low + high) / 2
        slope = ((0.5 + 0.5 * np.tanh(beta * logit / 2) - y) * logit).sum()
        low, high = (low, beta) if slope > 0 else (beta, high)
    number("fixture_event_temperature", 1 / beta)
    most = 1 - 2.0**-24
    q = 1 / (1 + np.exp(-beta * np.diff(event_logs(new))[..., 0]))
    array("float", "fixture_events_tempered", np.minimum(q, most).astype("f4"))
    scaled = np.empty((NEW, EVENTS))
    for c in range(EVENTS):
        w, b = vector(event_logs(p[:, c]), y[:, c])
        scaled[:, c] = softmax(w * event_logs(new[:, c]) + b)[:, 1]
    array("float", "fixture_events_scaled", np.minimum(scaled, most).astype("f4"))
    array("float", "fixture_events_isotonic",
          np.stack([isotonic(p[:, c], y[:, c], new[:, c]) for c in range(EVENTS)], 1).astype("f4"))
    # What isotonic regression makes of rows that it was not fitted to.
    fold, own = folds(range(ROWS)), np.empty((ROWS, EVENTS))
    for f in range(FOLDS):
        for c in range(EVENTS):
            own[fold == f, c] = isotonic(p[fold != f, c], y[fold != f, c], p[fold == f, c])
    squares = ((own - y)**2).mean(1)
    array("double", "fixture_events_validation", [
        ((own > 0.5) == y).mean(), squares.mean(), error(squares), ((p > 0.5) == y).mean(), ((p - y)**2).mean()])


def main():
    print('/* Made by tests/oracle/calibration_reference.py (numpy). */')
    print('#ifndef CALIBRATION_FIXTURE_H\n#define CALIBRATION_FIXTURE_H\n\n#include <stdint.h>\n')
    print(f'enum {{\n    FIXTURE_ROWS = {ROWS},\n    FIXTURE_CLASSES = {CLASSES},\n    FIXTURE_NEW = {NEW},\n'
          f'    FIXTURE_FIRST_NEW = {FIRST_NEW},\n    FIXTURE_SEED = {SEED},\n    FIXTURE_FREE = {FREE},\n'
          f'    FIXTURE_FOLDS = {FOLDS},\n    FIXTURE_OUTPUTS = {OUTPUTS},\n    FIXTURE_EVENTS = {EVENTS}\n}};\n')
    number("fixture_coverage", COVERAGE)
    number("fixture_penalty", PENALTY)
    p, y = draw(ROWS)
    new, _ = draw(NEW)
    array("float", "fixture_probabilities", p)
    array("int64_t", "fixture_labels", y)
    array("float", "fixture_new", new)
    print_scalings(p, y, new)
    print_sets(p, y, new)
    print_validation(p, y)
    print_regression()
    print_events()
    print('#endif')


if __name__ == "__main__":
    main()
