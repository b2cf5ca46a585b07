load common

# A linear network of two means and two logarithms of variances, and all that is made of it by numpy
# in double precision; derivatives by PyTorch where there is one.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - << 'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(8)
for name, n in ("data.h5", 200), ("new.h5", 60):
    x = r.standard_normal((n, 3))
    y = x @ [[1, -1], [2, 0], [0, .5]] + np.exp(x @ [[.8, 0], [0, -.5], [.3, 0]]) * r.standard_normal((n, 2))
    with h5py.File(name, "w") as f:
        f["x"], f["y"], f["group"] = x.astype("f4"), y.astype("f4"), np.arange(n) % 3
PYTHON
  ivon-train -q --no-provenance --lr=.1 --epochs=20 --batch=20 --save-every=0 --data=data.h5 -o run --arch=mlp:3,4 \
    --likelihood=heteroscedastic
  mv run/posterior-*.h5 p.h5
  ivon-sample -q p.h5 -n 8 --seed=3 -o 's-%d.h5'
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
}

P() { ivon-predict -q --no-provenance -f --likelihood=heteroscedastic --data=new.h5 "$@"; }

# oracle CODE: Python with data, the outputs f(weights) and a posterior's parts.
oracle() {
  $python - << PYTHON
import csv, json, h5py, numpy as np
def read(path):
    with h5py.File(path) as f:
        return {k: f[k][()] for k in f if isinstance(f[k], h5py.Dataset)}
def parts(path, part="mean"):
    with h5py.File(path) as f:
        return {k: np.float64(v[()]) for k, v in f[part].items()}
def flat(path, part="mean"):
    found = parts(path, part)
    weight = [k for k in found if k.endswith("weight")][0]
    return found[weight], found[weight.replace("weight", "bias")]
def outputs(path, x):
    w, b = flat(path)
    return np.float64(x) @ w.T + b
def split(f):
    return f[:, :2], f[:, 2:]
def residual(f, y):
    mu, t = split(f)
    return np.hstack([(mu - y) * np.exp(-t), (1 - (y - mu)**2 * np.exp(-t)) / 2])
def loss(f, y):
    mu, t = split(f)
    return ((t + (y - mu)**2 * np.exp(-t)) / 2).sum(1)
train, new = read("data.h5"), read("new.h5")
x, y = np.float64(new["x"]), np.float64(new["y"])
f = outputs("p.h5", x)
CONSTANT = np.log(2 * np.pi)
$1
PYTHON
}

@test "the mean predicts means, deviations and densities" {
  P p.h5 --mean --logits -o mean.h5
  P p.h5 --mean --metrics --json > mean.json
  P p.h5 --mean | head -1 | grep -qx 'index,mean_0,mean_1,epistemic_std_0,epistemic_std_1,aleatoric_std_0,aleatoric_std_1,label_0,label_1,loss'
  oracle '
found, (mu, t) = read("mean.h5"), split(f)
for name, expected in ("mean", mu), ("logits", f), ("aleatoric_std", np.exp(t / 2)), ("epistemic_std", 0 * mu):
    assert found[name].shape == expected.shape and np.abs(found[name] - expected).max() < 2e-5, name
metrics = {k: v["value"] for k, v in json.load(open("mean.json"))["metrics"].items()}
assert abs(metrics["nll"] - loss(f, y).mean() - CONSTANT) < 1e-5
assert abs(metrics["rmse"]**2 - ((y - mu)**2).mean()) < 1e-5
z = (y - mu) / np.exp(t / 2)
assert abs(metrics["coverage_90"] - (np.abs(z) <= 1.6448536).mean()) < 1e-9'
}

