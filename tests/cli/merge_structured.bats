# Merging structured posteriors, and RegMean.
load common

@test "blocks, corrections and Gram matrices are merged as dense matrices are in numpy" {
  $python "$BATS_TEST_DIRNAME/../oracle/merge_structured.py" cases 1
}

# structured FILE: a posterior of blocks and a low-rank correction.
structured() { $python "$BATS_TEST_DIRNAME/../oracle/structured_posterior.py" "$@"; }

# refused STATUS TEXT COMMAND...: fails so, with one line that has the text.
refused() {
  local want=$1 text=$2
  run --separate-stderr "${@:3}"
  [ $status -eq "$want" ] && [ "${#stderr_lines[@]}" -eq 1 ] && grep -qF -- "$text" <<< "$stderr" ||
    { echo "status $status: $stderr"; return 1; }
}

@test "results of means alone have the same means to the bit, and nothing that a loader does not know" {
  structured p.h5
  posterior a.h5 1 'f["buffers/frequencies"] = np.arange(6.); f["model.onnx"] = np.arange(9, dtype="u1")'
  posterior b.h5 2
  for inputs in "a.h5 b.h5" "p.h5 p.h5:.5"; do
    for method in hessian average; do
      echo "$inputs $method"
      ivon-merge -q --method=$method $inputs -f -o all.h5
      ivon-merge -q --method=$method $inputs -f --out-structure=means -o means.h5
      ivon-merge -q --method=$method $inputs -f --out-structure=means -o means.safetensors
      PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B - << 'PYTHON'
import h5py, safetensors_file
def tensors(path):
    found = {}
    with h5py.File(path) as f:
        f.visititems(lambda n, o: found.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None)
        return found, {k for k in f.attrs} - {"format", "format_version", "creator", "provenance"}
(whole, numbers), (means, none) = tensors("all.h5"), tensors("means.h5")
plain = {n for n in whole if n.startswith(("mean/", "buffers/"))}
assert numbers and plain < set(whole) and set(means) == plain and not none, (set(means), none)
assert all(means[n].tobytes() == whole[n].tobytes() for n in plain)
arrays, metadata = safetensors_file.read("means.safetensors", ordered=False)
assert set(arrays) == {n.partition("/")[2] for n in plain} and set(metadata) == {"creator", "provenance"}, metadata
PYTHON
    done
  done
  refused 64 "the result is means alone, which have no effective sample size" \
    ivon-merge a.h5 b.h5 --out-structure=means --ess=3 -o x.h5
  refused 64 "--ess is of a posterior, and a directory gets means alone unless --out-structure names" \
    ivon-merge a.h5 b.h5 --ess=3 -o x/
  # A directory has them alone, unless more is asked for.
  ivon-merge -q a.h5 b.h5 -o alone/
  ivon-merge -q a.h5 b.h5 --out-structure=diagonal -o whole/
  [ -z "$(ivon-info --json alone | jq -r '.ess // empty')" ]
  [ "$(ivon-info --json whole | jq .ess)" = 2000 ]
}

