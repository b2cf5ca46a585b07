"""Recomputes WAIC and PSIS-LOO in extended precision and writes them as C, for the unit tests.

usage: psis_reference.py > tests/unit/psis_fixture.h

Written from the papers that lib/ivon/information.h names. Log-likelihoods are multiples of 1/1024,
exact with the exponents 1 and 1/2, some of them equal. numpy's longdouble has to be wider than
double, as it is on x86-64.
"""
import numpy as np

SCALE = 1024
BLOCKS = [(320, 5), (45, 4)]  # tails of 54, by √S, and of 9, by S/5
EXPONENTS = [1, 0.5]
wide = np.longdouble
assert np.finfo(wide).nmant >= 63


def array(kind, name, values):
    lines, line = [], "   "
    for number in (repr(v) for v in np.asarray(values).ravel().tolist()):
        if len(line) + len(number) > 96:
            lines.append(line)
            line = "   "
        line += f" {number},"
    print(f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line.rstrip(',')]) + "};\n")


def fit(x):
    """Zhang & Stephens (2009): k and sigma of exceedances x, in rising order."""
    n = len(x)
    m = 30 + int(np.sqrt(n))
    j = np.arange(1, m + 1).astype(wide)
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1 / x[-1] + (1 - np.sqrt(m / (j - wide(0.5)))) / (3 * quartile)
    k = np.log1p(-theta[:, None] * x[None, :]).mean(1)
    profile = n * (np.log(-theta / k) - k - 1)
    weight = 1 / np.exp(profile[None, :] - profile[:, None]).sum(1)
    theta = (theta * weight).sum()
    k = np.log1p(-theta * x).mean()
    return k, -k / theta


def psis(log_likelihood, exponent, log_ratio=0):
    """Returns the leave-one-out loss and Pareto's k of one example."""
    samples = len(log_likelihood)
    log_ratio = log_ratio - exponent * log_likelihood
    ratio = np.exp(log_ratio - log_ratio.max())
    order = np.lexsort((-log_likelihood, log_ratio))  # of equal ratios the least likelihood is last
    m = int(np.ceil(min(samples / 5, 3 * np.sqrt(samples))))
    tail, cutoff = order[-m:], ratio[order[-m - 1]]
    k, sigma = fit(ratio[tail] - cutoff)
    k = (m * k + 10 * wide(0.5)) / (m + 10)  # as if ten more exceedances had k = 1/2
    p = (np.arange(1, m + 1) - wide(0.5)) / m
    weight = ratio.copy()
    weight[tail] = cutoff + sigma * ((1 - p) ** -k - 1) / k
    weight = np.minimum(weight, ratio.max())
    return -np.log((weight * np.exp(log_likelihood)).sum() / weight.sum()), k


def waic(log_likelihood, exponent):
    penalty = exponent * log_likelihood.var(ddof=1)
    return -np.log(np.exp(log_likelihood).mean()) + penalty, penalty


def main():
    rng, other = np.random.default_rng(7), np.random.default_rng(8)
    print("/* Made by tests/oracle/psis_reference.py (numpy). */\n"
          "#ifndef PSIS_FIXTURE_H\n#define PSIS_FIXTURE_H\n\n#include <stdint.h>\n")
    for b, (samples, examples) in enumerate(BLOCKS):
        columns = [-rng.exponential(rate, samples) for rate in (0.05, 0.3, 0.9)]  # k near the rate
        columns.append(-0.5 * (0.7 + 0.4 * rng.standard_normal(samples)) ** 2 - 0.9)
        columns.append(-np.floor(rng.exponential(1, samples) * 16) / 64)  # many equal ones
        values = np.rint(np.stack(columns[:examples], 1) * SCALE).astype(int)
        print(f"/* times {SCALE}: {samples} samples of {examples} examples */")
        array("int16_t", f"fixture_values_{b}", values)
        print(f"/* exponents {EXPONENTS}: waic, penalty, loo, k of each example */")
        exact = values.astype(wide) / SCALE
        array("double", f"fixture_results_{b}", [
            [[float(v) for v in waic(exact[:, i], wide(e)) + psis(exact[:, i], wide(e))]
             for i in range(examples)] for e in EXPONENTS])
        print(f"/* log ratios, times {SCALE}; k of them alone, and with exponent 1 loo and k of each */")
        ratios = np.rint(other.standard_normal(samples) * 0.7 * SCALE).astype(int)
        array("int16_t", f"fixture_ratios_{b}", ratios)
        exact_ratios = ratios.astype(wide) / SCALE
        alone = float(psis(exact_ratios * 0, wide(1), exact_ratios)[1])
        array("double", f"fixture_weighted_{b}", [alone] + [
            float(v) for i in range(examples) for v in psis(exact[:, i], wide(1), exact_ratios)])
    print("#endif")


if __name__ == "__main__":
    main()
