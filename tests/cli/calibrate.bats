load common

# A posterior with its graph, data, and predictions of both kinds.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 -c 'import onnx' 2> /dev/null || return 0
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  ivon-predict posterior.h5 --data=test.h5 -o p.h5
  ivon-predict posterior.h5 --data=test.h5 -o p.csv
  small_networks
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(4)
with h5py.File("test.h5") as f:
    x, y = f["x"][()], f["y"][()]
with h5py.File("odd.h5", "w") as f:
    for name, labels in (("holes", np.where(np.arange(len(y)) % 3, y, -100)), ("none", np.full(len(y), -100)),
                         ("one", np.zeros(len(y), int)), ("bad", np.where(np.arange(len(y)) == 5, 7, y))):
        f[name + "/x"], f[name + "/y"] = x, labels
    kept = np.arange(len(y)) % 3 > 0
    f["kept/x"], f["kept/y"] = x[kept], y[kept]
    with h5py.File("p.h5") as p:
        f["kept/probabilities"], f["tokens/probabilities"] = p["probabilities"][()][kept], p["probabilities"][()].reshape(12, 5, 3)
    f["tokens/x"], f["tokens/y"] = np.zeros((12, 1), "f4"), y.reshape(12, 5)
    f["number/x"], f["number/y"] = np.zeros((80, 1), "f4"), r.normal(size=(80, 2)).astype("f4")
    for name in ("mean", "epistemic_std", "aleatoric_std"):
        f["number/" + name] = abs(r.normal(size=(80, 2))).astype("f4")
for name in ("kept", "tokens", "number"):
    with h5py.File("odd.h5") as f, h5py.File(name + ".h5", "w") as g:
        for key in f[name]:
            g[key] = f[name][key][()]
with h5py.File("number.h5") as f:
    table = np.column_stack([f[k][()] for k in ("mean", "epistemic_std", "aleatoric_std")])
    names = [f"{k}_{i}" for k in ("mean", "epistemic_std", "aleatoric_std") for i in range(2)]
    np.savetxt("number.csv", table, "%.9g", ",", header=",".join(names), comments="")
PYTHON
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  $python -c 'import onnx' 2> /dev/null || skip "no onnx"
}

C() { ivon-calibrate -q --no-provenance -f "$@"; }
refused() { # STATUS MESSAGE COMMAND...
  run --separate-stderr "${@:3}"
  [ "$status" -eq "$1" ] && [[ $stderr == *"$2"* ]] || { echo "$status: $stderr"; return 1; }
}

@test "a posterior, and its predictions in HDF5 and CSV, are calibrated alike" {
  for options in "--method=vector" "--conformal=aps" "--method=isotonic --conformal=raps --raps-free=1"; do
    C posterior.h5 --data=test.h5 $options -o a.json > a
    C p.h5 --data=test.h5 $options -o b.json > b
    C p.csv --data=test.h5 $options -o c.json > c
    cmp a b; cmp a c; cmp a.json b.json; cmp a.json c.json
  done
  C p.h5 --data=test.h5 --seed=1 --conformal=aps -o b.json > b
  run -1 cmp -s a.json b.json
}

@test "what is no distribution over classes is refused, and bytes are numbers as they are" {
  $python -c "
import h5py, numpy as np
y = h5py.File('test.h5')['y'][()]
sure = np.eye(3)[y]
for kind in 'u1', 'f2', 'f8', 'bool':
    np.save(kind + '.npy', sure.astype(kind))
np.save('half.npy', np.float32(sure / 2))
np.save('rounded.npy', np.round(np.full((len(y), 3), 1 / 3), 2))"
  for kind in u1 f2 bool; do
    ivon-predict -q --average $kind.npy --data=test.h5 --metrics | diff - <(
      ivon-predict -q --average f8.npy --data=test.h5 --metrics)
    ivon-predict -q --average f8.npy --compare=$kind.npy --metrics --data=test.h5 | grep '^compare.total_variation  *0 '
  done
  ivon-predict -q --average u1.npy | sed -n 2p | grep -E '^0,[012],1,0,([01],?){3}$'
  ivon-predict -q --average u1.npy --data=test.h5 --metrics | grep -E '^nll +0 '
  ivon-predict -q --average rounded.npy > /dev/null
  refused 65 'half.npy: row 0: the probabilities of 3 classes have the sum 0.5, expected 1' ivon-predict --average half.npy
  refused 65 'row 0: the probabilities of 3 classes have the sum 0.5, expected 1' ivon-calibrate half.npy --data=test.h5
  refused 65 'row 0: the probabilities of 3 classes have the sum 0.5, expected 1' \
    ivon-predict --average f8.npy --compare=half.npy --metrics --data=test.h5
}

