load common

# A classifier whose drawn weights ivon-sample writes, so that an oracle predicts with each in
# float64. Outputs are right to some 1e-6, and so are scores.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 -c 'import onnx' 2> /dev/null || return 0
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  for name in a b posterior; do ivon-sample -q $name.h5 -n 16 --seed=3 -o "$name-%d.h5"; done
  /usr/bin/python3 - << 'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("test.h5") as f:
    x, y = f["x"][()], f["y"][()]
for name, labels in ("bare", None), ("ignored", np.full(len(y), -100)):
    with h5py.File(name + ".h5", "w") as f:
        f["x"] = x
        if labels is not None:
            f["y"] = labels
with h5py.File("many.h5", "w") as f:
    f["x"] = r.standard_normal((20000, x.shape[1])).astype("f4")
PYTHON
  small_networks
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  $python -c 'import onnx' 2> /dev/null || skip "no onnx"
}

P() { ivon-predict -q --no-provenance -f --samples=16 --seed=3 "$@"; }

# oracle CODE: Python with `rows(path)`, and p and weights of a posterior's samples, or of several's.
oracle() {
  $python - << PYTHON
import csv, itertools, h5py, numpy as np
def rows(path):
    found = list(csv.DictReader(open(path)))
    return {k: np.array([float(r[k]) for r in found]) for k in found[0]}
def predictions(*names):
    p = []
    with h5py.File("test.h5") as f:
        x = np.float64(f["x"][()])
    for name, i in itertools.product(names, range(16)):
        with h5py.File(f"{name}-{i}.h5") as f:
            g = f["mean"] if "mean" in f else f
            z = x @ np.float64(g["weight"][()]).T + np.float64(g["bias"][()])
        e = np.exp(z - z.max(1, keepdims=True))
        p.append(e / e.sum(1, keepdims=True))
    return np.array(p)
def H(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)
def joint(p, w, batch):
    """The joint mutual information of the batch's targets, by all their configurations."""
    product = w[:, None]
    for i in batch:
        product = (product[:, :, None] * p[:, i, None, :]).reshape(len(w), -1)
    return H(product.sum(0)) - sum(w @ H(p[:, i]) for i in batch)
def check(path, p, w, exact=99):
    found = rows(path)
    batch = found["index"].astype(int)
    assert len(set(batch)) == len(batch) and (found["prediction"] == (w @ p.swapaxes(0, 1)).argmax(-1)[batch]).all()
    before = 0
    for n in range(len(batch)):
        if n < exact:
            gains = np.array([-1 if i in batch[:n] else joint(p, w, [*batch[:n], i]) for i in range(p.shape[1])]) - before
            assert gains.max() - gains[batch[n]] < 1e-5
        information = joint(p, w, batch[:n + 1])
        assert abs(found["score"][n] - (information - before)) < (1e-5 if n < exact else 0.02), (n, found["score"][n])
        before = information
$1
PYTHON
}

@test "examples are printed best first, by the scores' definitions" {
  for score in bald entropy variation-ratio margin; do
    P posterior.h5 --data=test.h5 --acquire=$score --top=60 -o $score.csv
    P posterior.h5 --data=test.h5 --acquire=$score | cmp - <(head -11 $score.csv)
    P posterior.h5 --data=test.h5 --acquire=$score --top=3 -j3 | cmp - <(head -4 $score.csv)
    P posterior.h5 --data=test.h5 --acquire=$score --top=61 | cmp - $score.csv
  done
  oracle '
p = predictions("posterior")
mean = p.mean(0)
two = np.sort(mean, 1)[:, :-3:-1]
for name, expected, sign in (("bald", H(mean) - H(p).mean(0), 1), ("entropy", H(mean), 1),
                             ("variation-ratio", 1 - mean.max(1), 1), ("margin", two[:, 0] - two[:, 1], -1)):
    found = rows(name + ".csv")
    index = found["index"].astype(int)
    assert (found["rank"] == np.arange(60) + 1).all() and (np.sort(index) == np.arange(60)).all()
    assert np.abs(found["score"] - expected[index]).max() < 1e-5 and np.ptp(expected) > 0.1
    assert (sign * np.diff(found["score"]) <= 0).all()
    assert (found["prediction"] == mean.argmax(1)[index]).all()'
}

