"""A thousand steps of IVON (Shen et al., ICML 2024, Algorithm 1), Bayes by Backprop (Blundell et al.,
ICML 2015), AdamW and SGD in float64 numpy,
on gradients from a closed formula and with the noise of lib/core/random.h.

usage: optimizer_reference.py > tests/unit/optimizer_reference.h
       optimizer_reference.py bases > tests/unit/bases_reference.h

The latter are of matrices with bases (EVON, SOAP), in tests/unit/bases.c; see bases() below.

Two tensors of the same size, each with options of its own. tests/unit/optimizer.c runs the same
settings; both take the gradient of element i of tensor t (from 0) at x to be
  k (x - target) + 0.3 sin(2 x),  k = 0.5 + i / COUNT,  target = 1 + t/2 + i / 10,
and that of the losses of lane l to be 0.4 l more; lanes have the SHARES of a step's losses.
"""
import sys
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


def noise_of(sample, name, count, antithetic=False):
    """Of a sample counted from the training's start; antithetic: every second one is the one before it, negated."""
    if antithetic and sample % 2:
        return -normals(SEED, sample - 1, name, count)
    return normals(SEED, sample, name, count)


SHARES = [1 / 6, 1 / 3, 1 / 2]


def clipped(gradients, bound):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    return [g * min(1, bound / norm) for g in gradients]


def ivon(squared=False, samples=1, prior=False, norm_clip=np.inf, every=1, antithetic=False, shares=(1,)):
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
            gradients, products = np.zeros((2, 2, COUNT))
            for lane, share in enumerate(shares):  # of the whole step is one
                number = (step * samples + sample) * len(shares) + lane
                for t, name in enumerate(NAMES):
                    off = np.sqrt(variance[t]) * noise_of(number, name, COUNT, antithetic)
                    g = share * (gradient(t, mean[t] + off) + 0.4 * lane)
                    gradients[t] += g
                    products[t] += g * off
            scale = min(1, norm_clip / np.sqrt((gradients**2).sum()))
            for t, group in enumerate(GROUPS):
                g = scale * gradients[t]
                mean_gradient[t] += g / samples
                mean_hessian[t] += (group["ess"] * g**2 if squared
                                    else scale * products[t] / variance[t]) / samples
        for t, group in enumerate(GROUPS):
            b1, b2, h = group["beta1"], group["beta2"], hessian[t]
            momentum[t] = b1 * momentum[t] + (1 - b1) * mean_gradient[t]
            if step % every == 0:
                hessian[t] = (b2 * h + (1 - b2) * mean_hessian[t]
                              + 0.5 * (1 - b2) ** 2 * (h - mean_hessian[t]) ** 2 / (h + decay[t]))
            debiased = momentum[t] / (1 - b1 ** (step + 1)) if group["debias"] else momentum[t]
            move = (debiased + decay[t] * (mean[t] - toward[t])) / (hessian[t] + decay[t])
            # By the decay of the group: what is rescaled is the step of a fresh start to zero.
            rate = group["rate"] * (group["init"] + group["decay"] if group["rescale"] else 1)
            mean[t] = mean[t] - rate * np.clip(move, -group["clip"], group["clip"])
    stored = [hessian[t] + decay[t] - group["decay"] for t, group in enumerate(GROUPS)]
    return [(mean[t], stored[t], momentum[t]) for t in range(2)]


def backprop(samples=1):
    """Bayes by Backprop: Adam on m and rho; mean, rho, momentum of the mean."""
    result = []
    for t, (rate, decay, b1, b2, epsilon, ess, init, debias) in enumerate([
            (0.01, 0.01, 0.9, 0.999, 1e-8, 50, 1, True), (0.003, 0.1, 0.8, 0.99, 1e-3, 200, 0.5, False)]):
        rho = np.full(COUNT, np.log(np.expm1(1 / np.sqrt(ess * (init + decay)))))
        mean, first, second, rho_first, rho_second = np.zeros((5, COUNT))
        for step in range(STEPS):
            deviation, slopes = np.log1p(np.exp(rho)), np.zeros((2, COUNT))
            for sample in range(samples):
                noise = normals(SEED, step * samples + sample, NAMES[t], COUNT)
                g = gradient(t, mean + deviation * noise)
                slopes += np.array([g, g * noise]) / samples
            of_mean = slopes[0] + decay * mean
            of_deviation = slopes[1] + decay * deviation - 1 / (ess * deviation)
            of_rho = of_deviation / (1 + np.exp(-rho))
            first, second = b1 * first + (1 - b1) * of_mean, b2 * second + (1 - b2) * of_mean**2
            rho_first = b1 * rho_first + (1 - b1) * of_rho
            rho_second = b2 * rho_second + (1 - b2) * of_rho**2
            d1, d2 = (1 - b1 ** (step + 1), 1 - b2 ** (step + 1)) if debias else (1, 1)
            mean = mean - rate * first / d1 / (np.sqrt(second / d2) + epsilon)
            rho = rho - rate * rho_first / d1 / (np.sqrt(rho_second / d2) + epsilon)
        result.append((mean, rho, first))
    return result


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


