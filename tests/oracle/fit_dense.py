"""Structured posteriors as the dense Gaussians that they are, in float64 by numpy.

usage: fit_dense.py selftest       (`options` are those of fit.py; rho is 1 where not given)
       fit_dense.py draws POSTERIOR.h5 SEED TEMPERATURE SAMPLE=FILE.h5...
       fit_dense.py identities POSTERIOR.h5 [DATA.h5[:GROUP] options of fit.py]
       fit_dense.py removal POSTERIOR.h5 DATA.h5[:GROUP] SENSITIVITY.h5 [--leverage] [--rho=X] [options]
       fit_dense.py without POSTERIOR.h5 DATA.h5[:GROUP] ROW,ROW-ROW,... REMAINDER.h5 [--leverage] [--rho=X] [options]
       fit_dense.py evidence POSTERIOR.h5 DATA.h5[:GROUP] [N_DELTA...] [options]
       fit_dense.py linear POSTERIOR.h5 DATA.h5[:GROUP] PREDICTION.h5 [--draws=S] [options]
       fit_dense.py swag POSTERIOR.h5 RANK CHECKPOINT.h5...
       fit_dense.py diagonal POSTERIOR.h5 DIAGONAL.h5 covariance|precision
       fit_dense.py effective POSTERIOR.h5 NUMBER
       fit_dense.py - < lines of such arguments

Nothing here is clever: matrices are formed whole, so that networks have to be small (some thousand
parameters; `draws`, `evidence`, `swag` form none). Vectors hold the parameters that have a Hessian,
in the file's order, a block as [W | bias], o x n, row by row. Formulas, with D = lambda (h + delta)
in the rotated coordinates, Q the rotation (U_B x U_A), s = D^-1/2, temperature 1:

  covariance   Sigma = Q s (I - U diag(l / (1 + l)) U') s Q'
  precision    P = Q D^1/2 (I + U diag(l) U') D^1/2 Q'
  draw         theta = m + Q s (eps + U ((1 + l)^-1/2 - 1) U' eps) sqrt(temperature); eps of a weight are the
               normals of lib/core/random.h at (seed, sample, its name), o x n of them for a block
  log det P    sum log D + sum log(1 + l)
  diagonal     h with ess (h + delta) the diagonal of P, or one over that of Sigma
  effective    P - tr(lambda delta Sigma) = tr(H (H + delta)^-1) parameters
  conditioning on all but some parameters: their block of P
  removal      V = rho J Sigma J', rho = lambda / N;  df = V e;  df = (I - V L)^-1 V e with leverage where
               the eigenvalues of I - V L are in (0, 1]
  removal of a set of rows, with sums over it: the mean moves by (P / rho - sum J' L J)^-1 sum J' e with leverage,
               where that is positive, else by rho Sigma sum J' e
  evidence     log p(D) ~ -sum L_i - 1/2 a |m|^2 + 1/2 P log a - 1/2 sum log(N h + a), a = N delta; its gradient
               by a is -1/2 |m|^2 + (P - a sum 1/(N h + a)) / (2 a) = (gamma - a |m|^2) / (2 a) with
               gamma = P - a tr = sum N h / (N h + a): fixed point a = gamma / |m|^2, per tensor alike. Noise of
               regressions: L has 1/2 K log(2 pi s^2), h goes as 1/s^2; s^2 = sum |f - y|^2 / (N K - gamma)
  linear       f ~ N(f(m), C), C = J Sigma J': gaussian: mean f, epistemic std sqrt(diag C); classes:
               probit softmax(f / sqrt(1 + pi/8 diag C)); or the mean of softmax over draws of N(f, C)
  SWAG         after checkpoints theta_1 ... theta_n: mean = theta_bar_n, variance = mean of squares - mean
               squared, at least 1e-30; the last RANK deviations theta_i - theta_bar_i from the RUNNING mean
               theta_bar_i (Maddox et al. 2019, 1902.02476, Alg. 1), K of them in D_hat; Sigma = 1/2 diag(variance)
               + 1/2 D_hat D_hat' / (K - 1), or of RANK 0 diag(variance). As low rank upon a diagonal base of 1/2 variance: with
               W = D_hat / sqrt((K - 1) variance), W W' = U mu U', l = -mu / (1 + mu)
"""
import sys

