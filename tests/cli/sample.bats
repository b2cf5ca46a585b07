load common

oracle() { $python "$BATS_TEST_DIRNAME/../oracle/sample_reference.py" "$@"; }

@test "samples are those of numpy" {
  posterior p.h5 1
  ivon-sample p.h5 -n 2 -o 's-%d.h5'
  oracle p.h5 0 1 0=s-0.h5 1=s-1.h5
  ivon-sample p.h5 -n 2 --first=9 --seed=7 --posterior-temperature=.25 -o 't-%d.h5'
  [ "$(ls t-*.h5 | tr '\n' ' ')" = "t-10.h5 t-9.h5 " ]
  oracle p.h5 7 .25 9=t-9.h5 10=t-10.h5
  run oracle p.h5 8 .25 9=t-9.h5
  [ $status -eq 1 ]
  ivon-sample p.h5 --dtype=f16 -o half.h5
  oracle p.h5 0 1 0=half.h5
  ivon-sample p.h5 --dtype=f64 -o double.h5
  $python -c "
import h5py, numpy as np
a, b = h5py.File('s-0.h5')['mean/fc1.weight'][()], h5py.File('double.h5')['mean/fc1.weight'][()]
assert b.dtype == 'f8' and np.array_equal(a, b)"
}

@test "the old name of the posterior's temperature works, with one warning" {
  posterior p.h5 1
  ivon-sample -q --no-provenance p.h5 --posterior-temperature=.25 -o new.h5
  run --separate-stderr ivon-sample --no-provenance p.h5 --temperature=.3 --temperature=.25 -o old.h5
  [ "$status $stderr" = "0 ivon-sample: warning: --temperature is now called --posterior-temperature: \
that of logits is what ivon-calibrate fits" ]
  cmp old.h5 new.h5
  run ivon-sample -q p.h5 --temperature=.25 -o quiet.h5
  [ "$status$output" = 0 ]
  run -1 grep -e --temperature <(ivon-sample --help; ivon-sample --usage; ivon completion bash; ivon completion fish)
  run -64 ivon-sample p.h5 --temperatrue=1 -o x.h5
  [ "$output" = "ivon-sample: unknown option '--temperatrue'; --help lists them" ]
}

@test "any number of threads gives the same bytes" {
  posterior p.h5 2 'f["mean/big"] = r.standard_normal(2500001, "f4"); f["hessian/big"] = np.ones(2500001, "f4")'
  ivon-sample --no-provenance -j1 -n 2 p.h5 -o 'a-%d.h5'
  ivon-sample --no-provenance -j2 -n 2 p.h5 -o 'b-%d.h5'
  ivon-sample --no-provenance -j2 --first=1 p.h5 -o one.h5
  cmp a-0.h5 b-0.h5
  cmp a-1.h5 b-1.h5
  cmp a-1.h5 one.h5
  oracle p.h5 0 1 0=a-0.h5
  run -1 cmp -s a-0.h5 a-1.h5
}

