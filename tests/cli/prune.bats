load common

check() { # SCRIPT
  $python - <<PYTHON
import h5py, json, numpy as np
def read(path, part="mean"):
    with h5py.File(path) as f:
        return {n: f[part][n][()] for n in f[part]} if part in f else {}
def ranked(path, by="snr"):
    """Scores in the order of the file, and the means."""
    with h5py.File(path) as f:
        names = list(f["mean"])
        m = np.concatenate([np.float64(f["mean"][n][()]).ravel() for n in names])
        h = np.concatenate([np.float64(f["hessian"][n][()]).ravel() for n in names])
        return (m**2 * (f.attrs["ess"] * (h + f.attrs["weight_decay"])) if by == "snr" else m**2), m, names
def flat(path, names, part="mean", prefix=""):
    found = read(path, part)
    return np.concatenate([found[prefix + n].ravel() for n in names])
$1
PYTHON
}
refused() { # STATUS MESSAGE COMMAND...
  run --separate-stderr "${@:3}"
  [ "$status" -eq "$1" ] && [[ $stderr == *"$2"* ]] || { echo "$status: $stderr"; return 1; }
}

@test "the weights of least signal become zero, and come back" {
  posterior a.h5 1
  for by in snr magnitude; do
    for keep in 0.5 0.1 0 1; do
      ivon-prune a.h5 --keep=$keep --by=$by -fo pruned.h5 --json > report.json
      check "
s, m, names = ranked('a.h5', '$by')
stay = int($keep * len(m) + 0.5)
kept = np.zeros(len(m), bool)
kept[np.argsort(-s, kind='stable')[:stay]] = True
assert np.array_equal(flat('pruned.h5', names), np.float32(m * kept))
assert np.array_equal(flat('pruned.h5', names, 'buffers', 'pruned.'), np.float32(m * ~kept))
report = json.load(open('report.json'))
assert sum(t['kept'] for t in report['tensors']) == stay
assert stay == 0 or abs(report['threshold'] / s[kept].min()**.5 - 1) < 1e-12
assert all(np.array_equal(a, b) for a, b in zip(read('a.h5', 'hessian').values(), read('pruned.h5', 'hessian').values()))"
      ivon-prune pruned.h5 --restore -fo back.h5
      check "
assert all(np.array_equal(a.view('u4'), b.view('u4')) for a, b in zip(read('a.h5').values(), read('back.h5').values()))
assert not read('back.h5', 'buffers')"
    done
  done
  ivon-prune a.h5 --snr=2 -fo pruned.h5 > /dev/null
  check "
s, m, names = ranked('a.h5')
assert np.array_equal(flat('pruned.h5', names), np.float32(m * (s >= 4)))"
  ivon-prune a.h5 --keep=0.3 --include='*.weight' --exclude='head*' | awk '{print $4}' > names
  [ "$(tr '\n' ' ' < names)" = "tensor fc1.weight all " ]
}

@test "other formats, types and a structured covariance" {
  /usr/bin/python3 -c 'import onnx' 2> /dev/null || skip "no onnx"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  ivon-prune posterior.h5 --keep=0.5 -fo a.h5 > /dev/null
  for name in p.safetensors p.npz; do
    ivon-convert posterior.h5 -qfo $name
    ivon-prune $name --keep=0.5 -fo pruned-$name > /dev/null
    ivon-convert pruned-$name -qfo b.h5
    check "
assert all(np.array_equal(x, y) for x, y in zip(read('a.h5').values(), read('b.h5').values()))
assert read('b.h5', 'buffers').keys() == read('a.h5', 'buffers').keys()"
  done
  ivon-convert posterior.h5 --dtype=bf16 -qfo half.safetensors
  ivon-prune half.safetensors --keep=0.5 -fo pruned.safetensors > /dev/null
  ivon-prune pruned.safetensors --restore --no-provenance -fo back.safetensors
  ivon-prune half.safetensors --keep=1 --no-provenance -fo all.safetensors > /dev/null
  ivon-prune all.safetensors --restore --no-provenance -fo none.safetensors
  cmp back.safetensors none.safetensors
  # The deviations are those of the diagonal of the covariance.
  ivon-fit -q posterior.h5 --data=test.h5 -fo fitted.h5
  ivon-convert -q fitted.h5 --structure=diagonal -fo diagonal.h5
  ivon-prune fitted.h5 --keep=0.4 -fo x.h5 | sort > x
  ivon-prune diagonal.h5 --keep=0.4 -fo y.h5 | sort > y
  cmp x y
  check "
assert all(np.array_equal(a, b) for a, b in zip(read('x.h5').values(), read('y.h5').values()))"
  ivon-info --check x.h5 > /dev/null
}

@test "metrics before and after are those of the files, in any number of threads" {
  /usr/bin/python3 -c 'import onnx' 2> /dev/null || skip "no onnx"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  for threads in 1 2; do
    ivon-prune posterior.h5 --keep=0.4 --data=test.h5 --json -j$threads --no-provenance -fo pruned-$threads.h5 > r$threads.json
  done
  cmp r1.json r2.json; cmp pruned-1.h5 pruned-2.h5
  ivon-predict -q posterior.h5 --data=test.h5 --mean --metrics --json > before.json
  ivon-predict -q pruned-1.h5 --data=test.h5 --mean --metrics --json > after.json
  check "
r = json.load(open('r1.json'))
for when in ('before', 'after'):
    m = json.load(open(when + '.json'))['metrics']
    for name, value in r[when].items():
        assert value == {k: m[name][k] for k in value}, name"
  ivon-prune posterior.h5 --keep=0.4 --data=test.h5 | grep -q '^nll  *0.24'
}

@test "mistakes have clear lines" {
  posterior a.h5 1
  posterior bare.h5 1 'del f["hessian"]'
  ivon-prune a.h5 --keep=0.5 -fo pruned.h5 > /dev/null
  refused 64 "no posterior given" ivon-prune --keep=0.5
  refused 64 "by one of --keep and --snr" ivon-prune a.h5
  refused 64 "by one of --keep and --snr" ivon-prune a.h5 --keep=0.5 --snr=1
  refused 64 "--keep: '2', expected a number from 0 to 1" ivon-prune a.h5 --keep=2
  refused 64 "--snr: '-1', expected 0 or more" ivon-prune a.h5 --snr=-1
  refused 64 "--by=magnitude needs --keep" ivon-prune a.h5 --snr=1 --by=magnitude
  refused 64 "do not go with it" ivon-prune a.h5 --restore --keep=0.5 -o x.h5
  refused 64 "--restore needs an output" ivon-prune pruned.h5 --restore
  refused 64 "name them by --data=FILE" ivon-prune a.h5 --keep=0.5 --model=m.onnx
  refused 64 "one posterior only" ivon-prune a.h5 a.h5 --keep=0.5
  refused 65 "none of the means to prune has a Hessian" ivon-prune bare.h5 --keep=0.5
  ivon-prune bare.h5 --keep=0.5 --by=magnitude > /dev/null
  refused 65 "it is pruned, and has to be restored first" ivon-prune pruned.h5 --keep=0.5
  refused 65 "there is nothing to restore" ivon-prune a.h5 --restore -o x.h5
  refused 73 "pruned.h5" ivon-prune a.h5 --keep=0.5 -o pruned.h5
  run --separate-stderr ivon-prune a.h5 --keep=0.5 --include=nothing
  [ "$status" -eq 65 ]
}
