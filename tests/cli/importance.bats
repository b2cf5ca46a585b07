load common

# A Bayesian linear regression whose columns are orthogonal, so that a diagonal posterior can be exact; and
# posteriors that are narrower and wider than it. Python has `exact`, the loss of leaving out each example.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  cat > problem.py << 'PYTHON'
import csv, glob, h5py, numpy as np
N, NOISE, PRIOR, RHO = 40, 0.5, 2.0, 1.0
r = np.random.default_rng(4)
Q = np.linalg.qr(np.column_stack([np.ones(N), r.standard_normal((N, 3))]))[0] * np.array([np.sqrt(N), 9, 6, 3])
Q[:, 0] = 1
x = Q[:, 1:]
y = x @ [0.3, -0.5, 0.2] + 0.4 + NOISE * r.standard_normal(N)
X = np.column_stack([x, np.ones(N)])
H = (X**2).sum(0) / NOISE**2  # the data's precision, a diagonal
mean = X.T @ y / NOISE**2 / (H + PRIOR)
def exact():
    loss = []
    for i in range(N):
        S = np.linalg.inv(np.diag(H + PRIOR) - np.outer(X[i], X[i]) / NOISE**2)
        m = S @ (X.T @ y - X[i] * y[i]) / NOISE**2
        v = NOISE**2 + X[i] @ S @ X[i]
        loss.append(0.5 * (y[i] - X[i] @ m)**2 / v + 0.5 * np.log(v / NOISE**2))
    return np.mean(loss)
def row(path):
    return {k: float(v) for k, v in next(csv.DictReader(open(path))).items()}
def psis_of(files, width, tau):
    """k of the approximation, PSIS-LOO and how many k are high, from written samples; width: of the draws' deviation."""
    from psis_reference import psis
    theta = []
    for path in files:
        with h5py.File(path) as f:
            theta.append(np.concatenate([np.float64(f["mean/" + n][()]).ravel() for n in names]))
    theta = np.array(theta)
    l = -0.5 * ((theta @ X.T - y) / NOISE)**2
    log_q = -0.5 * ((theta - mean)**2 * (H + PRIOR)).sum(1) / width**2 / tau
    ratio = (l.sum(1) - 0.5 * PRIOR * (theta**2).sum(1)) / tau - log_q
    found = [psis(l[:, i], 1 / tau, ratio) for i in range(N)]
    high = min(1 - 1 / np.log10(len(theta)), 0.7)
    return psis(0 * ratio, 1, ratio)[1], np.mean([f[0] for f in found]), sum(f[1] > high for f in found)
names = ["fc.weight", "fc.bias"]
PYTHON
  /usr/bin/python3 -c '
from problem import *
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = x.astype("f4"), y[:, None].astype("f4")'
  ivon-train -q --no-provenance --arch=linear:3,1 --data=data.h5 --likelihood=gaussian --noise-std=.5 --lr=.1 --epochs=1 -o run
  mv run/posterior-*.h5 trained.h5
  /usr/bin/python3 - << 'PYTHON'
from problem import *
import shutil
with h5py.File("trained.h5") as f:
    found = sorted(f["mean"])
assert found == sorted(names), found
for name, width in (("exact", 1), ("narrow", 0.5), ("wide", 1.4)):
    shutil.copy("trained.h5", name + ".h5")
    h = ((H + PRIOR) / width**2 - PRIOR) / N
    with h5py.File(name + ".h5", "a") as f:
        f.attrs.update(ess=float(N), weight_decay=PRIOR / N, n_train=N)
        for group in f["hessian"].values():
            for a in ("ess", "weight_decay"):
                group.attrs.pop(a, None)
        for values, part in ((mean, "mean"), (h, "hessian")):
            f[part + "/fc.weight"][...] = values[:3].reshape(f[part + "/fc.weight"].shape)
            f[part + "/fc.bias"][...] = values[3:]
PYTHON
}
G() { ivon-predict-gen "$1.h5" --data=data.h5 --likelihood=gaussian --noise-std=.5 "${@:2}"; }
oracle() {
  (cd "$BATS_FILE_TMPDIR" && $python -c "
import sys
sys.path[:0] = ['.']
from problem import *
$1")
}

@test "exact draws have no k to speak of, and predict what leaving out does" {
  cd "$BATS_FILE_TMPDIR"
  G exact -q --samples=4000 --importance > exact.csv
  G wide -q --samples=4000 --importance > wide.csv
  G wide -q --samples=4000 > plain.csv
  oracle '
t, e, w, p = exact(), row("exact.csv"), row("wide.csv"), row("plain.csv")
assert not e["approximation_k"] > 0.4 and not w["approximation_k"] > 0.4
assert abs(e["psis_loo"] - t) < 0.01 and abs(w["psis_loo"] - t) < 0.01, (e, w, t)
assert abs(p["psis_loo"] - t) > 0.03 and p["waic"] == w["waic"]'
}

@test "ratios are those of written samples, at any temperature" {
  cd "$BATS_FILE_TMPDIR"
  for tau in 1 0.8; do
    mkdir -p s$tau
    ivon-sample -q narrow.h5 -n 200 --seed=3 --posterior-temperature=$tau -o s$tau/%d.h5 --force
    G narrow --samples=200 --seed=3 --posterior-temperature=$tau --importance > narrow$tau.csv 2> narrow$tau.err
    oracle "
files = sorted(glob.glob('s$tau/*.h5'))
assert len(files) == 200
k, loo, high = psis_of(files, 0.5, $tau)
found = row('narrow$tau.csv')
# Samples are floats: their ratios err by some 1e-5, and k by that times its slope.
assert abs(found['approximation_k'] - k) < 1e-3 and k > 0.5, (found, k)
assert abs(found['psis_loo'] - loo) < 1e-3 * abs(loo), (found, loo)
assert found['pareto_k_bad'] == high > 0"
  done
}

@test "draws that are too narrow are told of, and what cannot be weighed is refused" {
  cd "$BATS_FILE_TMPDIR"
  run --separate-stderr -0 G narrow --samples=4000 --importance --subsample=10
  [[ "$stderr" == *"narrow.h5: the samples stand for the posterior itself too badly for psis_loo to mean anything: k is 0."*", expected 0.7 at most"* ]]
  run -0 G exact --samples=400 --importance
  [[ "$output" != *"too badly"* ]]
  run --separate-stderr -0 G narrow --samples=400 --importance --json --limit=20
  [ "$(jq '.approximation_k > 0.7' <<< "$output")" = true ]
  /usr/bin/python3 -c '
import h5py
with h5py.File("data.h5") as f, h5py.File("part.h5", "w") as g:
    g["x"], g["y"] = f["x"][:30], f["y"][:30]'
  run -0 ivon-predict-gen exact.h5 --data=part.h5 --likelihood=gaussian --noise-std=.5 --samples=40 --importance
  [[ "$output" == *"part.h5: --importance takes these for all the training data, but they count 30, and N is 40"* ]]
  run -64 G exact --importance
  [ "$output" = "ivon-predict-gen: --importance needs --samples=N, of 21 or more" ]
  run -64 G exact --importance --samples=20
  [ "$output" = "ivon-predict-gen: --importance needs --samples=N, of 21 or more" ]
}
