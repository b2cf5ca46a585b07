load common

# Networks, posteriors and data of a few kB, and toy.py, which computes them in float64 numpy. The
# graphs' own initializers are noise, so that a parameter that is not the checkpoint's shows.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  python=/usr/bin/python3
  $python -c 'import onnx' 2> /dev/null || return 0
  cat > toy.py <<'PYTHON'
import csv, json
import h5py, numpy as np

from normals import normals

CLASSES, FEATURES, EXAMPLES = 3, 6, 20


def weights(path, sample=None, seed=0, temperature=1.0, only=None):
    """By name; of the posterior mean, or of a sample."""
    found = {}
    with h5py.File(path, "r") as f:
        for name, mean in f["mean"].items():
            found[name] = np.float64(mean[()])
            if sample is None or (only and name not in only):
                continue
            precision = f.attrs["ess"] * (np.float64(f["hessian"][name][()]) + f.attrs["weight_decay"])
            noise = normals(seed, sample, name, mean.size).reshape(mean.shape)
            found[name] += np.sqrt(temperature / precision) * noise
    return found


def network(w, x):
    if "emb.weight" in w:
        return w["emb.weight"][x] @ w["out.weight"] + w["out.bias"]
    return np.tanh(x @ w["fc1.weight"].T + w["fc1.bias"]) @ w["fc2.weight"].T + w["fc2.bias"]


def softmax(f):
    e = np.exp(f - f.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def read(path, name):
    with h5py.File(path, "r") as f:
        return f[name][()]


def entropy(p):
    return -np.sum(p * np.log(p), -1)


def near(a, b, tolerance=1e-6):
    a, b = np.float64(a), np.float64(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.max(np.abs(a - b)) < tolerance, np.max(np.abs(a - b))
PYTHON
  cat > make.py <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from toy import *

r = np.random.default_rng(5)


def graph(path, nodes, shapes, x, f):
    given = [numpy_helper.from_array(r.standard_normal(s).astype("f4"), n) for n, s in shapes.items()]
    model = helper.make_graph(nodes, "toy", [x], [f], given)
    onnx.save(helper.make_model(model, opset_imports=[helper.make_opsetid("", 13)]), path)


def mlp(outputs, path, weight="fc1.weight", last=None):
    node = helper.make_node
    first = [node("Gemm", ["x", weight, "fc1.bias"], ["a"], name="first", transB=1)]
    if weight != "fc1.weight":
        first = [node("MatMul", ["x", weight], ["m"]), node("Add", ["m", "fc1.bias"], ["a"])]
    nodes = first + [node("Tanh", ["a"], ["t"]),
                     node("Gemm", ["t", "fc2.weight", "fc2.bias"], ["f"], name="second", transB=1)]
    if last:
        nodes += [node(last, ["f"], ["g"], name="strange")]
    shapes = {weight: (8, FEATURES) if weight == "fc1.weight" else (FEATURES, 8), "fc1.bias": (8,),
              "fc2.weight": (outputs, 8), "fc2.bias": (outputs,)}
    info = helper.make_tensor_value_info
    graph(path, nodes, shapes, info("x", TensorProto.FLOAT, ["n", FEATURES]),
          info("g" if last else "f", TensorProto.FLOAT, None if last else ["n", outputs]))


def posterior(path, shapes, model):
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=40.0, weight_decay=0.05)
        for name, shape in shapes.items():
            f["mean/" + name] = r.standard_normal(shape).astype("f4")
            f["hessian/" + name] = r.gamma(1.0, 0.1, shape).astype("f4")
        f["model.onnx"] = np.fromfile(model, "u1")


mlp(CLASSES, "mlp.onnx")
mlp(2, "regression.onnx")
mlp(CLASSES, "folded.onnx", "onnx::MatMul_12")
mlp(CLASSES, "strange.onnx", last="NonMaxSuppression")
tokens = [helper.make_node("Gather", ["emb.weight", "x"], ["e"]),
          helper.make_node("MatMul", ["e", "out.weight"], ["m"]),
          helper.make_node("Add", ["m", "out.bias"], ["f"])]
shapes = {"emb.weight": (7, 4), "out.weight": (4, 5), "out.bias": (5,)}
graph("tokens.onnx", tokens, shapes,
      helper.make_tensor_value_info("x", TensorProto.INT64, ["n", "t"]),
      helper.make_tensor_value_info("f", TensorProto.FLOAT, ["n", "t", 5]))
posterior("tokens.h5", shapes, "tokens.onnx")
shapes = {"fc1.weight": (8, FEATURES), "fc1.bias": (8,), "fc2.weight": (CLASSES, 8), "fc2.bias": (CLASSES,)}
posterior("p.h5", shapes, "mlp.onnx")
posterior("q.h5", shapes, "mlp.onnx")
posterior("r.h5", {**shapes, "fc2.weight": (2, 8), "fc2.bias": (2,)}, "regression.onnx")

x = r.standard_normal((EXAMPLES, FEATURES)).astype("f4")
y = r.integers(0, CLASSES, EXAMPLES)
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"], f["some/x"], f["wide/x"] = x, y, x[:9], np.zeros((4, FEATURES + 1), "f4")
    f["float/x"], f["float/y"] = x, r.standard_normal((EXAMPLES, 2)).astype("f4")
    f["real/x"], f["real/y"] = x, r.standard_normal((EXAMPLES, 1)).astype("f4")
    f["events/x"], f["events/y"] = x, r.integers(0, 2, (EXAMPLES, CLASSES))
    f["tokens/x"] = r.integers(0, 7, (4, 3))
    labels = r.integers(0, 5, (4, 3))
    labels[1, 2] = -100
    f["tokens/y"] = labels
np.save("x.npy", x)
np.save("y.npy", y)
with open("data.csv", "w") as f:
    f.write(",".join([f"feature {i}" for i in range(FEATURES)] + ["label"]) + "\n")
    for row, label in zip(x, y):
        f.write(",".join([repr(float(v)) for v in row] + [str(label)]) + "\n")
PYTHON
  $python make.py
}

