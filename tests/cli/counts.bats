# What does not count is out of every number, and what is not finite is refused.
load common

setup_file() {
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/ignored_targets.py" "$BATS_FILE_TMPDIR"
}

setup_data() {
  cp "$BATS_FILE_TMPDIR"/*.h5 .
}

# said TEXT COMMAND...: the command succeeds, and has TEXT on stderr.
said() {
  run -0 --separate-stderr "${@:2}"
  [[ $stderr == *"$1"* ]] || { echo "$stderr"; return 1; }
}

# same A B: two tables or lines of JSON have the same numbers, but for the rounding of sums over other
# tiles: 1e-5 relative, a hundred roundings of binary32.
same() {
  $python - "$1" "$2" << 'PYTHON'
import re, sys
a, b = (re.split(r"[\s,:{}]+", open(p).read()) for p in sys.argv[1:3])
assert len(a) == len(b) > 3, (a, b)
for x, y in zip(a, b):
    try:
        close = abs(float(x) - float(y)) <= 1e-5 * abs(float(x)) + 1e-9 or x == y
    except ValueError:
        close = x == y
    assert close, (x, y)
PYTHON
}

@test "losses of data of which nothing counts are refused" {
  setup_data
  $python -c '
import h5py
with h5py.File("data.h5", "a") as f:
    f["none/x"] = f["short/x"][()]
    f["none/y"] = 0 * f["short/y"][()] - 100'
  nothing="data.h5:/none: all targets are the ignored label -100, expected some that count"
  mkdir run
  cp posterior.h5 run
  for data in --test=data.h5:/none "--test=data.h5:/none --json --quiet"; do
    run -65 ivon-predict-gen posterior.h5 --data=data.h5:/short $data
    [ "$output" = "ivon-predict-gen: $nothing" ]
  done
  run -65 ivon-predict-gen posterior.h5 --data=data.h5:/none -o o.csv
  [ "$output" = "ivon-predict-gen: $nothing" ]
  [ ! -e o.csv ]
  run -65 ivon-predict-gen --follow=run --data=data.h5:/short --test=data.h5:/none
  [ "$output" = "ivon-predict-gen: $nothing" ]
}

@test "padding changes no metric, no detection, and no comparison" {
  setup_data
  for data in short padded; do
    far=far_padded; [ $data = padded ] || far=far
    ivon-predict -q posterior.h5 --data=data.h5:/$data -n 4 --ood=data.h5:/$far --metrics > $data.txt
    ivon-predict -q posterior.h5 --data=data.h5:/$data --mean -o $data.h5
    ivon-predict -q other.h5 --data=data.h5:/$data --mean --compare=$data.h5 --metrics > $data.compare
    ivon-predict -q --average $data.h5 --data=data.h5:/$data --metrics > $data.average
  done
  grep -q mutual_information.auroc short.txt
  same short.txt padded.txt
  same short.compare padded.compare
  same short.average padded.average
}

@test "padding changes no predicted loss, and N counts what counts" {
  setup_data
  for data in short padded; do
    ivon-predict-gen -q posterior.h5 --data=data.h5:/$data --samples=60 --test=data.h5:/$data > $data.csv
    ivon-sensitivity posterior.h5 --data=data.h5:/$data --score=loo-loss,self-influence 2> $data.note | head -21 > $data.scores
    grep -qF "removing one sequence, of N = 40 tokens in all, rho = 2" $data.note
  done
  same short.csv padded.csv
  same short.scores padded.scores
  # N is that of the whole data, whatever part of them is looked at.
  said "N = 40 tokens" ivon-sensitivity posterior.h5 --data=data.h5:/padded --limit=3
  said "N = 40 examples" ivon-sensitivity flat.h5 --data=data.h5:/flat_holes
  said "N = 21 is the number of sequences" ivon-sensitivity posterior.h5 --data=data.h5:/padded --n-train=21
}

@test "each token's row has its sequence's influence" {
  setup_data
  ivon-sensitivity -q posterior.h5 --data=data.h5:/padded --on=data.h5:/padded --score=self-influence > whole.csv
  ivon-sensitivity -q posterior.h5 --data=data.h5:/padded --on=data.h5:/padded --score=self-influence --per-token > tokens.csv
  ivon-sensitivity -q posterior.h5 --data=data.h5:/padded --on=data.h5:/padded --score=self-influence --per-token -o tokens.h5
  $python << 'PYTHON'
import csv, h5py
whole, tokens = (list(csv.DictReader(open(name))) for name in ("whole.csv", "tokens.csv"))
assert len(whole) == 21 and len(tokens) == 105
for i, row in enumerate(tokens):
    for name in "self_influence", "influence":
        assert row[name] == whole[i // 5][name], (i, row)
    assert float(row["loss"]) > 0 or row["label"] == "-100"
assert float(whole[0]["self_influence"]) > 0 and float(whole[20]["self_influence"]) == 0
with h5py.File("tokens.h5") as f:
    assert [str(v) for v in f["influence"][()]] == [str(float(row["influence"])) for row in tokens]
PYTHON
  run ivon-sensitivity posterior.h5 --data=data.h5:/padded --per-token --vectors=covariance -o v.h5
  [ $status = 64 ]
  [ ! -e v.h5 ]
}

@test "log-likelihoods are of what counts, by its number in the data" {
  setup_data
  ivon-predict -q posterior.h5 --data=data.h5:/short -n 3 --log-likelihoods=short.nc
  ivon-predict -q posterior.h5 --data=data.h5:/padded -n 3 --log-likelihoods=padded.nc
  ivon-predict -q flat.h5 --data=data.h5:/flat_holes -n 3 --log-likelihoods=holes.nc
  ivon-predict -q flat.h5 --data=data.h5:/flat -n 3 --log-likelihoods=flat.nc --memory=1K
  $python << 'PYTHON'
import h5py, numpy as np
a, b, c, d = (h5py.File(name + ".nc") for name in ("short", "padded", "holes", "flat"))
for x, y in ((a, b), (d, c)):
    assert np.abs(x["log_likelihood/y"][()] - y["log_likelihood/y"][()]).max() < 1e-5
assert b["observed_data/y"].shape == (20, 5) and (b["observed_data/y"][:, 2:] == -100).all()
assert (b["posterior_predictive/y"][0, :, :, 2:] == -100).all()
assert (b["posterior_predictive/y"][0, :, :, :2] >= 0).all()
assert list(c["observed_data/y_dim_0"]) == [i for i in range(42) if i not in (5, 12)]
assert list(c["log_likelihood/y_dim_0"]) == list(c["observed_data/y_dim_0"])
assert (c["observed_data/y"][()] == d["observed_data/y"][()]).all()
PYTHON
}

@test "events are ignored together, or not at all" {
  setup_data
  for data in events events_holes; do
    ivon-predict -q flat.h5 --data=data.h5:/$data --likelihood=bernoulli -n 4 --metrics > $data.txt
    ivon-predict-gen -q flat.h5 --data=data.h5:/$data --likelihood=bernoulli --samples=40 > $data.csv
  done
  same events.txt events_holes.txt
  same events.csv events_holes.csv
  for command in ivon-predict ivon-sensitivity ivon-predict-gen; do
    run $command -q flat.h5 --data=data.h5:/events_some --likelihood=bernoulli
    [ $status = 65 ]
    grep -qF "data.h5:/events_some: row 4: some of its 3 targets are the ignored label -100, expected all or none" <<< "$output"
  done
}

@test "what does not count is in no group, and in no class" {
  setup_data
  ivon-predict-gen -q flat.h5 --data=data.h5:/flat --by-class > flat.csv
  ivon-predict-gen -q flat.h5 --data=data.h5:/flat_holes --by-class > holes.csv
  same flat.csv holes.csv
  ivon-sensitivity -q flat.h5 --data=data.h5:/flat_holes --groups=y > groups.csv
  [ "$(cut -d, -f1 groups.csv | tr '\n' ' ')" = "group 0 1 2 " ]
}

@test "data of which nothing counts are refused" {
  setup_data
  for command in "ivon-predict --metrics" ivon-sensitivity ivon-predict-gen; do
    run $command -q flat.h5 --data=data.h5:/one --ignore-label="$($python -c 'import h5py; print(h5py.File("data.h5")["one/y"][0])')"
    [ $status = 65 ]
    grep -qF "data.h5:/one: all targets are the ignored label" <<< "$output"
  done
  run ivon-predict flat.h5 --data=data.h5:/numbers --likelihood=gaussian --noise-std=1 --ignore-label=3
  [ $status = 64 ]
}

@test "a reliability diagram passes over what does not count, and nothing else" {
  setup_data
  for data in flat flat_holes; do
    ivon-predict -q flat.h5 --data=data.h5:/$data --mean -o $data.csv
    ivon-plot reliability $data.csv --data=data.h5:/$data -o $data.svg
    grep -o 'calibration error [0-9.]*' $data.svg > $data.error
  done
  cmp flat.error flat_holes.error
  run ivon-plot reliability flat_holes.csv --data=data.h5:/flat_holes --ignore-label=7 -o x.svg
  [ $status = 65 ]
  grep -qF "flat_holes.csv: row 5: label -100, expected a class, or the ignored label 7" <<< "$output"
  # Nor does a histogram show the zeros of what has no score.
  ivon-sensitivity -q flat.h5 --data=data.h5:/flat_holes -o s.csv
  ivon-plot sensitivity s.csv -o s.svg
  grep -qF '(40 in all)' s.svg
}

@test "what is not finite is refused with its file and row, wherever it comes in" {
  setup_data
  gaussian="--likelihood=gaussian --noise-std=0.3"
  refuse() { # MESSAGE COMMAND...
    local message=$1
    shift
    run "$@"
    [ $status = 65 ]
    grep -qF "$message" <<< "$output" || { echo "$output"; return 1; }
  }
  nan_y="data.h5:/nan_y: 'y': row 8 holds nan, expected a finite number"
  nan_x="data.h5:/nan_x: 'x': row 6 holds nan, expected a finite number"
  inf_x="data.h5:/inf_x: 'x': row 6 holds inf, expected a finite number"
  for bad in nan_y nan_x inf_x; do
    for command in ivon-predict ivon-sensitivity ivon-predict-gen "ivon-influence --queries=data.h5:/numbers"; do
      refuse "${!bad}" $command -q flat.h5 --data=data.h5:/$bad $gaussian
    done
    refuse "${!bad}" ivon-sensitivity -q flat.h5 --data=data.h5:/numbers --on=data.h5:/$bad $gaussian
    refuse "${!bad}" ivon-influence -q flat.h5 --data=data.h5:/numbers --queries=data.h5:/$bad $gaussian
    refuse "${!bad}" ivon-predict-gen -q flat.h5 --data=data.h5:/numbers --test=data.h5:/$bad $gaussian
    refuse "${!bad}" ivon-predict-gen -q flat.h5 --data=data.h5:/$bad --samples=9 --limit=20 $gaussian
    refuse "${!bad}" ivon-train -q --arch=mlp:3,3 --data=data.h5:/$bad --lr=0.1 --steps=1 --likelihood=gaussian --noise-std=1 -o run
    refuse "${!bad}" ivon-train -q --arch=mlp:3,3 --data=data.h5:/numbers --test=data.h5:/$bad --lr=0.1 --steps=1 --likelihood=gaussian --noise-std=1 -o run-$bad
  done
  refuse "$nan_x" ivon-predict -q flat.h5 --data=data.h5:/flat --ood=data.h5:/nan_x --metrics
  # Of a subsample it is the row of the whole data.
  refuse "row 6 holds nan, expected a finite number" ivon-predict-gen -q flat.h5 --data=data.h5:/nan_x --subsample=39 $gaussian
  printf 'a,b,c,y\n1,2,3,0\n4,nan,6,1\n' > bad.csv
  refuse "bad.csv" ivon-predict -q flat.h5 --data=bad.csv --target-column=y
}

@test "regression has no columns of errors, and one example says that it has no standard error" {
  setup_data
  ivon-predict-gen -q flat.h5 --data=data.h5:/numbers --likelihood=gaussian --noise-std=0.3 --subsample=30 --test=data.h5:/numbers > gen.csv
  head -1 gen.csv
  [ "$(head -1 gen.csv)" = "step,train_loss,loo_loss,loo_loss_se,train_loss_se,test_loss,hessian_at_start" ]
  [ "$(grep -c nan gen.csv)" = 0 ]
  said "one example: there is no standard error" ivon-predict-gen flat.h5 --data=data.h5:/one
}

@test "a posterior that is far too wide is told of" {
  setup_data
  $python -c 'import h5py; h5py.File("flat.h5", "r+").attrs["ess"] = 0.002'
  run ivon-info --check flat.h5
  [ $status = 1 ]
  grep -qF "flat.h5: the posterior is far too wide: the median of |mean|/sigma is" <<< "$output"
  said "averaging makes predictions far worse: NLL" ivon-predict flat.h5 --data=data.h5:/flat --metrics
  # What it says to do helps.
  ivon-fit -q flat.h5 --tune=validation --validation=data.h5:/flat -o narrow.h5
  [ -z "$(ivon-predict narrow.h5 --data=data.h5:/flat --metrics 2>&1 > /dev/null)" ]
  # Events that are certain at the mean, whose loss is a mean over events, too.
  $python -c "
import h5py
with h5py.File('flat.h5') as f, h5py.File('sure.h5', 'w') as g, h5py.File('data.h5', 'r+') as d:
    g.attrs.update({**f.attrs, 'ess': 2e-4})
    for name in f:
        f.copy(name, g)
    w = g['mean/weight']
    w[...] *= 10
    d['sure/x'] = d['events/x'][()]
    d['sure/y'] = (d['sure/x'][()] @ w[()] > 0).astype(int)"
  ivon-predict sure.h5 --data=data.h5:/sure --likelihood=bernoulli --metrics > sure.txt 2> err
  ivon-predict sure.h5 --data=data.h5:/sure --likelihood=bernoulli --metrics --mean > mean.txt
  [[ $(cat err) =~ "averaging makes predictions far worse: NLL "([0-9.]+)", at the mean "([0-9.]+) ]]
  awk -v a="${BASH_REMATCH[1]}" -v b="${BASH_REMATCH[2]}" '$1 == "nll" {n[++k] = $2}
    END {exit !(n[1] / a - 1 < 1e-3 && a / n[1] - 1 < 1e-3 && n[2] / b - 1 < 1e-3 && b / n[2] - 1 < 1e-3)}' sure.txt mean.txt
  said "the posterior is far too wide for it to mean anything" ivon-predict-gen flat.h5 --data=data.h5:/flat --rho=300
  cp "$BATS_FILE_TMPDIR/flat.h5" .
  [ -z "$(ivon-predict flat.h5 --data=data.h5:/flat --metrics 2>&1 > /dev/null)" ]
  [ -z "$(ivon-predict-gen flat.h5 --data=data.h5:/flat 2>&1 > /dev/null)" ]
}
