load common

# Posteriors with a structure: structured_posterior.py FILE [diagonal] writes one.
structured() {
  $python "$BATS_TEST_DIRNAME/../oracle/structured_posterior.py" "$@"
}

# refused STATUS TEXT COMMAND...: it says exactly one line, on stderr, with TEXT in it.
refused() {
  local want=$1 text=$2
  shift 2
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -qF -- "$text" err ||
    { echo "status $got: $(cat err)"; return 1; }
}

# same A B: the same data sets, types, shapes and bits, and the same version and numbers.
same() {
  $python - "$@" <<'PYTHON'
import sys, h5py
def read(path):
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda name, item: found.update({name: (item.dtype.str, item.shape, item[()].tobytes())})
                     if isinstance(item, h5py.Dataset) else None)
        return found, {k: f.attrs[k] for k in ("ess", "weight_decay", "n_train", "format_version")}
a, b = read(sys.argv[1]), read(sys.argv[2])
assert a == b and a[1]["format_version"] == 2 and len(a[0]) > 15, (a[0].keys() ^ b[0].keys(), a[1], b[1])
PYTHON
}

@test "a structure goes through every format bit by bit" {
  for kind in "" diagonal; do
    rm -f -- *.h5 *.npz *.safetensors*
    structured p.h5 $kind
    ivon-convert -q p.h5 -o a.npz
    ivon-convert -q a.npz -o a.safetensors
    ivon-convert -q a.safetensors -o a.safetensors.index.json --shard-size=2K
    ivon-convert -q a.safetensors.index.json -o b.h5
    same p.h5 b.h5
  done
  structured p.h5
  run -0 ivon-convert p.h5 -f -o a.npz
  [ "$output" = "ivon-convert: a.npz: wrote 32 tensors: mean 7, hessian 5, basis_input 3, basis_output 4, spectrum_input 3, spectrum_output 4, gram 1, lowrank_vectors 5; and their structure" ]
}

@test "npz and safetensors hold a structure as ivon-formats(5) says" {
  structured p.h5
  ivon-convert -q p.h5 -o a.npz
  ivon-convert -q p.h5 -o a.safetensors
  $python -c "
import h5py, json, numpy as np
f, a = h5py.File('p.h5'), np.load('a.npz')
header = open('a.safetensors', 'rb').read()
header = json.loads(header[8:8 + int.from_bytes(header[:8], 'little')])
assert a['ivon-posterior'] == 2 and header['__metadata__']['ivon-posterior'] == '2'
for name in ('basis_input/conv.weight', 'basis_output/embedding', 'spectrum_input/fc/kernel', 'gram/head.weight',
             'lowrank_vectors/norm.scale', 'structure.json'):
    assert np.array_equal(a[name], f[name][()]) and header[name]['shape'] == list(f[name].shape), name"
}

@test "a file without a structure is one of version 1" {
  posterior p.h5 1
  ivon-convert -q p.h5 -o a.h5
  ivon-convert -q p.h5 -o a.npz
  $python -c "
import h5py, numpy as np
assert h5py.File('a.h5').attrs['format_version'] == 1 and np.load('a.npz')['ivon-posterior'] == 1"
}

@test "the parts of version 2 are not looked for in version 1" {
  structured p.h5
  $python -c "
import h5py
with h5py.File('p.h5', 'r+') as f: f.attrs['format_version'] = 1"
  ivon-info --json --header p.h5 > p.json
  $python -c "
import json
j = json.load(open('p.json'))
s = j['structure']
assert 'basis_input' not in j and (s['base'], s['blocks'], s['rank']) == ('diagonal', 0, 0)"
}

