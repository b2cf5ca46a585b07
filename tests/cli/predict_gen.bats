load common

# A softmax regression with explicit Jacobians as the oracle; tolerances as in sensitivity.bats.
setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make "$BATS_FILE_TMPDIR"
}

G() { ivon-predict-gen --data="$BATS_FILE_TMPDIR/train.h5" "$@"; }

oracle() {
  $python - "$BATS_FILE_TMPDIR" <<PYTHON
import sys, csv, numpy as np
from softmax_regression import Problem, EXAMPLES
d = sys.argv[1]
def near(a, b, tolerance=1e-5):
    assert np.abs(np.float64(a) - np.float64(b)).max() <= tolerance * np.abs(b).max(), (a, b)
def table(path):
    rows = list(csv.DictReader(open(path)))
    return {k: np.array([float(r[k]) for r in rows]) for k in rows[0]}
def estimate(values):
    return [values.mean(), values.std(ddof=1) / np.sqrt(len(values))]
$1
PYTHON
}

@test "losses, leave-one-out and test losses are those of explicit Jacobians" {
  cd "$BATS_FILE_TMPDIR"
  G step-3.h5 posterior.h5 --test=test.h5 > "$BATS_TEST_TMPDIR/full.csv"
  G step-3.h5 posterior.h5 --test=test.h5 --covariance=diag --rho=1 --json > "$BATS_TEST_TMPDIR/diag.jsonl"
  cd "$BATS_TEST_TMPDIR"
  jq -r '[.step,.loo_loss,.loo_error,.train_loss] | @csv' diag.jsonl > diag.csv
  oracle '
found = table("full.csv")
diagonal = np.loadtxt("diag.csv", delimiter=",")
for i, (name, step) in enumerate((("step-3", 3), ("posterior", 20))):
    p = Problem(f"{d}/{name}.h5", d + "/train.h5")
    t = Problem(f"{d}/{name}.h5", d + "/test.h5")
    loo = p.f + p.moved()
    assert found["step"][i] == step and found["hessian_at_start"][i] == 0
    near(found["train_loss"][i], p.loss(p.f).mean())
    near(found["train_error"][i], (p.f.argmax(1) != p.y).mean())
    near([found["loo_loss"][i], found["loo_loss_se"][i]], estimate(p.loss(loo)))
    near([found["loo_error"][i], found["loo_error_se"][i]], estimate(loo.argmax(1) != p.y))
    near(found["test_loss"][i], t.loss(t.f).mean())
    near(found["test_error"][i], (t.f.argmax(1) != t.y).mean())
    p = Problem(f"{d}/{name}.h5", d + "/train.h5", rho=1)
    loo = p.f + p.moved(False)
    near(diagonal[i], np.array([step, p.loss(loo).mean(), (loo.argmax(1) != p.y).mean(),
                                p.loss(p.f).mean()]))'
}

@test "criteria from samples are those of the library on the predictor's log-likelihoods" {
  G -q "$BATS_FILE_TMPDIR/posterior.h5" -n 40 --seed=2 > samples.csv
  ivon-predict -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" -n 40 --seed=2 \
    --log-likelihoods=ll.nc -o p.csv
  oracle '
import h5py
with h5py.File("ll.nc") as f:
    variables = [v for v in f["log_likelihood"].values() if v.ndim >= 3]
    l = np.float64(variables[0][()]).reshape(40, -1)
rho = 2.0 # ess 300 over 150 examples
waic = -np.log(np.exp(l).mean(0)) + rho * l.var(0, ddof=1)
near(table("samples.csv")["waic"][0], waic.mean())
assert abs(table("samples.csv")["psis_loo"][0] - waic.mean()) < 0.05 * waic.mean()'
}