@test "predictions by a calibration: text, HDF5, npy and files that are averaged agree" {
  C p.h5 --data=test.h5 --conformal=aps --coverage=0.7 -o c.json > /dev/null
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json -fo a.h5
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json --memory=64K -j2 -fo b.h5 --no-provenance
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json > a.csv
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json --format=jsonl > a.jsonl
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json -fo a.npy
  ivon-predict --average p.h5 --data=test.h5 --calibration=c.json --metrics --json -fo d.h5 > d.json
  ivon-predict posterior.h5 --data=test.h5 --calibration=c.json --metrics --json > a.json
  $python - <<'PYTHON'
import csv, json, h5py, numpy as np
def all_of(path):
    with h5py.File(path) as f:
        return {k: f[k][()] for k in f}
a, b, d = all_of("a.h5"), all_of("b.h5"), all_of("d.h5")
assert set(a) == {"prediction", "max_probability", "entropy", "label", "loss", "probabilities", "set_size",
                  "prediction_set"}
for key in a:
    assert np.array_equal(a[key], b[key]), key
    assert np.allclose(a[key], d[key], atol=1e-6), key
assert np.array_equal(np.load("a.npy"), a["probabilities"])
assert np.array_equal(a["prediction_set"].sum(1), a["set_size"])
assert np.array_equal(a["probabilities"].argmax(1), a["prediction"])
lines = [json.loads(line) for line in open("a.jsonl")]
assert [l["prediction_set"] for l in lines] == a["prediction_set"].tolist()
rows = list(csv.DictReader(open("a.csv")))
assert [[int(r[f"set{c}"]) for c in range(3)] for r in rows] == a["prediction_set"].tolist()
with h5py.File("test.h5") as f:
    y = f["y"][()]
t, p = json.load(open("c.json"))["temperature"], all_of("p.h5")["probabilities"].astype(float)
q = p ** (1 / t) / (p ** (1 / t)).sum(1, keepdims=True)
assert np.abs(q - a["probabilities"]).max() < 1e-6
for path in ("a.json", "d.json"):
    m = {k: v["value"] for k, v in json.load(open(path))["metrics"].items()}
    hits = a["prediction_set"][np.arange(len(y)), y]
    assert abs(m["nll"] + np.log(q[np.arange(len(y)), y]).mean()) < 1e-5
    assert abs(m["coverage"] - hits.mean()) < 1e-9 and abs(m["set_size"] - a["set_size"].mean()) < 1e-9
    assert abs(m["empty"] - (a["set_size"] == 0).mean()) < 1e-9
PYTHON
}

@test "intervals of a regression, from HDF5 and CSV, by thresholds of each output" {
  for score in absolute normalised; do
    C number.h5 --data=number.h5 --likelihood=gaussian --conformal=$score --coverage=0.75 -o a.json > a
    C number.csv --data=number.h5 --likelihood=gaussian --conformal=$score --coverage=0.75 -o b.json > b
    cmp a b; cmp a.json b.json
    $python - $score <<'PYTHON'
import json, sys, h5py, numpy as np
with h5py.File("number.h5") as f:
    y, m, e, a = (f[k][()].astype(float) for k in ("y", "mean", "epistemic_std", "aleatoric_std"))
s = np.sort(abs(y - m) / (np.hypot(e, a) if sys.argv[1] == "normalised" else 1), 0)
q = s[int(np.ceil(81 * 0.75)) - 1]
assert np.allclose(json.load(open("a.json"))["conformal"]["quantiles"], q, rtol=1e-6)
PYTHON
  done
}