import fit
import h5py
import numpy as np
import onnx
import torch
from normals import normals


class Gaussian:
    """A posterior's file: its base s in rotated coordinates, pairs (U, l), and Q."""

    def __init__(self, path):
        self.file = fit.File(path)
        self.names, self.bases = self.file.names, self.file.bases()
        self.ess, self.delta = self.file.ess, self.file.delta
        self.shapes, self.places, at = {}, {}, 0
        for name in self.names:
            self.shapes[name] = self.file.parts["hessian"][name].shape
            size = int(np.prod(self.shapes[name]))
            self.places[name] = slice(at, at + size)
            at += size
        self.size = at
        self.precision_base = self.ess * (self.h() + self.delta)
        self.s = self.precision_base**-0.5
        low = bool(self.file.parts["lowrank_vectors"])
        self.u = self.file.vectors.numpy() if low else np.zeros((at, 0))
        self.l = self.file.values.numpy() if low else np.zeros(0)

    def h(self):
        return np.concatenate([np.float64(self.file.parts["hessian"][n]).ravel() for n in self.names])

    def mean(self):
        """In the order of vectors."""
        made = []
        for name in self.names:
            if name in self.bases:
                values = {n: torch.from_numpy(np.asarray(v, np.float64))[None]
                          for n, v in self.file.parts["mean"].items()}
                made.append(self.bases[name][0].gather(values).numpy().ravel())
            else:
                made.append(np.float64(self.file.parts["mean"][name]).ravel())
        return np.concatenate(made)

    def unpack(self, vector):
        """Arrays of the parameters' own shapes."""
        made = {}
        for name in self.names:
            part, shape = vector[self.places[name]], self.file.parts["mean"][name].shape
            if name in self.bases:
                block = self.bases[name][0]
                x = part.reshape(self.shapes[name])
                if block.bias:
                    made[block.bias] = x[:, -1].reshape(self.file.parts["mean"][block.bias].shape)
                    x = x[:, :-1]
                part = x.T if block.transposed else x
            made[name] = part.reshape(shape)
        return made

    def rotate(self, rows, back=False):
        """Rows (n x P) times Q, or Q'."""
        made = np.array(rows, np.float64)
        for name, (_, ua, ub) in self.bases.items():
            x = made[:, self.places[name]].reshape(-1, *self.shapes[name])
            if ua is not None:
                x = x @ (ua.numpy().T if back else ua.numpy())
            if ub is not None:
                x = (ub.numpy() if back else ub.numpy().T) @ x
            made[:, self.places[name]] = x.reshape(len(x), -1)
        return made

    def q(self):
        return self.rotate(np.eye(self.size))

    def root(self):
        """L with L L' = Sigma: what a draw multiplies eps with."""
        inner = np.eye(self.size) + (self.u * ((1 + self.l)**-0.5 - 1)) @ self.u.T
        return self.q() @ (self.s[:, None] * inner)

    def covariance_of(self, rows):
        """J Sigma J' of the rows J (n x P)."""
        white = self.rotate(rows) * self.s
        low = white @ self.u
        return white @ white.T - (low * (self.l / (1 + self.l))) @ low.T

    def covariance(self):
        return self.covariance_of(np.eye(self.size))

    def precision(self):
        inner = np.eye(self.size) + (self.u * self.l) @ self.u.T
        q = self.q() / self.s
        return q @ inner @ q.T

    def log_determinant(self):
        """Of the precision."""
        return np.log(self.precision_base).sum() + np.log1p(self.l).sum()

    def draw(self, seed, sample, temperature=1.0):
        """The move from the mean, by parameter."""
        eps = np.concatenate([normals(seed, sample, n, int(np.prod(self.shapes[n])))
                              for n in self.names])
        white = eps + self.u @ (((1 + self.l)**-0.5 - 1) * (self.u.T @ eps))
        return self.unpack(self.rotate((self.s * white)[None], True)[0] * temperature**0.5)

    def network(self, model=None):
        graph = onnx.load(model) if model else self.file.graph
        return fit.Network(graph.graph, self.file.parts["mean"], self.file.parts["buffers"])


