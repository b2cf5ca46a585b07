load common

# A softmax regression, whose outputs without each example an oracle writes down in float64; and
# data of one event. Probabilities are right to 1e-5, as those of sensitivity.bats are.
setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make .
  small_networks
}

made() { echo "$BATS_FILE_TMPDIR/$1.h5"; }
S() { ivon-sensitivity -q "$(made posterior)" --data="$(made train)" --suspects "$@"; }

# oracle CODE: Python with `p`, `y`, `learn(p, y)` and `rows(path)`.
oracle() {
  $python - "$BATS_FILE_TMPDIR" << PYTHON
import sys, csv, h5py, numpy as np
from softmax_regression import Problem
d = sys.argv[1]
def rows(path):
    found = list(csv.DictReader(open(path)))
    return {k: np.array([float(r[k]) for r in found]) for k in found[0]}
def learn(p, y):
    """Thresholds, and Q of confident learning."""
    n, K = p.shape
    t = np.array([p[y == k, k].mean() if (y == k).any() else np.inf for k in range(K)])
    joint = np.zeros((K, K))
    for i in range(n):
        above = [k for k in range(K) if p[i, k] >= t[k]]
        if above:
            joint[y[i], max(above, key=lambda k: p[i, k])] += 1
    count = np.bincount(y, minlength=K)
    rest = joint.sum(1, keepdims=True)
    return t, np.divide(joint * count[:, None], rest, out=np.zeros_like(joint), where=rest > 0)
problem = Problem(d + "/posterior.h5", d + "/train.h5")
z = problem.f + problem.moved(True)
p, y = np.exp(z) / np.exp(z).sum(1, keepdims=True), problem.y
$1
PYTHON
}

@test "suspects are those of confident learning, by the outputs without each example" {
  S -o suspects.csv
  S --top=1000000 -o all.csv
  oracle '
t, Q = learn(p, y)
wrong = Q.sum() - np.trace(Q)
assert wrong > 2
for path, count in ("suspects.csv", round(wrong)), ("all.csv", len(y)):
    found = rows(path)
    index = found["index"].astype(int)
    assert len(index) == count and (found["rank"] == np.arange(count) + 1).all()
    own = p[np.arange(len(y)), y]
    assert (np.diff(own[index]) > -1e-5).all() and np.sort(own)[count - 1] >= own[index].max() - 1e-5
    other = p.copy()
    other[np.arange(len(y)), y] = -1
    assert (found["label"] == y[index]).all() and (found["suggested"] == other[index].argmax(1)).all()
    assert np.allclose(found["label_probability"], own[index], atol=1e-5)
    assert np.allclose(found["suggested_probability"], other[index].max(1), atol=1e-5)
    assert np.allclose(found["loo_loss"], -np.log(own[index]), atol=1e-4)'
  run -0 ivon-sensitivity "$(made posterior)" --data="$(made train)" --suspects
  [[ $output == *" labels are wrong, or "* ]]
}

@test "classes have their thresholds, and what they are confused with" {
  classes() { ivon-sensitivity -q "$(made posterior)" --data="$(made train)" --suspects=classes "$@"; }
  classes -o classes.csv
  classes -o classes.h5
  classes --json > classes.jsonl
  oracle '
import json
t, Q = learn(p, y)
found = rows("classes.csv")
off = Q - np.diag(np.diag(Q))
assert (found["count"] == np.bincount(y)).all() and np.allclose(found["threshold"], t, atol=1e-5)
assert np.allclose(found["wrong"], off.sum(1)) and np.allclose(found["confused_by"], off.max(1))
assert (found["confused"] == np.where(off.max(1) > 0, off.argmax(1), -1)).all()
with h5py.File("classes.h5") as f:
    assert (f["wrong"][:] == found["wrong"]).all() and (f["count"][:] == found["count"]).all()
lines = [json.loads(line) for line in open("classes.jsonl")]
assert [line["wrong"] for line in lines] == list(found["wrong"])'
}

@test "an event is two classes" {
  at=("$(made event)" --data="$(made data)" --likelihood=bernoulli)
  ivon-sensitivity -q "${at[@]}" --vectors -o vectors.h5
  ivon-sensitivity -q "${at[@]}" --suspects --top=80 -o all.csv
  ivon-sensitivity -q "${at[@]}" --suspects=classes -o classes.csv
  oracle '
with h5py.File("vectors.h5") as f:
    z, y = np.float64(f["logits"][:] + f["deviation_vector"][:])[:, 0], f["label"][:].astype(int)
one = 1 / (1 + np.exp(-z))
p = np.c_[1 - one, one]
t, Q = learn(p, y)
found, classes = rows("all.csv"), rows("classes.csv")
index = found["index"].astype(int)
assert np.allclose(found["label_probability"], p[index, y[index]], atol=1e-6)
assert (found["suggested"] == 1 - y[index]).all()
assert np.allclose(classes["wrong"], [Q[0, 1], Q[1, 0]]) and np.allclose(classes["threshold"], t, atol=1e-6)'
}

@test "threads change no bit, leverage changes the order, the least comes first where it is to" {
  S -j1 -o one.csv
  S -j3 -o three.csv
  cmp one.csv three.csv
  S --leverage=newton -o newton.csv
  run -1 cmp -s one.csv newton.csv
  at=("$(made posterior)" --data="$(made train)" --score=loo-loss)
  ivon-sensitivity -q "${at[@]}" --sort=loss --ascending -o rising.csv
  ivon-sensitivity -q "${at[@]}" --sort=loss -o falling.csv
  cmp <(tail -n +2 rising.csv | tac) <(tail -n +2 falling.csv)
  ivon-sensitivity -q "${at[@]}" --sort=loss --ascending --top=3 | cmp - <(head -4 rising.csv)
}

@test "what has no labels has no suspects" {
  refused() { # STATUS TEXT NAME OPTION...
    run -"$1" --separate-stderr ivon-sensitivity -q "$(made "$3")" --data="$(made data)" "${@:4}"
    [ "$(head -1 <<< "$stderr")" = "ivon-sensitivity: $2" ]
    [ -z "$output" ]
  }
  refused 64 "--suspects: targets are numbers, expected labels of classes" number --targets=number \
    --likelihood=gaussian --noise-std=1 --suspects
  refused 64 "--suspects: an example is a sequence of 6 labels, expected one" tokens --inputs=tokens \
    --targets=tokens --suspects
  refused 64 "--suspects: the network has 2 outputs, expected one event" events --targets=both \
    --likelihood=bernoulli --suspects
  refused 64 "--suspects: 'x', expected classes or nothing" event --likelihood=bernoulli --suspects=x
  refused 64 "--suspects=classes has a row for each class: --top does not go with it" event \
    --likelihood=bernoulli --suspects=classes --top=3
  refused 64 "--ascending is for --sort and --top" event --likelihood=bernoulli --ascending
  refused 64 "--suspects has rows of its own: --groups, --remove, --on, --score, --vectors, --per-token, --sort, --ascending and --resume do not go with it" \
    event --likelihood=bernoulli --suspects --score=mpe
}

@test "outputs that overflow without an example end it, with the row" {
  run -65 --separate-stderr ivon-sensitivity -q "$(made posterior)" --data="$(made train)" --rho=1e39 --suspects -o o.csv
  [ ! -e o.csv ]
  [[ $stderr == *"/train.h5: row "*": the output without it is not finite" ]]
}
