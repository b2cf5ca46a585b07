load common

# expect STATUS TEXT COMMAND...: it says exactly one line, on stderr, with TEXT in it.
expect() {
  local want=$1 text=$2
  shift 2
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -qF -- "$text" err ||
    { echo "status $got: $(cat err)"; return 1; }
}

# same A B: the same tensors, types, shapes and bits, the same header; attributes of tensors, too.
same() {
  $python - "$@" <<'PYTHON'
import sys, h5py, numpy as np
own = ("creator", "provenance", "format_version", "format")
def read(path):
    with h5py.File(path) as f:
        found = {"attributes": {k: v for k, v in f.attrs.items() if k not in own}}
        def visit(name, item):
            if isinstance(item, h5py.Dataset):
                kind = item.id.get_type()
                raw = np.empty(item.shape, f"V{kind.get_size()}")
                if raw.size:
                    item.id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, kind)
                fields = kind.get_fields() if kind.get_class() == h5py.h5t.FLOAT else item.dtype.str
                found[name] = (kind.get_class(), fields, item.shape, raw.tobytes(), sorted(item.attrs.items()))
        f.visititems(visit)
    return found
a, b = read(sys.argv[1]), read(sys.argv[2])
assert len(a) > 3 and a.keys() == b.keys(), (a.keys(), b.keys())
for name in a:
    assert a[name] == b[name], (name, a[name], b[name])
PYTHON
}

everything='
f.attrs.update(step=12, n_train=500)
f["hessian/fc1.bias"].attrs.update(ess=5.0, weight_decay=.5)
f["mean/fc1.bias"][0] = np.nan
f["mean/frozen/half"] = np.arange(5, dtype="f2")
f["momentum/fc1.bias"] = np.ones(30)
f["buffers/bn.count"] = np.int64(2**53 + 1)
f["buffers/bn.mean"] = np.arange(6.)
f["buffers/flag"] = np.array([True, False])
f["buffers/none"] = np.zeros((0, 3), "f4")
f["model.onnx"] = np.arange(9, dtype="u1")
kind = h5py.h5t.IEEE_F32LE.copy()
kind.set_fields(15, 7, 8, 0, 7); kind.set_precision(16); kind.set_ebias(127); kind.set_size(2)
d = h5py.h5d.create(f["mean"].id, b"short", kind, h5py.h5s.create_simple((4,)))
d.write(h5py.h5s.ALL, h5py.h5s.ALL, np.array([16256, -1, 1, 32641], "i2"), kind)'

@test "what is copied is bit-identical, and is said" {
  posterior p.h5 1 "$everything"
  ivon-convert p.h5 -o a.h5 > out 2> err
  [ ! -s out ]
  [ "$(cat err)" = "ivon-convert: a.h5: wrote 13 tensors: mean 5, hessian 3, momentum 1, buffers 4; and the graph" ]
  same p.h5 a.h5
  $python -c "
import h5py, json
f = h5py.File('a.h5')
assert f.attrs['creator'].startswith(b'ivon-convert '), f.attrs['creator']
j = json.loads(f.attrs['provenance'])
assert j['command'] == 'ivon-convert p.h5 -o a.h5' and j['inputs'] == [{'path': 'p.h5'}], j"
  ivon-convert --quiet --no-provenance -j1 p.h5 --to=h5 -o b.npz 2> err
  [ ! -s err ]
  same p.h5 b.npz
  ivon-convert --quiet --no-provenance -j2 a.h5 -o c.h5
  cmp b.npz c.h5
}