@test "compressed, chunked and reordered inputs give the same samples" {
  posterior p.h5 1
  $python - <<'PYTHON'
import h5py
with h5py.File("p.h5") as f, h5py.File("z.h5", "w") as g:
    g.attrs.update(f.attrs)
    for part in ("hessian", "mean"):
        for name, data in reversed(list(f[part].items())):
            chunks = tuple(max(1, n // 3) for n in data.shape)
            g.create_dataset(f"{part}/{name}", data=data[()], chunks=chunks, compression="gzip",
                             shuffle=True, fletcher32=True)
PYTHON
  ivon-sample p.h5 -o a.h5
  ivon-sample z.h5 -o b.h5
  $python -c "
import h5py, numpy as np
a, b = h5py.File('a.h5')['mean'], h5py.File('b.h5')['mean']
assert len(a) == 3 and all(np.array_equal(a[n], b[n]) for n in a)"
}

@test "only what is selected, and has a Hessian, is random; the rest is carried along" {
  posterior p.h5 3 '
f.attrs["step"] = 12
del f["mean/fc1.bias"]; f["mean/fc1.bias"] = np.full(30, 1 + 2**-40)
f["mean/frozen"] = np.ones(4, "f2")
f["momentum/fc1.bias"] = np.ones(30, "f4")
f["buffers/bn.count"] = np.int64(5)
f["buffers/bn.mean"] = np.arange(6.)
f["model.onnx"] = np.arange(9, dtype="u1")'
  run ivon-sample p.h5 --include='fc1.*' --include=frozen --exclude='*.bias' -o a.h5
  echo "$output"
  [ $status -eq 0 ]
  [ "$output" = "ivon-sample: warning: 1 tensors have no Hessian and stay at their mean" ]
  $python -c "
import h5py, json, numpy as np
p, a = h5py.File('p.h5'), h5py.File('a.h5')
for n in ('fc1.bias', 'frozen', 'head.weight'):
    assert np.array_equal(p['mean/' + n], a['mean/' + n]), n
    assert p['mean/' + n].dtype == a['mean/' + n].dtype, n
assert (p['mean/fc1.weight'][()] != a['mean/fc1.weight'][()]).all()
for n in ('buffers/bn.count', 'buffers/bn.mean', 'model.onnx'):
    assert np.array_equal(p[n], a[n]) and p[n].dtype == a[n].dtype, n
assert sorted(a) == ['buffers', 'mean', 'model.onnx'], sorted(a)
assert a.attrs['step'] == 12 and 'ess' not in a.attrs and 'weight_decay' not in a.attrs
j = json.loads(a.attrs['provenance'])
assert j['sample'] == 0 and j['inputs'] == [{'path': 'p.h5'}], j"
  ivon-sample p.h5 --posterior-temperature=0 -o mean.h5
  $python -c "
import h5py, numpy as np
p, a = h5py.File('p.h5')['mean'], h5py.File('mean.h5')['mean']
assert all(np.array_equal(p[n], a[n]) for n in p)"
  run ivon-sample p.h5 --include='nothing*' -o b.h5
  [ $status -eq 65 ]
}

@test "mistakes get one line and the right exit code" {
  posterior p.h5 0
  expect() { # STATUS TEXT COMMAND...
    local want=$1 text=$2
    shift 2
    set +e
    "$@" > out 2> err
    local got=$?
    set -e
    [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -q -- "$text" err ||
      { echo "status $got: $(cat err)"; return 1; }
  }
  expect 64 "no posterior given" ivon-sample -o x.h5
  expect 64 "more than one posterior" ivon-sample p.h5 p.h5 -o x.h5
  expect 64 "no output given" ivon-sample p.h5
  expect 64 "needs exactly one %d" ivon-sample p.h5 -n 2 -o x.h5
  expect 64 "needs exactly one %d" ivon-sample p.h5 -n 2 -o 'x-%d-%d.h5'
  expect 64 "expected a number from 1 to 1000" ivon-sample p.h5 -n 0 -o x.h5
  expect 64 "expected a number from 0" ivon-sample p.h5 --seed=-1 -o x.h5
  expect 64 "temperature is -1" ivon-sample p.h5 --posterior-temperature=-1 -o x.h5
  expect 66 "nowhere.h5: cannot open it" ivon-sample nowhere.h5 -o x.h5
  posterior bad.h5 0 'f["hessian/fc1.bias"][3] = -1e-3'
  expect 65 "bad.h5: Hessian of 'fc1.bias' is -0.001 at element 3, with weight_decay 0.001 expected above -0.001" \
    ivon-sample bad.h5 -n 2 -o 'x-%d.h5'
  posterior nan.h5 0 'f["mean/fc1.bias"][7] = np.nan'
  expect 65 "nan.h5: mean of 'fc1.bias' is nan at element 7" ivon-sample nan.h5 -o x.h5
  posterior big.h5 0 'f["mean/fc1.bias"][9] = 65536'
  expect 65 "'fc1.bias' would be 6553.* at element 9, which does not fit into f16" \
    ivon-sample big.h5 --dtype=f16 -o x.h5
  posterior point.h5 0 'del f["hessian"]'
  expect 65 "no mean has a Hessian" ivon-sample point.h5 -o x.h5
  posterior ess.h5 0 'del f.attrs["ess"]'
  expect 65 "has no ess, expected a positive number; ivon-convert --ess gives one" ivon-sample ess.h5 -o x.h5
  touch x-1.h5
  expect 73 "x-1.h5: file exists" ivon-sample p.h5 -n 2 -o 'x-%d.h5'
  [ "$(ls -A | grep -E '^x|tmp')" = x-1.h5 ]
  ivon-sample -f p.h5 -n 2 -o 'x-%d.h5'
  [ -s x-1.h5 ]
}

@test "a name is never a format" {
  posterior p.h5 0
  ivon-sample p.h5 -n 1 --first=3 -o 'x%n%s-%d%%.h5'
  [ -s 'x%n%s-3%%.h5' ]
}
