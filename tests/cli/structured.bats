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
  run ivon-convert p.h5 -f -o a.npz
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
assert 'basis_input' not in j and j['structure'] == {'base': 'diagonal', 'blocks': 0, 'rank': 0}"
}

@test "info tells of blocks and ranks, and pairs no h of a block with a mean" {
  structured p.h5
  ivon-info p.h5 | grep -qx '  structure       kronecker (4 blocks), low rank 3'
  run ivon-info --check p.h5
  [ "$output" = "p.h5: no problems found" ]
  ivon-info --json --tensors p.h5 > p.json
  $python -c "
import h5py, json, numpy as np
j, f = json.load(open('p.json')), h5py.File('p.h5')
assert j['structure'] == {'base': 'kronecker', 'blocks': 4, 'rank': 3}
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

@test "nothing takes a structure apart" {
  structured p.h5
  structured d.h5 diagonal
  posterior q.h5 1
  refused 65 "p.h5: structure.json: block 'embedding': there is no mean of this name (--rename" \
    ivon-convert p.h5 --exclude=embedding -o a.h5
  refused 65 "block 'fc/kernel': there is no mean of this name (--rename" ivon-convert p.h5 --rename=fc:gc -o a.h5
  refused 65 "d.h5: its low-rank correction is of all tensors" ivon-convert d.h5 --exclude=embedding -o a.h5
  refused 65 "d.h5: its low-rank correction was made for weight decay 0.01" ivon-convert d.h5 --weight-decay=1 -o a.h5
  refused 65 "p.h5: is a structured posterior, with blocks or a low-rank correction: these are not merged" \
    ivon-merge --method=average q.h5 p.h5 -o a.h5
  refused 65 "p.h5: is a structured posterior" ivon-merge --base=p.h5 q.h5 -o a.h5
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
  broken "p.h5: structure.json: value 2 of 'low_rank' is -1, expected a number above -1" 'j["low_rank"]["values"][2] = -1'
  broken "p.h5: lowrank_vectors of 'conv.weight' has shape 3x76, expected 2x76" 'j["low_rank"]["values"].pop()'
  structured p.h5
  $python -c "
import h5py
with h5py.File('p.h5', 'r+') as f: del f['structure.json']"
  refused 65 "p.h5: has basis_output of 'conv.weight', and no structure.json" ivon-info p.h5
}
