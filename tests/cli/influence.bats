load common

# A softmax regression, whose Jacobians the oracle writes down in float64. Ours are computed in
# binary32 from sums of at most 24 products: relative errors below 24 · 2^-24 = 1.4e-6 of a sum's
# terms, so 1e-5 of the largest entry leaves room for the exponentials.
setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make "$BATS_FILE_TMPDIR"
}

I() {
  ivon-influence -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" \
    --queries="$BATS_FILE_TMPDIR/test.h5" "$@"
}

# oracle CODE: Python with `train` and `test`, two problems of the same posterior, `rho`, `matrix(q)` of
# queries' gradients, `near(ours, theirs)` and `found(path)`.
oracle() {
  $python - "$BATS_FILE_TMPDIR" <<PYTHON
import sys, csv, h5py, numpy as np
from softmax_regression import Problem, CLASSES, EXAMPLES
d = sys.argv[1]
train, test = (Problem(d + "/posterior.h5", f"{d}/{name}.h5") for name in ("train", "test"))
rho = train.rho
def matrix(q=test.gradient, rho=rho, sigma=train.sigma):
    return rho * np.einsum("np,p,qp->nq", train.gradient, sigma, q)
def near(a, b, tolerance=1e-5):
    a, b = np.float64(a), np.float64(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), np.abs(a - b).max() / np.abs(b).max()
def found(path):
    return np.load(path) if path.endswith("npy") else h5py.File(path)["influence"][()]
def rows(path):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(open(path))]
$1
PYTHON
}

@test "the matrix is that of explicit gradients" {
  I -o all.h5
  I -o all.npy
  I --rho=1 --rows=3-5,0,4 -o rows.npy
  I --n-train=10 --include=bias -o bias.npy
  I --limit=20 -o limit.npy
  oracle '
near(found("all.h5"), matrix())
assert (found("all.npy") == found("all.h5")).all()
near(found("rows.npy"), matrix(test.gradient[[0, 3, 4, 5]], 1))
near(found("limit.npy"), matrix()[:20])
bias = np.where(np.arange(len(train.sigma)) < len(train.sigma) - CLASSES, 0, train.sigma)
near(found("bias.npy"), matrix(rho=300 / 10, sigma=bias))
with h5py.File("all.h5") as f:
    assert f.attrs["format"] == b"ivon-table" and b"ivon-influence" in f.attrs["provenance"], dict(f.attrs)'
}

@test "what is measured is the loss, a logit, or the margin" {
  I --measure=logit:2 -o logit.npy
  I --measure=margin -o margin.npy
  oracle '
near(found("logit.npy"), matrix(-test.jacobian[:, 2]))
others = np.where(np.arange(CLASSES) == test.y[:, None], -np.inf, test.f)
slope = test.softmax(others)
slope[np.arange(EXAMPLES), test.y] = -1
near(found("margin.npy"), matrix(np.einsum("nk,nkp->np", slope, test.jacobian)))'
  # Of a network that is sure: the probabilities of all other classes are 0 in binary32.
  $python -c '
import h5py, shutil, sys
shutil.copy(sys.argv[1], "sharp.h5")
h5py.File("sharp.h5", "r+")["mean/weight"][...] *= 300' "$BATS_FILE_TMPDIR/posterior.h5"
  ivon-influence -q sharp.h5 --data="$BATS_FILE_TMPDIR/train.h5" --queries="$BATS_FILE_TMPDIR/test.h5" \
    --measure=margin -o sharp.npy
  oracle '
train, test = (Problem("sharp.h5", f"{d}/{name}.h5") for name in ("train", "test"))
assert (np.float32(test.softmax(test.f)).max(1) == 1).mean() > 0.9
others = np.where(np.arange(CLASSES) == test.y[:, None], -np.inf, test.f)
slope = test.softmax(others)
slope[np.arange(EXAMPLES), test.y] = -1
q = np.einsum("nk,nkp->np", slope, test.jacobian)
near(found("sharp.npy"), matrix(q), 1e-4)' # logits of a thousand have errors of 1e-4
}

