"""Removing examples of digits from an MLP and a convolutional network, by estimate and by retraining.

usage: fit_truth.py make FIXTURE.npz            five minutes on one core
       fit_truth.py table FIXTURE.npz [mlp|cnn] what estimates in float64 give
       fit_truth.py write FIXTURE.npz mlp|cnn DIRECTORY
       fit_truth.py compare FIXTURE.npz mlp|cnn SENSITIVITY.h5 [RANK LOW HIGH LOO]
       fit_truth.py compare-removal FIXTURE.npz mlp|cnn DIRECTORY [REMOVED TEST LOW HIGH]
IVON_SHARED is the folder of data/digits.h5.

`make` trains to the minimum of the regularized loss over the N training rows,

    sum_i L(y_i, f_i) + 1/2 N delta |theta|^2

by L-BFGS in float64, its first matrix the exact Hessian's inverse once near, until the gradient per
example is below 1e-9; rounds that mean to float32, as a posterior's file holds it; and removes
rows one by one, and 1, 10 and 50 at once, and trains on from the minimum to the minimum of what
remains, with the same N delta. The rows are not chosen by an estimate of their influence: two of
three are those of the largest loss, the others are spread evenly over the rest. No noise of an
optimizer is left in what the fixture holds: means, rows, outputs before and after.

`table` estimates the same from the mean alone. With rho = 1 and lambda = N the precision is
S = N (GGN + delta), GGN the Gauss-Newton matrix per example, and without example i its outputs move by

    V e                V = J S^-1 J', e = p - onehot(y)
    (I - V L)^-1 V e   L = diag(p) - p p': with leverage, where the eigenvalues of I - V L are in
                       (0, 1]; else without, and the number of such examples is printed

for S's diagonal, for K-FAC's and EK-FAC's S (A = 1/N sum aa', B = 1/(N T) sum dd', "expand", the
bias as A's last column), for each base D with the r eigenpairs (u, l) of largest |l| of
D^-1/2 S D^-1/2 - I, and for all of S. Columns, over the removed rows: Spearman of the deviation
|softmax(f + df) - softmax(f)|_1 with its truth, its sum over the truth's sum, the relative error of
df in the 2-norm, the mean loss at f + df. A group M moves the mean by u = S^-1 g, or with leverage
(S - R'R)^-1 g, R'R and g being the GGN and the gradient of M's losses (of none of a group where the
base leaves (0, 1]); then the network is run at m + u.

`write` makes model.onnx, mean.h5 (a checkpoint without a Hessian), data.h5 (train, test, removed
and removed-1, -10, -50, whose `rows` count in train), and rows-COUNT, these rows as a list with
commas. `compare` reads what ivon-sensitivity wrote of data.h5:/removed with --score=deviation,loo-loss
--vectors; `compare-removal` reads, of each COUNT, removed-COUNT.h5 and test-COUNT.h5: the logits of
ivon-predict --mean --logits of the posterior without these rows, on them and on test. It prints and
bounds the mean of |p - p_retrained|_1 on both as shares of what it is without any removal, and the loss
of the removed rows as a share of retraining's.
"""
import os
import sys
import time

import fit
import h5py
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch.nn import functional as F

PRIOR = 3.0  # N delta
GROUPS = (1, 10, 50)
PAIRS = (50, 200)
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
torch.set_default_dtype(torch.float64)