@test "samples: variances add up, and densities are averaged" {
  P p.h5 -n 8 --seed=3 -o samples.h5
  P p.h5 -n 8 --seed=3 --metrics --json --log-likelihoods=ll.nc > samples.json
  oracle '
all_of = np.array([outputs(f"s-{i}.h5", x) for i in range(8)])
mu, t = all_of[..., :2], all_of[..., 2:]
found = read("samples.h5")
for name, expected in (("mean", mu.mean(0)), ("epistemic_std", mu.std(0)), ("aleatoric_std", np.sqrt(np.exp(t).mean(0)))):
    assert np.abs(found[name] - expected).max() < 1e-4, (name, np.abs(found[name] - expected).max())
logs = np.array([-loss(g, y) - CONSTANT for g in all_of])
metrics = json.load(open("samples.json"))["metrics"]
assert abs(metrics["nll"]["value"] + np.log(np.exp(logs).mean(0)).mean()) < 1e-4
with h5py.File("ll.nc") as g:
    own = next(v for k, v in g["log_likelihood"].items() if v.ndim > 1 and v.shape[-1] == 60)[()]
    assert np.abs(own.reshape(8, 60) - logs).max() < 1e-4
    kept = [v for v in g["observed_data"].values() if v.shape == (60, 2)]
    assert len(kept) == 1 and np.array_equal(kept[0][()], new["y"])
    drawn = next(v for v in g["posterior_predictive"].values() if v.shape[-2:] == (60, 2))[()].reshape(8, 60, 2)
z = (drawn - mu) / np.exp(t / 2)
assert abs(z.mean()) < 4 / np.sqrt(z.size) and abs(z.std() - 1) < 4 / np.sqrt(2 * z.size)'
}

@test "losses and gradients are those of PyTorch's GaussianNLLLoss, and influences are made of them" {
  ivon-sensitivity -q p.h5 --data=data.h5 --likelihood=heteroscedastic --leverage=none --vectors \
    -fo s.h5
  ivon-influence -q p.h5 --data=data.h5 --queries=new.h5 --likelihood=heteroscedastic --rho=1 -fo influence.h5
  oracle '
found, g = read("s.h5"), outputs("p.h5", train["x"])
e = residual(g, np.float64(train["y"]))
assert np.abs(found["residual_vector"] - e).max() < 1e-4 * np.abs(e).max()
assert found["label"].shape == found["prediction"].shape == (200, 2)
assert np.abs(found["prediction"] - g[:, :2]).max() < 1e-4
try:
    import torch
    h = torch.tensor(g, requires_grad=True)
    nll = torch.nn.GaussianNLLLoss(reduction="none", eps=0)(h[:, :2], torch.tensor(train["y"]).double(), h[:, 2:].exp())
    nll.sum().backward()
    assert np.abs(found["loss"] - nll.detach().numpy().sum(1)).max() < 1e-3
    assert np.abs(h.grad.numpy() - e).max() < 1e-10 * np.abs(e).max()
except ImportError:
    pass
# rho times g of a training row, the covariance, and g of a query.
with h5py.File("p.h5") as p:
    ess, decay = p.attrs["ess"], p.attrs["weight_decay"]
h, query = flat("p.h5", "hessian"), residual(f, y)
def grads(e, x):
    return np.hstack([(e[:, :, None] * x[:, None, :]).reshape(len(x), -1), e])
variance = 1 / (ess * (np.r_[h[0].ravel(), h[1]] + decay))
expected = grads(e, np.float64(train["x"])) * variance @ grads(query, x).T
influence = read("influence.h5")["influence"]
assert np.abs(influence - expected).max() < 1e-4 * np.abs(expected).max()'
}

@test "posteriors are fitted by the expected curvature, its draws, or squares of gradients" {
  for curvature in ggn "fisher --fisher-samples=400" empirical; do
    ivon-fit -q --no-provenance p.h5 --data=data.h5 --likelihood=heteroscedastic --structure=diagonal --weight-decay=.1 \
      --curvature=$curvature -fo fit.h5
    name=${curvature%% *} oracle '
import os
found, (mu, t) = flat("fit.h5", "hessian"), split(outputs("p.h5", train["x"]))
x = np.float64(train["x"])
second = np.hstack([np.exp(-t), 0 * t + .5])
if os.environ["name"] == "empirical":
    second = residual(np.hstack([mu, t]), np.float64(train["y"]))**2
tolerance = .1 if os.environ["name"] == "fisher" else 1e-4
for got, expected in zip(found, (second.T @ x**2 / 200, second.mean(0))):
    assert np.abs(got / expected - 1).max() < tolerance, (os.environ["name"], got / expected)'
  done
  ivon-fit -q p.h5 --data=data.h5 --likelihood=heteroscedastic --tune=marginal -fo kron.h5
  P kron.h5 -n 4 --metrics > metrics
  grep -q '^crps' metrics
}