@test "what cannot be merged with structure is said in one line" {
  structured p.h5
  posterior q.h5 1
  refused 64 "--shrink is for --method=regmean" ivon-merge p.h5 --shrink=.9 -o a.h5
  refused 65 "nor an input basis with its spectrum; ivon-fit --gram takes them of the training data" ivon-merge --method=regmean q.h5 q.h5 -o a.h5
  refused 65 "low-rank correction where an input has one, and all have diagonal bases" \
    ivon-merge p.h5 p.h5 --out-structure=lowrank -o a.h5
  refused 65 "'conv.weight' is in a low-rank correction with others that are merged: merge all of them" \
    ivon-merge p.h5 p.h5 --exclude='conv.*' -o a.h5
  # Rows of a vocabulary are apart in a diagonal, and in no basis.
  $python -c "
import h5py, numpy as np
for name, rows in ('short.h5', 5), ('long.h5', 7):
    with h5py.File(name, 'w') as f:
        f.attrs.update(format='ivon-posterior', format_version=2, ess=10.0, weight_decay=.1)
        f['mean/embed.weight'], f['hessian/embed.weight'] = np.ones((rows, 3), 'f4'), np.ones((3, rows), 'f4')
        f['basis_output/embed.weight'] = np.eye(3, dtype='f4')[::-1].copy()
        f['spectrum_output/embed.weight'] = np.ones(3, 'f4')
        f['gram/embed.weight'] = np.eye(rows, dtype='f4')
        f['structure.json'] = np.frombuffer(b'{\"blocks\": {\"embed.weight\": {\"transposed\": true}}}', 'u1')"
  refused 65 "tensor 'embed.weight': rows of vocabularies of different size cannot be told apart in a structured Hessian, \
expected a diagonal one; ivon-convert --structure=diagonal makes one, or see --exclude" \
    ivon-merge --vocabulary=longest short.h5 long.h5 -o a.h5
  refused 65 "rows of vocabularies of different size cannot be merged by Gram matrices; see --exclude" \
    ivon-merge -m regmean --vocabulary=longest short.h5 long.h5 -o a.h5
  for name in short long; do ivon-convert -q --structure=diagonal $name.h5 -o $name-diagonal.h5; done
  ivon-merge -q --vocabulary=longest short-diagonal.h5 long-diagonal.h5 -o rows.h5
  $python -c "
import h5py, numpy as np
with h5py.File('wide.h5', 'w') as f:
    f.attrs.update(format='ivon-posterior', format_version=2, ess=1.0, weight_decay=0.0)
    f['mean/w'], f['hessian/w'] = np.ones((200, 300)), np.ones((200, 300), 'f4')
    f['lowrank_vectors/w'] = np.eye(2, 60000, dtype='f4')
    f['structure.json'] = np.frombuffer(b'{\"low_rank\": {\"values\": [2, 1]}}', 'u1')"
  refused 71 "as all tensors are merged at once" ivon-merge wide.h5 wide.h5 --memory=6M -j1 -o a.h5
  ivon-merge -q wide.h5 wide.h5 --memory=64M -o wide-2.h5
  $python -c "
import h5py, numpy as np, json
with h5py.File('p.h5') as p, h5py.File('t.h5', 'w') as t:
    for name in p:
        p.copy(name, t)
    t.attrs.update(p.attrs)
    text = json.loads(bytes(p['structure.json'][()]))
    del text['low_rank'], t['lowrank_vectors'], t['structure.json']
    text['blocks']['fc/kernel'] = {'transposed': True}
    del t['hessian/fc/kernel'], t['basis_input/fc/kernel'], t['basis_output/fc/kernel']
    del t['spectrum_input/fc/kernel'], t['spectrum_output/fc/kernel']
    t['hessian/fc/kernel'], t['hessian/fc/bias'] = np.ones((5, 6), 'f4'), np.ones(5, 'f4')
    t['basis_input/fc/kernel'] = np.eye(6, dtype='f4')
    t['structure.json'] = np.frombuffer(json.dumps(text).encode(), 'u1')"
  refused 65 "'fc/kernel' has its covariance with another bias" ivon-merge p.h5 t.h5 -o a.h5
  [ ! -e a.h5 ]
}

@test "blocks that are not selected are kept whole" {
  structured p.h5
  $python -c "
import h5py, json, numpy as np
with h5py.File('p.h5', 'r+') as p:
    text = json.loads(bytes(p['structure.json'][()]))
    del text['low_rank'], p['lowrank_vectors'], p['structure.json']
    p['structure.json'] = np.frombuffer(json.dumps(text).encode(), 'u1')"
  ivon-merge -q --base=p.h5 p.h5:0.5 --exclude='fc/*' --exclude=embedding -o a.h5
  ivon-info --check a.h5
  ivon-merge -q --base=p.h5 p.h5:0.5 --json -o b.h5 | grep -q '"solved":\[{"name":"conv.weight","iterations":0,"converged":true}'
  $python -c "
import h5py, json
a, p = h5py.File('a.h5'), h5py.File('p.h5')
for part in ('mean', 'hessian', 'basis_input', 'basis_output', 'spectrum_input'):
    assert (a[part + '/fc/kernel'][()] == p[part + '/fc/kernel'][()]).all(), part
assert (a['basis_output/embedding'][()] == p['basis_output/embedding'][()]).all()
assert set(json.loads(bytes(a['structure.json'][()]))['blocks']) == set(json.loads(bytes(p['structure.json'][()]))['blocks'])
assert not (a['hessian/conv.weight'][()] == p['hessian/conv.weight'][()]).all()"
}