class Network:
    """Parameters are one vector: of each layer [W | b], outputs x (inputs + 1), row by row. A layer
    is (name, outputs, inputs, stride); stride 0: a product, else a convolution of 3 x 3. The last
    convolution's output is averaged over squares of 2 x 2."""

    def __init__(self, layers):
        self.layers, self.places, at = layers, [], 0
        for _, outputs, inputs, _ in layers:
            self.places.append((slice(at, at + outputs * (inputs + 1)), (outputs, inputs + 1)))
            at += outputs * (inputs + 1)
        self.size = at

    def start(self, random):
        blocks = [random.standard_normal(shape) / shape[1]**0.5 for _, shape in self.places]
        return torch.from_numpy(np.concatenate([b.ravel() for b in blocks]))

    def pools(self, layer):
        return self.layers[layer][3] and not self.layers[layer + 1][3]

    def outputs(self, theta, x):
        """f, by the fastest way there is."""
        for layer, (_, _, _, stride) in enumerate(self.layers):
            place, shape = self.places[layer]
            block = theta[place].reshape(shape)
            w, b = block[:, :-1], block[:, -1]
            if stride:
                x = F.conv2d(x, w.reshape(shape[0], -1, 3, 3), b, stride, 1)
            else:
                x = F.linear(x.flatten(1), w, b)
            if layer + 1 < len(self.layers):
                x = torch.tanh(x)
            if self.pools(layer):
                x = F.avg_pool2d(x, 2)
        return x

    def forward(self, theta, x):
        """f, and of every layer the rows a (n x T x i+1) and the outputs before tanh (n x T x o)."""
        rows, outputs = [], []
        for layer, (_, _, _, stride) in enumerate(self.layers):
            place, shape = self.places[layer]
            if stride:
                a = F.unfold(x, 3, padding=1, stride=stride).transpose(1, 2)
            else:
                a = x.flatten(1)[:, None]
            rows.append(torch.cat([a, torch.ones_like(a[..., :1])], 2))
            outputs.append(rows[-1] @ theta[place].reshape(shape).T)
            x = torch.tanh(outputs[-1])
            if stride:
                side = int(x.shape[1]**0.5)
                x = x.transpose(1, 2).reshape(len(x), -1, side, side)
                x = F.avg_pool2d(x, 2) if self.pools(layer) else x
        return outputs[-1][:, 0], rows, outputs

    def derivatives(self, theta, x):
        """f, J (n x K x P), and by layer the rows a and the adjoints of every output, n x K x T x o."""
        theta = theta.detach().requires_grad_()
        f, rows, outputs = self.forward(theta, x)
        jacobian = torch.empty(len(x), f.shape[1], self.size)
        adjoints = [[] for _ in self.layers]
        for k in range(f.shape[1]):
            back = torch.autograd.grad(f[:, k].sum(), outputs, retain_graph=True)
            for layer, d in enumerate(back):
                adjoints[layer].append(d)
                jacobian[:, k, self.places[layer][0]] = torch.einsum(
                    "nto,nti->noi", d, rows[layer].detach()).flatten(1)
        return f.detach(), jacobian, [a.detach() for a in rows], [torch.stack(d, 1) for d in adjoints]

    def names(self, theta):
        for (name, _, _, stride), (place, shape) in zip(self.layers, self.places):
            block = theta[place].reshape(shape).numpy().astype("f4")
            weight = block[:, :-1].reshape(shape[0], -1, 3, 3) if stride else block[:, :-1]
            yield name + ".weight", weight
            yield name + ".bias", block[:, -1]


def network(name):
    """The network, and a start."""
    made = Network([("fc1", 48, 64, 0), ("fc2", 10, 48, 0)] if name == "mlp" else
                   [("conv1", 6, 9, 2), ("conv2", 12, 54, 1), ("fc", 10, 48, 0)])
    return made, made.start(np.random.default_rng(0))


REMOVED = {"mlp": 150, "cnn": 60}


def data(name):
    shape = (-1, 64) if name == "mlp" else (-1, 1, 8, 8)
    with h5py.File(os.environ["IVON_SHARED"] + "/data/digits.h5") as f:
        x, y, tx, ty = (torch.from_numpy(f[n][()]) for n in ("train/x", "train/y", "test/x", "test/y"))
    return x.double().reshape(shape), y.long(), tx.double().reshape(shape), ty.long()


# The truth.

def objective(net, theta, x, y):
    """Sum of losses and prior, and the gradient."""
    theta = theta.detach().requires_grad_()
    value = F.cross_entropy(net.outputs(theta, x), y, reduction="sum") + PRIOR / 2 * theta @ theta
    return value.item(), torch.autograd.grad(value, theta)[0]