# The truth about a network and data.

class Facts:
    """Of each example f, J (outputs x P in the order of vectors), e and L."""

    def __init__(self, gaussian, arguments):
        o = fit.options(["compare", *arguments])
        network = gaussian.network(o.model)
        inputs = dict(i.split("=") for i in o.inputs) or {network.inputs[0]: "x"}
        file, _, group = o.data.partition(":")
        with h5py.File(file) as f:
            count = len((f[group] if group else f)[o.targets])
        self.likelihood = fit.told(o, gaussian.file, "likelihood", "categorical")
        self.noise = float(fit.told(o, gaussian.file, "noise_std", 1.0))
        self.ignored, self.f, self.j, self.y = o.ignore_label, [], [], []
        rows = np.load(o.rows) if o.rows else range(min(count, o.limit or count))
        for _, x, y in fit.rows_of(o.data, inputs, o.targets, o.scale, rows):
            f, _ = network.run(x)
            self.f.append(f.detach().numpy().ravel())
            self.classes = f.shape[-1]
            unit = torch.eye(f.numel(), dtype=f.dtype).reshape(-1, *f.shape)
            made = torch.autograd.grad(f, list(network.parameters.values()), unit,
                                       is_grads_batched=True, allow_unused=True)
            by_name = {n: torch.zeros(len(unit), *v.shape, dtype=v.dtype) if g is None else g
                       for (n, v), g in zip(network.parameters.items(), made)}
            self.j.append(np.concatenate(
                [(gaussian.bases[n][0].gather(by_name) if n in gaussian.bases else by_name[n])
                 .flatten(1).numpy() for n in gaussian.names], 1))
            self.y.append(np.ravel(y))

    def __len__(self):
        return len(self.f)

    def loss(self, i, f):
        """As scores have it: without the constant of gaussians."""
        y = self.y[i]
        if self.likelihood == "gaussian":
            return 0.5 * np.sum((f - y)**2) / self.noise**2
        if self.likelihood == "bernoulli":
            return np.sum(np.logaddexp(0, f) - y * f)
        rows, keep = f.reshape(-1, self.classes), y != self.ignored
        return np.sum((np.logaddexp.reduce(rows, 1) - rows[range(len(y)), y * keep])[keep])

    def e(self, i):
        f, y = self.f[i], self.y[i]
        if self.likelihood == "gaussian":
            return (f - y) / self.noise**2
        if self.likelihood == "bernoulli":
            return 1 / (1 + np.exp(-f)) - y
        keep, rows = y != self.ignored, softmax(f.reshape(-1, self.classes))
        rows[range(len(y)), y * keep] -= 1
        return (rows * keep[:, None]).ravel()

    def curvature(self, i):
        f = self.f[i]
        if self.likelihood == "gaussian":
            return np.eye(len(f)) / self.noise**2
        if self.likelihood == "bernoulli":
            p = 1 / (1 + np.exp(-f))
            return np.diag(p * (1 - p))
        made = np.zeros((len(f), len(f)))
        for t, p in enumerate(softmax(f.reshape(-1, self.classes))):
            if self.y[i][t] != self.ignored:
                at = slice(t * self.classes, (t + 1) * self.classes)
                made[at, at] = np.diag(p) - np.outer(p, p)
        return made

    def count_of(self, rows):
        """What counts of them: tokens, or examples."""
        if self.likelihood != "categorical":
            return len(rows)
        return sum(int((self.y[i] != self.ignored).sum()) for i in rows)

    def count(self):
        return self.count_of(range(len(self)))

    def ggn(self):
        return sum(j.T @ self.curvature(i) @ j for i, j in enumerate(self.j)) / self.count()


