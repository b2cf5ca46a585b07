"""A thousand steps of IVON (Shen et al., ICML 2024, Algorithm 1), AdamW and SGD in float64 numpy,
on gradients from a closed formula and with the noise of lib/core/random.h.

usage: optimizer_reference.py > tests/unit/optimizer_reference.h

Two tensors of the same size, each with options of its own. tests/unit/optimizer.c runs the same
settings; both take the gradient of element i of tensor t (from 0) at x to be
  k (x - target) + 0.3 sin(2 x),  k = 0.5 + i / COUNT,  target = 1 + t/2 + i / 10.
"""
import textwrap

import numpy as np
from normals import normals

COUNT, STEPS, SEED, NAMES = 21, 1000, 5, ["a.weight", "b.weight"]
INDEX = np.arange(COUNT)


def gradient(tensor, x):
    return (0.5 + INDEX / COUNT) * (x - (1 + tensor / 2 + INDEX / 10)) + 0.3 * np.sin(2 * x)


GROUPS = [dict(rate=0.1, decay=1e-3, beta1=0.9, beta2=0.999, ess=1e3, init=1.0, debias=True,
               rescale=True, clip=np.inf),
          dict(rate=0.05, decay=1e-2, beta1=0.8, beta2=0.995, ess=200.0, init=0.5, debias=False,
               rescale=False, clip=0.8)]
PRIOR_MEAN, PRIOR_DECAY = 0.5 + INDEX / 20, 0.25 + INDEX / 100


def clipped(gradients, bound):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, bound / norm) for g in gradients]


def ivon(squared=False, samples=1, prior=False, norm_clip=np.inf):
    mean = [np.zeros(COUNT) for _ in NAMES]
    momentum = [np.zeros(COUNT) for _ in NAMES]
    decay = [np.full(COUNT, group["decay"]) for group in GROUPS]
    toward = [np.zeros(COUNT) for _ in NAMES]
    if prior:  # of the second tensor
        decay[1], toward[1] = PRIOR_DECAY, PRIOR_MEAN
    hessian = [np.full(COUNT, group["init"]) for group in GROUPS]
    for step in range(STEPS):
        mean_gradient = [np.zeros(COUNT) for _ in NAMES]
        mean_hessian = [np.zeros(COUNT) for _ in NAMES]
        variance = [1 / (group["ess"] * (hessian[t] + decay[t])) for t, group in enumerate(GROUPS)]
        for sample in range(samples):
            noise = [normals(SEED, step * samples + sample, name, COUNT) for name in NAMES]
            theta = [mean[t] + np.sqrt(variance[t]) * noise[t] for t in range(2)]
            gradients = clipped([gradient(t, theta[t]) for t in range(2)], norm_clip)
            for t, group in enumerate(GROUPS):
                g = gradients[t]
                mean_gradient[t] += g / samples
                mean_hessian[t] += (group["ess"] * g**2 if squared
                                    else g * (theta[t] - mean[t]) / variance[t]) / samples
        for t, group in enumerate(GROUPS):
            b1, b2, h = group["beta1"], group["beta2"], hessian[t]
            momentum[t] = b1 * momentum[t] + (1 - b1) * mean_gradient[t]
            hessian[t] = (b2 * h + (1 - b2) * mean_hessian[t]
                          + 0.5 * (1 - b2) ** 2 * (h - mean_hessian[t]) ** 2 / (h + decay[t]))
            debiased = momentum[t] / (1 - b1 ** (step + 1)) if group["debias"] else momentum[t]
            move = (debiased + decay[t] * (mean[t] - toward[t])) / (hessian[t] + decay[t])
            # By the decay of the group: what is rescaled is the step of a fresh start to zero.
            rate = group["rate"] * (group["init"] + group["decay"] if group["rescale"] else 1)
            mean[t] = mean[t] - rate * np.clip(move, -group["clip"], group["clip"])
    stored = [hessian[t] + decay[t] - group["decay"] for t, group in enumerate(GROUPS)]
    return [(mean[t], stored[t], momentum[t]) for t in range(2)]


def adamw():
    result = []
    for t, (rate, decay, b1, b2, epsilon) in enumerate([(0.01, 0.01, 0.9, 0.999, 1e-8),
                                                        (0.003, 0.1, 0.8, 0.99, 1e-3)]):
        mean, first, second = np.zeros((3, COUNT))
        for step in range(1, STEPS + 1):
            g = gradient(t, mean)
            mean = mean - rate * decay * mean
            first = b1 * first + (1 - b1) * g
            second = b2 * second + (1 - b2) * g**2
            mean = mean - rate * (first / (1 - b1**step)) / (np.sqrt(second / (1 - b2**step))
                                                             + epsilon)
        result.append((mean, second, first))
    return result


def sgd():
    result = []
    for t, (rate, decay, beta) in enumerate([(0.02, 0, 0.9), (0.05, 0.1, 0)]):
        mean, momentum = np.zeros((2, COUNT))
        for _ in range(STEPS):
            momentum = beta * momentum + gradient(t, mean) + decay * mean
            mean = mean - rate * momentum
        result.append((mean, np.zeros(COUNT), momentum))
    return result


def main():
    cases = {"price": ivon(), "squared": ivon(squared=True), "samples": ivon(samples=3),
             "squared samples": ivon(squared=True, samples=2),
             "prior": ivon(prior=True), "norm clip": ivon(norm_clip=0.5), "adamw": adamw(),
             "sgd": sgd()}
    print("/* Made by tests/oracle/optimizer_reference.py (numpy): for each case and tensor mean,\n"
          "   Hessian or second moment, momentum. */")
    for name, tensors in cases.items():
        print(f'{{"{name}", {{')
        for tensor in tensors:
            print(" {")
            for array in tensor:
                text = ", ".join(f"{x:.9g}" for x in array)
                print(textwrap.fill("{" + text + "},", 98, initial_indent="  ",
                                    subsequent_indent="   "))
            print(" },")
        print("}},")


if __name__ == "__main__":
    main()