def minimize(net, theta, x, y, solve, tolerance, steps, longest=np.inf):
    """L-BFGS, its first inverse Hessian `solve`, with step halving; steps are at most `longest`."""
    value, gradient = objective(net, theta, x, y)
    pairs = []
    for _ in range(steps):
        if gradient.norm() < tolerance * len(x):
            break
        direction, factors = gradient.clone(), []
        for s, t, st in reversed(pairs):
            factors.append(s @ direction / st)
            direction -= factors[-1] * t
        direction = solve(direction)
        for (s, t, st), factor in zip(pairs, reversed(factors)):
            direction += (factor - t @ direction / st) * s
        direction *= min(1.0, longest / direction.norm().item())
        slope = gradient @ direction
        step = 1.0 if pairs or solve is not plain else min(1.0, 1 / gradient.norm().item())
        for _ in range(40):
            moved = theta - step * direction
            reached, other = objective(net, moved, x, y)
            if reached <= value - 1e-4 * step * slope + 1e-13 * abs(value):
                break
            step /= 2
        s, t = moved - theta, other - gradient
        if s @ t > 1e-12 * s.norm() * t.norm():
            pairs = (pairs + [(s, t, s @ t)])[-60:]
        theta, value, gradient = moved, reached, other
    return theta, gradient.norm().item() / len(x)


def plain(direction):
    return direction.clone()


def root_of_ggn(p, jacobian):
    """R (n x K x P) with R'R = J'LJ: sqrt(p_k) (J_k - sum_c p_c J_c)."""
    centre = torch.einsum("nk,nkp->np", p, jacobian)
    return p.sqrt()[:, :, None] * (jacobian - centre[:, None])


def hessian(net, theta, x, y):
    """Of the objective, by differences of gradients: good to some 1e-6, enough for a first matrix."""
    gradient, step, rows = objective(net, theta, x, y)[1], 1e-6, []
    for at in range(net.size):
        moved = theta.clone()
        moved[at] += step
        rows.append((objective(net, moved, x, y)[1] - gradient) / step)
    rows = torch.stack(rows)
    return (rows + rows.T) / 2


def inverse(matrix):
    """Of a matrix that is positive, or is made so by what it takes on its diagonal."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    shift = PRIOR / 4
    while failed:
        factor, failed = torch.linalg.cholesky_ex(matrix + shift * torch.eye(len(matrix)))
        shift *= 2
    return torch.cholesky_inverse(factor)


def trained(net, theta, x, y, longest):
    """The minimum, and the inverse of the Hessian near it."""
    theta, norm = minimize(net, theta, x, y, plain, 1e-4, 3000, longest)
    for _ in range(6):
        say(f"gradient {norm:.1e}")
        if norm < 1e-9:
            return theta, inverse(hessian(net, theta, x, y))
        curvature = inverse(hessian(net, theta, x, y))
        theta, norm = minimize(net, theta, x, y, curvature.mv, 1e-9, 200)
    sys.exit("the training did not converge")


def removed_rows(net, theta, x, y, count):
    loss = F.cross_entropy(net.outputs(theta, x), y, reduction="none").detach().numpy()
    order = np.argsort(-loss, kind="stable")
    high, rest = order[:count * 2 // 3], np.sort(order[count * 2 // 3:])
    spread = rest[np.arange(count - len(high)) * len(rest) // (count - len(high))]
    return np.sort(np.r_[high, spread])


def without(net, theta, x, y, curvature, rows):
    keep = torch.from_numpy(np.setdiff1d(np.arange(len(x)), rows))
    for _ in range(4):
        theta, norm = minimize(net, theta, x[keep], y[keep], curvature.mv, 1e-9, 120)
        if norm < 1e-9:
            return theta
        say(f"without {rows[:3]}: gradient {norm:.1e}")
        curvature = inverse(hessian(net, theta, x[keep], y[keep]))
    sys.exit(f"retraining without {rows[:3]} did not converge")


def say(text):
    print(f"{time.process_time():7.1f} s  {text}", flush=True)


def made(name):
    """What the fixture holds of one network, by NAME_..."""
    net, theta = network(name)
    x, y, test, _ = data(name)
    say(f"{name}: {net.size} weights")
    theta, curvature = trained(net, theta, x, y, np.inf if name == "mlp" else 0.5)
    rows = removed_rows(net, theta, x, y, REMOVED[name])
    after = np.array([net.outputs(without(net, theta, x, y, curvature, [i]), x[i:i + 1])[0].numpy()
                      for i in rows])
    say(f"{len(rows)} rows removed one by one")
    kept = {"mean": theta.float().numpy(), "rows": rows.astype("i2"), "after": after,
            "loo": losses(after, y[rows].numpy())}
    order = np.random.default_rng(1).permutation(rows)
    for count in GROUPS:
        group = np.sort(order[:count])
        moved = without(net, theta, x, y, curvature, group)
        kept[f"group{count}"] = group.astype("i2")
        kept[f"group{count}_after"] = net.outputs(moved, x[group]).numpy()
        kept[f"group{count}_test"] = net.outputs(moved, test).numpy().astype("f4")
    say("groups removed")
    return {f"{name}_{part}": value for part, value in kept.items()}


def make(path):
    np.savez_compressed(path, **made("mlp"), **made("cnn"))


# Estimates.

class Posterior:
    """A covariance S^-1 by its root in rotated coordinates: theta = rotate_back(s * white), and
    low-rank pairs (u, l) of the whitened precision, 1 + l along u."""

    def __init__(self, net, bases, precision):
        self.net, self.bases, self.scale = net, bases, precision**-0.5
        self.vectors, self.values = torch.zeros(net.size, 0), torch.zeros(0)

    def whiten(self, rows):
        """Rows of gradients (n x P) times the root of the base's covariance."""
        if self.bases is None:
            return rows * self.scale
        made = torch.empty_like(rows)
        for (place, shape), (a, b) in zip(self.net.places, self.bases):
            made[:, place] = (b.T @ rows[:, place].reshape(-1, *shape) @ a).flatten(1)
        return made * self.scale

    def unwhiten(self, white):
        """The move of parameters that a whitened vector is."""
        move = white * self.scale
        if self.bases is not None:
            move = torch.cat([(b @ move[place].reshape(shape) @ a.T).flatten()
                              for (place, shape), (a, b) in zip(self.net.places, self.bases)])
        return move

    def correct(self, white):
        """Rows times (I + U l U')^-1."""
        inner = (white @ self.vectors) * (self.values / (1 + self.values))
        return white - inner @ self.vectors.T

    def whitened_precision(self, precision):
        return self.whiten(self.whiten(precision).T.contiguous())

    def with_pairs(self, pairs, count):
        other = Posterior(self.net, self.bases, self.scale**-2)
        values, vectors = pairs
        other.values, other.vectors = values[:count], vectors[:, :count]
        return other


