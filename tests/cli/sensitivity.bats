load common

# A softmax regression, whose Jacobians the oracle writes down in float64. Ours are computed in
# binary32 from sums of at most 24 products: relative errors below 24 · 2^-24 = 1.4e-6 of a sum's
# terms, so 1e-5 of the largest entry leaves room for the exponentials.
setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make "$BATS_FILE_TMPDIR"
}

S() { ivon-sensitivity -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" "$@"; }

# oracle CODE: Python with `problem`, `near(ours, theirs)` and `table(path)` of HDF5 or CSV.
oracle() {
  $python - "$BATS_FILE_TMPDIR" <<PYTHON
import sys, csv, h5py, numpy as np
from softmax_regression import Problem, CLASSES, EXAMPLES
d = sys.argv[1]
def near(a, b, tolerance=1e-5):
    a, b = np.float64(a), np.float64(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max(), np.abs(a - b).max() / np.abs(b).max()
def table(path):
    if path.endswith(".h5"):
        with h5py.File(path) as f:
            return {k: f[k][()] for k in f}
    rows = list(csv.DictReader(open(path)))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}
problem = Problem(d + "/posterior.h5", d + "/train.h5")
$1
PYTHON
}

@test "scores, vectors and covariances are those of explicit Jacobians" {
  S --score=deviation,mpe,self-influence,loo_loss --vectors=covariance -o full.h5
  S --score=deviation,mpe,self-influence,loo-loss --covariance=diag --vectors -o diag.h5
  oracle '
for path, full in (("full.h5", True), ("diag.h5", False)):
    found, wanted = table(path), problem.scores(full)
    for name in wanted:
        near(found[name], wanted[name])
    near(found["logits"], problem.f)
    near(found["residual_vector"], problem.residual)
    near(found["deviation_vector"], problem.moved(full))
    near(found["variance"], problem.variance)
    assert (found["label"] == problem.y).all() and (found["index"] == np.arange(EXAMPLES)).all()
    assert (found["prediction"] == problem.f.argmax(1)).all()
near(table("full.h5")["covariance"], problem.covariance)'
}

@test "what the header lacks, Hessians have" {
  $python -c '
import h5py, shutil, sys
shutil.copy(sys.argv[1], "own.h5")
with h5py.File("own.h5", "r+") as f:
    numbers = {name: f.attrs[name] for name in ("ess", "weight_decay")}
    for name in numbers:
        del f.attrs[name]
    f["hessian"].visititems(lambda n, d: d.attrs.update(numbers))' "$BATS_FILE_TMPDIR/posterior.h5"
  S -o header.csv
  ivon-sensitivity -q own.h5 --data="$BATS_FILE_TMPDIR/train.h5" -o own.csv
  cmp header.csv own.csv
  for method in hessian average; do
    for file in own.h5 "$BATS_FILE_TMPDIR/posterior.h5"; do
      ivon-merge -q -f --no-provenance -m $method "$file" "$file" -o "$(basename "$file").$method.h5"
    done
    $python -c "
import h5py
a, b = h5py.File('own.h5.$method.h5'), h5py.File('posterior.h5.$method.h5')
assert {k: v for k, v in a.attrs.items() if k in ('ess', 'weight_decay')} == \\
       {k: v for k, v in b.attrs.items() if k in ('ess', 'weight_decay')} and 'ess' in a.attrs
assert all((a[n][()] == b[n][()]).all() for n in ('mean/weight', 'hessian/weight', 'hessian/bias'))"
  done
}

@test "rho, the number of examples, and the tensors that move are as asked" {
  S --rho=1 --score=self-influence -o one.csv
  S --n-train=10 --score=self-influence -o ten.csv
  S --limit=20 --score=self-influence -o limit.csv
  S --include=bias --score=self-influence -o bias.csv
  oracle '
base = problem.scores()["self_influence"]
near(table("one.csv")["self_influence"], base / problem.rho)
near(table("ten.csv")["self_influence"], base * problem.n / 10)
near(table("limit.csv")["self_influence"], base[:20])
problem.sigma[:-CLASSES] = 0
near(table("bias.csv")["self_influence"], problem.scores()["self_influence"])'
}

@test "text goes through pipes, sorted or not" {
  S | head -1 > heading
  [ "$(cat heading)" = index,label,prediction,loss,residual,deviation ]
  S --score=loo-loss --top=7 > top.csv
  S --score=loo-loss --top=7 --json | jq -r .index > top.txt
  S --score=loo-loss --sort -o sorted.h5
  S --score=loo-loss | tail -n +2 | sort -t, -k6 -gr | head -7 | cut -d, -f1 > piped.txt
  [ "$(wc -l < top.csv)" -eq 8 ]
  diff <(tail -n +2 top.csv | cut -d, -f1) top.txt
  diff piped.txt top.txt
  oracle '
order = np.argsort(-problem.scores()["loo_loss"], kind="stable")
found = table("sorted.h5")
assert (found["index"] == order).all() and (found["label"] == problem.y[order]).all()'
  S --sort=index --top=2 | tail -n +2 | cut -d, -f1 | diff - <(printf '149\n148\n')
}

@test "removing groups is the exact group form" {
  S --groups=y -o y.csv
  S --groups=/half -o half.csv
  oracle '
def check(path, groups):
    found = table(path)
    assert (found["group"] == np.unique(groups)).all()
    for i, group in enumerate(np.unique(groups)):
        own = groups == group
        moved = problem.without(own)
        assert found["count"][i] == own.sum()
        for name, mask in (("own", own), ("rest", ~own)):
            before, after = problem.loss(problem.f)[mask].mean(), problem.loss(moved)[mask].mean()
            near([found[name + "_loss"][i], found[name + "_loss_without"][i]], [before, after])
            near([found[name + "_change"][i]], [after - before], 1e-4)
            wrong = (moved.argmax(1) != problem.y)[mask].mean()
            near([found[name + "_error_without"][i]], [wrong])
check("y.csv", problem.y)
check("half.csv", np.arange(EXAMPLES) % 2)'
}

@test "groups are what they are called, whatever the data's format" {
  $python - "$BATS_FILE_TMPDIR/train.h5" <<'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    x, y, half = f["x"][()], f["y"][()], f["half"][()]
np.save("x.npy", x), np.save("y.npy", y)
np.savez("data.npz", x=x, y=y, half=half)
# Of columns that are all inputs but the target, one holds the groups.
whole = x.copy()
whole[:, 2] = half
np.save("whole.npy", whole)
with open("data.csv", "w") as f:
    f.write("a,b,half,d,e,label\n")
    f.writelines(",".join(map(repr, map(float, row))) + f",{k}\n" for row, k in zip(whole, y))
np.savez("whole.npz", x=whole, y=y, half=half)
PYTHON
  s() { ivon-sensitivity -q "$BATS_FILE_TMPDIR/posterior.h5" "$@"; }
  S --groups=y > y.csv
  S --groups=half > half.csv
  s --data=data.npz --groups=y | cmp - y.csv
  s --data=data.npz --groups=half | cmp - half.csv
  s --data=x.npy,y.npy --groups=y | cmp - y.csv
  s --data=whole.npz --groups=half > half.csv
  s --data=whole.npz --groups=y > y.csv
  s --data=data.csv --target-column=label --groups=half | cmp - half.csv
  s --data=data.csv --target-column=label --groups=3 | cmp - half.csv
  s --data=data.csv --target-column=label --groups=label | cmp - y.csv
  s --data=data.csv --target-column=label --groups=y | cmp - y.csv
  run -65 s --data=x.npy,y.npy --groups=half
  [ "$output" = "ivon-sensitivity: x.npy,y.npy: has no array 'half': 'x.npy' is an npy file, whose arrays have no names" ]
  run -65 s --data=data.csv --target-column=label --groups=g
  [[ "$output" == "ivon-sensitivity: data.csv: has no column 'g', but "* ]]
}

@test "groups may be inputs of one number, and normalizing does not change them" {
  $python - <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto, helper
info = helper.make_tensor_value_info
made = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["f"])], "one",
                         [info("x", TensorProto.FLOAT, ["n", 1]), info("w", TensorProto.FLOAT, [1, 3])],
                         [info("f", TensorProto.FLOAT, ["n", 3])])
