load common

# Two tasks with other labels for the same inputs, a linear network trained on both, and one finetuned on each;
# and search.py, which reads tables and has the formulas in numpy.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  cat > search.py <<'PYTHON'
import csv, json, subprocess, sys
import h5py, numpy as np

TASKS, CLASSES, FEATURES = ("one", "two"), 3, 4


def table(path):
    with open(path) as f:
        return list(csv.DictReader(f))


def weights(row):
    return [float(row[f"weight{t}"]) for t in range(2)]


def run(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def metrics(path, data, *options):
    """What ivon-predict says of a file."""
    printed = run("ivon-predict", "-q", path, f"--data={data}", "--metrics", "--json", *options)
    return json.loads(printed)["metrics"]


def compare(row, label, found):
    """Every metric that a search knows and its error, bit by bit: others are of confidences."""
    known = {name: metric for name, metric in found.items() if f"{name}{label}" in row}
    further = ("aurc", "e_aurc", "coverage_at_risk", "calibration_", "crps", "coverage_")
    assert all(name.startswith(further) for name in set(found) - set(known)), sorted(found)
    for name, metric in known.items():
        assert float(row[f"{name}{label}"]) == metric["value"], (row, name, metric)
        assert float(row[f"{name}{label}_se"]) == metric["standard_error"], (row, name, metric)
PYTHON
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
from search import *
r = np.random.default_rng(3)
rule = r.standard_normal((CLASSES, FEATURES))
for i, task in enumerate(TASKS):
    with h5py.File(task + ".h5", "w") as f:
        for part, count in (("train", 200), ("test", 150)):
            x = r.standard_normal((count, FEATURES)).astype("f4")
            own = rule + (-1) ** i * 0.7 * rule[::-1]
            y = np.argmax(x @ own.T + r.gumbel(size=(count, CLASSES)), 1)
            f[f"{part}/x"], f[f"{part}/y"] = x, y
PYTHON
  train() { "$IVON_BIN/ivon-train" -q --batch=20 --ess=200 --save-every=0 "$@" 2> /dev/null; }
  train --arch=linear:4,3 --data=one.h5:/train --lr=0.05 --epochs=2 -o base
  for task in one two; do train --from="$(ls base/*.h5)" --data=$task.h5:/train --lr=0.1 --epochs=8 -o $task; done
  for name in base one two; do mv $name/posterior-*.h5 $name-model.h5; done
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$BATS_FILE_TMPDIR
  out=$BATS_TEST_TMPDIR
  both=(--evaluate=one.h5:/test --evaluate=two.h5:/test)
  models=(--base=base-model.h5 --on-nonpositive=base one-model.h5 two-model.h5)
}

@test "evaluating eleven weights on two data sets is merging and predicting for each, bit by bit" {
  ivon-merge -q "${models[@]}" --weights=simplex:10 "${both[@]}" --table="$out/t.csv" > "$out/text"
  ivon-merge -q "${models[@]}" --weights=simplex:10 "${both[@]}" --table="$out/s.csv" --samples=7 --seed=2 > "$out/text"
  $python - "$out" <<'PYTHON'
from search import *
out = sys.argv[1]
mean, drawn = table(out + "/t.csv"), table(out + "/s.csv")
assert len(mean) == len(drawn) == 11
for i, row in enumerate(mean):
    a, b = weights(row)
    assert (a, b) == (i / 10, (10 - i) / 10)
    run("ivon-merge", "-q", "-f", "--base=base-model.h5", "--on-nonpositive=base", f"one-model.h5:{a}",
        f"two-model.h5:{b}", "-o", out + "/m.h5")
    for task in TASKS:
        compare(row, f".{task}_test", metrics(out + "/m.h5", f"{task}.h5:/test", "--mean"))
        compare(drawn[i], f".{task}_test", metrics(out + "/m.h5", f"{task}.h5:/test", "--samples=7", "--seed=2"))
PYTHON
}

@test "threads, memory and the order of the work change no bit of a table" {
  for options in -j1 -j2 "-j2 --memory=4M" "--table=-"; do
    ivon-merge -q "${models[@]}" --weights=grid:8 "${both[@]}" --table="$out/t.csv" -f $options > "$out/text"
    [ "$options" != --table=- ] || mv "$out/text" "$out/t.csv"
    [ -e "$out/first.csv" ] || cp "$out/t.csv" "$out/first.csv"
    cmp "$out/t.csv" "$out/first.csv"
  done
  [ "$(wc -l < "$out/t.csv")" = 82 ] # more than are in memory at a time
}