class Dense(Posterior):
    def __init__(self, net, covariance):
        super().__init__(net, None, torch.ones(net.size))
        self.covariance = covariance

    def correct(self, white):
        return white @ self.covariance


def lanczos(matrix, count, steps):
    """The pairs of largest |l| of a symmetric matrix, with full reorthogonalization."""
    size = len(matrix)
    basis, diagonal, beside = torch.zeros(steps, size), [], []
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(size, generator=generator)
    basis[0] = vector / vector.norm()
    for j in range(steps):
        product = matrix @ basis[j]
        diagonal.append(product @ basis[j])
        for _ in range(2):
            product -= basis[:j + 1].T @ (basis[:j + 1] @ product)
        beside.append(product.norm())
        if j + 1 < steps:
            basis[j + 1] = product / beside[-1]
    beside = torch.stack(beside)
    projected = torch.diag(torch.stack(diagonal)) + torch.diag(beside[:-1], 1) + torch.diag(
        beside[:-1], -1)
    values, vectors = torch.linalg.eigh(projected)
    order = values.abs().argsort(descending=True)[:count]
    residual = (beside[-1] * vectors[-1, order]).abs().max()
    return values[order], basis.T @ vectors[:, order], residual.item()


def factors(net, theta, x):
    """By layer A and B, and the GGN per example's sum as dense matrix with it."""
    inputs = [torch.zeros(shape[1], shape[1]) for _, shape in net.places]
    outputs = [torch.zeros(shape[0], shape[0]) for _, shape in net.places]
    total = torch.zeros(net.size, net.size)
    for part in x.split(200):
        f, jacobian, rows, adjoints = net.derivatives(theta, part)
        p = f.softmax(1)
        root = root_of_ggn(p, jacobian).flatten(0, 1)
        total.addmm_(root.T, root)
        for layer, (a, d) in enumerate(zip(rows, adjoints)):
            centred = d - torch.einsum("nk,nkto->nto", p, d)[:, None]
            d = (p.sqrt()[:, :, None, None] * centred).flatten(0, 2)
            inputs[layer] += a.flatten(0, 1).T @ a.flatten(0, 1) / len(x)
            outputs[layer] += d.T @ d / (len(x) * a.shape[1])
    return inputs, outputs, total