graph = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()
with h5py.File("p.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=40.0, weight_decay=0.01)
    f["mean/w"], f["hessian/w"] = np.array([[1, 0.2, -1]], "f4"), np.full((1, 3), 0.2, "f4")
    f["model.onnx"] = np.frombuffer(graph, "u1")
np.save("x.npy", np.array([[7], [7], [8], [8], [9], [9]]))
np.save("y.npy", np.array([0, 1, 2, 0, 1, 2]))
PYTHON
  groups() { ivon-sensitivity -q p.h5 --data=x.npy,y.npy --groups="$1" --inputs=x | cut -d, -f1 | paste -sd' '; }
  [ "$(groups y)" = "group 0 1 2" ]
  [ "$(groups x)" = "group 7 8 9" ]
  run -65 ivon-sensitivity -q p.h5 --data=x.npy,y.npy --groups=z
}

@test "influence is on the test examples" {
  S --on="$BATS_FILE_TMPDIR/test.h5" -o on.csv
  oracle '
test = Problem(d + "/posterior.h5", d + "/test.h5")
aim = test.gradient.sum(0)
near(table("on.csv")["influence"], problem.rho * problem.gradient @ (problem.sigma * aim))'
}

@test "residuals may be averaged over samples" {
  S --expectation=samples -n 8 --seed=3 --vectors -o samples.h5
  ivon-predict -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" -n 8 --seed=3 -o p.h5
  oracle '
residual = table("p.h5")["probabilities"] - np.eye(CLASSES)[problem.y]
near(table("samples.h5")["residual_vector"], residual)
near(table("samples.h5")["deviation_vector"],
     problem.rho * np.einsum("nkj,nj->nk", problem.covariance, residual))'
}