def softmax(f):
    e = np.exp(f - f.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def removal(facts, i, covariance, rho, leverage):
    """V, df, and whether the leverage applied."""
    v = rho * facts.j[i] @ covariance @ facts.j[i].T
    move = v @ facts.e(i)
    if not leverage:
        return v, move, False
    curved = facts.curvature(i)
    values, vectors = np.linalg.eigh(curved)
    root = vectors * np.sqrt(np.maximum(values, 0))
    if np.linalg.eigvalsh(np.eye(len(v)) - root.T @ v @ root).min() <= 0:
        return v, move, False
    return v, np.linalg.solve(np.eye(len(v)) - v @ curved, move), True


# Evidence.

def evidence(losses, m, h, count, a):
    """Log evidence at a = N delta: losses is their sum with constants, m and h vectors."""
    return (-losses - 0.5 * a * m @ m + 0.5 * len(m) * np.log(a)
            - 0.5 * np.log(count * h + a).sum())


def evidence_gradient(m, h, count, a):
    return 0.5 * (-m @ m + len(m) / a - (1 / (count * h + a)).sum())


def effective(h, count, a):
    return (count * h / (count * h + a)).sum()


def fixed_point(m, h, count, a=1.0):
    """a = gamma / |m|^2, iterated to its end."""
    for _ in range(100000):
        again = effective(h, count, a) / (m @ m)
        if abs(again / a - 1) < 1e-14:
            break
        a = again
    return a


def noise_fixed_point(squares, outputs, m, h, count, noise, a=1.0):
    """a and s together for a gaussian likelihood: squares = sum |f - y|^2, h as found with `noise`,
    outputs = N K."""
    s2 = noise**2
    for _ in range(100000):
        scaled = h * noise**2 / s2
        gamma = effective(scaled, count, a)
        if gamma >= outputs:
            return np.nan, np.nan  # Fewer data than effective parameters tell nothing of the noise.
        again = gamma / (m @ m), squares / (outputs - gamma)
        done = abs(again[0] / a - 1) + abs(again[1] / s2 - 1) < 1e-14
        a, s2 = again
        if done:
            break
    return a, s2**0.5


# Linearised predictive.

def probit(f, c):
    return softmax(f / np.sqrt(1 + np.pi / 8 * np.diag(c)))


def output_draws(f, c, count, seed=0):
    """Mean of softmax over draws of N(f, C), and the variance and the skewness of one draw's."""
    values, vectors = np.linalg.eigh(c)
    root = vectors * np.sqrt(np.maximum(values, 0))
    p = softmax(f + np.random.default_rng(seed).standard_normal((count, len(f))) @ root.T)
    third = ((p - p.mean(0)) ** 3).mean(0)
    return p.mean(0), p.var(0), third / (p.var(0) + 1e-300) ** 1.5


# SWAG.

def swag(checkpoints, rank):
    """Mean, variance (diagonal) and deviations (P x K) of vectors along a training."""
    mean, square, kept = 0.0, 0.0, []
    for i, theta in enumerate(checkpoints):
        mean = (i * mean + theta) / (i + 1)
        square = (i * square + theta**2) / (i + 1)
        kept = (kept + [theta - mean])[-rank:]
    return mean, np.maximum(square - mean**2, 1e-30), np.array(kept).T


def swag_covariance(variance, deviations):
    return 0.5 * np.diag(variance) + 0.5 * deviations @ deviations.T / (deviations.shape[1] - 1)


def swag_pairs(variance, deviations):
    """The pairs (U, l) upon a base of precision 2 / variance, of l not zero."""
    w = deviations / np.sqrt((deviations.shape[1] - 1) * variance)[:, None]
    u, singular, _ = np.linalg.svd(w, full_matrices=False)
    mu = singular**2
    keep = mu > 1e-12 * mu.max()
    return u[:, keep], -(mu / (1 + mu))[keep]


# Commands.

def close(name, ours, theirs, tolerance):
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        sys.exit(f"{name}: shape {ours.shape}, expected {theirs.shape}")
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-300)
    print(f"{name:40} {error:.1e} of {np.abs(theirs).max():.3g}")
    if not error <= tolerance:
        sys.exit(f"{name}: differs by {error:.2e} of the largest, may by {tolerance:g}")