def bases_of(net, inputs, outputs, total, count):
    """The diagonal's, K-FAC's and EK-FAC's h per example, the latter two in the eigenbasis."""
    bases, kfac, ekfac = [], [], []
    for (place, shape), a, b in zip(net.places, inputs, outputs):
        (da, ua), (db, ub) = torch.linalg.eigh(a), torch.linalg.eigh(b)
        bases.append((ua, ub))
        kfac.append(torch.outer(db.clamp(min=0), da.clamp(min=0)).flatten())
        block = total[place, place].reshape(*shape, *shape)
        block = torch.einsum("oipj,ok,pk->kij", block, ub, ub)
        ekfac.append(torch.einsum("kij,il,jl->kl", block, ua, ua).flatten() / count)
    return bases, {"diagonal": total.diagonal() / count, "K-FAC": torch.cat(kfac),
                   "EK-FAC": torch.cat(ekfac)}


def posteriors(net, theta, x):
    """Name, posterior, and the last |l| where there are pairs."""
    inputs, outputs, precision = factors(net, theta, x)
    bases, moments = bases_of(net, inputs, outputs, precision, len(x))
    precision.diagonal().add_(PRIOR)
    made = {name: Posterior(net, None if name == "diagonal" else bases, len(x) * h + PRIOR)
            for name, h in moments.items()}
    for name, posterior in made.items():
        yield name, posterior, ""
    for name in ("diagonal", "EK-FAC"):
        white = made[name].whitened_precision(precision)
        white.diagonal().sub_(1)
        values, vectors, residual = lanczos(white, PAIRS[-1], min(net.size, 4 * PAIRS[-1]))
        for count in PAIRS:
            yield (f"{name} + {count} pairs", made[name].with_pairs((values, vectors), count),
                   f"last |l| {values[count - 1].abs():.2f}")
        if residual > 0.02:
            say(f"the last pair's residual is {residual:.1e}")
    yield "full GGN", Dense(net, inverse(precision)), ""


def moves(posterior, jacobian, p, e):
    """Of each example V e, with leverage too, and for how many there is none."""
    plainly, levered, refused = [], [], 0
    for j, q, r in zip(jacobian, p, e):
        white = posterior.whiten(j)
        v = white @ posterior.correct(white).T
        plainly.append(v @ r)
        root = torch.diag(q.sqrt()) - torch.outer(q, q.sqrt())  # root @ root.T = diag(q) - q q'
        eigenvalues = 1 - torch.linalg.eigvalsh(root.T @ v @ root)
        if eigenvalues.min() > 0 and eigenvalues.max() < 1 + 1e-9:
            levered.append(torch.linalg.solve(
                torch.eye(len(q)) - v @ (torch.diag(q) - torch.outer(q, q)), v @ r))
        else:
            refused += 1
            levered.append(v @ r)
    return torch.stack(plainly).numpy(), torch.stack(levered).numpy(), refused


def softmax(f):
    e = np.exp(f - f.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def losses(f, y):
    top = f.max(1)
    return top + np.log(np.exp(f - top[:, None]).sum(1)) - f[np.arange(len(y)), y]


def rank_correlation(a, b):
    """Spearman's; ties do not occur."""
    return np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(b)))[0, 1]


def judged(before, move, after, y):
    """Spearman, size, error, LOO loss."""
    score, truth = (np.abs(softmax(f) - softmax(before)).sum(1) for f in (before + move, after))
    return (rank_correlation(score, truth), score.sum() / truth.sum(),
            np.linalg.norm(move - (after - before)) / np.linalg.norm(after - before),
            losses(before + move, y).mean())


def group_moves(posterior, jacobian, p, e):
    """Moves of the mean for removing all, without and with leverage."""
    gradient = posterior.whiten(torch.einsum("nkp,nk->p", jacobian, e)[None])
    white = posterior.whiten(root_of_ggn(p, jacobian).flatten(0, 1))
    inner = white @ posterior.correct(white).T
    first = posterior.correct(gradient)
    plainly = posterior.unwhiten(first[0])
    if torch.linalg.eigvalsh(inner).max() >= 1:
        return plainly, None
    held = torch.linalg.solve(torch.eye(len(inner)) - inner, white @ first[0])
    return plainly, posterior.unwhiten((first + posterior.correct((held @ white)[None]))[0])


