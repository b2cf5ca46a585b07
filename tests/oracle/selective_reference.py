"""Recomputes the metrics of lib/ivon/selective.h with numpy and writes them as C, for the unit tests.

usage: selective_reference.py > tests/unit/selective_fixture.h

Areas are means over all orders of rows of equal confidence, and their errors come of differences by each row's
weight; scores of normal distributions are integrals over a grid; the regression is Newton's method on matrices.
Inputs are multiples of 1/64, exact in binary32.
"""
import itertools
from math import erf, sqrt

import numpy as np

ROWS, TIED, GROUPS, CLASSES, RISK = 60, 9, 3, 4, 0.125
rng = np.random.default_rng(3)


def array(kind, name, values):
    lines, line = [], "   "
    for number in (repr(v) for v in np.asarray(values).ravel().tolist()):
        if len(line) + len(number) > 96:
            lines.append(line)
            line = "   "
        line += f" {number},"
    print(f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line.rstrip(',')]) + "};\n")


def area(order, e, w):
    """Of rows of weight w: the mean over rows of the risk of those that are as sure."""
    return (w[order] * np.cumsum(w[order] * e[order]) / np.cumsum(w[order])).sum() / w.sum()


def orders(key):
    """All orders by falling key."""
    groups = [np.flatnonzero(key == k) for k in sorted(set(key), reverse=True)]
    return [np.concatenate(parts) for parts in itertools.product(*(
        [list(p) for p in itertools.permutations(g)] if len(g) < 5 else [list(g)] for g in groups))]


def with_error(keys, e):
    """Σ sign · the mean area over orders, and its error by the derivatives."""
    n, value, slopes = len(e), 0.0, np.zeros(len(e))
    for sign, key in keys:
        found, own = orders(key), np.zeros(n)
        for order in found:
            value += sign * area(order, e, np.ones(n)) / len(found)
            for j in range(n):
                step = 1e-5 * (np.arange(n) == j)
                own[j] += (area(order, e, 1 + step) - area(order, e, 1 - step)) / 2e-5 / len(found)
        for k in set(zip(key, e)):  # where one order stands for all, of rows that are alike in all
            alike = (key == k[0]) & (e == k[1])
            own[alike] = own[alike].mean()
        slopes += sign * own
    d = slopes * n
    return value, sqrt((d**2).sum() / n / (n - 1))


def coverage(c, e, risk):
    answered = [c >= t for t in sorted(set(c))]
    return max([a.mean() for a in answered if e[a].mean() <= risk], default=0.0)


def coverage_error(c, e):
    n, share = len(c), coverage(c, e, RISK)
    noise = sqrt(RISK * (1 - RISK) / (n * share))
    half = (coverage(c, e, RISK + noise) - coverage(c, e, RISK - noise)) / 2
    return sqrt(share * (1 - share) / (n - 1) + half**2)


def line(c, e):
    x = np.stack([np.ones(len(c)), np.log(c / (1 - c))], 1)
    right, b = 1.0 * (e == 0), np.zeros(2)
    for _ in range(100):
        q = 1 / (1 + np.exp(-x @ b))
        information = (x * (q * (1 - q))[:, None]).T @ x
        b = b + np.linalg.solve(information, x.T @ (right - q))
    error = np.sqrt(np.diag(np.linalg.inv(information)))
    return b[1], error[1], b[0], error[0]


def crps(mean, std, y):
    """∫ (Φ((x − mean)/std) − [x >= y])² dx: both sides of y apart, where the integrand is smooth."""
    total = 0.0
    for low, high, step in ((min(mean - 12 * std, y), y, 0), (y, max(mean + 12 * std, y), 1)):
        x = np.linspace(low, high, 200001)
        f = np.array([0.5 * (1 + erf((v - mean) / std / sqrt(2))) for v in x]) - step
        total += np.trapezoid(f**2, x) if hasattr(np, "trapezoid") else np.trapz(f**2, x)
    return total


def print_groups():
    whole = np.floor(rng.dirichlet(np.ones(CLASSES), ROWS) * 60).astype(int) + 1
    whole[np.arange(ROWS), whole.argmax(1)] += 64 - whole.sum(1)
    p, y, group = whole / 64, rng.integers(0, CLASSES, ROWS), rng.integers(-1, GROUPS - 1, ROWS)
    array("float", "fixture_probabilities", p)
    array("int64_t", "fixture_labels", y)
    array("int64_t", "fixture_groups", group)
    best, rows = p.argmax(1), np.arange(ROWS)
    values = np.stack([best == y, -np.log(p[rows, y]), ((p - np.eye(CLASSES)[y])**2).sum(1),
                       p.max(1) - (best == y)], 1)
    array("double", "fixture_of_groups", [[(v[:, i].mean(), v[:, i].std(ddof=1) / sqrt(len(v))) for i in range(4)]
                                          for g in range(-1, GROUPS - 1) for v in [values[group == g]]])


def main():
    print('/* Made by tests/oracle/selective_reference.py (numpy). */')
    print('#ifndef SELECTIVE_FIXTURE_H\n#define SELECTIVE_FIXTURE_H\n\n#include <stdint.h>\n')
    print(f'enum {{ FIXTURE_ROWS = {ROWS}, FIXTURE_TIED = {TIED}, FIXTURE_GROUPS = {GROUPS}, '
          f'FIXTURE_CLASSES = {CLASSES} }};\n\nstatic const double fixture_risk = {RISK};\n')
    c = rng.permutation(np.arange(2, 2 + ROWS)) / 64  # no two alike
    e = 1.0 * (rng.random(ROWS) > c**0.5)
    tied = np.array([4, 4, 4, 1, 6, 6, 2, 7, 3]) / 8
    shares = np.array([1, 0, 0.5, 0.25, 0, 0.75, 0, 0, 0.25])
    for name, confidences, errors in (("", c, e), ("tied_", tied, shares)):
        array("float", f"fixture_{name}confidences", confidences)
        array("float", f"fixture_{name}errors", errors)
        best = [(1, confidences), (-1, -errors)]
        array("double", f"fixture_{name}areas", [*with_error([(1, confidences)], errors), *with_error(best, errors)])
    array("double", "fixture_coverage", [coverage(c, e, RISK), coverage_error(c, e), coverage(tied, shares, 0.3)])
    array("double", "fixture_line", line(c, e))
    normals = [(0, 1, 0.5), (1, 2, -3), (-2, 0.25, -2), (3, 1.5, 12)]
    array("double", "fixture_normals", [(*n, crps(*n)) for n in normals])
    print_groups()
    print('#endif')


if __name__ == "__main__":
    main()