@test "a subsample has standard errors, and is the same for a seed" {
  G -q "$BATS_FILE_TMPDIR/posterior.h5" --subsample=60 --seed=4 > a.csv
  G -q "$BATS_FILE_TMPDIR/posterior.h5" --subsample=60 --seed=4 > b.csv
  G -q "$BATS_FILE_TMPDIR/posterior.h5" --subsample=60 --seed=5 > c.csv
  G -q "$BATS_FILE_TMPDIR/posterior.h5" --subsample=150 > all.csv
  cmp a.csv b.csv
  run -1 cmp -s a.csv c.csv
  oracle '
p = Problem(d + "/posterior.h5", d + "/train.h5")
losses = p.loss(p.f)
found, whole = table("a.csv"), table("all.csv")
near(whole["train_loss"][0], losses.mean())
near([whole["train_loss"][0], whole["train_loss_se"][0]], estimate(losses))
assert abs(found["train_loss"][0] - losses.mean()) < 5 * losses.std() / np.sqrt(60)
assert found["train_loss_se"][0] > whole["train_loss_se"][0]'
}

@test "whole classes are left out by the exact group form" {
  G -q "$BATS_FILE_TMPDIR/posterior.h5" --by-class > classes.csv
  oracle '
p = Problem(d + "/posterior.h5", d + "/train.h5")
found = table("classes.csv")
for i, group in enumerate(np.unique(p.y)):
    own = p.y == group
    moved = p.without(own)
    near([found["loss_without"][i], found["rest_loss_without"][i], found["error_without"][i]],
         [p.loss(moved)[own].mean(), p.loss(moved)[~own].mean(), (moved.argmax(1) != p.y)[own].mean()])
    assert found["class"][i] == group and found["count"][i] == own.sum()'
}

@test "a Hessian that never left its start is told of" {
  cp "$BATS_FILE_TMPDIR/step-0.h5" again.h5
  run --separate-stderr G "$BATS_FILE_TMPDIR/step-0.h5" again.h5
  [ $status -eq 0 ]
  [[ $stderr == *"step-0.h5: the Hessian never left its start"* ]]
  [ "$(grep -c 'never left its start' <<< "$stderr")" = 1 ]
  [ "$(tail -2 <<< "$output" | grep -o '[^,]*$' | tr '\n' ' ')" = "1 1 " ]
}

@test "checkpoints are followed as they come, each once, half-written ones when they are whole" {
  mkdir run
  cp "$BATS_FILE_TMPDIR/step-3.h5" run/a.h5
  ivon-predict-gen --follow=run --data="$BATS_FILE_TMPDIR/train.h5" > rows.csv 2> errors &
  pid=$!
  wait_for() { for _ in $(seq 200); do [ "$(wc -l < rows.csv)" -ge "$1" ] && return; sleep .05; done; return 1; }
  wait_for 2
  cp "$BATS_FILE_TMPDIR/posterior.h5" run/.hidden
  mv run/.hidden run/c.h5
  wait_for 3
  head -c 3000 "$BATS_FILE_TMPDIR/step-10.h5" > run/b.h5   # half-written, and closed
  echo nothing > run/corrupt.h5
  for _ in $(seq 200); do [ "$(grep -c . errors)" -ge 2 ] && break; sleep .05; done
  cp "$BATS_FILE_TMPDIR/step-10.h5" run/b.h5               # and now whole
  wait_for 4
  touch run/done
  status=0
  wait $pid || status=$?
  [ $status -eq 65 ] # a file was never read
  [ "$(cut -d, -f1 rows.csv | tr '\n' ' ')" = "step 3 20 10 " ]
  grep -q 'run/b.h5' errors
  grep -q '1 file could not be read, the last of them run/corrupt.h5' errors
}

@test "following ends at a step, and by a signal" {
  mkdir run
  cp "$BATS_FILE_TMPDIR"/step-{3,10}.h5 "$BATS_FILE_TMPDIR/posterior.h5" run
  G -q --follow=run --until=10 > rows.csv
  [ "$(cut -d, -f1 rows.csv | tr '\n' ' ')" = "step 20 " ] # posterior.h5 is the first by name
  ivon-predict-gen -q --follow=run --data="$BATS_FILE_TMPDIR/train.h5" > rows.csv 2> errors &
  pid=$!
  for _ in $(seq 200); do [ "$(wc -l < rows.csv)" -ge 4 ] && break; sleep .05; done
  kill -TERM $pid
  status=0
  wait $pid || status=$?
  [ $status -eq 143 ]
  [ "$(wc -l < rows.csv)" -eq 4 ]
}