@test "a proponent is a row without which the query's loss is greater" {
  I --rows=0-9 --top=1 > top.csv
  for row in $(tail -n +2 top.csv | cut -d, -f3 | sort -u); do
    ivon-sensitivity -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" \
      --remove="$row" --leverage=none -o "without-$row.h5"
    ivon-sensitivity -q "without-$row.h5" --data="$BATS_FILE_TMPDIR/test.h5" --limit=10 --score=loo-loss -o "$row.csv"
  done
  oracle '
before = test.loss(test.f)[:10]
for row in rows("top.csv"):
    query, rise = int(row["query"]), row["influence"]
    after = rows("%d.csv" % row["row"])[query]["loss"]
    # of the second order is what is left: less than half of these, which move f by less than 1
    assert abs(after - before[query] - rise) < 0.5 * abs(rise), (row, after - before[query])
    assert (row["rank"] > 0) == (rise > 0) == (after > before[query])'
}

@test "the greatest are those of the matrix, wherever they are written" {
  I --top=3 > top.csv
  I --top=3 --json > top.jsonl
  I --top=3 -o file.csv
  I --top=3 -o both.h5 > both.csv
  I -o none.h5 > none.csv
  I | head -1 > heading
  [ "$(cat heading)" = query,rank,row,influence,label ]
  cmp top.csv file.csv
  cmp top.csv both.csv
  [ ! -s none.csv ]
  oracle '
all, listed, at = found("both.h5"), rows("top.csv"), 0
for query in range(EXAMPLES):
    for sign in 1, -1:
        order = np.argsort(-sign * all[:, query], kind="stable")[:3]
        for rank, row in enumerate([r for r in order if sign * all[r, query] > 0]):
            line = listed[at]
            assert (line["query"], line["rank"], line["row"]) == (query, sign * (rank + 1), row), line
            assert np.float32(line["influence"]) == all[row, query] and line["label"] == train.y[row]
            at += 1
assert at == len(listed)
import json
lines = [json.loads(line) for line in open("top.jsonl")]
assert [[float(v) for v in line.values()] for line in lines] == [list(row.values()) for row in listed]'
  [ "$(I --rows=7 | wc -l)" = 11 ]
}

@test "queries of several files are numbered on, whatever the passes" {
  train=$BATS_FILE_TMPDIR/train.h5
  I --queries="$train" --batch=8 -o both.npy
  I --queries="$train" --batch=8 --memory=60K --threads=1 -o passes.npy
  cmp both.npy passes.npy
  ivon-influence "$BATS_FILE_TMPDIR/posterior.h5" --data="$train" --queries="$train" --batch=8 --memory=60K \
    -o x.h5 2> err
  grep -q "ivon-influence: 2 passes over the data: more memory takes fewer, see --memory" err
  I --queries="$train" --batch=8 --memory=60K --rows=149-151 --top=2 > rows.csv
  [ "$(tail -n +2 rows.csv | cut -d, -f1 | uniq | paste -sd ' ')" = "149 150 151" ]
  I --queries="$train" --rows=151 --batch=8 -o second.npy
  oracle '
both = found("both.npy")
near(both, np.concatenate([matrix(), matrix(train.gradient)], 1))
assert (found("second.npy")[:, 0] == both[:, 151]).all()'
}