def draws(path, seed, temperature, *samples):
    gaussian = Gaussian(path)
    for number, file in (s.split("=") for s in samples):
        moves = gaussian.draw(int(seed), int(number), float(temperature))
        with h5py.File(file) as f:
            for name, move in moves.items():
                mean = np.float64(gaussian.file.parts["mean"][name])
                # Of a float32 sum: the mean's rounding, beside what rotations lose.
                bound = 2.0**-24 * np.abs(mean + move).max() / np.abs(move).max()
                close(f"sample {number}, {name}", np.float64(f["mean/" + name][()]) - mean, move,
                      2e-5 + bound)


def identities(path, *arguments):
    """Of any posterior of few parameters; with data also that Sigma is what the base and the pairs
    of the GGN make of it: at full rank the inverse of lambda (GGN + delta)."""
    g = Gaussian(path)
    covariance, precision = g.covariance(), g.precision()
    close("Sigma P = I", covariance @ precision, np.eye(g.size), 1e-3)
    root = g.root()
    close("draws: L L' = Sigma", root @ root.T, covariance, 1e-4)
    close("log det P", g.log_determinant(), np.linalg.slogdet(precision)[1], 1e-4)
    if arguments:
        facts = Facts(g, arguments)
        full = g.ess * (facts.ggn() + g.delta * np.eye(g.size))
        white = g.rotate(g.rotate(full).T) * np.outer(g.s, g.s) - np.eye(g.size)
        values = np.sort(np.abs(np.linalg.eigvalsh(white)))[::-1]
        print(f"rank {len(g.l)} of {g.size}; without pairs would remain |l| up to {values[0]:.3g}, "
              f"with them {0 if len(g.l) == g.size else values[len(g.l)]:.3g}")
        if len(g.l) == g.size:
            close("Sigma = (lambda (GGN + delta))^-1", covariance, np.linalg.inv(full), 1e-3)
            close("log det P of the dense", g.log_determinant(), np.linalg.slogdet(full)[1], 1e-5)


def removal_command(path, data, sensitivity, *arguments):
    own = [a for a in arguments if a == "--leverage" or a.startswith("--rho=")]
    leverage, rho = "--leverage" in own, float(([1] + [a[6:] for a in own if a[:6] == "--rho="])[-1])
    g = Gaussian(path)
    facts = Facts(g, [path, data, *[a for a in arguments if a not in own]])
    covariance, found = g.covariance(), h5py.File(sensitivity)
    made = [removal(facts, i, covariance, rho, leverage) for i in range(len(facts))]
    print(f"rho {rho:g}, leverage applied to {sum(m[2] for m in made)} of {len(made)}")
    moves = np.array([m[1] for m in made])
    shape = found["deviation_vector"].shape
    close("deviation_vector", found["deviation_vector"][:], moves.reshape(shape), 1e-4)
    if "covariance" in found:
        close("covariance", found["covariance"][:].ravel(), np.array([m[0] for m in made]).ravel(),
              1e-4)
    if "self_influence" in found:
        close("self_influence", found["self_influence"][:],
              [facts.e(i) @ m[0] @ facts.e(i) for i, m in enumerate(made)], 1e-4)
    if "loo_loss" in found:
        close("loo_loss", found["loo_loss"][:],
              [facts.loss(i, facts.f[i] + m[1]) for i, m in enumerate(made)], 1e-4)


def rows_listed(text):
    ends = [[int(n) for n in part.split("-")] for part in text.split(",")]
    return sorted({row for part in ends for row in range(part[0], part[-1] + 1)})