@test "single examples of a training that is followed are whole at any moment, too" {
  mkdir run
  cp "$BATS_FILE_TMPDIR/step-3.h5" run/a.h5
  cp "$BATS_FILE_TMPDIR/step-10.h5" run/b.h5
  n=$(G -q run/a.h5 --pointwise=one.csv > one-row.csv && wc -l < one.csv)
  for kind in csv jsonl h5; do
    G -q --no-provenance run/a.h5 run/b.h5 --pointwise=expected.$kind -o rows-expected.$kind
    ivon-predict-gen -q --no-provenance --follow=run --data="$BATS_FILE_TMPDIR/train.h5" --pointwise=points.$kind -o rows.$kind 2> errors &
    pid=$!
    for _ in $(seq 200); do cmp -s points.$kind expected.$kind && cmp -s rows.$kind rows-expected.$kind && break; sleep .05; done
    kill -KILL $pid
    wait $pid || true
    cmp points.$kind expected.$kind # while it ran, and now that it was killed
    cmp rows.$kind rows-expected.$kind
  done
  [ "$(wc -l < points.csv)" -eq $((2 * n - 1)) ]
  cmp <(head -n "$n" points.csv) one.csv
  run -73 G --follow=run --until=0 --pointwise=points.csv
  [[ "$output" = *"points.csv: file exists; --force replaces it" ]]
}

@test "a file that follows a training is whole at any moment, and following ends when nothing comes" {
  mkdir run
  ivon-predict-gen --follow=run --idle-timeout=60 --data="$BATS_FILE_TMPDIR/train.h5" -o rows.csv 2> errors &
  pid=$!
  rows() { for _ in $(seq 200); do [ -e rows.csv ] && [ "$(wc -l < rows.csv)" -eq "$1" ] && return; sleep .05; done; return 1; }
  cp "$BATS_FILE_TMPDIR/step-3.h5" run/.a
  mv run/.a run/a.h5
  rows 2
  first=$(stat -c %i rows.csv)
  exec 7< rows.csv # a reader that is slow keeps what it opened
  cp "$BATS_FILE_TMPDIR/step-10.h5" run/.b
  mv run/.b run/b.h5
  rows 3
  [ "$(stat -c %i rows.csv)" != "$first" ]
  [ "$(wc -l <&7)" -eq 2 ]
  kill -TERM $pid
  status=0
  wait $pid || status=$?
  [ $status -eq 143 ]
  [ "$(cut -d, -f1 rows.csv | tr '\n' ' ')" = "step 3 10 " ]
  [ -z "$(ls -A | grep -v -e '^run$' -e '^rows.csv$' -e '^errors$')" ] # nor anything beside it
  G -q run/a.h5 run/b.h5 | cmp - rows.csv

  run --separate-stderr -0 G --follow=run --idle-timeout=0.2 --by-class -o classes.jsonl
  [ "$stderr" = "ivon-predict-gen: run: no new checkpoint for 0.2 s: the end" ]
  G -q run/a.h5 run/b.h5 --by-class --json | cmp - classes.jsonl
  run --separate-stderr -0 G -q --follow=run --idle-timeout=0.2 -o - # as before
  [ -z "$stderr" ]
  cmp <(echo "$output") rows.csv
  run --separate-stderr -73 G --follow=run --idle-timeout=0.2 -o rows.csv
  [[ "$stderr" = *"rows.csv: file exists; --force replaces it" ]]
  G -q --follow=run --idle-timeout=0.2 --force -o rows.csv
  mkdir empty
  G -q --follow=empty --idle-timeout=0.1 -o none.csv
  cmp none.csv <(head -n 1 rows.csv)
  run -64 G run/a.h5 --idle-timeout=3
  [[ "$output" = *"--idle-timeout is for --follow"* ]]
}