@test "groups are sums of their rows" {
  I --groups=y --top=2 -o y.h5 > y.csv
  I --groups=/half -o half.npy
  I --groups=y --batch=8 --memory=60K -o passes.npy --rows=0-140
  oracle '
whole, y = matrix(), train.y
f = h5py.File("y.h5")
assert (f["group"][()] == np.arange(CLASSES)).all() and (f["count"][()] == np.bincount(y)).all()
sums = np.stack([whole[y == c].sum(0) for c in range(CLASSES)])
near(f["influence"], sums)
near(found("passes.npy"), sums[:, :141])
near(found("half.npy"), np.stack([whole[::2].sum(0), whole[1::2].sum(0)]))
for line in rows("y.csv"):
    query, group, of = int(line["query"]), int(line["group"]), f["influence"][:, int(line["query"])]
    assert np.float32(line["influence"]) == of[group] and line["count"] == (y == group).sum()
    same = np.sort(np.abs(of[of * line["rank"] > 0]))[::-1]
    assert same[int(abs(line["rank"])) - 1] == abs(of[group])
assert len(rows("y.csv")) == sum(min(2, (f["influence"][:, q] * s > 0).sum()) for q in range(EXAMPLES) for s in (1, -1))'
  [ "$(head -1 y.csv)" = query,rank,group,count,influence ]
}

@test "the influences of several posteriors are averaged" {
  cd "$BATS_FILE_TMPDIR"
  A() { ivon-influence -q step-10.h5 posterior.h5 --data=train.h5 --queries=test.h5 "$@"; }
  A -o "$BATS_TEST_TMPDIR/mean.npy"
  A --weights=3,1 -o "$BATS_TEST_TMPDIR/weighted.npy" --top=1 > "$BATS_TEST_TMPDIR/top.csv"
  A --weights=3,1 --groups=y -o "$BATS_TEST_TMPDIR/groups.npy"
  ivon-influence step-10.h5 posterior.h5 --data=train.h5 --queries=test.h5 -o "$BATS_TEST_TMPDIR/x.npy" 2> "$BATS_TEST_TMPDIR/notes"
  cd "$BATS_TEST_TMPDIR"
  grep -qx "ivon-influence: step-10.h5: influence of 150 examples on 150 queries, N = 150, rho = 2" notes
  grep -qx "ivon-influence: posterior.h5: influence of 150 examples on 150 queries, N = 150, rho = 2" notes
  oracle '
a = [Problem(d + "/step-10.h5", f"{d}/{name}.h5") for name in ("train", "test")]
first = rho * np.einsum("np,p,qp->nq", a[0].gradient, a[0].sigma, a[1].gradient)
weighted = 0.75 * first + 0.25 * matrix()
near(found("mean.npy"), (first + matrix()) / 2)
near(found("weighted.npy"), weighted)
near(found("groups.npy"), np.stack([weighted[train.y == c].sum(0) for c in range(CLASSES)]))
best = rows("top.csv")[0]
assert best["row"] == found("weighted.npy")[:, 0].argmax() and best["label"] == train.y[int(best["row"])]'
}