@test "info tells of blocks and ranks, and pairs no h of a block with a mean" {
  structured p.h5
  ivon-info p.h5 > text
  grep -qx '  structure       kronecker (4 blocks), low rank 3' text
  grep -qx '  memory          draw 50.1 kB in each thread, covariance 3.9 kB' text # 3 * 4096 * 4 + 3 * 4 * 19 * 4 bytes
  grep -qx '  low rank        values 9.5 to -0.25' text
  run -0 ivon-info --check p.h5
  [ "$output" = "p.h5: no problems found" ]
  ivon-info --json --tensors p.h5 > p.json
  $python -c "
import h5py, json, numpy as np
j, f = json.load(open('p.json')), h5py.File('p.h5')
s = j['structure']
assert (s['base'], s['blocks'], s['rank'], s['values']) == ('kronecker', 4, 3, [9.5, 1 / 3, -0.25])
assert s['memory']['draw'] == 3 * 4096 * 4 + 3 * 4 * 19 * 4
for of in s['factors']:
    for side in ('input', 'output'):
        factor, name = of[side], f'spectrum_{side}/' + of['weight']
        assert factor['rotated'] == (name in f) and ('min' in factor) == (name in f)
        if name in f:
            v = np.sort(np.float64(np.float32(f[name][()])))
            assert (factor['rows'], factor['rank'], factor['min'], factor['max']) == (len(v), len(v), v[0], v[-1])
            assert all(abs(np.quantile(v, float(q)) - x) < 1e-12 for q, x in factor['quantiles'].items())
assert j['summary']['hessian_elements'] == sum(f['hessian/' + n].size for n in
    ('conv.weight', 'fc/kernel', 'head.weight', 'embedding', 'norm.scale'))
t = {t['name']: t for t in j['tensors']}
assert set(t) == {'conv.weight', 'conv.bias', 'fc/kernel', 'fc/bias', 'head.weight', 'embedding', 'norm.scale'}
for name, of in t.items():
    outside = name == 'norm.scale'
    assert of['in_block'] != outside and (of['signal_to_noise_quantiles']['0.5'] is None) != outside
    assert np.isclose(of['mean_norm'], np.linalg.norm(np.float64(f['mean/' + name])), rtol=1e-12)
    if 'bias' not in name:
        assert of['hessian_min'] == f['hessian/' + name][()].min()"
  structured d.h5 diagonal
  ivon-info d.h5 | grep -qx '  structure       diagonal, low rank 3'
}

dense() { PYTHONDONTWRITEBYTECODE=1 $python -W ignore "$BATS_TEST_DIRNAME/../oracle/fit_dense.py" "$@"; }

@test "effective parameters are those of the dense covariance" {
  for kind in "" diagonal; do
    structured p$kind.h5 $kind
    echo effective p$kind.h5 "$(ivon-info --json p$kind.h5 | jq .effective_parameters)"
  done > lines
  dense - < lines
  $python -c "
import h5py, json, subprocess, numpy as np
j, f = json.loads(subprocess.check_output(['ivon-info', '--json', '--tensors', 'p.h5'])), h5py.File('p.h5')
for t in j['tensors']:
    if 'hessian/' + t['name'] in f and 'bias' not in t['name']:
        h = np.float64(f['hessian/' + t['name']][()])
        assert abs(t['effective_parameters'] / (h / (h + 0.01)).sum() - 1) < 1e-12, t"
}

@test "a diagonal is that of the covariance or of the precision, from every format" {
  for kind in "" diagonal; do
    structured p$kind.h5 $kind
    ivon-convert -q p$kind.h5 -o p$kind.npz
    for of in covariance precision; do
      ivon-convert -q -f --no-provenance -j1 p$kind.h5 --structure=diagonal:$of -o $of$kind.h5
      ivon-convert -q -f --no-provenance -j3 p$kind.npz --structure=diagonal:$of -o b.h5
      cmp $of$kind.h5 b.h5
      echo diagonal p$kind.h5 $of$kind.h5 $of >> lines
    done
  done
  dense - < lines
  ivon-convert -q --no-provenance p.h5 --structure=diagonal -o c.h5
  ivon-convert -q --no-provenance p.h5 --structure=diagonal:covariance -o d.h5
  cmp c.h5 d.h5
  [ "$(ivon-info --check c.h5)" = "c.h5: no problems found" ]
  # There is nothing to reduce then.
  ivon-convert -q -f --no-provenance c.h5 --structure=diagonal:precision -o d.h5
  cmp c.h5 d.h5
  run -0 --separate-stderr ivon-convert p.h5 --structure=diagonal --exclude='fc/*' -o e.h5
  [ "$stderr" = "ivon-convert: e.h5: wrote 10 tensors: mean 5, hessian 5" ]
  refused 64 "--structure: 'x', expected one of diagonal" ivon-convert p.h5 --structure=x -o f.h5
}