@test "a batch has the greatest joint mutual information, one example after the other" {
  P posterior.h5 --data=test.h5 --acquire=batchbald --top=12 -o batch.csv
  P posterior.h5 --data=test.h5 --acquire=batchbald --top=4 -j3 | cmp - <(head -5 batch.csv)
  P posterior.h5 --data=test.h5 --acquire=bald --top=12 -o single.csv
  run -1 cmp -s <(cut -d, -f2 batch.csv) <(cut -d, -f2 single.csv)
  oracle 'check("batch.csv", predictions("posterior"), np.full(16, 1 / 16), 6)'
  P a.h5 b.h5 --weights=1,3 --data=test.h5 --acquire=batchbald --top=4 -o ensemble.csv
  oracle 'check("ensemble.csv", predictions("a", "b"), np.repeat([1, 3], 16) / 64)'
  run -0 ivon-predict -v --no-provenance posterior.h5 --data=test.h5 --acquire=batchbald --top=11
  [[ $output == *"scores from rank 10 on are estimates, by drawn targets of the rows before"* ]]
}

@test "targets are not looked at" {
  for score in bald batchbald; do
    P posterior.h5 --data=test.h5 --acquire=$score > with
    P posterior.h5 --data=bare.h5 --acquire=$score | cmp - with
    P posterior.h5 --data=ignored.h5 --acquire=$score | cmp - with
    P posterior.h5 --data=bare.h5 --targets=y --acquire=$score | cmp - with
  done
}

@test "threads, blocks and formats change nothing" {
  for score in entropy batchbald; do
    at=(posterior.h5 --data=many.h5 --samples=4 --batch=64 --acquire=$score --top=5)
    P "${at[@]}" -j1 -o one.csv
    P "${at[@]}" -j3 --memory=1650K -o three.csv
    cmp one.csv three.csv
    P "${at[@]}" -o one.h5
    P "${at[@]}" --format=jsonl > one.jsonl
    oracle '
import json
found = rows("one.csv")
lines = [json.loads(line) for line in open("one.jsonl")]
with h5py.File("one.h5") as f:
    for name in "rank", "index", "score", "prediction":
        assert (f[name][()] == found[name]).all() and [line[name] for line in lines] == list(found[name])'
  done
}

@test "draws of a linearised network, averages and calibrated predictions have their scores" {
  P posterior.h5 --data=test.h5 --method=linear --linear=draws -o draws.csv
  P posterior.h5 --data=test.h5 --method=linear --linear=draws --acquire=bald --top=60 -o bald.csv
  P posterior.h5 --data=test.h5 --method=linear --linear=draws --acquire=batchbald --top=1 -o batch.csv
  P posterior.h5 --data=test.h5 -o p.npy
  P posterior.h5 --data=test.h5 --acquire=margin -o margin.csv
  ivon-predict -q --average p.npy --acquire=margin | cmp - margin.csv
  ivon-calibrate -q -f posterior.h5 --data=test.h5 -o calibration.json > /dev/null
  P posterior.h5 --data=test.h5 --calibration=calibration.json -o calibrated.csv
  P posterior.h5 --data=test.h5 --calibration=calibration.json --acquire=entropy --top=60 -o entropy.csv
  oracle '
for table, column, scores in ("draws.csv", "mutual_information", "bald.csv"), ("calibrated.csv", "entropy", "entropy.csv"):
    found = rows(scores)
    assert np.allclose(rows(table)[column][found["index"].astype(int)], found["score"], atol=1e-7)
one, all = rows("batch.csv"), rows("bald.csv")
assert one["index"][0] == all["index"][0] and abs(one["score"][0] - all["score"][0]) < 1e-6'
}