@test "numbers are numpy's, and front and pick what they are defined to be" {
  for pick in mean worst 1,3; do
    ivon-merge -q "${models[@]}" --method=task-arithmetic --weights=grid:-0.5:1.5:0.5 \
      "${both[@]}" --pick=$pick --table="$out/$pick.csv" > "$out/$pick.txt"
  done
  $python - "$out" <<'PYTHON'
from search import *
out = sys.argv[1]
rows = table(out + "/mean.csv")
assert [weights(r) for r in rows] == [[a / 2, b / 2] for a in range(-1, 4) for b in range(-1, 4)]
means = [{k: np.float64(v[()]) for k, v in h5py.File(f"{n}-model.h5")["mean"].items()} for n in ("base", *TASKS)]
for row in rows:
    merged = {k: means[0][k] + sum(w * (m[k] - means[0][k]) for w, m in zip(weights(row), means[1:]))
              for k in means[0]}
    (weight,), (bias,) = ([v for v in merged.values() if v.ndim == n] for n in (2, 1))
    for task in TASKS:
        with h5py.File(f"{task}.h5") as f:
            x, y = np.float64(f["test/x"][()]), f["test/y"][()]
        logits = x @ (weight if weight.shape[0] == FEATURES else weight.T) + bias
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        nll = -log_p[np.arange(len(y)), y].mean()
        # Logits of binary32 are wrong by less than ten roundings of 2^-24 of numbers below 30.
        assert abs(nll - float(row[f"nll.{task}_test"])) < 10 * 30 * 2.0 ** -24, (nll, row)
        assert float(row[f"accuracy.{task}_test"]) == (logits.argmax(1) == y).mean()
loss = np.array([[float(r[f"nll.{t}_test"]) for t in TASKS] for r in rows])
front = [not any((o <= l).all() and (o < l).any() for o in loss) for l in loss]
assert [r["front"] == "1" for r in rows] == front and 2 < sum(front) < 20
for pick, criterion in ("mean", loss.sum(1)), ("worst", loss.max(1)), ("1,3", loss @ [1, 3]):
    found = [i for i, r in enumerate(table(f"{out}/{pick}.csv")) if r["pick"] == "1"]
    assert found == [criterion.argmin()], (pick, found)
    lines = [l.split() for l in open(f"{out}/{pick}.txt")]
    assert [l[-1] for l in lines[1:]] == ["*" if i in found else "-" for i in range(25)]
    assert [l[-2] for l in lines[1:]] == ["*" if f else "-" for f in front]
    assert lines[0] == ["weight0", "weight1", "accuracy.one_test", "nll.one_test", "accuracy.two_test", "nll.two_test",
                        "front", "pick"]
    assert [[float(n) for n in l[:2]] for l in lines[1:]] == [weights(r) for r in rows]
assert len({tuple(r["pick"] for r in table(f"{out}/{p}.csv")) for p in ("mean", "worst", "1,3")}) > 1
PYTHON
}

@test "equal merges are all on the front, and the first is picked; better on one set is better" {
  ivon-merge -q --method=average one-model.h5 one-model.h5 --weights=simplex:2 "${both[@]}" > "$out/text"
  [ "$(awk 'NR > 1 {print $(NF - 1) $NF}' "$out/text" | xargs)" = "** *- *-" ]
  # Without inputs outputs are the bias, which stays the base's.
  $python -c "import numpy as np; np.savez('$out/zero.npz', x=np.zeros((3, 4), 'f4'), y=np.arange(3))"
  ivon-merge -q "${models[@]}" --exclude='*bias' --weights=grid:2 --evaluate="$out/zero.npz" --evaluate=one.h5:/test \
    --table=- | awk -F, 'NR == 1 {for (i = 1; i <= NF; i++) at[$i] = i; next}
      {print $at["nll.zero"], $at["nll.one_test"], $at["front"]}' > "$out/rows"
  [ "$(cut -d' ' -f1 "$out/rows" | sort -u | wc -l)" = 1 ]
  [ "$(awk '$3 == 1' "$out/rows")" = "$(sort -g -k2 "$out/rows" | head -1)" ]
}

