"""Steps of IVON whose lanes draw weights of their own, by numpy in double precision, fed with the same noise and the same
order of examples: the network and the data of training_losses.py, tokens of which some do not count, so that lanes have
different numbers of losses.

usage: training_lanes.py RUN LANES STEPS    after ivon-train with OPTIONS, into RUN
       training_lanes.py options            prints these, without --lanes and --steps
"""
import sys

import h5py
import numpy as np

from normals import normals, words
from training_losses import IGNORED, problem

SEED, SAMPLES, BATCH, ACCUMULATE, EVERY = 3, 2, 10, 3, 2
LR, H0, BETA1, BETA2, DECAY, ESS, CLIP, RADIUS = 0.2, 0.1, 0.9, 0.9, 1e-3, 50.0, 0.4, 0.9
OPTIONS = (f"--lane-samples --antithetic --seed={SEED} --mc-samples={SAMPLES} --batch={BATCH} --accumulate={ACCUMULATE} "
           f"--hess-every={EVERY} --lr={LR} --h0={H0} --beta1={BETA1} --beta2={BETA2} --weight-decay={DECAY} --ess={ESS} "
           f"--clip-norm={CLIP} --clip-radius={RADIUS}")


def order(count, epoch):
    """Fisher and Yates's shuffle, from the last position down (lib/train/order.h)."""
    found, random = np.arange(count), words(SEED, epoch, "/order", 0, -(-count // 4))
    for i, word in zip(range(count, 1, -1), random):
        other = int(word) * i >> 64
        found[[i - 1, other]] = found[[other, i - 1]]
    return found


def lane_gradient(w, x, y):
    """The sum over the losses."""
    counts = y != IGNORED
    rows, labels = x[counts].astype(float), y[counts]
    p = np.exp(rows @ w)
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return rows.T @ p


def step(t, lanes, x, y, w, h, g):
    batches = [divmod(t * ACCUMULATE + i, len(x) // BATCH) for i in range(ACCUMULATE)]
    chosen = np.concatenate([order(len(x), epoch)[BATCH * i:BATCH * (i + 1)] for epoch, i in batches])
    losses, size = (y[chosen] != IGNORED).sum(), -(-len(chosen) // lanes)
    shares = [chosen[i:i + size] for i in range(0, len(chosen), size)]
    mean_gradient, mean_hessian = np.zeros((2, *w.shape))
    for sample in range(t * SAMPLES, (t + 1) * SAMPLES):
        gradient, estimate = np.zeros((2, *w.shape))
        for lane, own in enumerate(shares):
            number = sample * len(shares) + lane
            noise = normals(SEED, number - number % 2, "w", w.size).reshape(w.shape) * (-1)**number
            sigma = 1 / np.sqrt(ESS * (h + DECAY))
            counted = (y[own] != IGNORED).sum()
            ghat = lane_gradient(w + sigma * noise, x[own], y[own]) / counted  # as a worker has it
            gradient += counted / losses * ghat
            estimate += counted / losses * ghat * noise / sigma
        scale = min(1, CLIP / np.sqrt((gradient**2).sum()))
        mean_gradient += scale * gradient / SAMPLES
        mean_hessian += scale * estimate / SAMPLES
    g = BETA1 * g + (1 - BETA1) * mean_gradient
    if t % EVERY == 0:
        h = (BETA2 * h + (1 - BETA2) * mean_hessian
             + 0.5 * (1 - BETA2)**2 * (h - mean_hessian)**2 / (h + DECAY))
    move = np.clip((g / (1 - BETA1**(t + 1)) + DECAY * w) / (h + DECAY), -RADIUS, RADIUS)
    return w - LR * (H0 + DECAY) * move, h, g


def main():
    run, lanes, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    x, y, w = problem()
    state = w.astype(float), np.full(w.shape, H0), np.zeros(w.shape)
    for t in range(steps):
        state = step(t, lanes, x, y, *state)
    with h5py.File(f"{run}/posterior-{steps:08d}.h5") as f:
        found = [f[part + "/w"][()] for part in ("mean", "hessian", "momentum")]
    for name, expected, have, start in zip(("mean", "hessian", "momentum"), state, found, (w, H0, 0)):
        # A weight, below 4, is rounded to 2^-23 by each step, and so are its two samples, whose distances count.
        assert np.abs(have - expected).max() < steps * 4 * 2.0**-23, (name, np.abs(have - expected).max())
        assert np.abs(expected - start).max() > 1e-2, name


if __name__ == "__main__":
    print(OPTIONS) if sys.argv[1:] == ["options"] else main()