@test "a signal stops the averaging too" {
  ivon-sensitivity -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" \
    --expectation=samples --samples=1000000 -o out.csv &
  averaging=$!
  sleep 0.5
  kill -TERM $averaging
  for ((i = 0; i < 400; i++)); do # it would take minutes
    kill -0 $averaging 2> /dev/null || break
    sleep 0.1
  done
  kill -KILL $averaging 2> /dev/null || true
  status=0
  wait $averaging || status=$?
  [ $status = 143 ]
  [ ! -e out.csv ]
}

@test "an ignored label has no loss and no effect" {
  S --targets=with_hole -o hole.csv
  [ "$(sed -n 9p hole.csv | cut -d, -f2,4-)" = -100,0,0,0 ]
}

@test "neither threads nor memory change a bit, and the batch only rounding" {
  for covariance in full diag; do
    S --covariance=$covariance --score=deviation,mpe --no-provenance -j1 -o a.h5 -f
    S --covariance=$covariance --score=deviation,mpe --no-provenance -j3 -o b.h5 -f
    S --covariance=$covariance --score=deviation,mpe --no-provenance --memory=1M -o c.h5 -f
    cmp a.h5 b.h5
    $python -c '
import h5py, numpy as np
a, c = h5py.File("a.h5"), h5py.File("c.h5")
for k in a: # tiles of other sizes may be chosen where memory is scarce
    x, y = a[k][()], c[k][()]
    assert np.abs(x - y).max() <= 1e-5 * np.abs(x).max()'
    S --covariance=$covariance --score=deviation --batch=7 -o d.csv -f
    $python -c '
import h5py, numpy as np
a = h5py.File("a.h5")["deviation"][()]
d = np.genfromtxt("d.csv", delimiter=",", names=True)["deviation"]
assert np.abs(a - d).max() <= 1e-5 * a.max()'
  done
  S --groups=y -j1 > one
  S --groups=y -j3 > three
  cmp one three
}