@test "events are calibrated, each as two classes" {
  at=(events.h5 --data=data.h5 --likelihood=bernoulli --targets=both --mean)
  ivon-predict -q "${at[@]}" -fo e.h5
  ivon-predict -q "${at[@]}" -fo e.csv
  for method in temperature vector isotonic; do
    C "${at[@]}" --method=$method -o $method.json > a
    for file in e.h5 e.csv; do
      C $file --data=data.h5 --likelihood=bernoulli --targets=both --method=$method -o b.json | cmp - a
      cmp b.json $method.json
    done
    ivon-predict -q "${at[@]}" --calibration=$method.json -fo $method.h5
    ivon-predict -q "${at[@]}" --calibration=$method.json --metrics --json > $method.metrics
  done
  $python - <<'PYTHON'
import json, h5py, numpy as np
def all_of(path):
    with h5py.File(path) as f:
        return {k: f[k][()] for k in f}
y, p = all_of("data.h5")["both"], all_of("e.h5")["probabilities"].astype(float)
def nll(q):
    return -np.log(np.where(y, q, 1 - q)).mean()
def tempered(t):
    return 1 / (1 + np.exp(-np.log(p / (1 - p)) / t))
t = json.load(open("temperature.json"))["temperature"]
# The best of a grid around it, whose steps are 1e-4 of it.
assert min((nll(tempered(t * s)), abs(s - 1)) for s in np.arange(0.98, 1.02, 1e-4))[1] < 1e-4
losses = {}
for method in ("temperature", "vector", "isotonic"):
    found, metrics = all_of(method + ".h5"), json.load(open(method + ".metrics"))["metrics"]
    q = found["probabilities"].astype(float)
    losses[method] = nll(q)
    assert abs(metrics["nll"]["value"] - losses[method]) < 1e-6 and nll(p) > losses[method]
    assert (found["prediction"] == (q > 0.5)).all() and np.abs(found["max_probability"] - np.maximum(q, 1 - q).mean(1)).max() < 1e-6
    assert abs(metrics["accuracy"]["value"] - ((q > 0.5) == y).mean()) < 1e-12
assert np.abs(all_of("temperature.h5")["probabilities"] - tempered(t)).max() < 1e-6
assert losses["vector"] < losses["temperature"]
PYTHON
  refused 65 "temperature.json: a calibration of likelihood bernoulli, expected categorical" \
    ivon-predict posterior.h5 --data=test.h5 --calibration=temperature.json
  C event.h5 --data=data.h5 --likelihood=bernoulli > one
  grep -q '^ece ' one
}

@test "what does not count is passed over, and tokens are rows of their examples" {
  C posterior.h5 --data=odd.h5:/holes -o a.json > a
  C kept.h5 --data=kept.h5 -o b.json > b
  # Rows keep their numbers, which say how they fall into folds: the fit alone is the same.
  [ "$(jq -c '[.temperature, .rows]' a.json)" = "$(jq -c '[.temperature, .rows]' b.json)" ]
  C tokens.h5 --data=tokens.h5 --conformal=thr --method=none -o t.json > t
  C p.h5 --data=test.h5 --conformal=thr --method=none -o s.json > s
  [ "$(jq -c .conformal t.json)" = "$(jq -c .conformal s.json)" ]
  run -1 cmp -s t s # folds and errors are those of 12 examples
  ivon-predict --average tokens.h5 --data=tokens.h5 --calibration=t.json --metrics -fo out.h5 > metrics
  grep -q '^coverage ' metrics
  ivon-predict --average tokens.h5 --calibration=t.json | head -1 | grep -q '^index,token,.*,set_size,set0,set1,set2$'
  C posterior.h5 --data=odd.h5:/one -o one.json > one
  grep -q '^accuracy' one
}

@test "too few rows, nothing that counts, and labels that are none" {
  refused 65 "all targets are the ignored label -100" ivon-calibrate posterior.h5 --data=odd.h5:/none
  refused 65 "odd.h5:/bad: row 5: target 7, expected a class from 0 to 2" ivon-calibrate posterior.h5 --data=odd.h5:/bad
  $python -c 'import h5py, numpy as np; f = h5py.File("empty.h5", "w"); f["probabilities"] = f["x"] = np.zeros((0, 3), "f4"); f["y"] = np.zeros(0, int)'
  refused 65 "empty.h5: has no examples, expected some" ivon-calibrate empty.h5 --data=empty.h5
  refused 65 "1 rows in 5 folds: too few" ivon-calibrate posterior.h5 --data=test.h5 --limit=1
  refused 65 "a half has none" ivon-calibrate posterior.h5 --data=test.h5 --limit=2 --conformal=thr --folds=2
  refused 65 "60 targets of 1 numbers for 40 predictions" ivon-calibrate kept.h5 --data=test.h5
  run -0 --separate-stderr ivon-calibrate posterior.h5 --data=test.h5 --limit=8 --conformal=thr --method=none -fo few.json
  [[ $stderr == *"8 rows are too few for a coverage of 0.9, expected 9 or more"*"sets hold all classes"* ]]
  ivon-predict posterior.h5 --data=test.h5 --calibration=few.json --metrics 2> err > metrics
  grep -q '^coverage  *1 ' metrics
  grep -q "few.json: its threshold is infinite, from 8 rows: sets hold all classes" err
}