@test "a diagonal with less precision than the prior's has a negative h" {
  structured p.h5
  $python -c "
import h5py, json, numpy as np
with h5py.File('p.h5', 'r+') as f:
    j = json.loads(f['structure.json'][()].tobytes())
    j['low_rank']['values'] = [0.01, -0.99, -0.999]
    del f['structure.json']
    f['structure.json'] = np.frombuffer(json.dumps(j).encode(), 'u1')
    f['hessian/norm.scale'][()] = 1e-6"
  for of in covariance precision; do
    ivon-convert -q -f p.h5 --structure=diagonal:$of -o a.h5
    dense diagonal p.h5 a.h5 $of > report
    grep -q '^least h: -' report
    [ "$(ivon-info --check a.h5)" = "a.h5: no problems found" ]
    ivon-sample -q -f a.h5 -o s.h5
  done
  # What no precision can be is refused.
  $python -c "
import h5py
with h5py.File('p.h5', 'r+') as f: f['lowrank_vectors/norm.scale'][()] *= 100"
  refused 65 "p.h5: the diagonal of 'norm.scale' is not positive at element " ivon-convert p.h5 --structure=diagonal:precision -o n.h5
}

@test "a base is what is below a correction" {
  structured p.h5
  ivon-convert -q p.h5 --structure=base -o b.h5
  ivon-info b.h5 | grep -qx '  structure       kronecker (4 blocks)'
  $python -c "
import h5py, json
a, b = h5py.File('p.h5'), h5py.File('b.h5')
text = lambda f: json.loads(f['structure.json'][()].tobytes())
had = text(a)
del had['low_rank']
assert text(b) == had and 'lowrank_vectors' not in b
same = []
b.visititems(lambda n, d: same.append((d[()] == a[n][()]).all()) if isinstance(d, h5py.Dataset) and n != 'structure.json' else None)
assert len(same) == 27 and all(same)"
  ivon-convert -q b.h5 --structure=diagonal -o c.h5
  dense diagonal b.h5 c.h5 covariance
  structured d.h5 diagonal
  ivon-convert -q d.h5 --exclude='nothing' --structure=base -o e.h5
  $python -c "
import h5py
assert 'structure.json' not in h5py.File('e.h5') and 'lowrank_vectors' not in h5py.File('e.h5')"
}

@test "the check finds what is wrong with bases, factors and corrections" {
  found() { # TEXT SCRIPT
    structured p.h5
    $python -c "
import h5py, json, sys, numpy as np
with h5py.File('p.h5', 'r+') as f:
    j = json.loads(f['structure.json'][()].tobytes())
    exec(sys.argv[1])
    del f['structure.json']
    f['structure.json'] = np.frombuffer(json.dumps(j).encode(), 'u1')" "$2"
    run -1 ivon-info --check p.h5
    [ "${#lines[@]}" = 1 ] && [[ ${lines[0]} == *"$1"* ]] || { echo "$output"; return 1; }
  }
  found "tensor 'conv.weight': its output basis is not orthonormal: U^T U - I has 0.0201" 'f["basis_output/conv.weight"][()] *= np.float32(1.01)'
  found "tensor 'fc/kernel': its input basis is not orthonormal: U^T U - I has nan" 'f["basis_input/fc/kernel"][0, 0] = np.nan'
  found "low-rank vectors are not orthonormal: U U^T - I has " 'f["lowrank_vectors/norm.scale"][()] *= 2'
  found "tensor 'head.weight': its output factor is not positive: 1 eigenvalues are negative, down to -0.01: save" 'f["spectrum_output/head.weight"][0] = -.01'
  found "tensor 'conv.weight': its input factor is not positive: 2 eigenvalues are not finite" 'f["spectrum_input/conv.weight"][3:5] = np.inf'
  found "tensor 'head.weight': its Gram matrix is not positive" 'f["gram/head.weight"][2, 2] = -1'
  found "tensor 'conv.weight': its input factor has 19 rows, and is from 12: 7 have no data: fit with more examples"     'j["blocks"]["conv.weight"]["input_rows"] = 12; f["spectrum_input/conv.weight"][:7] = 1e-9'
  found "tensor 'conv.weight': its input factor has 19 rows, and is from 12: 9 have no data"     'f.attrs["n_train"] = 12; f["spectrum_input/conv.weight"][:9] = 0'
  found "the mean is far from a minimum: its Newton decrement is 600, where 137.4 is to be expected at most: train on" 'f.attrs["newton_decrement"] = 600.0'
  found "the base's Hessian never left its start, 0.5: its curvature is a guess where the correction does not reach" '
for n in ("conv.weight", "fc/kernel", "head.weight", "embedding", "norm.scale"): f["hessian/" + n][()] = .5'
  # Positions count as rows: N below them proves nothing while the rank is not; nor does a dead input where there are enough.
  structured p.h5
  $python -c "
import h5py
with h5py.File('p.h5', 'r+') as f:
    f.attrs['n_train'], f.attrs['newton_decrement'] = 12, 400.0
    f['spectrum_input/fc/kernel'][:3] = 0
    f['hessian/norm.scale'][()] = .5"
  [ "$(ivon-info --check p.h5)" = "p.h5: no problems found" ]
}