def print_groups(net, posterior, theta, x, y, test, test_y, kept, name):
    for count in GROUPS:
        rows = kept[f"{name}_group{count}"].astype(int)
        f, jacobian, _, _ = net.derivatives(theta, x[rows])
        p = f.softmax(1)
        e = p - F.one_hot(y[rows], p.shape[1])
        told = []
        for move in group_moves(posterior, jacobian, p, e):
            if move is None:
                told.append("none")
                continue
            told.append(removal_judged(
                net.outputs(theta + move, x[rows]).numpy(),
                net.outputs(theta + move, test).numpy(), y[rows].numpy(), test_y.numpy(), kept,
                name, count))
        print(f"      {count:3} rows: {told[0]}   with leverage: {told[1]}", flush=True)


def removal_distances(removed, test, kept, name, count):
    """Mean |p - p_retrained|_1 on the removed and on the test rows."""
    truth = [np.float64(kept[f"{name}_group{count}_{part}"]) for part in ("after", "test")]
    return [np.abs(softmax(f) - softmax(t)).sum(1).mean() for f, t in zip((removed, test), truth)]


def removal_judged(removed, test, y, test_y, kept, name, count):
    """Those, and the losses."""
    return "{:.3f} {:.4f} loss {:.3f} {:.4f}".format(
        *removal_distances(removed, test, kept, name, count), losses(removed, y).mean(),
        losses(test, test_y).mean())


def table(path, *names):
    kept = np.load(path)
    for name in names or ("mlp", "cnn"):
        net, _ = network(name)
        x, y, test, test_y = data(name)
        theta = torch.from_numpy(kept[f"{name}_mean"]).double()
        rows = kept[f"{name}_rows"].astype(int)
        f, jacobian, _, _ = net.derivatives(theta, x[rows])
        p = f.softmax(1)
        e = p - F.one_hot(y[rows], p.shape[1])
        before, after, labels = f.numpy(), kept[f"{name}_after"], y[rows].numpy()
        print(f"{name}: {net.size} weights, {len(rows)} removed, LOO loss before "
              f"{losses(before, labels).mean():.3f}, truth {losses(after, labels).mean():.3f}; "
              f"Spearman, size, error, LOO")
        for count in GROUPS:
            group = kept[f"{name}_group{count}"].astype(int)
            for said, at in (("before", theta), ("truth", None)):
                removed, tested = ((kept[f"{name}_group{count}_{part}"] for part in ("after", "test"))
                                   if at is None else
                                   (net.outputs(at, part).numpy() for part in (x[group], test)))
                print(f"      {count:3} rows, {said}: " + removal_judged(
                    removed, np.float64(tested), y[group].numpy(), test_y.numpy(), kept, name,
                    count))
        for said, posterior, note in posteriors(net, theta, x):
            plainly, levered, refused = moves(posterior, jacobian, p, e)
            told = ["{:.3f} {:.2f} {:.2f} {:.3f}".format(*judged(before, move, after, labels))
                    for move in (plainly, levered)]
            print(f"   {said:22} {told[0]}   with leverage: {told[1]}  ({refused} without) {note}")
            print_groups(net, posterior, theta, x, y, test, test_y, kept, name)
        say("done")


# For the programs.

def graph(net, name):
    info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
    inputs = [info("x", tensor, ["n", 64] if name == "mlp" else ["n", 1, 8, 8])]
    inputs += [info(part, tensor, value.shape) for part, value in net.names(torch.zeros(net.size))]
    nodes, last, node = [], "x", helper.make_node
    for at, (layer, _, _, stride) in enumerate(net.layers):
        taken, z = [last, layer + ".weight", layer + ".bias"], layer + "_z"
        if at + 1 == len(net.layers):
            z = "f"
        if stride:
            nodes.append(node("Conv", taken, [z], kernel_shape=[3, 3], pads=[1] * 4, strides=[stride] * 2))
        else:
            nodes.append(node("Gemm", taken, [z], transB=1))
        if z != "f":
            nodes.append(node("Tanh", [z], [layer + "_a"]))
            last = layer + "_a"
            if net.pools(at):
                nodes += [node("AveragePool", [last], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
                          node("Flatten", ["pooled"], ["flat"])]
                last = "flat"
    made = helper.make_graph(nodes, name, inputs, [info("f", tensor, ["n", net.layers[-1][1]])])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)])


