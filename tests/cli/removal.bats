load common

# An MLP, a small decoder, a regression and events, with posteriors of every structure, and data.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("data.h5", "w") as f:
    x, n = r.standard_normal((60, 4)).astype("f4"), 60
    f["x"], f["y"] = x, (x @ r.standard_normal((4, 3)) + r.standard_normal((n, 3))).argmax(1)
    f["number"] = (x[:, :1] - 0.5 * x[:, 1:2] + 0.3 * r.standard_normal((n, 1))).astype("f4")
    f["event"] = (x[:, :2] + r.standard_normal((n, 2)) > 0).astype("i8")
    f["tokens"] = (np.arange(n * 6).reshape(n, 6) + r.integers(0, 2, (n, 6))) % 7
    f["next"] = np.where(r.random((n, 6)) < .2, -100, (np.arange(n * 6).reshape(n, 6) + 1) % 7)
PYTHON
  made() { # NAME ARCHITECTURE OPTION...
    ivon-train -q --no-provenance --optimizer=adamw --lr=.02 --epochs=6 --batch=20 --save-every=0 --data=data.h5 \
      -o run --arch="$2" "${@:3}"
    for structure in diagonal kronecker lowrank; do
      ivon-fit -q --no-provenance run/posterior-*.h5 --data=data.h5 --structure=$structure --weight-decay=0.05 \
        -o "$1-$structure.h5" "${@:3}"
    done
    rm -r run
  }
  made mlp mlp:4,5,3,tanh
  made gpt gpt:7,6,8,1,2 --inputs=tokens --targets=next
  made number mlp:4,5,1,tanh --targets=number --likelihood=gaussian --noise-std=0.3
  made event mlp:4,5,2,gelu --targets=event --likelihood=bernoulli
}

made() { echo "$BATS_FILE_TMPDIR/$1.h5"; }
data() { echo "--data=$(made data)"; }
without() { # ROWS OPTION...
  ivon-sensitivity -q --no-provenance "$(made mlp-lowrank)" "$(data)" --remove="$1" "${@:2}"
}
dense() { PYTHONDONTWRITEBYTECODE=1 $python -W ignore "$BATS_TEST_DIRNAME/../oracle/fit_dense.py" -; }

# refused STATUS TEXT COMMAND...: one line with TEXT on stderr, none on stdout, and no file.
refused() {
  local want=$1 text=$2
  shift 2
  rm -f o.h5
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -qF -- "$text" err && [ ! -e o.h5 ] ||
    { echo "status $got, expected $want, $text: $(cat out err)"; return 1; }
}

@test "the posterior that remains is what dense matrices make of it" {
  local count=0
  try() { # NAME ROWS OPTION... -- OPTION OF THE ORACLE...
    local name=$1 rows=$2 ours=()
    shift 2
    while [ "$1" != -- ]; do ours+=("$1"); shift; done
    shift
    for structure in diagonal kronecker lowrank; do
      for leverage in none newton; do
        ivon-sensitivity -q -f "$(made "$name-$structure")" "$(data)" --remove="$rows" --leverage=$leverage "${ours[@]}" \
          -o $((++count)).h5
        echo without "$(made "$name-$structure")" "$(made data)" "$rows" $count.h5 "$@" \
          $([ $leverage = none ] || echo --leverage) >> lines
      done
    done
  }
  try mlp 7 --
  try mlp 50-59,3,17 --
  try mlp 3,4 --rho=0.5 -- --rho=0.5
  try number 1,8-12 --targets=number --likelihood=gaussian --noise-std=0.3 -- --targets=number --likelihood=gaussian --noise-std=0.3
  try event 0-4 --targets=event --likelihood=bernoulli -- --targets=event --likelihood=bernoulli
  try gpt 5,30-33 --inputs=tokens --targets=next -- --inputs=tokens=tokens --inputs=x=tokens --targets=next
  dense < lines
}

@test "all but the means is carried over, to every format and back" {
  without 3,17 -o o.h5
  for format in npz safetensors; do
    without 3,17 -o o.$format
    ivon-convert -q --no-provenance -f o.$format -o back.h5
    $python - o.h5 back.h5 <<'PYTHON'
import sys, h5py
def read(path):
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda n, d: found.update({n: d[()].tobytes()}) if isinstance(d, h5py.Dataset) else None)
        return found, {k: f.attrs[k] for k in ("ess", "weight_decay", "n_train")}
assert read(sys.argv[1]) == read(sys.argv[2])
PYTHON
  done
  $python - "$(made mlp-lowrank)" o.h5 <<'PYTHON'
