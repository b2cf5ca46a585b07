"""Compares what ivon-predict wrote with what PyTorch computed, and its outputs with each other.

usage: predict_reference.py logits OUTPUT REFS
       predict_reference.py mean METRICS.json OUTPUT.json
       predict_reference.py sampled METRICS.json OUTPUT.json DATA:GROUP OUTPUT OTHER_SEED
       predict_reference.py calibrated MEAN.json SAMPLED.json
       predict_reference.py monte-carlo REFS MEAN_OUTPUT SEED_OUTPUT...
       predict_reference.py close A B DEPTH
"""
import json
import sys

import h5py
import numpy as np

NAMES = ("accuracy", "nll", "brier", "ece")
BINS = 15  # of metrics.json's ece too: at the mean, 10 or 20 bins give digits-mlp other numbers


def read(path, name):
    with h5py.File(path, "r") as f:
        return np.float64(f[name][()])


def metrics(path):
    with open(path) as f:
        return json.load(f)["metrics"]


def published(path, part):
    with open(path) as f:
        return json.load(f)[part]


def logits(output, refs):
    """Both sides compute in binary32, and agree to 1e-5 of the largest number."""
    with h5py.File(refs, "r") as f:
        name, wanted = ("logits", "logits") if "logits" in f else ("mean", "prediction")
    found, want = read(output, name), read(refs, wanted)
    assert found.shape == want.shape, (found.shape, want.shape)
    size = np.max(np.abs(want))
    error = np.max(np.abs(found - want)) / size
    print(f"{name} {want.shape}: {error:.1e} of the largest, {size:.3g}")
    assert error < 1e-5


def mean(reference, output):
    """Four digits: an error of 1e-5 in logits leaves more, unless an example changes its class."""
    want, found = published(reference, "mean"), metrics(output)
    errors = {name: abs(found[name]["value"] / want[name] - 1) for name in NAMES}
    print("at the mean, relative: " + ", ".join(f"{n} {e:.1e}" for n, e in errors.items()))
    assert max(errors.values()) < 1e-4


def contributions(probabilities, labels, bins_of):
    """What each example adds to n times accuracy and ece, the sign of a bin being bins_of's."""
    def parts(p):
        confidence, correct = p.max(1), p.argmax(1) == labels
        return confidence, correct, np.minimum(BINS - 1, (BINS * confidence).astype(int))
    confidence, correct, bins = parts(bins_of)
    signs = np.sign(np.bincount(bins, correct - confidence, BINS))
    confidence, correct, bins = parts(probabilities)
    return {"accuracy": correct * 1.0, "ece": signs[bins] * (correct - confidence)}


def sampled(reference, output, data, here, other, samples):
    """
    Two averages over 64 samples each differ by sqrt(2) Monte-Carlo errors e; three of those are
    allowed. accuracy and ece also jump, when an example changes its class or its bin. Leaving out a
    sixteenth of the samples makes few jumps or none, so that the jackknife may give 0 for them: they
    are counted between the predictions of two seeds instead. If the example's contribution u_i to n
    times the metric is another by d_i, and the signs of the d_i are independent, their sum has
    the variance sum d_i^2, which is that of a difference already; for accuracy it is the number of
    examples that flip. At least one flip of 1/n is granted. The other average is over fewer samples,
    S: the d_i^2 are so many times as large as 1/64 + 1/S is to 2/64.
    """
    excess = (1 / 64 + 1 / int(samples)) / (2 / 64)
    file, group = data.split(":")
    labels = read(file, group + "/y").astype(int)
    a, b = (read(path, "probabilities") for path in (here, other))
    u, v = contributions(a, labels, a), contributions(b, labels, a)
    want, found = published(reference, "mc64"), metrics(output)
    accuracy = np.mean(a.argmax(1) == labels)
    assert abs(found["accuracy"]["value"] - accuracy) < 1e-9, "not the metrics of the output"
    worst = {}
    for name in NAMES:
        variance = 2 * found[name]["monte_carlo_error"] ** 2
        if name in u:
            variance += max(1, np.sum((u[name] - v[name]) ** 2) / excess) / len(labels) ** 2
        difference = found[name]["value"] - want[name]
        worst[name] = difference / np.sqrt(variance)
        print(f"64 samples, {name}: {found[name]['value']:.5f}, PyTorch {want[name]:.5f}, "
              f"monte_carlo_error {found[name]['monte_carlo_error']:.1e}, z {worst[name]:.2f}")
    assert all(abs(z) < 3 for z in worst.values())