toys() {
  [ -e "$BATS_FILE_TMPDIR/p.h5" ] || skip "python3-onnx is missing"
  cp "$BATS_FILE_TMPDIR"/* .
}

# Python that knows toy.py.
check() {
  $python -c "from toy import *
$1"
}

expect() { # STATUS TEXT COMMAND...
  local want=$1 text=$2 got=0
  shift 2
  "$@" > out 2> err || got=$?
  [ $got -eq "$want" ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -q -- "$text" err ||
    { echo "status $got, expected $want, and: $text"; cat err; return 1; }
}

@test "predictions at the mean are those of numpy, from any kind of data" {
  toys
  ivon-predict -q p.h5 --data=data.h5 --mean --logits -o a.h5
  ivon-predict -q p.h5 --data=x.npy --mean -o npy.h5
  ivon-predict -q p.h5 --data=x.npy,y.npy --mean -o pair.h5
  ivon-predict -q p.h5 --data=data.csv --target-column=label --mean -o csv.h5
  ivon-predict -q p.h5 --data=data.csv --target-column=7 --mean -o number.h5
  ivon-predict -q --model=mlp.onnx p.h5 --data=data.h5:/some --mean --inputs=x -o some.h5
  ivon predict -q p.h5 --data=data.h5 --mean --inputs=x=x -o named.h5
  ivon-predict -q p.h5 --data=data.h5 -n 1 -o one.h5
  ivon-predict -q p.h5 --data=data.h5 -n 3 --posterior-temperature=0 -o cold.h5
  for still in --mean "-n 1" "-n 3 --posterior-temperature=0"; do
    ivon-predict -q p.h5 --data=data.h5 $still --metrics --ood=data.h5:/some > still
    [ "$(grep -c auroc still)" -eq 2 ]
    if grep mutual_information still; then return 1; fi
  done
  for moving in "p.h5 -n 2" "p.h5 q.h5 --mean"; do
    ivon-predict -q $moving --data=data.h5 --metrics --ood=data.h5:/some | grep -q mutual_information.auroc
  done
  check '
x = read("data.h5", "x")
f = network(weights("p.h5"), x)
p = softmax(f)
assert len(np.unique(p.argmax(1))) == CLASSES  # else an argmax that is stuck would pass
near(read("a.h5", "logits"), f, 4e-6)  # logits up to 10, relative 2^-24 for each of some roundings
for name in ("a", "npy", "pair", "csv", "number", "named"):
    near(read(name + ".h5", "probabilities"), p)
near(read("some.h5", "probabilities"), p[:9])
assert np.array_equal(read("a.h5", "prediction"), p.argmax(1))
near(read("a.h5", "max_probability"), p.max(1))
near(read("a.h5", "entropy"), entropy(p), 3e-6)
for name in ("a", "one", "cold"):
    assert np.array_equal(read(name + ".h5", "expected_entropy"), read(name + ".h5", "entropy"))
    assert not read(name + ".h5", "mutual_information").any()
with h5py.File("a.h5", "r") as a:
    assert sorted(a) == sorted(("prediction", "max_probability", "entropy", "expected_entropy",
                                "mutual_information", "label", "loss", "probabilities", "logits")), sorted(a)
    assert a.attrs["format"] in ("ivon-table", b"ivon-table")
with h5py.File("npy.h5", "r") as a:
    assert "logits" not in a'
}

@test "sampled predictions average the softmax over numpy's samples" {
  toys
  ivon-predict -q p.h5 --data=data.h5 --samples=3 --seed=9 --posterior-temperature=.5 -o a.h5
  ivon-predict -q p.h5 --data=data.h5 -n 3 --include='fc2.*' --exclude='*.bias' -o some.h5
  ivon-predict -q p.h5 --data=data.h5 -n 3 --posterior-temperature=0 -o cold.h5
  ivon-predict -q p.h5 --data=data.h5 --mean -o mean.h5
  expect 65 "no mean" ivon-predict -q p.h5 --data=data.h5 --include='nothing*' -o none.h5
  [ ! -e none.h5 ]
  check '
x = read("data.h5", "x")
def draws(**options):
    return np.stack([softmax(network(weights("p.h5", s, **options), x)) for s in range(3)])
p = draws(seed=9, temperature=.5)
assert np.max(np.abs(p.mean(0) - read("mean.h5", "probabilities"))) > .05  # samples matter
near(read("a.h5", "probabilities"), p.mean(0), 3e-6)
near(read("a.h5", "entropy"), entropy(p.mean(0)), 1e-5)
near(read("a.h5", "expected_entropy"), entropy(p).mean(0), 1e-5)
near(read("a.h5", "mutual_information"), entropy(p.mean(0)) - entropy(p).mean(0), 1e-5)
near(read("some.h5", "probabilities"), draws(only=["fc2.weight"]).mean(0), 3e-6)
near(read("cold.h5", "probabilities"), read("mean.h5", "probabilities"))'
}

@test "text goes to standard output, and reads back as what HDF5 and npy have" {
  toys
  ivon-predict -q p.h5 --data=data.h5 -n 4 -o a.h5
  ivon-predict -q p.h5 --data=data.h5 -n 4 > a.csv
  ivon-predict -q p.h5 --data=data.h5 -n 4 --format=jsonl > a.jsonl
  ivon-predict -q p.h5 --data=data.h5 -n 4 -o - > c.csv
  ivon-predict -q p.h5 --data=data.h5 -n 4 -o b.csv
  ivon-predict -q p.h5 --data=data.h5 -n 4 -o b.jsonl
  ivon-predict -q p.h5 --data=data.h5 -n 4 -o a.npy
  ivon-predict -q p.h5 --data=data.h5 -n 4 --format=npy -o other
  cmp a.csv b.csv
  cmp a.csv c.csv
  cmp a.jsonl b.jsonl
  cmp a.npy other
  head -1 a.csv
  [ "$(head -1 a.csv)" = "index,prediction,max_probability,entropy,expected_entropy,mutual_information,label,loss,p0,p1,p2" ]
  [ "$(wc -l < a.csv)" -eq 21 ]
  check '
rows = list(csv.DictReader(open("a.csv")))
lines = [json.loads(line) for line in open("a.jsonl")]
p = read("a.h5", "probabilities")
assert [int(row["index"]) for row in rows] == list(range(EXAMPLES)) == [l["index"] for l in lines]
assert np.array_equal(np.float32([[row["p0"], row["p1"], row["p2"]] for row in rows]), p)
assert np.array_equal(np.float32([l["probabilities"] for l in lines]), p)
assert np.array_equal(np.load("a.npy"), p) and np.load("a.npy").dtype == "f4"
for name in ("prediction", "entropy", "mutual_information"):
    assert np.array_equal(np.float32([row[name] for row in rows]), np.float32(read("a.h5", name)))
    assert np.array_equal(np.float32([l[name] for l in lines]), np.float32(read("a.h5", name)))'
}

@test "an ensemble is the weighted mean of its posteriors, as is the average of their files" {
  toys
  ivon-predict -q p.h5 --data=data.h5 -n 5 -o p-out.h5
  ivon-predict -q q.h5 --data=data.h5 -n 5 -o q-out.h5
  ivon-predict -q q.h5 --data=data.h5 -n 5 -o q-out.npy
  ivon-predict -q p.h5 --data=data.h5 -n 5 -o p-out.csv
  ivon-predict -q p.h5 q.h5 --data=data.h5 -n 5 -o even.h5
  ivon-predict -q p.h5 q.h5 --data=data.h5 -n 5 --weights=1,3 -o both.h5
  ivon-predict -q --average p-out.h5 q-out.h5 -o even-files.h5
  ivon-predict -q --average p-out.csv q-out.npy --weights=1,3 -o files.h5
  ivon-predict -q --average p-out.h5 q-out.h5 --data=data.h5 --metrics --json > files.json
  ivon-predict -q p.h5 q.h5 --data=data.h5 -n 5 --metrics --json > even.json
  [ "$(jq -c .inputs even.json)" = '[{"path":"p.h5"},{"path":"q.h5"}]' ]
  ivon-predict -q p.h5 q.h5 --data=data.h5 -n 5 --metrics --each > each.csv
  ivon-predict -q p.h5 q.h5 --data=data.h5 -n 5 --metrics --each -o each.jsonl
  for name in p q; do
    ivon-predict -q $name.h5 --data=data.h5 -n 5 --metrics --json > $name.json
    jq -ce "[\"$name.h5\", (.metrics | .accuracy, .nll, .aurc | .value, .standard_error)]" $name.json
  done > alone
  jq -c '[.path, .accuracy, .accuracy_se, .nll, .nll_se, .aurc, .aurc_se]' each.jsonl | diff alone -
  [ "$(cut -d, -f1 each.csv | tr '\n' ' ')" = 'path p.h5 q.h5 ' ]
  [ "$(cut -d, -f1,4 each.csv | tail -n 2 | jq -Rc 'split(",") | [.[0], (.[1] | tonumber)]')" = \
    "$(jq -c '[.path, .nll]' each.jsonl)" ]
  expect 64 "each prints metrics: it needs --metrics" ivon-predict -q p.h5 q.h5 --data=data.h5 --each
  expect 64 "not with --each" ivon-predict -q p.h5 q.h5 --data=data.h5 --each --metrics --weights=1,2
  expect 64 "weights" ivon-predict -q p.h5 q.h5 --data=data.h5 --weights=1 -o x.h5
  expect 64 "weight" ivon-predict -q p.h5 q.h5 --data=data.h5 --weights=1,-1 -o x.h5
  check '
p, q = (np.float64(read(n + "-out.h5", "probabilities")) for n in "pq")
assert np.max(np.abs(p - q)) > .1
near(read("even.h5", "probabilities"), (p + q) / 2, 2e-7)
near(read("even-files.h5", "probabilities"), (p + q) / 2, 2e-7)
near(read("both.h5", "probabilities"), (p + 3 * q) / 4, 2e-7)
near(read("files.h5", "probabilities"), (p + 3 * q) / 4, 2e-7)
p = np.float64(read("files.h5", "probabilities"))
assert np.all(read("files.h5", "prediction") == p.argmax(1))
near(read("files.h5", "max_probability"), p.max(1), 1e-6)
near(read("files.h5", "entropy"), -np.sum(p * np.log(p), 1), 1e-5)
a, b = (json.load(open(n + ".json"))["metrics"] for n in ("even", "files"))
assert abs(a["nll"]["value"] - b["nll"]["value"]) < 1e-5, (a, b)
near(a["accuracy"]["value"], b["accuracy"]["value"], 1e-12)'
}

# The Jacobian of toy.py's tanh network, and Σ.
linear='
def linearised(path, x, tau=1.0, only=None):
    w = weights(path)
    t = np.tanh(x @ w["fc1.weight"].T + w["fc1.bias"])
    n, k = len(x), len(w["fc2.bias"])
    s = (1 - t**2)[:, None, :] * w["fc2.weight"]
    one = np.broadcast_to(np.eye(k), (n, k, k))
    j = {"fc1.weight": s[..., None] * x[:, None, None, :], "fc1.bias": s,
         "fc2.weight": one[..., None] * t[:, None, None, :], "fc2.bias": one}
    c = 0
    with h5py.File(path) as f:
        for name, part in j.items():
            if only and name not in only:
                continue
            sigma = tau / (f.attrs["ess"] * (np.float64(f["hessian"][name][()]) + f.attrs["weight_decay"]))
            part = part.reshape(n, k, -1)
            c = c + part * sigma.ravel() @ part.transpose(0, 2, 1)
    return network(w, x), c
'

@test "a linearised network has probabilities by probit or draws of its outputs" {
  toys
  closed="ivon-predict -q p.h5 --data=data.h5 --method=linear"
  $closed --posterior-temperature=.5 --logits -o a.h5
  $closed --linear=probit --include='fc2.*' --exclude='*.bias' --json --metrics -o some.h5 > some.json
  $closed --linear=draws -n 20000 -o many.h5
  $closed --linear=draws -n 3 --seed=9 -j1 -o one.h5 --no-provenance
  $closed --linear=draws -n 3 --seed=9 -j3 --memory=1K -o three.h5 --no-provenance
  $closed --linear=draws -n 3 -o seed.h5
  cmp one.h5 three.h5
  $closed > a.csv
  [ "$(head -1 a.csv)" = "index,prediction,max_probability,entropy,label,loss,p0,p1,p2" ]
  $closed --metrics --ood=data.h5:/some > ood
  [ "$(grep -c auroc ood)" -eq 2 ]
  $closed --linear=draws -n 3 --metrics --ood=data.h5:/some | grep -q mutual_information.auroc
  $closed --linear=draws -n 3 --log-likelihoods=ll.nc --metrics --json > ll.json
  ivon-predict -q p.h5 --data=data.h5:/events --likelihood=bernoulli --method=linear -o events.h5
  check "$linear"'
x, y = read("data.h5", "x"), read("data.h5", "y")
moderate = lambda f, c: f / np.sqrt(1 + np.pi / 8 * np.einsum("nkk->nk", c))
f, c = linearised("p.h5", x, .5)
assert np.max(np.abs(softmax(f) - softmax(moderate(f, c)))) > .05
near(read("a.h5", "probabilities"), softmax(moderate(f, c)), 3e-6)
near(read("a.h5", "logits"), f, 4e-6)
near(read("a.h5", "entropy"), entropy(softmax(moderate(f, c))), 1e-5)
assert sorted(h5py.File("a.h5")) == ["entropy", "label", "logits", "loss", "max_probability", "prediction", "probabilities"]
p = softmax(moderate(*linearised("p.h5", x, only=["fc2.weight"])))
near(read("some.h5", "probabilities"), p, 3e-6)
some, ll = (json.load(open(n + ".json")) for n in ("some", "ll"))
near(some["metrics"]["nll"]["value"], -np.mean(np.log(p[range(EXAMPLES), y])), 1e-5)
assert some["samples"] == 0 and "monte_carlo_error" not in some["metrics"]["nll"], some
assert ll["samples"] == 3 and ll["metrics"]["nll"]["monte_carlo_error"] > 0
assert h5py.File("ll.nc")["log_likelihood/y"].shape[1] == 3
f, c = linearised("p.h5", x)
near(read("events.h5", "probabilities"), 1 / (1 + np.exp(-moderate(f, c))), 3e-6)
p = softmax(f + np.einsum("nij,snj->sni", np.linalg.cholesky(c), np.random.default_rng(1).standard_normal(
    (20000,) + f.shape)))
# Two means of 20,000 numbers of deviation below 1/2: five errors of their difference.
near(read("many.h5", "probabilities"), p.mean(0), 5 * .5 * .01)
near(read("many.h5", "expected_entropy"), entropy(p).mean(0), 5 * .5 * .01)
assert np.all(read("many.h5", "mutual_information") > 0)
assert np.max(np.abs(read("one.h5", "probabilities") - read("seed.h5", "probabilities"))) > .01'
}

@test "a linearised regression and its likelihood have a closed form, and tokens rows of their own" {
  toys
  closed="ivon-predict -q r.h5 --data=data.h5:/float --method=linear"
  $closed --likelihood=gaussian --noise-std=.5 -o a.h5 --metrics --json > a.json
  $closed --likelihood=gaussian -o bare.h5
  $closed --likelihood=poisson --targets= -o counts.h5
  $closed --likelihood=gaussian --noise-std=.5 --linear=draws -n 5000 --metrics --json > draws.json
  ivon-predict -q tokens.h5 --data=data.h5:/tokens --method=linear -o tokens.out.h5
  check "$linear"'
x, y = read("data.h5", "float/x"), read("data.h5", "float/y")
f, c = linearised("r.h5", x)
v = np.einsum("nkk->nk", c)
near(read("a.h5", "mean"), f, 1e-5)
near(read("a.h5", "epistemic_std"), np.sqrt(v), 1e-5)
near(read("bare.h5", "epistemic_std"), np.sqrt(v), 1e-5)
assert np.all(read("a.h5", "aleatoric_std") == np.float32(.5)) and "aleatoric_std" not in h5py.File("bare.h5")
s, e = c + .25 * np.eye(2), y - f
nll = np.mean(.5 * np.einsum("ni,nij,nj->n", e, np.linalg.inv(s), e) + .5 * np.log(np.linalg.det(2 * np.pi * s)))
a, draws = (json.load(open(n + ".json"))["metrics"]["nll"] for n in ("a", "draws"))
assert abs(a["value"] / nll - 1) < 1e-5, (a, nll)
assert abs(draws["value"] - nll) < 5 * draws["monte_carlo_error"], (draws, nll)
near(read("counts.h5", "mean") / np.exp(f + v / 2), np.ones_like(f), 1e-5)
near(read("counts.h5", "epistemic_std") / read("counts.h5", "mean"), np.sqrt(np.expm1(v)), 1e-4)
# Tokens: f = E[x] W + b, so that C of one is (|w_k|^2 by E, e by W, 1 by b).
w, x = weights("tokens.h5"), read("data.h5", "tokens/x")
with h5py.File("tokens.h5") as h:
    sigma = {n: 1 / (h.attrs["ess"] * (np.float64(h["hessian"][n][()]) + h.attrs["weight_decay"])) for n in w}
v = sigma["emb.weight"][x] @ w["out.weight"]**2 + w["emb.weight"][x]**2 @ sigma["out.weight"] + sigma["out.bias"]
near(read("tokens.out.h5", "probabilities"), softmax(network(w, x) / np.sqrt(1 + np.pi / 8 * v)), 3e-6)'
}

@test "what a linearised network cannot be asked for is said" {
  toys
  closed="ivon-predict -q p.h5 --data=data.h5 --method=linear"
  expect 64 "expected samples or linear" ivon-predict -q p.h5 --data=data.h5 --method=closed
  expect 64 "expected probit or draws" $closed --linear=bridge
  expect 64 "needs --method=linear" ivon-predict -q p.h5 --data=data.h5 --linear=draws
  expect 64 "none of --mean" $closed --mean
  expect 64 "none of --mean" $closed --recalibrate=data.h5
  expect 64 "takes one posterior, 2" $closed q.h5
  expect 64 "need --linear=draws" $closed -n 4
  expect 64 "need --linear=draws" $closed --log-likelihoods=ll.nc
  expect 64 "the likelihood poisson has no closed form" $closed --likelihood=poisson --metrics
  expect 64 "none of --mean" ivon-predict -q --average x.npy --method=linear
  expect 71 "3 x 5 x 5, take .* MB of memory" \
    ivon-predict -q tokens.h5 --data=data.h5:/tokens --method=linear --linear=draws --memory=500
}

@test "regression gives a mean and its deviations" {
  toys
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.5 -n 6 -o a.h5
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.5 -n 6 \
    --metrics --json > a.json
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.5 -n 6 > a.csv
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.5 -n 1 -o one.h5
  [ "$(head -1 a.csv)" = "index,mean_0,mean_1,epistemic_std_0,epistemic_std_1,aleatoric_std_0,aleatoric_std_1,label_0,label_1,loss" ]
  [ "$(wc -l < a.csv)" -eq 21 ]
  check '
x, y = read("data.h5", "float/x"), read("data.h5", "float/y")
f = np.stack([network(weights("r.h5", s), x) for s in range(6)])
size = np.max(np.abs(f))
near(read("a.h5", "mean"), f.mean(0), 1e-6 * size)
near(read("a.h5", "epistemic_std"), f.std(0), 2e-6 * size)
assert not read("one.h5", "epistemic_std").any()
assert np.all(read("a.h5", "aleatoric_std") == np.float32(.5))
a = json.load(open("a.json"))["metrics"]
near(a["rmse"]["value"], np.sqrt(np.mean((f.mean(0) - y) ** 2)), 1e-6 * size)
log = -np.sum((f - y) ** 2, 2) / (2 * .25) - np.log(2 * np.pi * .25)
nll = -np.mean(np.log(np.mean(np.exp(log - log.max(0)), 0)) + log.max(0))
assert abs(a["nll"]["value"] / nll - 1) < 1e-5, (a["nll"], nll)'
}

@test "regression without its noise gives means, whether or not the data have targets" {
  toys
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian -n 3 > bare.csv
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian -n 3 --targets= > without.csv
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.5 -n 3 > noise.csv
  cmp without.csv <(cut -d, -f1-5 bare.csv)
  [ "$(head -1 bare.csv)" = "index,mean_0,mean_1,epistemic_std_0,epistemic_std_1,label_0,label_1" ]
  cmp bare.csv <(cut -d, -f1-5,8,9 noise.csv)
}

@test "events of their own get one probability each" {
  toys
  ivon-predict -q p.h5 --data=data.h5:/events --likelihood=bernoulli -n 3 -o a.h5
  ivon-predict -q p.h5 --data=data.h5:/events --likelihood=bernoulli -n 3 --metrics --json > a.json
  check '
x, y = read("data.h5", "events/x"), read("data.h5", "events/y")
p = np.stack([1 / (1 + np.exp(-network(weights("p.h5", s), x))) for s in range(3)]).mean(0)
near(read("a.h5", "probabilities"), p, 3e-6)
assert np.array_equal(read("a.h5", "prediction"), (p > .5) * 1)
a = json.load(open("a.json"))["metrics"]
near(a["accuracy"]["value"], np.mean((p > .5) == y), 1e-12)
near(a["nll"]["value"], -np.mean(np.log(np.where(y, p, 1 - p))), 1e-5)'
}

@test "tokens have their own rows, and ignored ones no metric" {
  toys
  ivon-predict -q tokens.h5 --data=data.h5:/tokens -n 2 -o a.h5
  ivon-predict -q tokens.h5 --data=data.h5:/tokens -n 2 > a.csv
  ivon-predict -q tokens.h5 --data=data.h5:/tokens -n 2 --format=jsonl > a.jsonl
  ivon-predict -q tokens.h5 --data=data.h5:/tokens -n 2 --metrics --json > a.json
  head -1 a.csv
  [ "$(head -1 a.csv)" = "index,token,prediction,max_probability,entropy,expected_entropy,mutual_information,label,loss,p0,p1,p2,p3,p4" ]
  [ "$(wc -l < a.csv)" -eq 13 ]
  check '
x, y = read("data.h5", "tokens/x"), read("data.h5", "tokens/y")
p = np.stack([softmax(network(weights("tokens.h5", s), x)) for s in range(2)]).mean(0)
near(read("a.h5", "probabilities"), p, 3e-6)
assert read("a.h5", "prediction").shape == (4, 3)
rows = list(csv.DictReader(open("a.csv")))
assert [(int(r["index"]), int(r["token"])) for r in rows] == [(i, t) for i in range(4) for t in range(3)]
near([[float(r[f"p{c}"]) for c in range(5)] for r in rows], p.reshape(12, 5), 3e-6)
near([json.loads(line)["probabilities"] for line in open("a.jsonl")], p, 3e-6)
used = y != -100
a = json.load(open("a.json"))["metrics"]
near(a["nll"]["value"], -np.mean(np.log(p[used][np.arange(used.sum()), y[used]])), 1e-5)
near(a["accuracy"]["value"], np.mean(p.argmax(2)[used] == y[used]), 1e-12)'
}

@test "each row has its label and its loss, of which the NLL is the mean, whatever the likelihood" {
  toys
  printf '%s\n' ant bee 'wasp, red' > names.txt
  $python -c 'import h5py, numpy as np
with h5py.File("data.h5", "a") as f:
    f["counts/x"] = f["x"][()]
    f["counts/y"] = np.random.default_rng(3).poisson(2, (len(f["x"]), 2)).astype("f4")
with h5py.File("tri.h5", "w") as f:
    f["x"], f["y"] = np.zeros((2, 1), "f4"), [0, -100]
np.save("tri.npy", np.full((2, 3), 1 / 3, "f4"))'
  one() { # NAME POSTERIORS AND OPTIONS: every format, and the metrics
    local name=$1 suffix
    shift
    for suffix in h5 csv jsonl; do ivon-predict -q "$@" -o "$name.$suffix"; done
    ivon-predict -q "$@" --metrics --json > "$name.json"
  }
  one classes p.h5 --data=data.h5 -n 5
  one mean p.h5 --data=data.h5 --mean
  one linear p.h5 --data=data.h5 --method=linear
  one several p.h5 q.h5 --data=data.h5 -n 2 --classes=names.txt
  one events p.h5 --data=data.h5:/events --likelihood=bernoulli -n 3
  one sequence tokens.h5 --data=data.h5:/tokens -n 2
  one normal r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.7 -n 3
  one exact r.h5 --data=data.h5:/float --likelihood=gaussian --noise-std=.7 --method=linear
  one own r.h5 --data=data.h5:/real --likelihood=heteroscedastic -n 3
  one counts r.h5 --data=data.h5:/counts --likelihood=poisson -n 3
  one files --average classes.h5 mean.h5 --data=data.h5
  ivon-calibrate -q p.h5 --data=data.h5 -n 5 --method=temperature -o calibration.json
  one calibrated p.h5 --data=data.h5 -n 5 --calibration=calibration.json
  ivon-predict -q p.h5 --data=data.h5 -n 5 -o classes.npy
  ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian -n 3 -o unknown.h5
  ivon-predict -q r.h5 --data=data.h5:/counts --likelihood=poisson --method=linear -o open.h5
  ivon-predict -q p.h5 --data=data.h5 --targets= -n 3 -o none.h5
  expect 65 "tri.h5: row 1: target -100, expected a class from 0 to 2" \
    ivon-predict --average tri.npy --data=tri.h5 --ignore-label=-1 -o bad.h5
  check '
names = open("names.txt").read().split("\n")[:3]
field = dict(normal="float/y", exact="float/y", own="real/y", counts="counts/y", events="events/y", sequence="tokens/y")
def cells(row, name):
    return [v for k, v in row.items() if k == name or k.startswith(name + "_")]
for case in ("classes mean linear several events sequence normal exact own counts files calibrated").split():
    target, loss = read("data.h5", field.get(case, "y")), read(case + ".h5", "loss")
    assert np.array_equal(read(case + ".h5", "label"), target) and loss.dtype == "f8", case
    nll = json.load(open(case + ".json"))["metrics"]["nll"]["value"]
    counts = target != -100 if case == "sequence" else np.ones(loss.shape, bool)
    assert loss.shape == counts.shape and np.array_equal(np.isnan(loss), ~counts), case
    # sums of at most 20 numbers below 2^7, of 53 bits, in another order
    assert abs(loss[counts].mean() - nll) < 20 * 2.0**-46, (case, loss[counts].mean(), nll)
    rows = list(csv.DictReader(open(case + ".csv")))
    lines = [json.loads(line) for line in open(case + ".jsonl")]
    assert np.array_equal([float(r["loss"]) for r in rows], loss.ravel(), equal_nan=True), case
    assert np.array_equal(np.array([l["loss"] for l in lines], float), loss, equal_nan=True), case
    if case == "several":
        target = np.array([names[y] for y in target])
    kind = target.dtype.type if target.dtype.kind == "f" else str
    assert [[kind(v) for v in cells(r, "label")] for r in rows] == \
        np.vectorize(kind, otypes=[object])(target).reshape(len(rows), -1).tolist(), case
    assert np.array_equal(np.array([l["label"] for l in lines], target.dtype), target), case
p, y = np.float64(read("several.h5", "probabilities")), read("data.h5", "y")
near(read("several.h5", "loss"), -np.log(p[np.arange(EXAMPLES), y]), 1e-15 * 2**6)
f = np.stack([network(weights("r.h5", s), read("data.h5", "x")) for s in range(3)])
d = -((read("data.h5", "float/y") - f) / .7) ** 2 / 2 - np.log(.7 * np.sqrt(2 * np.pi))
near(read("normal.h5", "loss"), -np.log(np.mean(np.exp(d.sum(2)), 0)), 1e-3)
p, q = (np.float64(read(name + ".h5", "loss")) for name in ("classes", "calibrated"))
assert np.abs(p - q).max() > 1e-3  # it is of what was calibrated
for name in "unknown", "open", "none":
    with h5py.File(name + ".h5") as h:
        assert "loss" not in h and ("label" in h) == (name != "none"), (name, sorted(h))'
  ivon-plot sensitivity --column=loss sequence.csv -o losses.svg
  if grep 'left out' losses.svg; then return 1; fi
  ivon-plot reliability --classes=names.txt several.csv -o reliability.svg
  ivon-plot reliability --classes=names.txt several.csv --data=data.h5 -o data.svg
  cmp reliability.svg data.svg
}

@test "metrics are those of the predictions, with both errors" {
  toys
  ivon-predict -q p.h5 --data=data.h5 -n 8 --metrics --json -o a.h5 > a.json
  ivon-predict -q p.h5 --data=data.h5 --mean --metrics --json -o mean.h5 > mean.json
  ivon-predict -q p.h5 --data=data.h5 -n 8 --metrics > a.txt
  cat a.txt
  [[ "$(head -1 a.txt)" =~ ^metric[[:space:]]+value[[:space:]]+standard_error[[:space:]]+monte_carlo_error$ ]]
  [ "$(awk 'NR > 1 {print $1}' a.txt | head -7 | tr '\n' ' ')" = "accuracy nll perplexity brier ece ece_adaptive ece_classwise " ]
  ivon-predict -q q.h5 --data=data.h5 -n 8 -o q-out.h5
  ivon-predict -q p.h5 --data=data.h5 -n 8 --metrics --json --ood=data.h5:/some \
    --compare=q-out.h5 > more.json
  check '
p, y = np.float64(read("a.h5", "probabilities")), read("data.h5", "y")
q = np.float64(read("q-out.h5", "probabilities"))
j = json.load(open("a.json"))
assert j["examples"] == EXAMPLES and j["samples"] == 8, j
a = j["metrics"]
assert list(a)[:9] == "accuracy nll perplexity brier ece ece_adaptive ece_classwise aurc e_aurc".split(), list(a)
for metric in list(a.values())[:7]:
    assert sorted(metric) == ["monte_carlo_error", "standard_error", "value"]
losses = -np.log(p[np.arange(EXAMPLES), y])
near(a["nll"]["value"], losses.mean(), 1e-6)
near(a["nll"]["standard_error"], losses.std(ddof=1) / EXAMPLES**.5, 1e-5)
assert 0 < a["nll"]["monte_carlo_error"] < 1
near(a["accuracy"]["value"], np.mean(p.argmax(1) == y), 1e-12)
near(a["brier"]["value"], np.mean(np.sum((p - np.eye(CLASSES)[y]) ** 2, 1)), 1e-6)
mean = json.load(open("mean.json"))["metrics"]["nll"]
assert "monte_carlo_error" not in mean
losses = -np.log(np.float64(read("mean.h5", "probabilities"))[np.arange(EXAMPLES), y])
near(mean["value"], losses.mean(), 1e-6)
near(mean["standard_error"], losses.std(ddof=1) / EXAMPLES**.5, 1e-5)
more = json.load(open("more.json"))
assert sorted(more["detection"]) == ["entropy", "max_probability", "mutual_information"]
auroc = lambda a, b: np.mean((a[:, None] > b) + .5 * (a[:, None] == b))
s = p.max(1)
near(more["detection"]["max_probability"]["auroc"]["value"], auroc(s, s[:9]), 1e-9)
compare = more["compare"]
near(compare["agreement"]["value"], np.mean(p.argmax(1) == q.argmax(1)), 1e-12)
near(compare["total_variation"]["value"], np.mean(np.abs(p - q).sum(1) / 2), 1e-6)
rows = np.arange(EXAMPLES)
for name, each in (("nll_difference", np.log(q[rows, y]) - np.log(p[rows, y])),
                   ("accuracy_difference", 1. * (p.argmax(1) == y) - (q.argmax(1) == y))):
    near(compare[name]["value"], each.mean(), 1e-6)
    near(compare[name]["standard_error"], each.std(ddof=1) / EXAMPLES**.5, 1e-5)'
}

@test "log-likelihoods of every sample, as ArviZ reads them" {
  toys
  ivon-predict -q p.h5 --data=data.h5 -n 5 --log-likelihoods=log.nc -o a.h5
  check '
x, y = read("data.h5", "x"), read("data.h5", "y")
p = np.stack([softmax(network(weights("p.h5", s), x)) for s in range(5)])
log = read("log.nc", "log_likelihood/y")
near(log, np.log(p[:, np.arange(EXAMPLES), y])[None], 1e-5)
assert np.array_equal(read("log.nc", "observed_data/y"), y)
drawn = read("log.nc", "posterior_predictive/y")
assert drawn.shape == (1, 5, EXAMPLES) and drawn.min() >= 0 and drawn.max() < CLASSES
with h5py.File("log.nc", "r") as f:
    assert sorted(f) == ["log_likelihood", "observed_data", "posterior_predictive"]'
}

@test "limit, batch, normalization and threads" {
  toys
  ivon-predict -q --no-provenance p.h5 --data=data.h5 -n 3 -j1 -o a.h5
  ivon-predict -q --no-provenance p.h5 --data=data.h5 -n 3 -j2 --memory=1M -o b.h5
  cmp a.h5 b.h5
  ivon-predict -q p.h5 --data=data.h5 -n 3 --batch=3 -o batch.h5
  for memory in 1K 2K 1M; do # blocks of one batch, of a few, of all
    ivon-predict -q --no-provenance p.h5 --data=data.h5 -n 3 --batch=3 --memory=$memory -o $memory.h5
    cmp 1K.h5 $memory.h5
  done
  for samples in 4 20; do # summed at once, or in 16 groups
    for options in -j1 "-j2 --memory=1K" "-j3 --metrics --memory=2K" "-j2 --log-likelihoods=log.nc --memory=8K"; do
      ivon-predict -q -f --no-provenance p.h5 --data=data.h5 -n $samples --batch=3 $options -o many.h5 > /dev/null
      [ "$options" != -j1 ] || mv many.h5 few.h5
      [ "$options" = -j1 ] || cmp few.h5 many.h5
    done
  done
  ivon-predict -q p.h5 --data=data.h5 -n 3 --limit=7 > limit.csv
  [ "$(wc -l < limit.csv)" -eq 8 ]
  ivon-predict -q p.h5 --data=data.h5 --mean --normalize=.5,2 -o one.h5
  check '
near(read("batch.h5", "probabilities"), read("a.h5", "probabilities"))
x = read("data.h5", "x")
near(read("one.h5", "probabilities"), softmax(network(weights("p.h5"), (x - .5) / 2)))'
}

@test "a weight that only the graph has is an error, unless the graph may keep it" {
  toys
  $python -c "
import h5py
with h5py.File('p.h5') as f, h5py.File('less.h5', 'w') as g:
    g.attrs.update(f.attrs)
    for part in f:
        f.copy(part, g)
    del g['mean/fc1.bias'], g['hessian/fc1.bias']"
  expect 65 "mlp.onnx: 1 of its weights are not in less.h5, 'fc1.bias' the first: take a checkpoint that has them all; or let the graph keep them by --keep-graph-weights" \
    ivon-predict less.h5 --model=mlp.onnx --data=data.h5 --mean -o a.h5
  [ ! -e a.h5 ]
  run ivon-predict less.h5 --model=mlp.onnx --data=data.h5 --mean --keep-graph-weights -o a.h5
  echo "$output"
  [ $status -eq 0 ]
  [ "$output" = "ivon-predict: warning: less.h5: lacks 1 tensors that keep the graph's own values, 'fc1.bias' the first" ]
  # A graph inside the checkpoint is part of it, with all that it keeps.
  ivon-convert -q less.h5 --model=mlp.onnx --keep-graph-weights -o whole.h5
  ivon-predict -q whole.h5 --data=data.h5 --mean -o b.h5
  check 'near(read("b.h5", "probabilities"), read("a.h5", "probabilities"))'
  # A training would not move what it lacks.
  expect 65 "mlp.onnx: 1 of its weights are not in less.h5, 'fc1.bias' the first: take a checkpoint that has them all" \
    ivon-train -q --model=mlp.onnx --from=less.h5 --data=data.h5 --epochs=1 --lr=.1 -o run
}

@test "what is infinite is told of, and what overflows is an error that says of what" {
  toys
  scaled() { # FILE FACTOR
    cp p.h5 "$1"
    $python -c "
import sys, h5py
with h5py.File('$1', 'r+') as f:
    f['mean/fc2.weight'][...] *= $2"
  }
  scaled certain.h5 1e30
  run --separate-stderr -0 ivon-predict certain.h5 --data=data.h5 --metrics --mean
  [[ "$output" =~ nll\ +inf ]]
  [ "$stderr" = "ivon-predict: warning: nll is infinite: predictions leave some target next to no probability" ]
  run --separate-stderr -0 ivon-predict -q certain.h5 --data=data.h5 --metrics --mean --json
  [ -z "$stderr" ]
  [ "$(jq .metrics.nll.value <<< "$output")" = '"Infinity"' ]
  run --separate-stderr -0 ivon-predict certain.h5 --data=data.h5 --mean --format=jsonl
  infinite=$(jq 'select(.loss == "Infinity").index' <<< "$output" | wc -l)
  [[ $infinite -gt 0 && $stderr == "ivon-predict: warning: the loss of $infinite rows is infinite: predictions leave "* ]]
  run --separate-stderr -0 ivon-predict -q certain.h5 --data=data.h5 --mean
  [ -z "$stderr" ]
  run --separate-stderr -0 ivon-predict p.h5 --data=data.h5 --metrics --mean
  [ -z "$stderr" ]
  scaled beyond.h5 1e38
  expect 65 "data.h5: row 0: the network's output is not a finite number, though the data are" \
    ivon-predict -q beyond.h5 --data=data.h5 --mean
}

@test "mistakes get one line and the right exit code" {
  toys
  expect 64 "no posterior given" ivon-predict --data=data.h5
  expect 64 "noise-std is for" ivon-predict p.h5 --data=data.h5 --noise-std=1
  expect 64 "draws nothing" ivon-predict p.h5 --data=data.h5 --mean --seed=1
  expect 64 "draws nothing" ivon-predict --average p.h5 --include='fc1.*'
  expect 64 "takes no --samples" ivon-predict p.h5 --data=data.h5 --mean -n 5
  for label in 1e30 -1e-30 - '' ' 1' 9223372036854775808; do
    expect 64 "ignore-label: '$label', expected a whole number" \
      ivon-predict p.h5 --data=data.h5 --ignore-label="$label"
  done
  expect 64 "no data given" ivon-predict p.h5
  expect 64 "expected a number from 1" ivon-predict p.h5 --data=data.h5 --limit=0
  expect 64 "temperature is -1" ivon-predict p.h5 --data=data.h5 --posterior-temperature=-1
  expect 66 "nowhere.h5: cannot open it" ivon-predict nowhere.h5 --data=data.h5
  expect 66 "nowhere.h5: cannot open it" ivon-predict p.h5 --data=nowhere.h5
  expect 65 "x.npy" ivon-predict --model=x.npy p.h5 --data=data.h5
  expect 65 "array 'x' has shape .*7, input 'x' of .* takes .*6" ivon-predict p.h5 --data=data.h5:/wide
  expect 65 "strange.onnx: operators that are not supported: NonMaxSuppression (1 node, 'strange'; the number of its outputs depends on the data: choose an output before it)" \
    ivon-predict --model=strange.onnx p.h5 --data=data.h5
  expect 65 "no place for 1 means of p.h5, 'fc1.weight' the first, .* 'onnx::MatMul_12' .*do_constant_folding=False" \
    ivon-predict --model=folded.onnx p.h5 --data=data.h5
  expect 65 "'fc2.weight': shape 2x8, mlp.onnx has 3x8" ivon-predict --model=mlp.onnx r.h5 --data=data.h5
  expect 65 "'y': row 0 is .*, expected a whole number; --likelihood=gaussian takes any numbers" \
    ivon-predict p.h5 --data=data.h5:/real
  expect 65 "'y' has 2 numbers for each example, expected 1" ivon-predict r.h5 --data=data.h5:/float
  $python -c "
import h5py
with h5py.File('p.h5') as f, h5py.File('bare.h5', 'w') as g:
    g.attrs.update(f.attrs)
    f.copy('mean', g), f.copy('hessian', g)"
  expect 65 "--model" ivon-predict bare.h5 --data=data.h5
  touch old.h5
  expect 73 "old.h5: file exists" ivon-predict -q p.h5 --data=data.h5 -o old.h5
  expect 73 "cannot create" ivon-predict -q p.h5 --data=data.h5 -o no/where.h5
  expect 73 "old.h5: file exists" ivon-predict -q p.h5 --data=data.h5 --log-likelihoods=old.h5
  [ ! -s old.h5 ]
  ivon-predict -q p.h5 --data=data.h5 > /dev/full 2> err && got=0 || got=$?
  cat err
  [ $got -eq 74 ]
  [ "$(wc -l < err)" -eq 1 ]
  expect 64 "noise-std" ivon-predict -q r.h5 --data=data.h5:/float --likelihood=gaussian --metrics
  ivon-predict -q -f p.h5 --data=data.h5 -o old.h5
  [ -s old.h5 ]
  [ -z "$(ls -A | grep ivon-tmp)" ]
}

@test "a row is predicted as it is among few others, however many there are" {
  cat > rows.py <<'PYTHON'
import glob, math, subprocess
import h5py, numpy as np

from normals import normals

COUNT = 700
CASES = {"mlp:5,9,3,tanh": "categorical", "mlp:5,9,2,tanh": "bernoulli", "mlp:5,9,4,tanh": "gaussian",
         "gpt:11,6,8,1,2": "categorical", "mlp:5,9,1,tanh": "poisson"}
r = np.random.default_rng(0)


def predict(data, out, *options):
    subprocess.run(["ivon-predict", "-q", "-f", *posterior, "--data=" + data, "-n", "5", "--likelihood=" + kind,
                    "--logits", "-o", out, "--log-likelihoods=log-" + out, *options, *noise], check=True)
    found = {}
    with h5py.File(out) as f:
        f.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    with h5py.File("log-" + out) as f:
        f.visititems(lambda name, item: found.update({"log-" + name: item[()]})
                     if isinstance(item, h5py.Dataset) and name.split("/")[0] != "observed_data" else None)
    return found


for number, (arch, kind) in enumerate(CASES.items()):
    noise = ["--noise-std=0.5"] if kind == "gaussian" else []
    tokens, width = "gpt" in arch, int(arch.replace(":", ",").split(",")[3])
    x = r.integers(0, 11, (COUNT, 6)) if tokens else r.standard_normal((COUNT, 5)).astype("f4")
    y = {"categorical": lambda: r.integers(0, 11 if tokens else width, (COUNT, 6) if tokens else COUNT),
         "bernoulli": lambda: r.integers(0, 2, (COUNT, width)),
         "gaussian": lambda: r.standard_normal((COUNT, width)).astype("f4"),
         "poisson": lambda: r.poisson(np.exp(x[:, :width]))}[kind]()
    np.savez("all.npz", x=x, y=y)
    run = f"run{number}"
    subprocess.run(["ivon-train", "-q", "--arch=" + arch, "--data=all.npz", "--likelihood=" + kind, "--epochs=1",
                    "--lr=.1", "--batch=100", "--seed=1", "-o", run, *noise], check=True)
    posterior = sorted(glob.glob(run + "/posterior-*.h5"))[-1:]
    whole = [predict("all.npz", f"whole{i}.h5", *options)
             for i, options in enumerate(([], ["--batch=7", "-j2"], ["--batch=64", "-j1"], ["--memory=20k"]))]
    # What is drawn for a row depends on its number alone, but for roundings next to a bound.
    drawn = [found["log-posterior_predictive/y"] for found in whole]
    for other in drawn[1:]:
        assert np.mean(np.abs(other - drawn[0]) > 1e-4) < 0.002, arch
    if kind == "bernoulli": # 7000 draws: sums of what has mean 0 and a variance of at most 1/4
        p, y_drawn = whole[0]["probabilities"], np.float64(drawn[0][0])
        for weight in (np.ones_like(p), np.sign(p - 0.5)):
            assert abs(np.sum((y_drawn - p) * weight)) < 5 * 0.5 * y_drawn.size**0.5, arch
        assert np.mean((y_drawn > 0.5) == (p > 0.5)) > 0.5
    if kind == "gaussian":
        found = predict("all.npz", "same.h5", "--posterior-temperature=0", "--memory=20k")
        for sample in range(5):
            noise_of = normals(0, sample, "replicate", COUNT * width).reshape(COUNT, width)
            assert np.allclose(found["log-posterior_predictive/y"][0, sample], found["mean"] + 0.5 * noise_of,
                               rtol=1e-5, atol=1e-5)
    if kind == "poisson":
        found = predict("all.npz", "same.h5", "--posterior-temperature=0")
        assert np.allclose(found["mean"], np.exp(found["logits"]), rtol=1e-6)
        assert np.allclose(found["aleatoric_std"], np.sqrt(found["mean"]), rtol=1e-6)
        assert np.corrcoef(found["mean"].ravel(), y.ravel())[0, 1] > 0.5
        density = np.float64(y * found["logits"] - np.exp(np.float64(found["logits"])))
        density = density.sum(-1) - np.array([sum(math.lgamma(k + 1) for k in row) for row in y])
        assert np.allclose(found["log-log_likelihood/y"][0, 0], density, rtol=1e-6, atol=1e-6)
    compared = set()
    for first in (1, 63, 690):
        np.savez("few.npz", x=x[first:first + 10], y=y[first:first + 10])
        for name, few in predict("few.npz", "few.h5").items():
            if "posterior_predictive" in name: # these go by the number of a row
                continue
            for found in whole:
                axis = found[name].shape.index(next(n for n in found[name].shape if n in (COUNT, 6 * COUNT))) \
                    if set(found[name].shape) & {COUNT, 6 * COUNT} else None
                if axis is None or few.dtype.kind not in "iuf" or "_dim_" in name or name in ("index", "token"):
                    continue
                each = found[name].shape[axis] // COUNT
                part = np.take(found[name], np.arange(first * each, (first + 10) * each), axis)
                # Exponentials and sums of some ten terms in float, in other vectors.
                assert part.shape == few.shape, (arch, name, part.shape, few.shape)
                assert np.allclose(part, few, rtol=1e-4, atol=2e-5), (arch, name, first, part, few)
                compared.add(name)
    assert len(compared) >= (4 if kind in ("gaussian", "poisson") else 6), compared
PYTHON
  $python rows.py
}