@test "mistakes in command lines and files have clear lines" {
  refused 64 "no held-out data given" ivon-calibrate posterior.h5
  refused 64 "no predictions or posterior given" ivon-calibrate --data=test.h5
  refused 64 "one argument only" ivon-calibrate p.h5 p.csv --data=test.h5
  refused 64 "sets are of classes: there are none for --likelihood=bernoulli" ivon-calibrate p.h5 --data=test.h5 \
    --likelihood=bernoulli --conformal=thr
  refused 64 "of classes there are thr, aps and raps" ivon-calibrate p.h5 --data=test.h5 --conformal=absolute
  refused 64 "of regression there are absolute and normalised" ivon-calibrate number.h5 --data=number.h5 --likelihood=gaussian --conformal=aps
  refused 64 "of regression there is --conformal" ivon-calibrate number.h5 --data=number.h5 --likelihood=gaussian --method=vector
  refused 64 "nothing to calibrate" ivon-calibrate p.h5 --data=test.h5 --method=none
  refused 64 "--coverage is for --conformal" ivon-calibrate p.h5 --data=test.h5 --coverage=.5
  refused 64 "--coverage: '1', expected more than 0 and less than 1" ivon-calibrate p.h5 --data=test.h5 --coverage=1
  refused 64 "are for --conformal=raps" ivon-calibrate p.h5 --data=test.h5 --conformal=aps --raps-free=2
  refused 64 "are for posteriors" ivon-calibrate p.h5 --data=test.h5 --samples=3
  refused 66 "nowhere: cannot open it" ivon-calibrate nowhere --data=test.h5
  C p.h5 --data=test.h5 -o c.json > /dev/null
  C number.h5 --data=number.h5 --likelihood=gaussian -o n.json > /dev/null
  refused 65 "n.json: a calibration of likelihood gaussian, expected categorical" ivon-predict posterior.h5 --data=test.h5 --calibration=n.json
  printf '{"scores": 1}' > x.json
  printf '\n {"scores": ' > half.json
  for file in p.csv p.h5; do
    refused 65 "$file: no calibration: found no JSON object, expected that of ivon-calibrate" \
      ivon-predict posterior.h5 --data=test.h5 --calibration=$file
  done
  refused 65 "x.json: no calibration: other JSON, expected that of ivon-calibrate" \
    ivon-predict posterior.h5 --data=test.h5 --calibration=x.json
  refused 65 "half.json: no calibration: line 2: unexpected token near end of file, expected JSON of ivon-calibrate" \
    ivon-predict posterior.h5 --data=test.h5 --calibration=half.json
  refused 66 "nowhere: cannot open it" ivon-predict posterior.h5 --data=test.h5 --calibration=nowhere
  refused 64 "which --calibration says nothing of" ivon-predict posterior.h5 --data=test.h5 --calibration=c.json --log-likelihoods=l.nc
  sed 's/"outputs": 3/"outputs": 4/' c.json > four.json
  refused 65 "a calibration of 4 outputs, expected 3" ivon-predict posterior.h5 --data=test.h5 --calibration=four.json
  refused 73 "c.json: file exists; --force replaces it" ivon-calibrate p.h5 --data=test.h5 -o c.json
}

@test "other data are told apart by calibrated scores" {
  C p.h5 --data=test.h5 -o c.json > /dev/null
  ivon-predict posterior.h5 --data=test.h5 --ood=new.h5 --metrics --json --calibration=c.json > a.json
  jq -e '.detection | keys == ["entropy", "max_probability"]' a.json
  # Entropies of two predictions may change places; which class is the surest does not.
  jq -e '.detection.max_probability.auroc.value > 0' a.json
}