def calibrated(at_mean, averaged):
    """Averaging improves calibration; the optimizer's paper has this as its claim."""
    a, b = metrics(at_mean), metrics(averaged)
    said = {name: " to ".join(f"{m[name]['value']:.3f} ± {m[name]['standard_error']:.3f}"
                              for m in (a, b)) for name in ("nll", "ece")}
    print("log-likelihood on 1,600 test reviews from {nll}, its calibration error from {ece}, "
          "at equal accuracy".format(**said))
    for name in said:
        assert b[name]["value"] < a[name]["value"]
    # Within the error of their difference, if the examples' errors were as good as independent.
    assert abs(a["accuracy"]["value"] - b["accuracy"]["value"]) < a["accuracy"]["standard_error"]


def monte_carlo(refs, at_mean, *seeds):
    """
    PyTorch averaged 256 samples; ours are G = 8 averages of 32. With v the variance between those,
    v/8 estimates without bias the variance of our average over all 256, and of PyTorch's. So for
    one probability z^2 = d^2/(2 v/8), d their difference, is F(1, 7), if averages of 32 are normal:
    probabilities near 0 or 1, of which a few samples decide, are left out.

    All probabilities come from the same 256 weight samples and depend on each other. Two statistics:
     - the median of z^2. Whatever the dependence, P(half of them exceed c) <= 2 P(F(1, 7) > c) by
       Markov; c = 29.2 makes that 0.2 %. Its expectation is about .51.
     - the ratio of sum d^2 to sum 2 v/8, of expectation about 1 where the mean of z^2 is 7/5 with a
       heavy tail. With covariance C of one average, sum d^2 is a sum of chi^2(1) weighted by C's
       eigenvalues, as k = tr(C)^2/tr(C^2) of them (Box, Ann. Math. Stat. 1954), and the ratio is
       F(k, 7 k). tr(C^2) is estimated without bias from the Gram matrix of the 8 averages:
       nu^2/((nu - 1)(nu + 2)) (tr S^2 - (tr S)^2/nu), nu = 7. The bound is the upper 1e-4 of
       F(k, 7 k), by simulation; k is at least 1.
    The prediction at the mean has to fail the second test, else it could find nothing.
    """
    ours = np.stack([read(path, "probabilities") for path in seeds])
    want = read(refs, "mc_probs")
    nu = len(seeds) - 1
    average = ours.mean(0)
    middle = (average > 0.02) & (average < 0.98)
    ours, average, want = ours[:, middle], average[middle], want[middle]
    point = read(at_mean, "probabilities")[middle]
    # The average of 256 probabilities in binary32 is off by some 2^-24.
    variance = 2 * (ours.var(0, ddof=1) / len(seeds) + 2.0**-46)
    ratio = np.sum((average - want) ** 2) / np.sum(variance)
    control = np.sum((point - want) ** 2) / np.sum(variance)
    median = np.median((average - want) ** 2 / variance)
    gram = (ours - average) @ (ours - average).T / nu
    trace, square = np.trace(gram), np.sum(gram**2)
    square = nu**2 / ((nu - 1) * (nu + 2)) * (square - trace**2 / nu)
    k = max(1.0, trace**2 / square) if square > 0 else 1.0
    random = np.random.default_rng(0)
    draws = random.chisquare(k, 10**6) / random.chisquare(nu * k, 10**6) * nu
    bound = np.quantile(draws, 1 - 1e-4)
    print(f"256 samples, {middle.sum()} of {middle.size} probabilities: median z^2 {median:.2f}, "
          f"ratio {ratio:.2f} below {bound:.2f} (k = {k:.1f}); at the mean {control:.1f}")
    assert middle.sum() >= 20 and median < 29.2 and ratio < bound < control


def close(a, b, depth):
    """
    Other batches sum in another order. A sum of K <= 1024 products of binary32 is off by about
    sqrt(K) <= 32 roundings of 2^-24, in either order, so that a layer's outputs differ by 64 * 2^-24
    of their size; layers add up. A softmax takes errors e of its logits to at most max|e|/2, as the
    absolute derivatives of one probability p sum up to 2 p (1 - p) <= 1/2.
    """
    size = np.max(np.abs(read(a, "logits")))
    bound = 64 * 2.0**-24 * int(depth) * size
    for name, scale in (("logits", 1), ("probabilities", 0.5)):
        error = np.max(np.abs(read(a, name) - read(b, name)))
        print(f"{name}: {error:.1e}, {error / bound / scale:.1e} of the bound")
        assert error < bound * scale


{"logits": logits, "mean": mean, "sampled": sampled, "calibrated": calibrated,
 "monte-carlo": monte_carlo, "close": close}[sys.argv[1]](*sys.argv[2:])