@test "nothing takes a structure apart" {
  structured p.h5
  structured d.h5 diagonal
  posterior q.h5 1
  refused 65 "p.h5: structure.json: block 'embedding': there is no mean of this name (--rename" \
    ivon-convert p.h5 --exclude=embedding -o a.h5
  refused 65 "block 'fc/kernel': there is no mean of this name (--rename" ivon-convert p.h5 --rename=fc:gc -o a.h5
  refused 65 "d.h5: its low-rank correction is of all tensors" ivon-convert d.h5 --exclude=embedding -o a.h5
  refused 65 "d.h5: its low-rank correction was made for weight decay 0.01" ivon-convert d.h5 --weight-decay=1 -o a.h5
  refused 65 "p.h5: 'fc/kernel' and 'fc/bias' have one covariance: merge both, or neither" \
    ivon-merge --base=p.h5 p.h5 --exclude=fc/bias -o a.h5
  refused 65 "d.h5: 'norm.scale' is in a low-rank correction with others that are merged: merge all of them" \
    ivon-merge --base=d.h5 d.h5 --exclude=norm.scale --exclude='fc/*' -o a.h5
  refused 65 "d.h5: is a structured posterior" ivon-info q.h5 --hessian=d.h5
  [ ! -e a.h5 ]
}

@test "what is wrong with a structure is said" {
  broken() { # TEXT SCRIPT
    structured p.h5
    $python -c "
import h5py, json, sys, numpy as np
with h5py.File('p.h5', 'r+') as f:
    j = json.loads(f['structure.json'][()].tobytes())
    exec(sys.argv[1])
    del f['structure.json']
    f['structure.json'] = np.frombuffer(json.dumps(j).encode(), 'u1')" "$2"
    refused 65 "$1" ivon-info --header p.h5
    refused 65 "$1" ivon-convert p.h5 -o a.npz
  }
  broken "p.h5: structure.json: block 'x': there is no mean of this name" 'j["blocks"]["x"] = {}'
  broken "p.h5: Hessian of 'conv.weight' has shape 4x19, expected 4x18" 'j["blocks"]["conv.weight"] = {}'
  broken "p.h5: basis_output of 'head.weight' belongs to no block" 'del j["blocks"]["head.weight"]'
  broken "p.h5: structure.json: block 'conv.weight': 'input_rows' is no number" 'j["blocks"]["conv.weight"]["input_rows"] = "4"'
  broken "p.h5: structure.json: value 2 of 'low_rank' is -1, expected a number above -1" 'j["low_rank"]["values"][2] = -1'
  broken "p.h5: lowrank_vectors of 'conv.weight' has shape 3x76, expected 2x76" 'j["low_rank"]["values"].pop()'
  structured p.h5
  $python -c "
import h5py
with h5py.File('p.h5', 'r+') as f: del f['structure.json']"
  refused 65 "p.h5: has basis_output of 'conv.weight', and no structure.json" ivon-info p.h5
}