def write(path, name, directory):
    kept = np.load(path)
    net, _ = network(name)
    x, y, test, test_y = data(name)
    onnx.save(graph(net, name), f"{directory}/model.onnx")
    with h5py.File(f"{directory}/mean.h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=float(len(x)),
                       weight_decay=PRIOR / len(x), n_train=len(x))
        for part, value in net.names(torch.from_numpy(kept[f"{name}_mean"]).double()):
            f["mean/" + part] = value
    with h5py.File(f"{directory}/data.h5", "w") as f:
        groups = {"removed": kept[f"{name}_rows"]}
        groups.update({f"removed-{n}": kept[f"{name}_group{n}"] for n in GROUPS})
        for group, (inputs, labels) in {"train": (x, y), "test": (test, test_y)}.items():
            f[group + "/x"], f[group + "/y"] = inputs.numpy().astype("f4"), labels.numpy()
        for group, rows in groups.items():
            rows = rows.astype("i8")
            f[group + "/x"], f[group + "/y"] = x[rows].numpy().astype("f4"), y[rows].numpy()
            f[group + "/rows"] = rows
    for n in GROUPS:
        with open(f"{directory}/rows-{n}", "w") as f:
            print(*kept[f"{name}_group{n}"], sep=",", file=f)


def compare(path, name, sensitivity, *bounds):
    kept = np.load(path)
    net, _ = network(name)
    x, y, _, _ = data(name)
    rows = kept[f"{name}_rows"].astype(int)
    theta = torch.from_numpy(kept[f"{name}_mean"]).double()
    before, after, labels = net.outputs(theta, x[rows]).numpy(), kept[f"{name}_after"], y[rows]
    with h5py.File(sensitivity) as f:
        # Three layers of at most 73 terms of at most 30 in binary32: 200 * 30 * 2^-23.
        assert np.abs(f["logits"][:] - before).max() < 1e-3
        move, loo = np.float64(f["deviation_vector"][:]), np.float64(f["loo_loss"][:]).mean()
    rank, size, error, again = judged(before, move, after, labels.numpy())
    truth = losses(after, labels.numpy()).mean()
    print(f"{name}: Spearman {rank:.3f}   size {size:.3f}   error {error:.3f}   LOO {loo:.3f}, "
          f"truth {truth:.3f}")
    assert abs(loo - again) < 1e-3 * again, (loo, again)
    if bounds:
        least, low, high, far = map(float, bounds)
        assert rank >= least and low <= size <= high and abs(loo / truth - 1) <= far


def logits_of(path):
    with h5py.File(path) as f:
        return np.float64(f["logits"][:])


def compare_removal(path, name, directory, *bounds):
    kept, (x, y, test, test_y) = np.load(path), data(name)
    net, _ = network(name)
    theta, bad = torch.from_numpy(kept[f"{name}_mean"]).double(), []
    for count in GROUPS:
        rows = kept[f"{name}_group{count}"].astype(int)
        outputs = [logits_of(f"{directory}/{part}-{count}.h5") for part in ("removed", "test")]
        before = [net.outputs(theta, part).numpy() for part in (x[rows], test)]
        far, nothing = (removal_distances(*f, kept, name, count) for f in (outputs, before))
        shares = [a / b for a, b in zip(far, nothing)]
        truth = losses(np.float64(kept[f"{name}_group{count}_after"]), y[rows].numpy()).mean()
        share = losses(outputs[0], y[rows].numpy()).mean() / truth
        print(f"{name} without {count:2} rows: "
              + removal_judged(*outputs, y[rows].numpy(), test_y.numpy(), kept, name, count)
              + f"; distances {shares[0]:.2f} {shares[1]:.2f} of those without removal, loss "
              f"{share:.2f} of {truth:.3f}")
        if bounds:
            removed, tested, low, high = map(float, bounds)
            if shares[0] > removed or shares[1] > tested or not low <= share <= high:
                bad.append(count)
    assert not bad, bad


COMMANDS = {"make": make, "table": table, "write": write, "compare": compare,
            "compare-removal": compare_removal}


def main(arguments):
    with torch.enable_grad() if arguments[0] in ("make", "table") else torch.no_grad():
        COMMANDS[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    sys.exit(fit.each(main, sys.argv[1:]))