@test "an interrupted run goes on where it was, and gives the same bytes" {
  command -v strace > /dev/null || skip "strace is missing"
  export ASAN_OPTIONS=detect_leaks=0 # which cannot be done under strace
  strace -o trace true || skip "cannot trace"
  for format in csv h5; do
    S --no-provenance -o whole.$format
    # Killed while it writes its 61st record; then again, in the middle of those that are left.
    for when in 61 41; do
      run strace -f -qq -o /dev/null -P "$PWD/o.$format.part" -e inject=pwrite64:signal=KILL:when=$when \
        "$IVON_BIN/ivon-sensitivity" -q "$BATS_FILE_TMPDIR/posterior.h5" \
        --data="$BATS_FILE_TMPDIR/train.h5" --no-provenance --resume -o o.$format
      [ $status -ne 0 ]
      [ ! -e o.$format ]
      [ -s o.$format.part ]
    done
    run -65 --separate-stderr ivon-sensitivity "$BATS_FILE_TMPDIR/posterior.h5" \
      --data="$BATS_FILE_TMPDIR/train.h5" --no-provenance --resume -o o.$format --rho=3
    run -0 --separate-stderr ivon-sensitivity "$BATS_FILE_TMPDIR/posterior.h5" \
      --data="$BATS_FILE_TMPDIR/train.h5" --no-provenance --resume -o o.$format
    [[ $stderr =~ going\ on\ after\ [0-9]+\ examples\ of\ o.$format.part ]]
    cmp whole.$format o.$format
    [ ! -e o.$format.part ]
  done
}

@test "mistakes get one line and the right exit code" {
  expect() { # STATUS MESSAGE COMMAND...
    local status_wanted=$1 message=$2
    shift 2
    run --separate-stderr "$@"
    [ $status -eq "$status_wanted" ] || { echo "$* exits with $status"; return 1; }
    [ "$(head -1 <<< "$stderr")" = "ivon-sensitivity: $message" ] || { echo "$stderr"; return 1; }
  }
  p=$BATS_FILE_TMPDIR/posterior.h5 t=$BATS_FILE_TMPDIR/train.h5
  expect 64 'no data given: name them by --data=FILE' ivon-sensitivity "$p"
  expect 64 "--score: 'x', expected some of deviation, mpe, self-influence, loo-loss" \
    ivon-sensitivity "$p" --data="$t" --score=mpe,x
  expect 64 "--rho: '0', expected a positive number" ivon-sensitivity "$p" --data="$t" --rho=0
  expect 64 '--likelihood=gaussian needs --noise-std' \
    ivon-sensitivity "$p" --data="$t" --likelihood=gaussian
  expect 64 '--samples, --seed and --posterior-temperature are for --expectation=samples' \
    ivon-sensitivity "$p" --data="$t" --seed=1
  expect 65 "$t: has no targets, which losses need; --targets names their array, or --target-column a column of CSV" ivon-sensitivity -q "$p" --data="$t" --targets=
  expect 64 "--sort: 'x', expected one of index, label, prediction, loss, residual, deviation" \
    ivon-sensitivity -q "$p" --data="$t" --sort=x
  expect 65 "--groups: 'x' has 150 rows of 5 numbers, expected 150 of one" \
    ivon-sensitivity -q "$p" --data="$t" --groups=x
  expect 64 "--per-token: the network's output has no axis of tokens" \
    ivon-sensitivity -q "$p" --data="$t" --per-token
  S -o there.csv
  expect 73 'there.csv: file exists; --force replaces it' \
    ivon-sensitivity -q "$p" --data="$t" -o there.csv
  [ ! -e there.csv.part ]
  $python -c '
import h5py, shutil
shutil.copy("'"$p"'", "bad.h5")
with h5py.File("bad.h5", "r+") as f: f["hessian/weight"][1, 2] = -1
shutil.copy("'"$t"'", "wrong.h5")
with h5py.File("wrong.h5", "r+") as f: f["y"][5] = 4'
  expect 65 "bad.h5: Hessian of 'weight' is -1 at element 7, with weight_decay 0.01 expected above -0.01" \
    ivon-sensitivity -q bad.h5 --data="$t"
  expect 65 'wrong.h5: row 5: target 4, expected a class from 0 to 3' \
    ivon-sensitivity -q "$p" --data=wrong.h5
}