@test "what was picked is the merge with its weights, and says so" {
  ivon-merge -q --no-provenance "${models[@]}" --weights=grid:4 "${both[@]}" --pick=worst --table="$out/t.csv" -o "$out/p.h5"
  read -r a b <<< "$(awk -F, 'NR > 1 && $NF == 1 {print $2, $3}' "$out/t.csv")"
  ivon-merge -q --no-provenance --base=base-model.h5 --on-nonpositive=base one-model.h5:$a two-model.h5:$b -o "$out/m.h5"
  cmp "$out/p.h5" "$out/m.h5"
  ivon-merge -q -f "${models[@]}" --weights=grid:4 "${both[@]}" --pick=worst -o "$out/p.h5"
  $python -c "
import h5py, json
assert json.loads(h5py.File('$out/p.h5').attrs['provenance'])['weights'] == [$a, $b]"
  run --separate-stderr ivon-merge "${models[@]}" --weights=grid:4 "${both[@]}" -o "$out/p.h5"
  [ $status -eq 73 ]
  [ -z "$output" ] # before anything is evaluated
  [[ $stderr == *"p.h5: file exists; --force replaces it" ]]
}

@test "weights without data write an output for each vector, by its number or its weights" {
  ivon-merge -q --no-provenance "${models[@]}" --weights=grid:2 -o "$out/g-%d.h5"
  ivon-merge -q --no-provenance "${models[@]}" --weights=grid:2 -o "$out/w-%g-%g.h5"
  [ "$(ls "$out"/g-*.h5 | wc -l)" = 9 ]
  number=0
  for a in 0 0.5 1; do
    for b in 0 0.5 1; do
      cmp "$out/g-$number.h5" "$out/w-$a-$b.h5"
      ivon-merge -q -f --no-provenance --base=base-model.h5 --on-nonpositive=base one-model.h5:$a two-model.h5:$b \
        -o "$out/m.h5"
      cmp "$out/g-$number.h5" "$out/m.h5"
      number=$((number + 1))
    done
  done
  # An average of weights that add up to zero is none; own weights are multiplied.
  ivon-merge -q -m average one-model.h5:3 two-model.h5 --weights=grid:1 -o "$out/a-%g-%g.h5" --json > "$out/json"
  (cd "$out" && [ "$(ls a-*)" = $'a-0-1.h5\na-1-0.h5\na-1-1.h5' ])
  jq -e '[.results[].models | map(.weight)] == [[0, 1], [3, 0], [3, 1]]' "$out/json"
  ivon-merge -q --no-provenance -f -m average one-model.h5:3 two-model.h5 -o "$out/m.h5"
  ivon-merge -q --no-provenance -f -m average one-model.h5:3 two-model.h5 --weights=grid:1 -o "$out/a-%g-%g.h5"
  cmp "$out/m.h5" "$out/a-1-1.h5"
}

@test "a sweep is searched as weights are; one data set has plain columns; graphs may be given" {
  $python -c "
import h5py
with h5py.File('one-model.h5') as f:
    open('$out/graph.onnx', 'wb').write(bytes(f['model.onnx'][()]))"
  ivon-merge -q "${models[@]}" --sweep=0:1:0.25 --evaluate=one.h5:/test --model="$out/graph.onnx" --limit=100 \
    --table="$out/t.jsonl" -o "$out/p.h5" > "$out/text"
  ivon-merge -q "${models[@]}" --sweep=0:1:0.25 -o "$out/s-%g.h5"
  [ "$(jq -r .scale "$out/t.jsonl" | tr '\n' ' ')" = "0 0.25 0.5 0.75 1 " ] ||
    [ "$(jq -r .scale "$out/t.jsonl" | tr '\n' ' ')" = "0.0 0.25 0.5 0.75 1.0 " ]
  for s in 0 0.25 0.5 0.75 1; do
    ivon-predict -q "$out/s-$s.h5" --data=one.h5:/test --limit=100 --mean --metrics --json | jq .metrics.nll.value
  done > "$out/loop"
  diff <(jq .nll "$out/t.jsonl") "$out/loop"
  picked=$(jq -r 'select(.pick == 1) | .weight0' "$out/t.jsonl")
  cmp <($python -c "import h5py; print(h5py.File('$out/p.h5')['mean'].values().__iter__().__next__()[()])") \
    <($python -c "import h5py; print(h5py.File('$out/s-$(printf %g "$picked").h5')['mean'].values().__iter__().__next__()[()])")
  # The weights that are given, alone.
  [ "$(ivon-merge -q "${models[@]}" --evaluate=one.h5:/test | wc -l)" = 2 ]
}