@test "a row's influence on itself is the diagonal, by every structure" {
  cd "$BATS_FILE_TMPDIR"
  to=$BATS_TEST_TMPDIR
  S() { ivon-influence -q "$1" --data=train.h5 --self "${@:2}"; }
  S posterior.h5 > "$to/all.csv"
  S posterior.h5 --json -o "$to/all.jsonl"
  S posterior.h5 --top=4 -o "$to/diagonal.npy" > "$to/top.csv"
  S posterior.h5 --rho=1 --include=bias -o "$to/bias.h5"
  S step-10.h5 -o "$to/first.npy"
  S step-10.h5 posterior.h5 --weights=3,1 -o "$to/mean.npy"
  $python -c '
import h5py, shutil, sys
shutil.copy("posterior.h5", sys.argv[1])
h5py.File(sys.argv[1], "r+").attrs.pop("n_train", None)' "$to/bare.h5"
  S "$to/bare.h5" --limit=20 -o "$to/limit.npy"
  ivon-sensitivity -q posterior.h5 --data=train.h5 --score=self-influence -o "$to/sensitivity.csv"
  cd "$to"
  for structure in kronecker lowrank lowrank:kronecker; do
    ivon-fit -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" --structure=$structure -o fit.h5 --force
    ivon-influence -q fit.h5 --data="$BATS_FILE_TMPDIR/train.h5" --self -o $structure.npy
    ivon-influence -q fit.h5 --data="$BATS_FILE_TMPDIR/train.h5" --queries="$BATS_FILE_TMPDIR/train.h5" -o $structure-all.npy
  done
  oracle '
import json
own, all = found("diagonal.npy"), rows("all.csv")
near(own, matrix(train.gradient).diagonal())
assert [list(row.values()) for row in all] == [[i, float(all[i]["influence"]), y] for i, y in enumerate(train.y)]
assert (np.float32([row["influence"] for row in all]) == own).all()
assert (np.float32([row["self_influence"] for row in rows("sensitivity.csv")]) == own).all()
assert [json.loads(line) for line in open("all.jsonl")] == all
order = np.argsort(-own, kind="stable")[:4]
assert [(r["rank"], r["row"], np.float32(r["influence"]), r["label"]) for r in rows("top.csv")] == [
    (n + 1, i, own[i], train.y[i]) for n, i in enumerate(order)]
bias = np.where(np.arange(len(train.sigma)) < len(train.sigma) - CLASSES, 0, train.sigma)
near(found("bias.h5"), matrix(train.gradient, 1, bias).diagonal())
near(found("limit.npy"), own[:20])
near(found("mean.npy"), 0.75 * found("first.npy") + 0.25 * own, 1e-6)
for structure in "kronecker", "lowrank", "lowrank:kronecker":
    near(found(structure + ".npy"), found(structure + "-all.npy").diagonal())
    assert not np.allclose(found(structure + ".npy"), own, rtol=1e-3)'
}

@test "tensors have their parts" {
  I --by=tensor -o parts.h5
  oracle '
f, n = h5py.File("parts.h5"), len(train.sigma) - CLASSES
near(f["tensors/weight"], rho * np.einsum("np,p,qp->nq", *[v[..., :n] for v in (train.gradient, train.sigma, test.gradient)]))
near(f["tensors/bias"], rho * np.einsum("np,p,qp->nq", *[v[..., n:] for v in (train.gradient, train.sigma, test.gradient)]))
near(f["influence"], matrix())'
}

@test "tokens are rows and queries, and those that are ignored have no influence" {
  $python -c '
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("tokens.h5", "w") as f:
    f["x"], y = r.integers(0, 7, (12, 5)), r.integers(0, 7, (12, 5))
    y[2], y[:, 4] = -100, -100
    f["y"], f["none/x"], f["none/y"] = y, f["x"][()], np.full((12, 5), -100)'
  ivon-train -q --arch=gpt:7,5,8,2,1 --data=tokens.h5 --lr=.1 --steps=3 --save-every=0 -o run
  mv run/posterior-*.h5 gpt.h5
  T() { ivon-influence -q gpt.h5 --data=tokens.h5 --queries=tokens.h5 "$@"; }
  T -o whole.h5
  T --per-token -o rows.h5
  T --measure=token-loss -o queries.npy
  T --per-token --measure=token-loss -o both.npy
  T --per-token --measure=token-loss --batch=2 -j1 -o plain.npy
  T --per-token --measure=token-loss --batch=2 --memory=700K -j1 -o passes.npy
  cmp plain.npy passes.npy
  ivon-influence -q gpt.h5 --data=tokens.h5 --self -o self.npy
  [ "$(ivon-influence -q gpt.h5 --data=tokens.h5 --self | head -1)" = row,influence ]
  T --per-token --measure=token-loss --rows=3 --top=1 > tokens.csv
  [ "$(head -1 tokens.csv)" = query,query_token,rank,row,token,influence ]
  [ "$(cut -d, -f2 tokens.csv | tail -n +2 | sort -u | paste -sd ' ')" = "0 1 2 3" ]
  $python - <<'PYTHON'
import h5py, numpy as np
whole, rows = (np.float64(h5py.File(n)["influence"][()]) for n in ("whole.h5", "rows.h5"))
queries, both = (np.float64(np.load(n)) for n in ("queries.npy", "both.npy"))
assert rows.shape == (12, 5, 12) and queries.shape == (12, 60) and both.shape == (12, 5, 60)
near = lambda a, b: np.abs(a - b).max() < 1e-5 * np.abs(b).max()
assert near(np.load("self.npy"), whole.diagonal())
assert near(rows.sum(1), whole) and near(queries.reshape(12, 12, 5).sum(2), whole)
assert near(both.reshape(12, 5, 12, 5).sum((1, 3)), whole)
ignored = np.zeros((12, 5), bool)
ignored[2], ignored[:, 4] = True, True
assert (rows[ignored] == 0).all() and (rows[~ignored] != 0).any(1)[:-1].all()
assert (queries[:, ignored.ravel()] == 0).all() and (whole[2] == 0).all() and (whole[:, 2] == 0).all()
PYTHON
  run -0 ivon-influence gpt.h5 --data=tokens.h5 --queries=tokens.h5:/none
  [[ $output == *"tokens.h5: all influences are 0: no loss, or nothing that is measured, depends on what moves"* ]]
  run -0 ivon-influence gpt.h5 --data=tokens.h5:/none --queries=tokens.h5
  [[ $output == *"tokens.h5:/none: all influences are 0: "* ]]
  $python -c '
import h5py, shutil
shutil.copy("gpt.h5", "x.h5")
del h5py.File("x.h5", "r+").attrs["n_train"]'
  run -65 ivon-influence -q x.h5 --data=tokens.h5:/none --queries=tokens.h5
  [ "$output" = "ivon-influence: tokens.h5:/none: all targets are the ignored label -100, expected some that count" ]
}

