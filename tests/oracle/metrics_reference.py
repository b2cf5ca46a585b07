"""Recomputes metrics with scikit-learn and numpy and writes them as C, for the unit tests.

usage: metrics_reference.py > tests/unit/metrics_fixture.h

Inputs are multiples of 1/64 (probabilities) and 1/8 (scores, with ties), exact in binary32.
"""
import numpy as np
from sklearn.metrics import (accuracy_score, average_precision_score, brier_score_loss, log_loss,
                             roc_auc_score, roc_curve)

ROWS, CLASSES, IN, OUT = 40, 4, 45, 30
rng = np.random.default_rng(5)


def array(kind, name, values):
    text = ", ".join(repr(v) for v in np.asarray(values).ravel().tolist())
    lines, line = [], "   "
    for number in text.split(", "):
        if len(line) + len(number) > 96:
            lines.append(line)
            line = "   "
        line += f" {number},"
    print(f"static const {kind} {name}[] = {{\n" + "\n".join(lines + [line.rstrip(',')]) + "};\n")


def delong(high, low):
    """By the definition: the components' covariance over the two samples."""
    psi = (high[:, None] > low[None, :]) + 0.5 * (high[:, None] == low[None, :])
    return np.sqrt(psi.mean(1).var(ddof=1) / len(high) + psi.mean(0).var(ddof=1) / len(low))


p = np.stack([1 + rng.multinomial(64 - CLASSES, rng.dirichlet(np.ones(CLASSES)))
              for _ in range(ROWS)]) / 64
y = np.array([rng.choice(CLASSES, p=row) for row in p])
onehot = np.eye(CLASSES)[y]
inside = np.round(rng.normal(1, 1, IN) * 8) / 8
outside = np.round(rng.normal(0, 1, OUT) * 8) / 8
label = np.r_[np.ones(IN), np.zeros(OUT)]
score = np.r_[inside, outside]
fpr, tpr, _ = roc_curve(label, score, drop_intermediate=False)

print("/* Made by tests/oracle/metrics_reference.py (scikit-learn, numpy). */\n"
      "#ifndef METRICS_FIXTURE_H\n#define METRICS_FIXTURE_H\n\n#include <stdint.h>\n")
print(f"enum {{ FIXTURE_ROWS = {ROWS}, FIXTURE_CLASSES = {CLASSES}, FIXTURE_IN = {IN}, "
      f"FIXTURE_OUT = {OUT} }};\n")
array("float", "fixture_probabilities", p)
array("int64_t", "fixture_targets", y)
array("float", "fixture_in", inside)
array("float", "fixture_out", outside)
print("/* accuracy, nll, brier; brier of every class apart, which is Bernoulli's */")
array("double", "fixture_metrics", [
    accuracy_score(y, p.argmax(1)), log_loss(y, p, labels=range(CLASSES)),
    ((p - onehot) ** 2).sum(1).mean(),
    np.mean([brier_score_loss(onehot[:, c], p[:, c]) for c in range(CLASSES)])])
print("/* auroc, aupr_in, aupr_out, fpr95, detection_error; the standard error of auroc */")
array("double", "fixture_detection", [
    roc_auc_score(label, score), average_precision_score(label, score),
    average_precision_score(1 - label, -score), fpr[tpr >= 0.95].min(),
    (0.5 * (1 - tpr + fpr)).min(), delong(inside, outside)])
print("/* The bins of 0, .01 … 1 and of k/B, of B = 10, 15 and 20, as numpy has them in float32. */\n"
      "enum { FIXTURE_HUNDREDTHS = 101 };\n")
for bins in (10, 15, 20):
    for kind, values in (("hundredths", np.arange(101) / 100), ("edges", np.arange(bins + 1) / bins)):
        confidence = values.astype(np.float32)
        array("unsigned char", f"fixture_{kind}_{bins}",
              np.minimum((np.float32(bins) * confidence).astype(int), bins - 1))
print("#endif")