@test "mistakes get one line and the right exit code" {
  expect() {
    local status_wanted=$1 message=$2
    shift 2
    run --separate-stderr "$@"
    [ $status -eq "$status_wanted" ] || { echo "$* exits with $status"; return 1; }
    [ "$(head -1 <<< "$stderr")" = "ivon-predict-gen: $message" ] || { echo "$stderr"; return 1; }
  }
  p=$BATS_FILE_TMPDIR/posterior.h5 t=$BATS_FILE_TMPDIR/train.h5
  expect 64 'no posterior given; see --help' ivon-predict-gen --data="$t"
  expect 64 'no data given: name them by --data=FILE' ivon-predict-gen "$p"
  expect 64 '--follow takes its posteriors from the directory' \
    ivon-predict-gen --follow=. "$p" --data="$t"
  expect 64 '--until is for --follow' ivon-predict-gen "$p" --data="$t" --until=3
  expect 64 '--seed is for --samples and --subsample' ivon-predict-gen "$p" --data="$t" --seed=3
  expect 66 'nowhere: cannot follow it: No such file or directory' \
    ivon-predict-gen --follow=nowhere --data="$t"
  expect 64 "$t: has 150 examples, not 151" ivon-predict-gen "$p" --data="$t" --subsample=151
}

@test "nothing is printed by what fails before its first row, and what has no row has its header" {
  cp "$BATS_FILE_TMPDIR/posterior.h5" good.h5
  echo "not a checkpoint" > bad.h5
  run --separate-stderr -65 G bad.h5
  [ -z "$output" ]
  [[ "${#stderr_lines[@]}" = 1 && "$stderr" = *bad.h5* ]]
  run --separate-stderr -65 G bad.h5 --json
  [ -z "$output" ]
  run --separate-stderr -65 ivon-predict bad.h5 --data="$BATS_FILE_TMPDIR/train.h5"
  [ -z "$output" ]
  run --separate-stderr -65 G -q good.h5 bad.h5 # the first is printed when it is known
  [ "${#lines[@]}" = 2 ]
  mkdir run
  touch run/done
  run --separate-stderr -0 G --follow=run
  [ "${#lines[@]}" = 1 ]
  [[ "$output" = step,train_loss,* ]]
}

@test "checkpoints are compared by pairs of an example's losses, which can be written, too" {
  cd "$BATS_FILE_TMPDIR"
  G -q step-3.h5 posterior.h5 --compare --pointwise="$BATS_TEST_TMPDIR/points.csv" > "$BATS_TEST_TMPDIR/compared.csv"
  G -q step-3.h5 posterior.h5 > "$BATS_TEST_TMPDIR/plain.csv"
  G -q step-3.h5 posterior.h5 --pointwise="$BATS_TEST_TMPDIR/points.h5" -n 30 > "$BATS_TEST_TMPDIR/sampled.csv"
  G -q posterior.h5 --subsample=20 --seed=1 --pointwise="$BATS_TEST_TMPDIR/some.jsonl" > "$BATS_TEST_TMPDIR/some.csv"
  cd "$BATS_TEST_TMPDIR"
  cut -d, -f1-7,10 compared.csv | cmp - plain.csv
  oracle '
import h5py, json
points, compared, plain = table("points.csv"), table("compared.csv"), table("plain.csv")
each = [points["checkpoint"] == c for c in (0, 1)]
losses = []
for c, name in enumerate(("step-3", "posterior")):
    p = Problem(f"{d}/{name}.h5", d + "/train.h5")
    losses.append(p.loss(p.f + p.moved()))
    near(points["loo_loss"][each[c]], losses[c])
    near(points["loss"][each[c]], p.loss(p.f))
    assert (points["index"][each[c]] == np.arange(EXAMPLES)).all() and (points["positions"] == 1).all()
    assert (points["step"][each[c]] == plain["step"][c]).all()
best = int(np.argmin(plain["loo_loss"]))
assert compared["loo_diff"][best] == 0 and compared["loo_diff_se"][best] == 0
near([compared["loo_diff"][1 - best], compared["loo_diff_se"][1 - best]],
     estimate(losses[1 - best] - losses[best]), 1e-4)
assert compared["loo_diff_se"][1 - best] < plain["loo_loss_se"].min()
sampled = table("sampled.csv")
with h5py.File("points.h5") as f:
    assert (f["loo_loss"][:] == points["loo_loss"]).all()
    for c in (0, 1):
        rows = f["checkpoint"][:] == c
        near(f["waic"][:][rows].mean(), sampled["waic"][c])
        near(f["psis_loo"][:][rows].mean(), sampled["psis_loo"][c])
        bad = f["pareto_k"][:][rows] > min(1 - 1 / np.log10(30), 0.7)
        assert bad.sum() == sampled["pareto_k_bad"][c]
some = [json.loads(line) for line in open("some.jsonl")]
index = [row["index"] for row in some]
assert len(index) == 20 and index == sorted(index) and index[-1] > 20
near([row["loo_loss"] for row in some], losses[1][index])'
}

