load common

@test "a merge of any order and number of threads has the same bytes" {
  for i in 0 1 2 3; do posterior $i.h5 $i; done
  ivon-merge --no-provenance -j1 -b 0.h5 1.h5:.5 2.h5 3.h5:-.1 -o a.h5 --on-nonpositive=base -q
  ivon-merge --no-provenance -j2 -b 0.h5 3.h5:-.1 1.h5:.5 2.h5 -o b.h5 --on-nonpositive=base -q
  ivon merge --no-provenance -j2 -b 0.h5 2.h5 3.h5:-.1 1.h5:.5 -o c.h5 --on-nonpositive=base -q
  cmp a.h5 b.h5
  cmp a.h5 c.h5
}

@test "compressed, chunked and reordered inputs give the same bytes" {
  posterior 0.h5 0
  posterior 1.h5 1
  $python - <<'PYTHON'
import h5py
with h5py.File("1.h5") as f, h5py.File("z.h5", "w") as g:
    g.attrs.update(f.attrs)
    for part in ("hessian", "mean"):
        for name, data in reversed(list(f[part].items())):
            chunks = tuple(max(1, n // 3) for n in data.shape)
            g.create_dataset(f"{part}/{name}", data=data[()], chunks=chunks, compression="gzip",
                             shuffle=True, fletcher32=True)
PYTHON
  ivon-merge --no-provenance -b 0.h5 1.h5 -o a.h5
  ivon-merge --no-provenance -b 0.h5 z.h5 -o b.h5
  cmp a.h5 b.h5
}

@test "the date comes from SOURCE_DATE_EPOCH, hashes on request" {
  posterior 0.h5 0
  posterior 1.h5 1
  SOURCE_DATE_EPOCH=0 ivon-merge --hash -b 0.h5 1.h5 -o a.h5
  sum=$(sha256sum 1.h5 | cut -d' ' -f1)
  $python -c "
import h5py, json
p = json.loads(h5py.File('a.h5').attrs['provenance'])
assert p['date'] == '1970-01-01T00:00:00Z', p
assert p['command'] == 'ivon-merge --hash -b 0.h5 1.h5 -o a.h5', p
assert p['inputs'][1]['sha256'] == '$sum', p"
}

@test "a sweep writes what single runs write" {
  for i in 0 1 2; do posterior $i.h5 $i; done
  ivon-merge --no-provenance -b 0.h5 1.h5 2.h5 --sweep .1:.3:.1 -o 's-%g.h5'
  [ "$(ls s-*.h5 | tr '\n' ' ')" = "s-0.1.h5 s-0.2.h5 s-0.3.h5 " ]
  ivon-merge --no-provenance -b 0.h5 1.h5 2.h5 --sweep .3:.3:1 -o 'one-%g.h5'
  cmp s-0.3.h5 one-0.3.h5
  run ivon-merge -b 0.h5 1.h5 2.h5 --sweep .1:.3:.1 -o 's.h5'
  [ $status -eq 64 ]
  run ivon-merge --method=hessian 1.h5 2.h5 --sweep .1:.3:.1 -o 'x-%g.h5'
  [ $status -eq 64 ]
}

@test "mistakes get one line and the right exit code" {
  posterior 0.h5 0
  posterior 1.h5 1
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
  expect 66 "nowhere.h5: cannot open it" ivon-merge nowhere.h5 -o x.h5
  expect 66 "is a directory" ivon-merge . -o x.h5
  expect 64 "no output given" ivon-merge 0.h5
  expect 64 "no model given" ivon-merge -o x.h5
  expect 64 "expected one of" ivon-merge --method=mean 0.h5 -o x.h5
  expect 64 "needs a base" ivon-merge --method=task-arithmetic 0.h5 -o x.h5
  expect 64 "add up to zero" ivon-merge --method=average 0.h5 1.h5:-1 -o x.h5
  echo text > text.h5
  expect 65 "no format that is known" ivon-merge text.h5 -o x.h5
  head -c 3000 1.h5 > cut.h5
  expect 65 "cut.h5: damaged HDF5 file" ivon-merge cut.h5 -o x.h5
  posterior head.h5 2 'del f["mean/head.weight"]; f["mean/head.weight"] = np.zeros((5, 30), "f4")'
  expect 65 "head.weight': shape 5x30, 0.h5 has 3x30" ivon-merge -b 0.h5 head.h5 -o x.h5
  posterior nan.h5 3 'f["mean/fc1.bias"][7] = np.nan'
  expect 65 "nan.h5: mean of 'fc1.bias' is nan at element 7" ivon-merge -b 0.h5 nan.h5 -o x.h5
  touch old.h5
  expect 73 "file exists" ivon-merge -b 0.h5 1.h5 -o old.h5
  expect 73 "cannot create" ivon-merge -b 0.h5 1.h5 -o no/where.h5
  [ ! -e x.h5 ]
  [ -z "$(ls -A | grep tmp)" ]
}

@test "finetuned heads: kept from the base, or left out" {
  posterior 0.h5 0
  posterior 1.h5 1 'del f["mean/head.weight"], f["hessian/head.weight"]'
  ivon-merge -b 0.h5 1.h5 -o kept.h5 --on-mismatch=base -q
  ivon-merge -b 0.h5 1.h5 -o left.h5 --on-mismatch=skip -q
  $python -c "
import h5py, numpy as np
a, b, c = (h5py.File(n) for n in ('0.h5', 'kept.h5', 'left.h5'))
assert np.array_equal(a['mean/head.weight'], b['mean/head.weight'])
assert np.array_equal(a['hessian/head.weight'], b['hessian/head.weight'])
assert 'head.weight' not in c['mean'] and 'head.weight' not in c['hessian']"
}

@test "a full disk ends with one line and 74, and leaves nothing" {
  [ "$(id -u)" = 0 ] || skip "needs to mount a file system"
  mkdir small
  mount -t tmpfs -o size=64k tmpfs small || skip "cannot mount"
  for i in 0 1; do posterior $i.h5 $i 'f["mean/big"] = np.zeros(90000, "f4"); f["hessian/big"] = np.ones(90000, "f4")'; done
  run ivon-merge -b 0.h5 1.h5 -o small/x.h5 # there is room for all but the data
  left=$(ls -A small)
  head -c 64k /dev/zero > small/other || true
  full=$(ivon-merge -b 0.h5 1.h5 -o small/x.h5 2>&1) && full_status=0 || full_status=$?
  full_left=$(ls -A small)
  umount small
  [ $status -eq 74 ]
  [ "${#lines[@]}" -eq 1 ]
  [ -z "$left" ]
  [ $full_status -eq 74 ]
  [ "$(wc -l <<< "$full")" -eq 1 ]
  [ "$full_left" = other ]
}

@test "an unwritable directory ends with one line and 73" {
  posterior 0.h5 0
  posterior 1.h5 1
  mkdir locked
  chmod 555 locked
  as=()
  [ "$(id -u)" != 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  chmod a+rx .
  "${as[@]}" test -x "$IVON_BIN/ivon-merge" || skip "no other user may run the program here"
  run "${as[@]}" "$IVON_BIN/ivon-merge" -b 0.h5 1.h5 -o locked/x.h5
  echo "$status $output"
  [ $status -eq 73 ]
  [ "${#lines[@]}" -eq 1 ]
  [[ $output == *"Permission denied"* ]]
}

@test "killed at any moment, the output is the old file or the new one" {
  for i in 0 1; do posterior $i.h5 $i 'f["mean/big"] = np.full(2000000, float(seed), "f4"); f["hessian/big"] = np.ones(2000000, "f4")'; done
  ivon-merge --no-provenance -b 0.h5 1.h5 -o new.h5
  ivon-merge --no-provenance -b 0.h5 1.h5:.5 -o old.h5
  old=0 new=0
  for i in $(seq "${KILLS:-50}"); do
    cp old.h5 out.h5
    ivon-merge --no-provenance -f -b 0.h5 1.h5 -o out.h5 & pid=$!
    sleep "0.0$((RANDOM % 9))$((RANDOM % 10))"
    kill -9 $pid 2>/dev/null || true
    wait $pid 2>/dev/null || true
    if cmp -s out.h5 old.h5; then old=$((old + 1)); else cmp out.h5 new.h5; new=$((new + 1)); fi
  done
  echo "# $old old, $new new" >&3
  ivon-merge --no-provenance -f -b 0.h5 1.h5 -o out.h5
  cmp out.h5 new.h5
  [ -z "$(ls -A | grep ivon-tmp)" ]
}

# model NAME SEED: tensors of one layer and a batch norm in several formats.
model() {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B - "$@" <<'PYTHON'
import json, sys, numpy as np, safetensors_file as st
name, r = sys.argv[1], np.random.default_rng(int(sys.argv[2]))
arrays = {"conv.weight": r.standard_normal((2, 2)), "bn.weight": r.standard_normal(3),
          "bn.bias": r.standard_normal(3), "bn.running_mean": r.standard_normal(3),
          "bn.running_var": r.random(3), "bn.num_batches_tracked": np.int64(r.integers(99))}
arrays = {n: a.astype("f4") if a.dtype == "f8" else np.asarray(a) for n, a in arrays.items()}
st.write(name + ".safetensors", arrays)
np.savez(name + ".npz", **arrays)
np.savez(name + "-slashes.npz", **{n.replace(".", "/"): a for n, a in arrays.items()})
half = {}
for i, names in enumerate((["conv.weight", "bn.weight", "bn.bias"], ["bn.running_mean",
                          "bn.running_var", "bn.num_batches_tracked"])):
    st.write(f"{name}-{i}.safetensors", {n: arrays[n] for n in names})
    half.update({n: f"{name}-{i}.safetensors" for n in names})
json.dump({"metadata": {"total_size": 0}, "weight_map": half},
          open(name + ".safetensors.index.json", "w"))
try:
    import torch
    torch.save({n: torch.from_numpy(np.array(a)) for n, a in arrays.items()}, name + ".pt")
except ImportError:
    pass
PYTHON
}

@test "running statistics are the base's in every format, and that is said" {
  for i in 0 1 2; do model $i $i; done
  for kind in .safetensors .safetensors.index.json .npz -slashes.npz .pt; do
    [ -e 0$kind ] || continue
    ivon-merge -m task-arithmetic --base=0$kind 1$kind 2$kind -o out$kind.npz 2> err
    grep -q "warning: 3 buffers differ between the inputs, 'bn.running_mean' the first; the base's were kept" err ||
      grep -q "'bn/running_mean' the first" err
    [ "$(wc -l < err)" -eq 1 ]
    ivon-merge -m average 1$kind 2$kind -o mean$kind.npz 2> err
    grep -q "the first model's were kept" err
    $python - 0.npz 1.npz 2.npz out$kind.npz mean$kind.npz <<'PYTHON'
import sys, numpy as np
base, one, two, out, mean = (dict(np.load(p)) for p in sys.argv[1:])
out, mean = ({n.replace("/", "."): a for n, a in d.items()} for d in (out, mean))
for name in base:
    b, x, y = (np.float64(m[name]) for m in (base, one, two))
    if "running" in name or "num_batches" in name:
        assert np.array_equal(out[name], base[name]) and np.array_equal(mean[name], one[name]), name
    else: # rounded once to f32: half a unit in the last place, 2^-24
        assert np.allclose(out[name], b + (x - b) + (y - b), rtol=2.0 ** -24, atol=0), name
        assert np.allclose(mean[name], (x + y) / 2, rtol=2.0 ** -24, atol=0), name
PYTHON
  done
}

@test "a buffer of another shape counts as one that differs" {
  for i in 0 1; do posterior $i.h5 $i "f['buffers/mask'] = np.zeros($i + 2)"; done
  ivon-merge -b 0.h5 1.h5 -o out.h5 2> err
  grep -q "warning: 1 buffer differs between the inputs, 'mask' the first; the base's was kept" err
}

@test "a buffer is compared with that of every input that has it" {
  posterior 0.h5 0 "f['buffers/mask'] = np.arange(100000.); f['buffers/own'] = np.arange(3)"
  cp 0.h5 2.h5
  posterior 1.h5 1 "f['buffers/mask'] = np.arange(100000.)"
  ivon-merge -b 0.h5 1.h5 2.h5 -o out.h5 2> err
  [ ! -s err ]
  posterior 2.h5 2 "a = np.arange(100000.); a[99999] = 0; f['buffers/mask'] = a"
  for models in "1.h5 2.h5" "2.h5 1.h5"; do
    for base in "-b 0.h5" ""; do
      ivon-merge -f $base $models -m average -o out.h5 2> err
      grep -q "warning: 1 buffer differs between the inputs, 'mask' the first" err
    done
  done
}

@test "the order of a file's tensors, and their number, change nothing" {
  cat > make.py << 'PYTHON'
import h5py, numpy as np
for seed in range(3):
    r = np.random.default_rng(seed)
    names = [f"layer.{i}.weight" for i in range(150)]
    mean = {n: r.standard_normal(3).astype("f4") for n in names}
    hessian = {n: r.gamma(1.0, 0.1, 3).astype("f4") for n in names}
    groups = {"mean": mean, "hessian": hessian, "buffers": {"steps": np.int64([seed, 1]), "mask": np.int64([7])}}
    for kind, order in ("first", ["mean", "hessian", "buffers"]), ("last", ["buffers", "hessian", "mean"]):
        with h5py.File(f"{kind}{seed}.h5", "w", track_order=True) as f:
            f.attrs.update(format="ivon-posterior", format_version=1, ess=1000.0, weight_decay=1e-3)
            for group in order:
                g = f.create_group(group, track_order=True)
                for name, a in groups[group].items():
                    g[name] = a
PYTHON
  $python make.py
  for method in gradient-matching hessian average task-arithmetic; do
    for kind in first last; do
      options=(-m $method --no-provenance --json)
      case $method in gradient-matching | task-arithmetic) options+=(-b ${kind}0.h5) ;; esac
      ivon-merge "${options[@]}" ${kind}1.h5 ${kind}2.h5 -o $kind.h5 -f > $kind.json 2> $kind.err
      sed -i -E "s/$kind([0-9.])/\1/g" $kind.json $kind.err
    done
    cmp first.err last.err
    cmp first.json last.json
    grep -q "1 buffer differs between the inputs, 'steps' the first" first.err
    $python -c "
import h5py
a, b = h5py.File('first.h5'), h5py.File('last.h5')
found = []
a.visititems(lambda n, d: found.append(n) if isinstance(d, h5py.Dataset) else None)
assert len(found) == 302 or (len(found) == 152 and '$method' in ('average', 'task-arithmetic')), len(found)
for n in found:
    assert (a[n][()] == b[n][()]).all(), n"
  done
}

@test "a kept mean that does not fit into a type is told of with its place" {
  for i in 0 1; do posterior $i.h5 $i "f['mean/kept'] = np.float32([1, 2, 70000, 4]); f['hessian/kept'] = np.ones(4, 'f4')"; done
  run ivon-merge -q -m average 0.h5 1.h5 --exclude=kept --dtype=f16 -o x.h5
  [ $status -eq 65 ]
  [ "$output" = "ivon-merge: 0.h5: mean of 'kept' is 70000 at element 2, which does not fit into f16" ]
  # What is left as it is need have no Hessian for the rest to have theirs.
  for i in 0 1; do posterior $i.h5 $i "f['mean/kept'] = np.float32([1, 2])"; done
  ivon-merge -q -m average 0.h5 1.h5 --exclude=kept -o x.h5
  ivon-merge -q -m average 0.h5 1.h5 -o bare.h5
  $python -c "
import h5py
assert sorted(h5py.File('x.h5')['hessian']) == ['fc1.bias', 'fc1.weight', 'head.weight']
assert 'hessian' not in h5py.File('bare.h5')"
}

@test "too little memory is told of, whatever is to be measured" {
  posterior 0.h5 0
  posterior 1.h5 1
  for more in "" --json; do
    run ivon-merge -q -b 0.h5 1.h5 --memory=1k -j1 -o x.h5 $more
    echo "$status $output"
    [ $status -eq 71 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *" MB; raise --memory, or lower --threads" ]]
    [ ! -e x.h5 ]
  done
}
