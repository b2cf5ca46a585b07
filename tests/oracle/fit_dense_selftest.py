"""fit_dense.py against itself: the formulas of structured posteriors against dense matrices, finite
differences and random draws."""
import tempfile

import fit_dense as dense
import fit_selftest
import h5py
import numpy as np
from normals import normals


def files(folder, case, rank, ess):
    path, data = f"{folder}/{rank}.h5", f"{folder}/data.h5"
    fit_selftest.write(path, case, fit_selftest.summed(case).finish(), ess, 0.05, rank)
    with h5py.File(data, "w") as f:
        f["x"], f["y"] = case.x, case.y
    return path, [path, data, "--likelihood=" + case.likelihood, f"--noise-std={case.noise}"]


def check_gaussian(case):
    """Bases alone and some pairs are consistent; all pairs give the inverse of lambda (GGN + delta)
    and the leave-one-out of the exact downdate."""
    size = sum(v.size for v in case.parameters.values())
    with tempfile.TemporaryDirectory() as folder:
        for rank in 0, 5, size:
            path, arguments = files(folder, case, rank, 6.0)
            print(f"{case.name}, rank {rank}")
            dense.identities(path, *arguments)
            check_draw(path)
        g = dense.Gaussian(path)
        facts = dense.Facts(g, arguments)
        full = g.ess * (facts.ggn() + g.delta * np.eye(g.size))
        rho = g.ess / facts.count()
        for i in range(len(facts)):
            j, e, curved = facts.j[i], facts.e(i), facts.curvature(i)
            exact = rho * j @ np.linalg.solve(full - rho * j.T @ curved @ j, j.T @ e)
            _, move, applied = dense.removal(facts, i, g.covariance(), rho, True)
            assert applied
            dense.close(f"removal of {i} with leverage", move, exact, 1e-3)
            _, move, _ = dense.removal(facts, i, g.covariance(), rho, False)
            dense.close(f"removal of {i}", move, rho * j @ np.linalg.solve(full, j.T @ e), 1e-3)


def check_draw(path):
    """What `draw` gives is `root` times the normals, in each parameter's own shape."""
    g = dense.Gaussian(path)
    eps = np.concatenate([normals(3, 2, n, int(np.prod(g.shapes[n]))) for n in g.names])
    whole = g.unpack(g.root() @ eps)
    for name, move in g.draw(3, 2).items():
        dense.close("draw of " + name, move, whole[name], 1e-10)
    g.u, g.l = np.zeros((g.size, 0)), np.zeros(0)
    base = g.q() * g.s**2 @ g.q().T
    dense.close("rank 0 is the base", g.covariance(), base, 1e-12)


def check_evidence():
    random = np.random.default_rng(2)
    m, h, count = random.standard_normal(40), random.gamma(0.5, 1, 40), 30
    at = lambda a: dense.evidence(12.0, m, h, count, a)
    for a in 0.1, 1.0, 10.0:
        dense.close(f"gradient at {a}", dense.evidence_gradient(m, h, count, a),
                    (at(a * (1 + 1e-6)) - at(a / (1 + 1e-6))) / (a * 2e-6), 1e-6)
    a = dense.fixed_point(m, h, count)
    dense.close("fixed point", dense.evidence_gradient(m, h, count, a) + 1, 1, 1e-9)
    grid = a * np.exp(np.linspace(-2, 2, 401))
    dense.close("best of a grid", grid[np.argmax([at(v) for v in grid])], a, 1e-9)
    covariance = np.diag(1 / (count * h + a))
    dense.close("gamma = P - a tr Sigma", dense.effective(h, count, a), 40 - a * np.trace(covariance), 1e-12)
    squares, outputs, noise = 20.0, 60, 0.7
    a, s = dense.noise_fixed_point(squares, outputs, m, h, count, noise)

    def both(a, s):
        losses = 0.5 * squares / s**2 + 0.5 * outputs * np.log(2 * np.pi * s**2)
        return dense.evidence(losses, m, h * noise**2 / s**2, count, a)
    for up, down in ((both(a * 1.0001, s), both(a / 1.0001, s)), (both(a, s * 1.0001), both(a, s / 1.0001))):
        dense.close("fixed point with noise", 1 + (up - down) / 2e-4, 1, 1e-4)


def check_linear():
    random = np.random.default_rng(3)
    f, root = random.standard_normal(3), random.standard_normal((3, 3))
    c = root @ root.T
    drawn, variance, _ = dense.output_draws(f, c, 200000)
    again = dense.softmax(random.multivariate_normal(f, c, 200000)).mean(0)
    assert np.abs(drawn - again).max() < 6 * np.sqrt(variance.max() * 2 / 200000)
    dense.close("probit, C = 0", dense.probit(f, 0 * c), dense.softmax(f), 1e-12)
    # Of two classes probit approximates a logistic of one normal difference, to some 2 %.
    f, c = np.array([1.0, 0.0]), np.diag([2.0, 0.0])
    drawn, _, _ = dense.output_draws(f, c, 200000)
    print("two classes: probit", dense.probit(f, c), "draws", drawn)


def check_swag():
    random = np.random.default_rng(4)
    steps = random.standard_normal((9, 7)).cumsum(0)
    mean, variance, deviations = dense.swag(steps, 4)
    dense.close("SWAG: mean", mean, steps.mean(0), 1e-12)
    dense.close("SWAG: variance", variance, steps.var(0), 1e-10)
    running = np.array([steps[i] - steps[:i + 1].mean(0) for i in range(5, 9)]).T
    dense.close("SWAG: deviations", deviations, running, 1e-12)
    u, l = dense.swag_pairs(variance, deviations)
    s = np.sqrt(0.5 * variance)
    covariance = s[:, None] * (np.eye(7) - (u * (l / (1 + l))) @ u.T) * s
    dense.close("SWAG: as low rank", covariance, dense.swag_covariance(variance, deviations), 1e-12)


def main():
    random = np.random.default_rng(0)
    for case in (fit_selftest.Products(random), fit_selftest.Convolution(random, "gaussian"),
                 fit_selftest.Tokens(random, False)):
        check_gaussian(case)
    check_evidence()
    check_linear()
    check_swag()
    print("all hold")