@test "regressions, and networks of one class" {
  printf 'a,b,y\n1,2,0.5\n-1,0.5,1\n2,0,-1\n0.3,0.4,0\n' > n.csv
  ivon-train -q --arch=mlp:2,3,1 --data=n.csv --target-column=y --likelihood=gaussian --noise-std=1 --lr=.1 \
    --steps=2 --save-every=0 -o run
  mv run/posterior-*.h5 n.h5
  ivon-influence -q n.h5 --data=n.csv --queries=n.csv --target-column=y --likelihood=gaussian --noise-std=1 --rows=2 > n.txt
  [ "$(head -1 n.txt)" = query,rank,row,influence ]
  grep -q '^2,1,2,[0-9]' n.txt
  run -64 ivon-influence -q n.h5 --data=n.csv --queries=n.csv --target-column=y --likelihood=gaussian --noise-std=1 --measure=margin
  [[ $output == "ivon-influence: n.h5/model.onnx: a margin is between classes, and its outputs are numbers" ]]
  printf 'a,b,y\n1,2,0\n-1,0.5,0\n' > one.csv
  run -65 ivon-influence n.h5 --data=one.csv --queries=one.csv --target-column=y
  [ "$output" = "ivon-influence: n.h5/model.onnx: one output, expected one for each class: is the likelihood bernoulli or gaussian?" ]
  ivon-influence -q n.h5 --data=one.csv --queries=one.csv --target-column=y --likelihood=bernoulli --measure=margin --top=1 > one.txt
  [ "$(wc -l < one.txt)" -gt 1 ]
}