def without(path, data, rows, remainder, *arguments):
    """What --remove writes: the moves of the means, h as it was, and the numbers beside it."""
    own = [a for a in arguments if a == "--leverage" or a.startswith("--rho=")]
    rho = float(([1] + [a[6:] for a in own if a[:6] == "--rho="])[-1])
    g, rows = Gaussian(path), rows_listed(rows)
    facts = Facts(g, [path, data, *[a for a in arguments if a not in own]])
    precision = g.precision() / rho
    gradient = sum(facts.j[i].T @ facts.e(i) for i in rows)
    curvature = sum(facts.j[i].T @ facts.curvature(i) @ facts.j[i] for i in rows)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    held = 1 - np.linalg.eigvalsh(root.T @ curvature @ root).max()
    apply = "--leverage" in own and held > 0
    move = np.linalg.solve(precision - apply * curvature, gradient)
    print(f"{len(rows)} rows, leverage {apply}, least eigenvalue {held:.3g}")
    after = Gaussian(remainder)
    # Conjugate gradients end at 1e-5 of the right side, and products are of binary32.
    tolerance = 2e-5 / held if apply else 1e-5
    tolerance += 2.0**-24 * np.abs(g.mean()).max() / np.abs(move).max()
    close("moves of the means", after.mean() - g.mean(), move, tolerance)
    close("h", after.h(), g.h(), 0)
    removed = facts.count_of(rows)
    n = g.file.n_train
    assert after.file.n_train == n - removed, (n, removed)
    scale = 1 if len(g.l) else (n - removed) / n
    close("ess", after.ess, g.ess * scale, 1e-12)
    close("weight decay", after.delta, g.delta / scale, 1e-12)


def evidence_command(path, data, *arguments):
    """Prints; a caller compares. The grid is of N delta."""
    grid = [float(a) for a in arguments if not a.startswith("-")]
    g = Gaussian(path)
    facts = Facts(g, [path, data, *[a for a in arguments if a.startswith("-")]])
    m, h, count = g.mean(), g.h(), facts.count()
    losses = sum(facts.loss(i, f) for i, f in enumerate(facts.f))
    if facts.likelihood == "gaussian":
        outputs = sum(len(f) for f in facts.f)
        losses += 0.5 * outputs * np.log(2 * np.pi * facts.noise**2)
        squares = sum(np.sum((f - y)**2) for f, y in zip(facts.f, facts.y))
        a, s = noise_fixed_point(squares, outputs, m, h, count, facts.noise)
        print(f"with the noise: delta {a / count:.6g}, noise_std {s:.6g}")
    a = fixed_point(m, h, count)
    print(f"fixed point: delta {a / count:.6g}, gamma {effective(h, count, a):.6g}, "
          f"evidence {evidence(losses, m, h, count, a):.8g}")
    for name in g.names:
        at = g.places[name]
        own = fixed_point(m[at], h[at], count)
        print(f"   {name}: delta {own / count:.6g}, gamma {effective(h[at], count, own):.6g}")
    for a in grid:
        print(f"N delta {a:g}: evidence {evidence(losses, m, h, count, a):.8g}, "
              f"gradient {evidence_gradient(m, h, count, a):.3g}, gamma {effective(h, count, a):.6g}")