# Two matrices: the first has both bases, the second its right one. The gradient at X of the first
# is A (X - T) B + 0.3 sin(2 X), with eigenvalues of A and B that lie far apart: what L and R are close
# to has eigenvectors that no rounding changes much. T = 1 + i / 10 + sin(1.7 (i + 1) (step + 1)) for
# its element i in a step from 0, as a mini-batch would move it: the gradients do not vanish.
ROWS, COLUMNS, EVERY, BETA3 = (4, 5), (5, 4), 10, 0.9


def spread(size, largest, ratio):
    """H D H with the reflection H along (1, 2, 3, ...), and D = largest, largest / ratio, ..."""
    along = np.arange(1.0, size + 1)
    reflection = np.eye(size) - 2 * np.outer(along, along) / (along @ along)
    return reflection @ np.diag(largest / ratio ** np.arange(size)) @ reflection


def matrix_gradient(tensor, x, step):
    left, right = spread(ROWS[tensor], 2, 2), spread(COLUMNS[tensor], 2, 2.5)
    at = np.arange(x.size).reshape(x.shape)
    target = 1 + at / 10 + np.sin(1.7 * (at + 1) * (step + 1))
    return left @ (x - target) @ right + 0.3 * np.sin(2 * x)


def decomposed(moment):
    """Eigenvectors, the largest eigenvalue first, each with its largest element positive."""
    vectors = np.linalg.eigh(moment)[1][:, ::-1]
    return vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(len(vectors))])


def followed(moment, basis):
    """The basis after one power iteration, and the order of the old columns in it."""
    order = np.argsort(-np.diag(basis.T @ moment @ basis), kind="stable")
    vectors = np.linalg.qr(moment @ basis[:, order])[0]
    return vectors * np.sign((vectors * basis[:, order]).sum(0)), order


class Bases:
    """L, R and their eigenvectors; X in the basis is left.T @ X @ right."""

    def __init__(self, rows, columns, sides):
        self.sides, self.moments = sides, [np.zeros((n, n)) for n in (rows, columns)]
        self.left, self.right = np.eye(rows), np.eye(columns)

    def add(self, g, forget, share):
        """Of a step's gradients, of which the first forgets."""
        for moment, product in zip(self.moments, (g @ g.T, g.T @ g)):
            moment *= BETA3 if forget else 1
            moment += (1 - BETA3) * share * product

    def into(self, x):
        return self.left.T @ x @ self.right

    def out(self, x):
        return self.left @ x @ self.right.T

    def begin(self):
        if "left" in self.sides:
            self.left = decomposed(self.moments[0])
        if "right" in self.sides:
            self.right = decomposed(self.moments[1])

    def follow(self, second):
        """Goes on; returns what belongs to the columns in their new order."""
        if "left" in self.sides:
            self.left, order = followed(self.moments[0], self.left)
            second = second[order]
        if "right" in self.sides:
            self.right, order = followed(self.moments[1], self.right)
            second = second[:, order]
        return second