@test "JSON and HDF5 have the table too" {
  ivon-merge -q "${models[@]}" --weights=simplex:3 "${both[@]}" --json --table="$out/t.h5" > "$out/json"
  ivon-merge -q "${models[@]}" --weights=simplex:3 "${both[@]}" --table="$out/t.csv" > "$out/text"
  [ "$(wc -l < "$out/json")" = 1 ]
  $python - "$out" <<'PYTHON'
from search import *
out = sys.argv[1]
rows, printed = table(out + "/t.csv"), json.load(open(out + "/json"))
assert printed["results"] == [] and printed["merged"]["tensors"] == 2
for i, (row, found) in enumerate(zip(rows, printed["evaluated"])):
    assert weights(row) == found["weights"] and (row["pick"] == "1") == found["pick"]
    assert (row["front"] == "1") == found["front"]
    for task, data in zip(TASKS, found["data"]):
        assert data["data"] == f"{task}.h5:/test"
        compare(row, f".{task}_test", data["metrics"])
    with h5py.File(out + "/t.h5") as f:
        assert all(f[k][i] == float(v) for k, v in row.items() if k != "index")
PYTHON
}

@test "regressions are searched by their likelihood" {
  $python - "$out" <<'PYTHON'
from search import *
r = np.random.default_rng(4)
with h5py.File(sys.argv[1] + "/r.h5", "w") as f:
    f["x"], f["y"] = r.standard_normal((40, 4)).astype("f4"), r.standard_normal((40, 3)).astype("f4")
PYTHON
  ivon-merge -q "${models[@]}" --weights=simplex:2 --evaluate="$out/r.h5" --likelihood=gaussian --noise-std=0.5 > "$out/text"
  [ "$(head -1 "$out/text" | xargs)" = "weight0 weight1 rmse nll front pick" ]
}

@test "mistakes of a search get one line and the right exit code" {
  expect() { # STATUS TEXT OPTION...
    local want=$1 text=$2
    shift 2
    run --separate-stderr ivon-merge "${models[@]}" "$@"
    [ $status -eq "$want" ] && [[ $stderr == *"$text"* ]] && [ "${#stderr_lines[@]}" -eq 1 ] && [ -z "$output" ] ||
      { echo "status $status: $stderr"; return 1; }
  }
  for text in 3 grid grid: grid:0 grid:-1 grid:1:0:1 simplex:0 simplex:1:2:3 grid:0:1; do
    expect 64 "--weights: " --weights=$text "${both[@]}"
  done
  expect 64 "more than 100000 vectors of 2 models' weights" --weights=grid:1000 "${both[@]}"
  expect 64 "more than 1000 vectors of 2 models' weights" --weights=grid:100 -o "$out/%d.h5"
  expect 64 "output 'x.h5' needs one %d for the vector's number, or 2 %g for its weights" --weights=grid:1 -o x.h5
  expect 64 "would both be written" --weights=grid:1:1.0000001:1e-7 -o "$out/x-%g-%g.h5"
  expect 64 "no output given" --weights=grid:1
  expect 64 "--sweep does not go with --weights" --weights=grid:1 --sweep=0:1:1 "${both[@]}"
  expect 64 "--dry-run evaluates nothing" --dry-run "${both[@]}"
  expect 64 "--pick: '0,0', expected mean, worst, or weights such as 2,1" --pick=0,0 "${both[@]}"
  expect 64 "--pick: 3 weights for 2 data sets" --pick=1,2,3 "${both[@]}"
  for option in --pick=mean --table=t.csv --samples=3; do
    expect 64 "${option%=*} is for --evaluate=DATA" $option -o x.h5
  done
  for option in --model=x --targets=y --graph-output=f --keep-graph-weights; do
    expect 64 "what is said of a graph or of data is for --evaluate=DATA" $option -o x.h5
  done
  expect 64 "--seed is for --method=dare and dare-ties, and for --samples" --seed=1 "${both[@]}"
  expect 64 "--scale does not go with --weights" --scale=2 --weights=grid:2 "${both[@]}"
  expect 64 "--evaluate is of whole models: --lora-rank does not go with it" --lora-rank=1 --base="${models[0]}" "${both[@]}"
  expect 64 "--table: 't.npy' ends in none of .csv, .jsonl and .h5" --table=t.npy "${both[@]}"
  expect 64 "--likelihood=gaussian needs --noise-std" --likelihood=gaussian "${both[@]}"
  expect 66 "nowhere.h5: cannot open it" --evaluate=nowhere.h5
  expect 65 "has no array 'z', but 'x', 'y'" --targets=z "${both[@]}"
  $python -c "import numpy as np; np.savez('$out/x.npz', x=np.zeros((3, 4), 'f4'))"
  expect 65 "x.npz: has no array 'y' of targets" --evaluate="$out/x.npz"
  $python -c "import numpy as np; np.savez('$out/none.npz', x=np.zeros((3, 4), 'f4'), y=np.full(3, 5))"
  expect 65 "none.npz: all targets are the ignored label 5" --ignore-label=5 --evaluate="$out/none.npz"
}