@test "mistakes are one clear line" {
  cp "$BATS_FILE_TMPDIR"/{posterior,train,test}.h5 .
  P=(ivon-influence -q posterior.h5 --data=train.h5)
  refuse() { # STATUS MESSAGE COMMAND...
    run -"$1" "${@:3}"
    [ "${lines[0]}" = "ivon-influence: $2" ] || { echo "$output"; return 1; }
  }
  refuse 64 "no queries given: name them by --queries=FILE" "${P[@]}"
  refuse 64 "no training data given: name them by --data=FILE" ivon-influence posterior.h5 --queries=test.h5
  refuse 64 "no posterior given; see --help" ivon-influence --data=train.h5 --queries=test.h5
  self="--self is of each row on itself: --queries, --rows, --groups, --per-token, --by and --validate do not go with it"
  for option in --queries=test.h5 --rows=1 --groups=y --per-token --by=tensor --validate=3; do
    refuse 64 "$self" "${P[@]}" --self $option -o x.h5
  done
  refuse 64 "--self is of the loss: --measure does not go with it" "${P[@]}" --self --measure=margin
  refuse 65 "train.h5: has no targets, which losses need; --targets names their array, or --target-column a column of CSV" \
    "${P[@]}" --self --targets=
  P+=(--queries=test.h5)
  refuse 64 "--weights: 2 weights for 1 arguments" "${P[@]}" --weights=1,2
  refuse 64 "--weights: '1,0', expected positive numbers, such as 1,2,1" "${P[@]}" posterior.h5 --weights=1,0
  refuse 64 "--by=tensor is of one posterior" "${P[@]}" posterior.h5 --by=tensor -o x.h5
  refuse 64 "--rows: row 150, and test.h5 has 150, counted from 0" "${P[@]}" --rows=150
  refuse 64 "--rows: row 300, and the set of queries has 300, counted from 0" "${P[@]}" --queries=test.h5 --rows=1,300
  refuse 64 "--rows: '1,', expected numbers of rows from 0, such as 3,17,40-49" "${P[@]}" --rows=1,
  refuse 64 "--measure: 'logit', expected one of loss, logit:C, margin, token-loss" "${P[@]}" --measure=logit
  refuse 64 "--measure=logit: 'C', expected a number from 0 to 2147483647" "${P[@]}" --measure=logit:C
  refuse 64 "--measure=logit: '-1', expected a number from 0 to 2147483647" "${P[@]}" --measure=logit:-1
  refuse 64 "posterior.h5/model.onnx: there is no output 4 to measure: the network has 4, counted from 0" "${P[@]}" --measure=logit:4
  refuse 64 "posterior.h5/model.onnx: the output has no axis of tokens, each of which was to count by itself" "${P[@]}" --per-token
  refuse 64 "--by: 'layer', expected one of tensor" "${P[@]}" --by=layer
  refuse 64 "--by=tensor writes a matrix for each tensor: name an HDF5 file by -o" "${P[@]}" --by=tensor -o x.npy
  refuse 64 "--groups has rows of its own: --per-token and --by do not go with it" "${P[@]}" --groups=y --per-token
  refuse 65 "--groups: 'x' has 150 rows of 5 numbers, expected 150 of one" "${P[@]}" --groups=x
  refuse 64 "a matrix goes to a file: name one by -o" "${P[@]}" --format=npy
  refuse 64 "-o: 'x.txt' ends in none of .csv, .jsonl, .npy and .h5: name its --format" "${P[@]}" -o x.txt
  refuse 65 "train.h5: has no targets, which losses need; --targets names their array, or --target-column a column of CSV" \
    "${P[@]}" --targets=
  : > x.h5
  refuse 73 "x.h5: file exists; --force replaces it" "${P[@]}" -o x.h5
  $python -c '
import h5py, numpy as np
with h5py.File("wide.h5", "w") as f: f["x"], f["y"] = np.zeros((3, 6), "f4"), np.zeros(3, int)
with h5py.File("empty.h5", "w") as f: f["x"], f["y"] = np.zeros((0, 5), "f4"), np.zeros(0, int)
with h5py.File("bad.h5", "w") as f: f["x"], f["y"] = np.zeros((3, 5), "f4"), np.array([0, 9, 1])'
  refuse 65 "wide.h5: array 'x' has shape 3x6, input 'x' of posterior.h5/model.onnx takes ?x5" "${P[@]}" --queries=wide.h5
  refuse 65 "empty.h5: has no examples" "${P[@]}" --queries=empty.h5
  refuse 65 "bad.h5: row 1: target 9, expected a class from 0 to 3" "${P[@]}" --queries=bad.h5
}