def evon(samples=1, norm_clip=np.inf, every=1):
    shapes = list(zip(ROWS, COLUMNS))
    bases = [Bases(*shapes[0], ["left", "right"]), Bases(*shapes[1], ["right"])]
    mean = [np.zeros(shape) for shape in shapes]
    momentum = [np.zeros(shape) for shape in shapes]  # not in the bases
    hessian = [np.full(shape, group["init"]) for shape, group in zip(shapes, GROUPS)]
    for step in range(STEPS):
        mean_gradient = [np.zeros(shape) for shape in shapes]
        mean_hessian = [np.zeros(shape) for shape in shapes]
        for sample in range(samples):
            precision = [g["ess"] * (h + g["decay"]) for g, h in zip(GROUPS, hessian)]
            noise = [normals(SEED, step * samples + sample, name, mean[t].size).reshape(shapes[t])
                     for t, name in enumerate(NAMES)]
            off = [bases[t].out(noise[t] / np.sqrt(precision[t])) for t in range(2)]
            gradients = clipped([matrix_gradient(t, mean[t] + off[t], step) for t in range(2)],
                                norm_clip)
            for t in range(2):
                bases[t].add(gradients[t], sample == 0, 1 / samples)
                if step == sample == 0:
                    bases[t].begin()
                mean_gradient[t] += gradients[t] / samples
                mean_hessian[t] += (bases[t].into(gradients[t]) * bases[t].into(off[t])
                                    * precision[t] / samples)
        for t, group in enumerate(GROUPS):
            b1, b2, decay, h = group["beta1"], group["beta2"], group["decay"], hessian[t]
            momentum[t] = b1 * momentum[t] + (1 - b1) * mean_gradient[t]
            if step % every == 0:
                hessian[t] = (b2 * h + (1 - b2) * mean_hessian[t]
                              + 0.5 * (1 - b2) ** 2 * (h - mean_hessian[t]) ** 2 / (h + decay))
            debiased = momentum[t] / (1 - b1 ** (step + 1)) if group["debias"] else momentum[t]
            move = bases[t].into(debiased + decay * mean[t]) / (hessian[t] + decay)
            rate = group["rate"] * (group["init"] + decay if group["rescale"] else 1)
            mean[t] = mean[t] - rate * bases[t].out(np.clip(move, -group["clip"], group["clip"]))
            if (step + 1) % EVERY == 0:
                hessian[t] = bases[t].follow(hessian[t])
    return [(mean[t], hessian[t], bases[t].into(momentum[t]), bases[t].left, bases[t].right,
             *bases[t].moments) for t in range(2)]


def soap():
    shapes = list(zip(ROWS, COLUMNS))
    bases = [Bases(*shapes[0], ["left", "right"]), Bases(*shapes[1], ["right"])]
    result = []
    for t, (rate, decay, b1, b2, epsilon) in enumerate([(0.01, 0.01, 0.9, 0.999, 1e-8),
                                                        (0.003, 0.1, 0.8, 0.99, 1e-3)]):
        mean, first, second = np.zeros((3, *shapes[t]))
        for step in range(1, STEPS + 1):
            g = matrix_gradient(t, mean, step - 1)
            bases[t].add(g, True, 1)
            if step == 1:  # which moves nothing
                bases[t].begin()
                continue
            first = b1 * first + (1 - b1) * g
            second = b2 * second + (1 - b2) * bases[t].into(g) ** 2
            size = np.sqrt(second / (1 - b2**(step - 1))) + epsilon
            move = bases[t].into(first / (1 - b1**(step - 1))) / size
            mean = mean - rate * (decay * mean + bases[t].out(move))
            if step % EVERY == 0:
                second = bases[t].follow(second)
        result.append((mean, second, bases[t].into(first), bases[t].left, bases[t].right,
                       *bases[t].moments))
    return result


def show(cases):
    for name, tensors in cases.items():
        print(f'{{"{name}", {{')
        for tensor in tensors:
            print(" {")
            for array in tensor:
                text = ", ".join(f"{x:.9g}" for x in array.ravel())
                print(textwrap.fill("{" + text + "},", 98, initial_indent="  ",
                                    subsequent_indent="   "))
            print(" },")
        print("}},")


def bases():
    print("/* Made by tests/oracle/optimizer_reference.py (numpy): for each case and tensor mean,\n"
          "   Hessian or second moment, momentum, bases, and the moments that these follow; all but the mean\n"
          "   and the last in the bases. */")
    show({"evon": evon(), "evon samples": evon(samples=3, norm_clip=0.5), "evon every": evon(every=3),
          "soap": soap()})


def main():
    print("/* Made by tests/oracle/optimizer_reference.py (numpy): for each case and tensor mean,\n"
          "   Hessian or second moment, momentum. */")
    show({"price": ivon(), "squared": ivon(squared=True), "samples": ivon(samples=3), "every": ivon(every=4), "prior every": ivon(prior=True, samples=2, every=4),
          "squared samples": ivon(squared=True, samples=2),
          "prior": ivon(prior=True), "norm clip": ivon(norm_clip=0.5), "adamw": adamw(),
          "sgd": sgd(), "backprop": backprop(), "backprop samples": backprop(samples=3),
          "antithetic": ivon(antithetic=True), "lanes": ivon(shares=SHARES),
          "lanes samples": ivon(shares=SHARES, samples=2, prior=True, norm_clip=0.5, every=4, antithetic=True)})


if __name__ == "__main__":
    bases() if sys.argv[1:] == ["bases"] else main()