@test "names, types and numbers change as told" {
  posterior p.h5 1 "$everything"
  run ivon-convert p.h5 -o a.h5 -v --include='fc1.*' --include='bn*' --exclude='*mean' \
    --rename='^fc([0-9])\.:layers.\1.' --rename='s.*(s$):\\\1\0' --dtype=f64 --ess=7 --step=0 \
    --n-train=3
  echo "$output"
  [ $status -eq 0 ]
  [ "$output" = 'ivon-convert: mean '\''layers.1.weight'\'': f64 30x40, was f32, from '\''fc1.weight'\''
ivon-convert: mean '\''layer\ss.1.bias'\'': f64 30, was f32, from '\''fc1.bias'\''
ivon-convert: hessian '\''layers.1.weight'\'': f32 30x40, from '\''fc1.weight'\''
ivon-convert: hessian '\''layer\ss.1.bias'\'': f32 30, from '\''fc1.bias'\''
ivon-convert: momentum '\''layer\ss.1.bias'\'': f64 30, from '\''fc1.bias'\''
ivon-convert: buffers '\''bn.count'\'': i64 scalar
ivon-convert: model.onnx: 9 bytes
ivon-convert: a.h5: wrote 6 tensors: mean 2, hessian 2, momentum 1, buffers 1; and the graph' ]
}

@test "means alone are what a loader of models takes: bare names, the same bits, nothing else" {
  posterior p.h5 1 "$everything"
  ivon-convert -q p.h5 --structure=means --include='fc*' --include='bn*' -o a.safetensors
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c '
import h5py, safetensors_file
arrays, metadata = safetensors_file.read("a.safetensors")
assert set(arrays) == {"fc1.weight", "fc1.bias", "bn.count", "bn.mean"}, set(arrays)
assert set(metadata) == {"creator", "provenance"}, metadata
with h5py.File("p.h5") as f:
    for name, values in arrays.items():
        assert values.tobytes() == f[("buffers/" if name[0] == "b" else "mean/") + name][()].tobytes(), name'
  run -0 ivon-convert p.h5 --structure=means -o b.h5
  [ "$output" = "ivon-convert: b.h5: wrote 9 tensors: mean 5, buffers 4" ]
}

@test "the header is overridden, and what a tensor has of its own stays" {
  posterior p.h5 1 "$everything"
  ivon-convert -q p.h5 -o a.h5 --ess=7 --weight-decay=0 --step=0 --n-train=3
  $python -c "
import h5py
f = h5py.File('a.h5')
found = {k: v for k, v in f.attrs.items() if k in ('ess', 'weight_decay', 'step', 'n_train')}
assert found == dict(ess=7, weight_decay=0, step=0, n_train=3), found
assert dict(f['hessian/fc1.bias'].attrs) == dict(ess=5, weight_decay=.5)
assert not f['hessian/fc1.weight'].attrs"
  posterior bare.h5 1 'del f.attrs["ess"]; del f.attrs["weight_decay"]'
  run ivon-convert bare.h5 -o b.h5
  [ $status -eq 0 ]
  [ "$output" = "ivon-convert: warning: no ess is known for the Hessian: give it by --ess
ivon-convert: warning: no weight decay is known for the Hessian: give it by --weight-decay
ivon-convert: b.h5: wrote 6 tensors: mean 3, hessian 3" ]
  run -0 ivon-convert b.h5 -o c.h5 --ess=1000 --weight-decay=1e-3
  [ "$output" = "ivon-convert: c.h5: wrote 6 tensors: mean 3, hessian 3" ]
  posterior full.h5 1
  same full.h5 c.h5
}

@test "a graph is put in where it takes the means by their names" {
  $python "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  $python -c "
import h5py
with h5py.File('posterior.h5') as f, h5py.File('other.h5', 'w') as g:
    g.attrs.update(f.attrs)
    for name in ('weight', 'bias'):
        for part in ('mean/', 'hessian/'):
            g[part + 'classifier.' + name] = f[part + name][()]"
  expect 65 "the graph has none of the 2 means of other.h5" ivon-convert other.h5 --model=model.onnx -o with.h5
  [ ! -e with.h5 ]
  ivon-convert -q other.h5 --model=model.onnx --rename='^classifier\.:' -o with.h5
  same posterior.h5 with.h5
  cmp <($python -c "
import sys, h5py
sys.stdout.buffer.write(h5py.File('with.h5')['model.onnx'][()].tobytes())") model.onnx
  ivon-predict -q --no-provenance posterior.h5 --data=test.h5 > p.csv
  ivon-predict -q --no-provenance with.h5 --data=test.h5 > with.csv
  cmp p.csv with.csv
  run ivon-convert with.h5 --model=model.onnx --rename='bias:offset' -o less.h5
  [ $status -eq 0 ]
  [ "${lines[0]}" = "ivon-convert: warning: with.h5: 1 means have no place in the graph, 'offset' the first" ]
  expect 66 "nowhere.onnx: cannot open it" ivon-convert with.h5 --model=nowhere.onnx -o c.h5
  expect 66 ".: is a directory, expected a regular file" ivon-convert with.h5 --model=. -o c.h5
  expect 65 "test.h5: " ivon-convert with.h5 --model=test.h5 -o c.h5
  [ ! -e c.h5 ]
}

@test "mistakes get one line and the right exit code" {
  posterior p.h5 1 'f["mean/fc1.bias"][7] = 1e5'
  expect 64 "no checkpoint given" ivon-convert -o x.h5
  expect 64 "more than one checkpoint" ivon-convert p.h5 p.h5 -o x.h5
  expect 64 "no output given" ivon-convert p.h5
  expect 64 "standard output cannot take what is not written in order" ivon-convert p.h5 -o -
  expect 64 "--to: 'pt', expected one of h5, safetensors, npz" ivon-convert p.h5 --to=pt -o x.pt
  expect 64 "--rename: 'a', expected REGEX:REPL" ivon-convert p.h5 --rename=a -o x.h5
  expect 64 "--rename: ':b', expected REGEX:REPL" ivon-convert p.h5 --rename=:b -o x.h5
  expect 64 "--rename: '(': Unmatched ( or" ivon-convert p.h5 --rename='(:b' -o x.h5
  expect 64 "'\\2' refers to a group that '(a)' does not have" ivon-convert p.h5 --rename='(a):\2' -o x.h5
  expect 64 "'b\' refers to a group" ivon-convert p.h5 --rename='a:b\' -o x.h5
  expect 64 "tensors 'fc1.bias' and 'fc1.weight' would both be 'fc1.x'" \
    ivon-convert p.h5 --rename='[^.]*$:x' --exclude='head*' -o x.h5
  expect 64 "'a//b', for 'fc1.weight', is not a usable name" \
    ivon-convert p.h5 --rename='fc1.weight:a//b' -o x.h5
  expect 64 "--ess: '0', expected a positive number" ivon-convert p.h5 --ess=0 -o x.h5
  expect 64 "--weight-decay: '-1', expected zero or more" ivon-convert p.h5 --weight-decay=-1 -o x.h5
  expect 64 "--hessian-from=adam needs" ivon-convert p.h5 --hessian-from=adam -o x.h5
  expect 64 "--batch-size is for" ivon-convert p.h5 --batch-size=8 -o x.h5
  expect 64 "p.h5: option 'hessian-from' does not apply to a file in HDF5 format" \
    ivon-convert p.h5 --hessian-from=adam --batch-size=8 --hessian=p.h5 -o x.h5
  expect 65 "p.h5: no tensor is selected" ivon-convert p.h5 --include='nothing*' -o x.h5
  expect 65 "p.h5: 'fc1.bias' would be 100000 at element 7, which does not fit into f16" \
    ivon-convert p.h5 --dtype=f16 -o x.h5
  expect 66 "nowhere.h5: cannot open it" ivon-convert nowhere.h5 -o x.h5
  [ -z "$(ls -A | grep -E '^x|ivon-tmp')" ]
  echo old > x.h5
  expect 73 "x.h5: file exists" ivon-convert p.h5 -o x.h5
  [ "$(cat x.h5)" = old ]
  ivon-convert -qf p.h5 -o x.h5
  same p.h5 x.h5
  expect 64 "only safetensors can be several files" ivon-convert p.h5 --shard-size=1G -o y.h5
  expect 64 "p.h5: option 'buffers' does not apply" ivon-convert p.h5 --buffers='q*' -o y.h5
  expect 64 "p.h5: option 'key' does not apply" ivon-convert p.h5 --key=model -o y.h5
  ivon-convert -q p.h5 -o p.safetensors
  run ivon-convert -f p.safetensors --rename='zzz:y' --exclude='zzz*' --buffers='q*' -o x.h5
  [ $status -eq 0 ]
  [ "${lines[*]:0:3}" = "ivon-convert: warning: pattern 'zzz*' matches no tensor \
ivon-convert: warning: --rename: 'zzz:y' matches no tensor \
ivon-convert: warning: --buffers: pattern 'q*' matches no tensor" ]
}

@test "a full disk ends with one line and 74, and leaves nothing" {
  [ "$(id -u)" = 0 ] || skip "needs to mount a file system"
  mkdir small
  mount -t tmpfs -o size=64k tmpfs small || skip "cannot mount"
  posterior p.h5 0 'f["mean/big"] = np.zeros(90000, "f4")'
  expect 74 "small/x.h5: " ivon-convert p.h5 -o small/x.h5 || failed=1
  left=$(ls -A small)
  umount small
  [ -z "${failed:-}" ]
  [ -z "$left" ]
}

@test "memory does not grow with the checkpoint" {
  posterior p.h5 1 'f.create_dataset("mean/big", data=np.zeros(50_000_000, "f4"), chunks=(1 << 18,), compression="gzip")'
  # 200 MB of zeros in a file of 200 kB: what is resident beyond the program's own pages is memory
  # of the copying, several pieces of some MB for each thread.
  ASAN_OPTIONS=${ASAN_OPTIONS:-}:quarantine_size_mb=8 $python -c "
import h5py, resource, subprocess
subprocess.run(['ivon-convert', '-q', '-j2', 'p.h5', '--dtype=bf16', '-o', 'a.h5'], check=True)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
assert peak < 150_000, f'{peak} kB'
print('#', peak, 'kB')
assert h5py.File('a.h5')['mean/big'].shape == (50_000_000,)" >&3
}

@test "any way through the formats and back keeps every bit" {
  posterior p.h5 1 "$everything"
  ivon-convert -q p.h5 -o p.safetensors
  ivon-convert -q p.safetensors -o back.h5
  same p.h5 back.h5
  mkdir shards
  ivon-convert -q p.safetensors --shard-size=5K -o shards/p.safetensors.index.json
  [ "$(ls shards | wc -l)" -gt 3 ]
  ivon-convert -q shards/p.safetensors.index.json -o whole.h5
  same p.h5 whole.h5
  expect 64 "bf16" ivon-convert p.h5 -o p.npz # numpy has no such type
  ivon-convert -q p.h5 --exclude=short -o part.h5
  ivon-convert -q part.h5 --to=npz -o part
  ivon-convert -q part --to=safetensors -o part.st
  ivon-convert -q part.st -o again.h5
  same part.h5 again.h5
}

@test "PyTorch's checkpoints go through all formats" {
  local status=0 name
  $python "$BATS_TEST_DIRNAME/../oracle/torch_checkpoints.py" . 2> log || status=$?
  [ $status -ne 77 ] || skip "PyTorch is not installed"
  [ $status -eq 0 ]
  for name in flat groups tied integers f64 strides; do
    ivon-convert -q $name.pt -o $name-1.h5
    ivon-convert -q $name-1.h5 -o $name.safetensors
    ivon-convert -q $name.safetensors -o $name.npz
    ivon-convert -q $name.npz -o $name-2.h5
    same $name-1.h5 $name-2.h5
  done
  run ivon-convert tied.pt -o made.h5
  [ $status -eq 0 ]
  [[ "${lines[0]}" == "ivon-convert: tied.pt: Hessian mapped to names by storage offsets, "* ]]
  [[ "${lines[1]}" == "ivon-convert: made.h5: wrote "* ]]
  run ivon-convert adam.pt --hessian-from=adam --batch-size=8 --buffers='*.mask' --ess=100 --weight-decay=.1 -o made-adam.h5
  [ $status -eq 0 ]
  [[ "${lines[0]}" == "ivon-convert: warning: adam.pt: the Hessian is estimated from Adam's second moments"* ]]
  # every command opens them with the same options, and merging takes those of one format for it
  ivon-info adam.pt --hessian-from=adam --batch-size=8 --buffers='*.mask' > info
  grep -q '^  mapping  *Hessian mapped' info
  run ivon-info --check adam.pt --hessian-from=adam --batch-size=8 --buffers='*.mask'
  [ $status -eq 1 ]
  [[ "${lines[0]}" == "adam.pt: the Hessian is estimated from Adam's second moments"*": see ivon-formats(5)"* ]]
  ivon-sample -q flat.pt --no-provenance -o flat-sample.h5
  ivon-sample -q flat-1.h5 --no-provenance -o same-sample.h5
  same flat-sample.h5 same-sample.h5
  ivon-merge -q --method=average flat-1.h5 copied.pt --buffers='*.mask' -o merged.h5
  expect 65 "which 1 of" ivon-merge -q --method=average flat-1.h5 copied.pt -o none.h5
}