import sys, h5py
a, b = map(h5py.File, sys.argv[1:])
names = []
a.visititems(lambda n, d: names.append(n) if isinstance(d, h5py.Dataset) else None)
assert len(names) > 12 and "model.onnx" in names
for n in names:
    assert (a[n][()] == b[n][()]).all() != n.startswith("mean/"), n
assert b.attrs["creator"].startswith(b"ivon-sensitivity ") and "provenance" not in b.attrs
PYTHON
  [ "$(ivon-info --check o.h5)" = "o.h5: no problems found" ]
  ivon-predict -q o.h5 "$(data)" --metrics > /dev/null
  ivon-sensitivity -q o.h5 "$(data)" --remove=5 -o again.npz
  ivon-sensitivity -q "$(made mlp-lowrank)" "$(data)" --remove=5 -o p.h5
  $python -c "
import h5py, json
j = json.loads(h5py.File('p.h5').attrs['provenance'])
assert '--remove=5' in j['command'] and j['inputs'][0]['path'].endswith('mlp-lowrank.h5'), j"
}

@test "means keep their type, buffers their bits" {
  for type in f64 f16 bf16; do
    ivon-convert -q "$(made mlp-kronecker)" --dtype=$type -o in.h5 -f
    $python -c "
import h5py, numpy as np
with h5py.File('in.h5', 'r+') as f: f['buffers/count'] = np.arange(5)"
    ivon-sensitivity -q -f in.h5 "$(data)" --remove=3,17 -o o.h5
    ivon-convert -q -f --dtype=f64 in.h5 -o wide.h5
    ivon-sensitivity -q -f wide.h5 "$(data)" --remove=3,17 -o exact.h5
    ivon-convert -q -f --dtype=$type exact.h5 -o rounded.h5
    $python -c "
import h5py
a, b = h5py.File('o.h5'), h5py.File('rounded.h5')
for n in ('fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'):
    assert a['mean/' + n].dtype == h5py.File('in.h5')['mean/' + n].dtype
    assert a['mean/' + n][()].tobytes() == b['mean/' + n][()].tobytes()
assert (a['buffers/count'][()] == range(5)).all()"
  done
}

@test "the input may be the output, and is whole or as it was" {
  cp "$(made mlp-diagonal)" p.h5
  ivon-sensitivity -q --no-provenance p.h5 "$(data)" --remove=1 -o o.h5
  ivon-sensitivity -q --no-provenance -f p.h5 "$(data)" --remove=1 -o p.h5
  cmp p.h5 o.h5
  refused 64 "--remove: row 60, and " ivon-sensitivity -f p.h5 "$(data)" --remove=60 -o p.h5
  cp p.h5 again.h5
  refused 73 "p.h5: file exists; --force replaces it" ivon-sensitivity -q again.h5 "$(data)" --remove=1 -o p.h5
  cmp p.h5 again.h5
  ivon-info p.h5 > /dev/null
}

@test "bytes depend on neither threads nor the order in which rows are named" {
  without 3,5-9,40 -j1 -o a.h5
  without 40,3,9,5-8,6-7,3 -j2 -o b.h5
  without 3,5,6,7,8,9,40-40 -j5 -o c.h5
  cmp a.h5 b.h5
  cmp a.h5 c.h5
  gpt() { ivon-sensitivity -q --no-provenance "$(made gpt-lowrank)" "$(data)" --inputs=tokens --targets=next --remove=0-30 "$@"; }
  gpt --batch=2 -j1 -o a.npz
  gpt --batch=2 -j4 -o b.npz
  cmp a.npz b.npz
}