@test "an example of tokens has their mean, events are all of them" {
  P tokens.h5 --data=data.h5 --inputs=tokens --acquire=bald --top=80 -o tokens.csv
  P tokens.h5 --data=data.h5 --inputs=tokens --targets= -o tokens-all.h5
  for name in event events; do
    at=($name.h5 --data=data.h5 --likelihood=bernoulli)
    P "${at[@]}" --targets= -o $name-all.h5
    P "${at[@]}" --acquire=margin --top=80 -o $name-margin.h5
    P "${at[@]}" --acquire=bald --top=80 -o $name-bald.h5
  done
  P event.h5 --data=data.h5 --likelihood=bernoulli --acquire=batchbald --top=1 -o batch.h5
  oracle '
found = rows("tokens.csv")
assert list(found) == ["rank", "index", "score"]
with h5py.File("tokens-all.h5") as f:
    assert np.allclose(found["score"], f["mutual_information"][()].mean(1)[found["index"].astype(int)], atol=1e-7)
for name, outputs in ("event", 1), ("events", 2):
    with h5py.File(name + "-all.h5") as f, h5py.File(name + "-margin.h5") as m, h5py.File(name + "-bald.h5") as b:
        p, at = f["probabilities"][()].reshape(80, outputs), m["index"][()]
        assert np.allclose(m["score"][()], np.abs(2 * p - 1).mean(1)[at], atol=1e-6)
        assert (m["prediction"][()].reshape(80, outputs) == (p > 0.5)[at]).all()
        assert np.allclose(b["score"][()], f["mutual_information"][()][b["index"][()]], atol=1e-7)
        best = b["index"][0], b["score"][0]
        if name == "event":
            with h5py.File("batch.h5") as one:
                assert one["index"][0] == best[0] and abs(one["score"][0] - best[1]) < 1e-6'
}

@test "what has no such score is refused" {
  refused() { # STATUS TEXT OPTION...
    run -"$1" --separate-stderr ivon-predict -q "${@:3}"
    [ "$(head -1 <<< "$stderr")" = "ivon-predict: $2" ] || { echo "$stderr"; return 1; }
    [ -z "$output" ]
  }
  at=(posterior.h5 --data=test.h5)
  refused 64 "--acquire: 'x', expected bald, entropy, variation-ratio, margin or batchbald" "${at[@]}" --acquire=x
  refused 64 "--top is for --acquire" "${at[@]}" --top=3
  refused 64 "--acquire is for classes and events, not regression" number.h5 --data=data.h5 \
    --likelihood=gaussian --acquire=entropy
  refused 64 "--acquire prints examples to label: --metrics, --logits and --log-likelihoods do not go with it" \
    "${at[@]}" --acquire=entropy --metrics
  one="compares samples, and is 0 for a single one: expected two --samples or more, not --mean"
  refused 64 "--acquire=bald $one" "${at[@]}" --acquire=bald --mean
  refused 64 "--acquire=batchbald $one" "${at[@]}" --acquire=batchbald --samples=1
  none="compares samples, which --average, --calibration and --method=linear have none of, the last but with --linear=draws"
  refused 64 "--acquire=bald $none" "${at[@]}" --acquire=bald --method=linear
  refused 64 "--acquire=bald $none" "${at[@]}" --acquire=bald --calibration=c.json
  refused 64 "--acquire=batchbald $none" --average p.npy --acquire=batchbald
  refused 64 "--acquire=batchbald: an example is a sequence of 6 predictions, expected one" tokens.h5 \
    --data=data.h5 --inputs=tokens --acquire=batchbald
  refused 64 "--acquire=batchbald: the network has 2 outputs, expected one event" events.h5 \
    --data=data.h5 --likelihood=bernoulli --acquire=batchbald
  run -71 --separate-stderr ivon-predict -q posterior.h5 --data=many.h5 --acquire=batchbald --memory=20M -o none.csv
  [[ $stderr == *"20000 rows of 3 classes by 64 samples, and 10000 configurations, take 25600000 bytes of memory, which may be 20971520"* ]]
  [ ! -e none.csv ]
}

@test "an existing output stays, unless it is to be replaced" {
  echo kept > old.csv
  run -73 ivon-predict -q posterior.h5 --data=test.h5 --acquire=entropy -o old.csv
  [ "$(< old.csv)" = kept ]
  # It is said before anything is predicted.
  run -73 ivon-predict -q posterior.h5 --data=many.h5 --samples=1000000 --acquire=entropy -o old.csv
  P posterior.h5 --data=test.h5 --acquire=entropy -o old.csv
  [ "$(head -1 old.csv)" = rank,index,score,prediction ]
}
