load common

# A posterior with its graph, and data with groups.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 -c 'import onnx' 2> /dev/null || return 0
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
with h5py.File("test.h5") as f, h5py.File("grouped.h5", "w") as g:
    x, y = f["x"][()], f["y"][()]
    for name, labels in (("all", y), ("holes", np.where(np.arange(len(y)) % 4, y, -100))):
        g[name + "/x"], g[name + "/y"], g[name + "/group"] = x, labels, np.arange(len(y)) % 3 - 1
        g[name + "/events"] = np.eye(3, dtype=int)[y]
        g[name + "/numbers"] = np.random.default_rng(1).normal(size=(len(y), 3)).astype("f4")
    g["all/short"] = np.arange(5)
PYTHON
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  $python -c 'import onnx' 2> /dev/null || skip "no onnx"
}

P() { ivon-predict -q posterior.h5 -n 9 --metrics --json "$@"; }
check() { # SCRIPT
  $python - <<PYTHON
import json, h5py, numpy as np
from math import erf
def read(path, name):
    with h5py.File(path) as f:
        return f[name][()]
def near(a, b, tolerance=1e-6):
    assert abs(a - b) < tolerance, (a, b)
def load(path):
    return json.load(open(path))
$1
PYTHON
}

@test "selective risk, groups and classes are those of the predictions, where targets count" {
  for data in all holes; do
    P --data=grouped.h5:/$data --risk=0.05 --by-class --groups=group -fo $data.h5 > $data.json
    check "
m, p, y, g = load('$data.json'), np.float64(read('$data.h5', 'probabilities')), read('grouped.h5', '$data/y'), read('grouped.h5', '$data/group')
used = y >= 0
p, y, g = p[used], y[used], g[used]
order, wrong = np.argsort(-p.max(1)), 1.0 * (p.argmax(1) != y)
risk = np.cumsum(wrong[order]) / np.arange(1, len(y) + 1)
near(m['metrics']['aurc']['value'], risk.mean())
best = np.cumsum(np.sort(wrong)) / np.arange(1, len(y) + 1)
near(m['metrics']['e_aurc']['value'], risk.mean() - best.mean())
near(m['metrics']['coverage_at_risk']['value'], np.flatnonzero(risk <= 0.05)[-1] / len(y) + 1 / len(y))
loss = -np.log(p[np.arange(len(y)), y])
assert sorted(m['groups']) == ['-1', '0', '1'] and sorted(m['classes']) == [str(c) for c in sorted(set(y))]
for name, of in m['groups'].items():
    own = g == int(name)
    assert of['rows'] == own.sum()
    near(of['nll']['value'], loss[own].mean(), 1e-5)
    near(of['nll']['standard_error'], loss[own].std(ddof=1) / own.sum()**.5, 1e-5)
    near(of['accuracy']['value'], 1 - wrong[own].mean())
    near(of['overconfidence']['value'], p[own].max(1).mean() - 1 + wrong[own].mean())
for name, of in m['classes'].items():
    own, predicted = y == int(name), p.argmax(1) == int(name)
    near(of['recall']['value'], 1 - wrong[own].mean())
    assert predicted.any() == ('precision' in of)
    if predicted.any():
        near(of['precision']['value'], 1 - wrong[predicted].mean())
"
  done
}

@test "events and numbers have the metrics that make sense for them" {
  P --data=grouped.h5:/all --targets=events --likelihood=bernoulli --groups=group > e.json
  P --data=grouped.h5:/all --targets=numbers --likelihood=gaussian --noise-std=1 --groups=/all/group -fo n.h5 > n.json
  check "
m = load('e.json')
assert 'aurc' in m['metrics'] and 'calibration_slope' not in m['metrics'] and len(m['groups']) == 3
m, y = load('n.json'), np.float64(read('grouped.h5', 'all/numbers'))
mean, std = (np.float64(read('n.h5', k)) for k in ('mean', 'epistemic_std'))
std = np.hypot(std, read('n.h5', 'aleatoric_std'))
z = (y - mean) / std
crps = std * (z * np.vectorize(erf)(z / 2**.5) + 2 * np.exp(-z * z / 2) / (2 * np.pi)**.5 - np.pi**-.5)
near(m['metrics']['crps']['value'], crps.mean())
near(m['metrics']['crps']['standard_error'], crps.mean(1).std(ddof=1) / len(y)**.5)
near(m['metrics']['coverage_90']['value'], (abs(z) <= 1.6448536269514722).mean())
near(m['metrics']['coverage_50']['value'], (abs(z) <= 0.6744897501960817).mean())
own = read('grouped.h5', 'all/group') == 0
near(m['groups']['0']['crps']['value'], crps[own].mean())
near(m['groups']['0']['rmse']['value'], (((y - mean)[own])**2).mean()**.5)
assert 'aurc' not in m['metrics']
"
}

@test "files that are averaged have them, too, and threads change nothing" {
  ivon-predict -q posterior.h5 -n 9 --data=test.h5 -fo p.h5
  ivon-predict --average p.h5 --data=grouped.h5:/all --metrics --risk=0.05 --by-class --groups=group | awk '{print $1, $2, $3}' > a
  for threads in 1 2; do
    ivon-predict -q -j$threads posterior.h5 -n 9 --data=grouped.h5:/all --metrics --risk=0.05 --by-class --groups=group > t$threads
  done
  cmp t1 t2
  awk '{print $1, $2, $3}' t1 | cmp - a
}

@test "one class, and mistakes" {
  refused() { run --separate-stderr "${@:3}"; [ "$status" -eq "$1" ] && [[ $stderr == *"$2"* ]] || { echo "$stderr"; return 1; }; }
  P --data=grouped.h5:/all --limit=1 --by-class > one.json
  check "
m = load('one.json')
assert len(m['classes']) == 1 and m['metrics']['aurc']['standard_error'] is None"
  refused 64 "need --metrics" ivon-predict posterior.h5 --data=test.h5 --by-class
  refused 64 "--risk: '2', expected a number from 0 to 1" ivon-predict posterior.h5 --data=test.h5 --metrics --risk=2
  refused 64 "--risk is for classes and events" ivon-predict posterior.h5 --data=test.h5 --metrics --risk=0 --likelihood=gaussian --noise-std=1
  refused 64 "--by-class is for" ivon-predict posterior.h5 --data=test.h5 --metrics --by-class --likelihood=bernoulli
  refused 65 "'short' has 5 rows of 1 numbers, expected 60 of one" ivon-predict posterior.h5 --data=grouped.h5:/all --metrics --groups=short
  refused 65 "nothing" ivon-predict posterior.h5 --data=test.h5 --metrics --groups=nothing
}