def linear(path, data, prediction, *arguments):
    samples = [int(a.split("=")[1]) for a in arguments if a.startswith("--draws=")]
    g = Gaussian(path)
    facts = Facts(g, [path, data, *[a for a in arguments if not a.startswith("--draws=")]])
    c, found = [g.covariance_of(j) for j in facts.j], h5py.File(prediction)
    if facts.likelihood == "gaussian":
        close("mean", found["mean"][:].reshape(len(facts), -1), np.array(facts.f), 1e-4)
        close("epistemic_std", found["epistemic_std"][:].reshape(len(facts), -1),
              [np.sqrt(np.diag(v)) for v in c], 1e-4)
        return
    p = found["probabilities"][:]
    if not samples:
        close("probabilities by probit", p, [probit(f, v) for f, v in zip(facts.f, c)], 1e-4)
        return
    exact = [output_draws(f, v, 100000, i) for i, (f, v) in enumerate(zip(facts.f, c))]
    z = np.array([(q - mean) / np.sqrt(variance * (1 / samples[0] + 1 / 100000) + 1e-12)
                  for q, (mean, variance, _) in zip(p, exact)])
    skewness = np.abs([e[2] for e in exact]) / np.sqrt(samples[0])
    print(f"{samples[0]} draws: z at most {np.abs(z).max():.2f}, root of the mean square "
          f"{np.sqrt((z**2).mean()):.3f}")
    # A normal number; the average of the small probability of a class, of which few draws are nearly all, is less
    # so: at 5 standard errors its skewness moves a quantile by (5**2 - 1)/6 of it. Of z**2 the mean is 1.
    assert (np.abs(z) < 5 + 4 * skewness).all() and np.sqrt((z**2).mean()) < 1.5


def vectors_of(path, names):
    with h5py.File(path) as f:
        return np.concatenate([np.float64(f["mean/" + n][()]).ravel() for n in names])


def swag_command(path, rank, *checkpoints):
    g, rank = Gaussian(path), int(rank)
    assert not g.bases
    mean, variance, deviations = swag([vectors_of(c, g.names) for c in checkpoints], rank or 2)
    close("mean", vectors_of(path, g.names), mean, 1e-6)
    if not rank:
        close("variance", g.s**2, variance, 1e-4)
        assert not len(g.l)
        return
    # The squares' difference loses what float32 checkpoints of one size have in common.
    close("base variance", g.s**2, 0.5 * variance, 1e-4)
    u, l = swag_pairs(variance, deviations)
    close("values", np.sort(g.l), np.sort(l), 1e-3)
    probe = np.random.default_rng(0).standard_normal((g.size, 3))
    ours = g.s[:, None] * (g.s[:, None] * probe
                           - g.u @ ((g.l / (1 + g.l))[:, None] * (g.u.T @ (g.s[:, None] * probe))))
    exact = 0.5 * variance[:, None] * probe + 0.5 * deviations @ (
        deviations.T @ probe) / (deviations.shape[1] - 1)
    close("covariance times vectors", ours, exact, 1e-3)


def diagonal(path, reduced, kind):
    g = Gaussian(path)
    matrix = g.covariance() if kind == "covariance" else g.precision()
    exact = g.unpack(np.diag(matrix))
    with h5py.File(reduced) as f:
        assert f.attrs["format_version"] == 1 and f.attrs["ess"] == g.ess and f.attrs["weight_decay"] == g.delta
        assert set(f) <= {"mean", "hessian", "momentum", "buffers", "model.onnx"}, list(f)
        for name, values in exact.items():
            h = f["hessian/" + name]
            assert h.dtype == "f4" and h.shape == values.shape and not h.attrs, name
            precision = g.ess * (np.float64(h[()]) + g.delta)
            # h is rounded once; bases and vectors turn in f32, at some 2^-24 for each element of a row
            close(name, 1 / precision if kind == "covariance" else precision, values, 64 * 2.0**-24)
        print("least h:", min(f["hessian/" + name][()].min() for name in exact))


def effective_command(path, number):
    g = Gaussian(path)
    # Of the file's f32 vectors, which are orthonormal to some 2^-22.
    close("effective parameters", float(number), g.size - g.ess * g.delta * np.trace(g.covariance()), 1e-6)


COMMANDS = {"draws": draws, "identities": lambda p, *a: identities(p, *([p, *a] if a else [])),
            "removal": removal_command, "without": without, "evidence": evidence_command, "linear": linear,
            "swag": swag_command, "diagonal": diagonal, "effective": effective_command}


def main(arguments):
    COMMANDS[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    if sys.argv[1:] == ["selftest"]:
        import fit_dense_selftest
        fit_dense_selftest.main()
    else:
        sys.exit(fit.each(main, sys.argv[1:]))