@test "a linearised network has log-normal variances" {
  P p.h5 --method=linear --logits -o linear.h5
  oracle '
with h5py.File("p.h5") as p:
    ess, decay = p.attrs["ess"], p.attrs["weight_decay"]
h = flat("p.h5", "hessian")
c = (x**2) @ (1 / (ess * (h[0] + decay))).T + 1 / (ess * (h[1] + decay))
found, (mu, t) = read("linear.h5"), split(f)
for name, expected in ("mean", mu), ("epistemic_std", np.sqrt(c[:, :2])), ("aleatoric_std", np.exp(t / 2 + c[:, 2:] / 4)):
    assert np.abs(found[name] / expected - 1).max() < 1e-4, name'
  run -64 P p.h5 --method=linear --metrics
  [[ $output == *"the likelihood heteroscedastic has no closed form: --metrics need --linear=draws"* ]]
  P p.h5 --method=linear --linear=draws -n 64 --metrics | grep -q '^nll'
}

@test "intervals are scaled by the deviations that the network tells" {
  P p.h5 --mean -o mean.h5
  C() { ivon-calibrate -q --no-provenance -f --likelihood=heteroscedastic --conformal=normalised --coverage=.8 "$@"; }
  C p.h5 --mean --data=new.h5 -o c.json > report
  C mean.h5 --data=new.h5 -o d.json | cmp - report
  cmp c.json d.json
  P p.h5 --mean --calibration=c.json -o intervals.h5
  P p.h5 --mean --calibration=c.json --metrics --groups=group | grep -q '^group.2.crps'
  oracle '
(mu, t), found = split(f), read("intervals.h5")
q = np.sort(np.abs(y - mu) / np.exp(t / 2), 0)[int(np.ceil(61 * .8)) - 1]
assert np.abs(np.array(json.load(open("c.json"))["conformal"]["quantiles"]) / q - 1).max() < 1e-4
assert np.abs(found["upper"] - mu - q * np.exp(t / 2)).max() < 1e-3 and found["lower"].shape == (60, 2)'
}

@test "generalisation is predicted, and the training learns variances" {
  ivon-predict-gen -q p.h5 --data=data.h5 --test=new.h5 --likelihood=heteroscedastic -n 200 > gen.csv
  ivon-train -q --no-provenance --lr=.1 --epochs=20 --batch=20 --save-every=0 --data=data.h5 -o gaussian --arch=mlp:3,2 \
    --likelihood=gaussian --noise-std=1.5
  oracle '
row = {k: float(v) for k, v in next(csv.DictReader(open("gen.csv"))).items()}
own = loss(outputs("p.h5", train["x"]), np.float64(train["y"])).mean()
assert abs(row["train_loss"] - own) < 1e-4 and abs(row["test_loss"] - loss(f, y).mean()) < 1e-4
assert own < row["loo_loss"] and abs(row["psis_loo"] - row["loo_loss"]) < .3
import glob
m = outputs(glob.glob("gaussian/posterior-*.h5")[0], x)
best = min((.5 * ((y - m) / s)**2 + np.log(s)).sum(1).mean() for s in np.arange(.5, 4, .05))
assert loss(f, y).mean() < best - .2, (loss(f, y).mean(), best)'
}

@test "what it does not fit is refused" {
  run -64 P p.h5 --noise-std=1
  [[ $output == *"--noise-std is for --likelihood=gaussian"* ]]
  run -64 P p.h5 --acquire=entropy
  run -65 P p.h5 --targets=group
  [[ $output == *"'group' has 1 numbers for each example, expected 2, one for each output of the first half, the means"* ]]
  run -65 ivon-train -q --lr=.1 --epochs=1 --batch=20 --data=data.h5 -o odd --arch=mlp:3,3 --likelihood=heteroscedastic
  [[ $output == *"3 outputs, expected an even number: means, and behind them the logarithm of each one's variance"* ]]
}