@test "what is compared is two checkpoints, and points go to a file" {
  refused() { # TEXT OPTION...
    run -64 --separate-stderr ivon-predict-gen -q "$BATS_FILE_TMPDIR/posterior.h5" --data="$BATS_FILE_TMPDIR/train.h5" "${@:2}"
    [ "$(head -1 <<< "$stderr")" = "ivon-predict-gen: $1" ]
  }
  refused "--compare needs two posteriors or more" --compare
  for file in - o.txt o.npy; do
    refused "--pointwise: '$file' ends in none of .csv, .jsonl and .h5" --pointwise=$file
  done
  refused "--by-class removes classes: --groups, --pointwise and --compare do not go with it" --by-class --pointwise=o.csv
  [ ! -e o.csv ]
}

@test "groups are left out as wholes, of a subsample, too" {
  cp "$BATS_FILE_TMPDIR/train.h5" grouped.h5
  $python -c '
import h5py, numpy as np
with h5py.File("grouped.h5", "r+") as f:
    f["group"] = (np.arange(len(f["y"])) * 7 % 11).astype("i4") - 3'
  at=(-q "$BATS_FILE_TMPDIR/posterior.h5" --data=grouped.h5 --groups=group)
  ivon-predict-gen "${at[@]}" -o found.csv
  ivon-predict-gen "${at[@]}" --subsample=40 --seed=3 --pointwise=some.csv -o some-found.csv
  run -64 --separate-stderr ivon-predict-gen "${at[@]}" --covariance=diag
  [ "$(head -1 <<< "$stderr")" = "ivon-predict-gen: --groups removes groups exactly: --covariance=diag does not go with it" ]
  oracle '
def left_out(rows, groups):
    """Each group predicted by the mean that is moved by the gradients of all of it."""
    p = Problem(d + "/posterior.h5", d + "/train.h5")
    f = np.zeros_like(p.f)
    gradient = np.einsum("nk,nkp->np", p.residual, p.jacobian)
    for g in np.unique(groups[rows]):
        own = rows[groups[rows] == g]
        f[own] = p.f[own] + np.einsum("nkp,p,p->nk", p.jacobian[own], p.rho * p.sigma, gradient[own].sum(0))
    losses, errors = p.loss(f), (f.argmax(1) != p.y).astype(float)
    def over_groups(values):
        sums = np.array([values[rows[groups[rows] == g]].sum() for g in np.unique(groups[rows])])
        counts = np.array([(groups[rows] == g).sum() for g in np.unique(groups[rows])])
        mean, n = sums.sum() / counts.sum(), len(sums)
        rest = sums - mean * counts
        return [mean, np.sqrt((rest ** 2).sum() * n / (n - 1)) / counts.sum()]
    return over_groups(losses) + over_groups(errors)
groups = np.arange(EXAMPLES) * 7 % 11 - 3
for path, rows in (("found.csv", np.arange(EXAMPLES)), ("some-found.csv", table("some.csv")["index"].astype(int))):
    t = table(path)
    near([t[k][0] for k in ("lgo_loss", "lgo_loss_se", "lgo_error", "lgo_error_se")], left_out(rows, groups), 1e-4)'
}