@test "a Gram matrix needs no structure, and formats carry what is merged" {
  $python -c "
import h5py, numpy as np
r = np.random.default_rng(1)
for name in 'ab':
    with h5py.File(name + '.h5', 'w') as f:
        f.attrs.update(format='ivon-posterior', format_version=2)
        f['mean/w'], f['mean/v'] = r.standard_normal((3, 4)), r.standard_normal((2, 3))
        x = r.standard_normal((9, 4))
        f['gram/w'] = (x.T @ x / 9).astype('f4')"
  ivon-merge -q --method=regmean a.h5 b.h5:2 -o m.npz
  ivon-merge -q --method=regmean b.h5:2 a.h5 -o m.safetensors
  printf 'merge_method: regmean\nmodels:\n- model: a.h5\n- model: b.h5\n  parameters: {weight: 2}\n' > r.yml
  ivon-merge -q --no-provenance --recipe=r.yml -o r.npz
  ivon-merge -q --no-provenance --method=regmean a.h5 b.h5:2 -o n.npz
  cmp r.npz n.npz
  $python -c "
import h5py, numpy as np
a, b, m = h5py.File('a.h5'), h5py.File('b.h5'), np.load('m.npz')
A, B = (np.float64(f['gram/w'][()]) for f in (a, b))
expected = np.linalg.solve(A + 2 * B, (a['mean/w'][()] @ A + 2 * b['mean/w'][()] @ B).T).T
assert np.abs(m['w' if 'w' in m else 'mean/w'] - expected).max() < 1e-5
assert np.abs(m['v' if 'v' in m else 'mean/v'] - (a['mean/v'][()] + 2 * b['mean/v'][()]) / 3).max() < 1e-15"
  ivon-info m.safetensors > /dev/null
}

@test "methods by means alone leave structure out, and blocks are passed through whole" {
  structured p.h5
  posterior q.h5 1
  for method in ties dare breadcrumbs slerp task-arithmetic; do
    [ $method = task-arithmetic ] && base=p.h5 || base=plain.h5
    $python -c "
import h5py
with h5py.File('p.h5') as p, h5py.File('plain.h5', 'w') as f:
    f.attrs['format'], f.attrs['format_version'] = 'ivon-posterior', 1
    p.copy('mean', f)"
    ivon-merge -q --method=$method --base=$base p.h5 -o m.h5 -f
    ivon-info m.h5 > shown.txt
    [ $method = task-arithmetic ] ||
      $python -c "import h5py; assert not {'hessian', 'structure.json', 'lowrank_vectors'} & set(h5py.File('m.h5'))"
  done
  refused 64 "this method merges no precisions, whose structure could be kept" \
    ivon-merge --method=ties --base=plain.h5 p.h5 --out-structure=kronecker -o a.h5
  refused 64 "Gram matrices are weighed by the models' own effective sample sizes" \
    ivon-merge --method=regmean p.h5 p.h5 --ess=5 -o a.h5
  ivon-merge -q --method=passthrough p.h5 -o m.h5 -f # a correction is no matter of tensors
  $python -c "import h5py; assert not {'hessian', 'structure.json', 'lowrank_vectors'} & set(h5py.File('m.h5'))"
  ivon-convert -q p.h5 --structure=base -o b.h5
  $python -c "
import h5py
with h5py.File('b.h5') as b, h5py.File('c.h5', 'w') as c:
    for name in b:
        b.copy(name, c)
    c.attrs.update(b.attrs)
    for name in ('fc/kernel', 'fc/bias', 'embedding'):
        c['mean/' + name][...] *= 2"
  ivon-merge -q --method=passthrough --base=b.h5 c.h5 --include='fc/*' -o m.h5 -f
  ivon-info --check m.h5
  $python -c "
import h5py, json
b, c, m = h5py.File('b.h5'), h5py.File('c.h5'), h5py.File('m.h5')
assert (m['mean/fc/kernel'][()] == c['mean/fc/kernel'][()]).all()
assert (m['mean/embedding'][()] == b['mean/embedding'][()]).all()
assert json.loads(bytes(m['structure.json'][()]))['blocks'] == json.loads(bytes(b['structure.json'][()]))['blocks']
for part in ('hessian', 'basis_input', 'basis_output', 'spectrum_input', 'spectrum_output'):
    names = []
    b[part].visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert names
    for name in names:
        assert (m[part + '/' + name][()] == b[part + '/' + name][()]).all(), name"
  refused 65 "'fc/kernel' and 'fc/bias' have one covariance: keep both, or neither" \
    ivon-merge --method=passthrough --base=b.h5 c.h5 --include=fc/kernel -o a.h5
}