@test "the summary says what was done, in text and in JSON" {
  run --separate-stderr -0 ivon-sensitivity "$(made mlp-lowrank)" "$(data)" --remove=3,17 -o o.h5
  [ "$stderr" = "ivon-sensitivity: removing 2 of N = 60 examples, rho = 1" ]
  [[ $output =~ ^"examples              2"$'\n'"n_train               58"$'\n'"leverage              newton"$'\n'"move                  "[0-9.]+$'\n'"mean                  "[0-9.]+$'\n'"loss                  "[0-9.]+$'\n'"loss without          "[0-9.]+$ ]]
  ivon-sensitivity -q -f "$(made mlp-lowrank)" "$(data)" --remove=3,17 -o o.h5 --json > quiet
  [ ! -s quiet ]
  ivon-sensitivity -f "$(made mlp-lowrank)" "$(data)" --remove=3,17 -o o.h5 --json > j.json
  $python - "$(made data)" <<'PYTHON'
import sys, h5py
with h5py.File("two.h5", "w") as f, h5py.File(sys.argv[1]) as g:
    f["x"], f["y"] = g["x"][[3, 17]], g["y"][[3, 17]]
PYTHON
  # Data of another number than the posterior was trained on may be another set.
  run --separate-stderr -0 ivon-sensitivity "$(made mlp-lowrank)" --data=two.h5 -o two.csv
  [ "$stderr" = "ivon-sensitivity: removing one of N = 60 examples, rho = 1; the data have 2: are they those of the training?" ]
  run --separate-stderr -0 ivon-sensitivity "$(made mlp-lowrank)" --data=two.h5 --n-train=30 -f -o two.csv
  [[ $stderr == *"N = 30 examples, rho = 2" ]]
  loss() { ivon-predict -q "$1" --data=two.h5 --mean --metrics --json | jq .metrics.nll.value; }
  $python - "$(loss "$(made mlp-lowrank)")" "$(loss o.h5)" "$(made mlp-lowrank)" <<'PYTHON'
import json, sys, h5py, numpy as np
j, before, after = json.load(open("j.json")), float(sys.argv[1]), float(sys.argv[2])
assert (j["examples"], j["positions"], j["n_train"], j["rho"], j["leverage"]) == (2, 2, 58, 1, True) and j["steps"] > 1
assert abs(j["loss"] - before) < 1e-6 and abs(j["loss_without"] - after) < 1e-5 and after > before
m = [np.concatenate([np.float64(f["mean/" + n][()]).ravel() for n in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")])
     for f in (h5py.File(sys.argv[3]), h5py.File("o.h5"))]
assert abs(j["move"] / np.linalg.norm(m[1] - m[0]) - 1) < 1e-5 and abs(j["mean"] / np.linalg.norm(m[0]) - 1) < 1e-6
PYTHON
  run --separate-stderr -0 ivon-sensitivity -f "$(made gpt-kronecker)" "$(data)" --inputs=tokens --targets=next --remove=4-6 -o o.h5
  [[ $stderr == "ivon-sensitivity: removing 3 sequences, of N = "*" tokens in all, rho = 1" ]]
}

@test "leverage is left out where the posterior does not hold the curvature, and that is said" {
  run --separate-stderr -0 ivon-sensitivity "$(made mlp-diagonal)" "$(data)" --remove=0-49 --leverage=newton --rho=20 -o o.h5
  [[ $stderr == *"warning: removed without leverage: the posterior does not hold the curvature of these examples together"* ]]
  [[ $output == *"leverage              none"* ]]
  ivon-sensitivity -q "$(made mlp-diagonal)" "$(data)" --remove=0-49 --leverage=none --rho=20 -o plain.h5
  $python -c "
import h5py
a, b = h5py.File('o.h5'), h5py.File('plain.h5')
assert (a['mean/fc1.weight'][()] == b['mean/fc1.weight'][()]).all()"
}

@test "mistakes are told of before the work" {
  for rows in "" 3, ,3 3-2 x 3-x -3 "3 4" 99999999999999999999 0x3; do
    refused 64 "--remove: '$rows', expected numbers of rows from 0, such as 3,17,40-49" without "$rows" -o o.h5
  done
  refused 64 "--remove writes a posterior: name it by -o" without 3
  for option in --groups=y --on=d.h5 --score=mpe --covariance=diag --expectation=samples --vectors --per-token --sort \
    --top=3 --format=csv --resume --limit=5; do
    refused 64 "--limit do not go with it" without 3 $option -o o.h5
  done
  refused 64 "--seed and --posterior-temperature are for" without 3 --seed=3 -o o.h5
  refused 64 "--remove: row 60, and $(made data) has 60, counted from 0" without 0,60 -o o.h5
  refused 64 "60 targets to remove, of 60 that the posterior is of: none would remain" without 0-59 -o o.h5
  refused 64 "o.csv: no checkpoint is written as .csv" without 3 -o o.csv
  refused 64 "standard output cannot take" without 3 -o -
  refused 64 "an ONNX file holds no Hessian" without 3 -o o.onnx
  refused 73 "cannot create it" without 3 -o nowhere/o.h5
  refused 71 "raise --memory" without 3 --memory=1 -o o.h5
  refused 65 "nothing can move" without 3 --include=nothing -o o.h5
  gpt() { ivon-sensitivity -q "$(made gpt-lowrank)" "$(data)" --inputs=tokens --targets=next --remove=0-50 "$@"; }
  refused 71 "removing 51 examples of 42 outputs together takes" gpt --batch=1 --memory=120000 -o o.h5
  [ -z "$(find . -name '*.ivon-tmp')" ]
}
