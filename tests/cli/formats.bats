load common

# The reader and writer of safetensors that knows the format's description alone.
oracle() { # PYTHON, with `st` the module and `np`
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c "
import os, sys, h5py, numpy as np, safetensors_file as st
$1"
}

# Directories base, first and second: a model of three shards as Hugging Face's libraries write it.
models() {
  mkdir -p out base first second
  oracle '
r = np.random.default_rng(0)
for directory in ("base", "first", "second"):
    n = lambda *shape: r.standard_normal(shape).astype("f4")
    half = lambda *shape: (n(*shape).view("u4") >> 16).astype("u2")
    shards = [{"model.embed.weight": half(50, 8)}, {"model.h.0.w": half(8, 8), "model.h.1.w": half(8, 8)},
              {"model.h.1.b": half(8), "lm_head.weight": half(50, 8)}]
    names = [f"model-{i + 1:05}-of-00003.safetensors" for i in range(3)]
    st.write_index(f"{directory}/model.safetensors.index.json", dict(zip(names, shards)), {"format": "pt"})
    for name, shard in zip(names, shards):
        st.write(f"{directory}/{name}", shard, {"format": "pt"}, bf16=list(shard))'
}
index=model.safetensors.index.json

@test "three sharded models become one with the same files, names, order and metadata" {
  models
  ivon-merge --method=task-arithmetic --no-provenance --base base/$index first/$index:.5 second/$index:.25 -o out/$index
  [ "$(ls out)" = "$(ls base)" ]
  oracle '
wide = lambda bits: (bits.astype("u4") << 16).view("f4").astype("f8")
base, first, second = (st.read_index(f"{d}/model.safetensors.index.json", ordered=False)[0]
                       for d in ("base", "first", "second"))
out, metadata, shards = st.read_index("out/model.safetensors.index.json", ordered=False)
_, total, like = st.read_index("base/model.safetensors.index.json", ordered=False)
assert metadata == {**total, "creator": metadata["creator"]}, metadata
for name, (arrays, metadata) in shards.items():
    assert list(arrays) == list(like[name][0]) and metadata == {"format": "pt"}, name
for name, found in out.items():
    b, x, y = (wide(model[name]) for model in (base, first, second))
    expected = b + .5 * (x - b) + .25 * (y - b)
    # rounded once, to 8 digits: half a unit in the last place is at most 2^-9 of the number
    assert np.all(np.abs(wide(found) - expected) <= 2.0 ** -8 * np.abs(expected)), name'
  ivon-merge --method=task-arithmetic --no-provenance --base base/$index second/$index:.25 first/$index:.5 -o out/again.safetensors.index.json
  for i in 1 2 3; do cmp out/model-0000$i-of-00003.safetensors out/again-0000$i-of-00003.safetensors; done
  run ivon-merge --method=task-arithmetic --base base/$index first/$index -o out/$index
  [ $status -eq 73 ]
  [ "$output" = "ivon-merge: out/$index: file exists; --force replaces it" ]
  ivon-merge -f --method=average first/$index second/$index -o out/$index
  ivon-info out/$index | grep -q creator
}

@test "a posterior goes through each format and comes back the same" {
  posterior p.h5 1 '
f.attrs.update(step=7, n_train=60000)
f["buffers/steps"] = np.int64(5)
f["buffers/running"] = np.arange(6.)
f["mean/params/Dense_0/kernel"] = np.zeros((0, 3), "f2")
f["hessian/params/Dense_0/kernel"] = np.zeros((0, 3), "f4")
f["model.onnx"] = np.arange(9, dtype="u1")
f["hessian/fc1.bias"].attrs["ess"] = 5.0'
  copy() { ivon-convert -q --no-provenance "$1" -o "$2"; }
  copy p.h5 direct.h5
  for out in a.safetensors a.npz a.safetensors.index.json; do
    copy p.h5 $out
    copy $out back.h5
    oracle '
def all_of(path):
    with h5py.File(path) as f:
        found = {"": dict(f.attrs)}
        f.visititems(lambda n, d: found.update({n: (d[()].tobytes(), d.dtype, d.shape, dict(d.attrs))})
                     if isinstance(d, h5py.Dataset) else None)
        return found
a, b = all_of("direct.h5"), all_of("back.h5")
assert a == b, {n: (a.get(n), b.get(n)) for n in set(a) | set(b) if a.get(n) != b.get(n)}'
    rm back.h5
  done
  oracle '
arrays, metadata = st.read("a.safetensors")
assert metadata["ivon-posterior"] == "1" and float(metadata["ess"]) == 1000, metadata
assert metadata["weight_decay"] == "0.001"
with h5py.File("direct.h5") as f, np.load("a.npz") as z:
    assert z["ess"] == 1000 and z["ess"].shape == () and z["weight_decay"] == 1e-3
    for name, array in f["mean"].items():
        if name != "params":
            assert np.array_equal(array, arrays[name]) and np.array_equal(array, z[name])
            assert np.array_equal(f["hessian"][name], arrays["hessian/" + name])
            assert np.array_equal(f["hessian"][name], z["hessian/" + name])
    assert z["params/Dense_0/kernel"].shape == (0, 3) and z["params/Dense_0/kernel"].dtype == "f2"'
}

@test "a header's length may begin as a pickle does" {
  for length in 640 896 1152 1408; do
    $python -c "
header = b'{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}'.ljust($length)
open('a.safetensors', 'wb').write($length .to_bytes(8, 'little') + header + bytes(4))"
    [ "$(head -c 1 a.safetensors | od -An -tx1)" = " 80" ]
    ivon-convert -q -f a.safetensors -o a.h5
  done
}

@test "what numpy writes is read, stored and compressed" {
  oracle '
r = np.random.default_rng(0)
arrays = {"w": r.standard_normal((300, 70)).astype("f4"), "b": r.standard_normal(70),
          "hessian/w": r.random((300, 70)).astype("f4"), "hessian/b": r.random(70).astype("f4"),
          "ess": 1000.0, "weight_decay": 1e-3}
np.savez("stored.npz", **arrays)
np.savez_compressed("deflated.npz", **arrays)
np.savez("swapped.npz", **{n: np.asarray(a).astype(np.asarray(a).dtype.newbyteorder(">")) for n, a in arrays.items()})
fortran = {n: np.asfortranarray(a) if np.ndim(a) > 1 else a for n, a in arrays.items()}
assert fortran["w"].flags.f_contiguous and not fortran["w"].flags.c_contiguous
np.savez("fortran.npz", **fortran)
np.savez_compressed("fortran-deflated.npz", **fortran)'
  for name in stored deflated swapped fortran fortran-deflated; do
    ivon-merge --no-provenance --base $name.npz $name.npz -o $name.h5
    cmp stored.h5 $name.h5
  done
}

@test "arrays in Fortran order are read as they are" {
  oracle '
r = np.random.default_rng(0)
arrays = {}
for kind in "f2 f4 f8 i1 i2 i4 i8 u1 u2 u4 u8 ? >f4 >f8 >i2 >u8".split():
    for shape in ((5, 7), (3, 4, 5), (2, 1, 3, 4), (1, 6), (6, 1), (0, 3), (2, 3, 1, 2, 2)):
        arrays["-".join(map(str, (kind.replace(">", "big").replace("?", "bool"), *shape)))] = (
            np.asfortranarray(r.integers(0, 100, shape).astype(kind)))
arrays["transposed"] = r.standard_normal((30, 40)).astype("f4").T
arrays["large"] = np.asfortranarray(r.standard_normal((1000, 3, 50)).astype("f4"))
np.savez("f.npz", **arrays)
np.savez_compressed("fz.npz", **arrays)
np.savez("c.npz", **{n: np.ascontiguousarray(a) for n, a in arrays.items()})'
  for name in f fz c; do ivon-convert -q --no-provenance $name.npz -o $name.h5; done
  cmp c.h5 f.h5
  cmp c.h5 fz.h5
  oracle '
with h5py.File("f.h5") as f, np.load("f.npz") as z:
    for n in z.files:
        assert np.array_equal((f["mean"] if n in f["mean"] else f["buffers"])[n], z[n]), n'
  # 64 kB take the large array in 38 slabs
  for name in f fz c; do ivon-info --memory=64k --json $name.npz | sed "s/\"path\":\"$name/\"path\":\"/" > $name.json; done
  cmp c.json f.json
  cmp c.json fz.json
}

@test "data in Fortran order predict what the same rows do" {
  oracle '
r = np.random.default_rng(0)
x, y = r.standard_normal((500, 4, 3)).astype("f4"), r.integers(0, 2, 500)
np.savez("c.npz", x=x, y=y)
np.savez("f.npz", x=np.asfortranarray(x), y=y)
np.savez("big.npz", x=np.asfortranarray(x.astype(">f4")), y=y)
np.savez_compressed("fz.npz", x=np.asfortranarray(x), y=y)
np.savez_compressed("bigz.npz", x=np.asfortranarray(x.astype(">f4")), y=y)
np.save("f.npy", np.asfortranarray(x))
np.save("y.npy", y)'
  ivon-train -q --arch=mlp:12,3,2 --data=c.npz --epochs=1 --lr=.1 --seed=1 --batch=7 -o c
  ivon-train -q --arch=mlp:12,3,2 --data=f.npz --epochs=1 --lr=.1 --seed=1 --batch=7 -o f
  for run in c f; do ivon-predict -q $run/posterior-*.h5 --data=c.npz --mean > $run.csv; done
  cmp c.csv f.csv
  for data in c.npz f.npz big.npz fz.npz bigz.npz f.npy,y.npy; do
    ivon-predict -q c/posterior-*.h5 --data=$data -n 2 > "$data.csv"
    cmp c.npz.csv "$data.csv"
  done
}

@test "samples go to any format" {
  posterior p.h5 1 'f["buffers/running"] = np.arange(6.)'
  ivon-sample --no-provenance p.h5 -o s.h5
  ivon-sample --no-provenance p.h5 -o s.safetensors
  ivon-sample --no-provenance p.h5 -o s.npz
  oracle '
arrays, _ = st.read("s.safetensors")
with h5py.File("s.h5") as f, np.load("s.npz") as z:
    for name, array in f["mean"].items():
        assert np.array_equal(array, arrays[name]) and np.array_equal(array, z[name]), name
    assert np.array_equal(f["buffers/running"], arrays["buffers/running"])'
  ivon-sample --no-provenance --dtype=bf16 p.h5 -o b.safetensors
  run ivon-sample --dtype=bf16 p.h5 -o b.npz
  [ $status -eq 64 ]
  [ "$output" = "ivon-sample: b.npz: tensor 'fc1.weight': npz cannot hold bf16 (convert to f32, or write safetensors)" ]
  [ ! -e b.npz ]
}

@test "a full disk ends with one line and 74, and leaves nothing" {
  [ "$(id -u)" = 0 ] || skip "needs to mount a file system"
  mkdir small
  mount -t tmpfs -o size=64k tmpfs small || skip "cannot mount"
  for i in 0 1; do posterior $i.h5 $i 'f["mean/big"] = np.zeros(90000, "f4"); f["hessian/big"] = np.ones(90000, "f4")'; done
  failed=
  for out in x.safetensors x.safetensors.index.json x.npz; do
    run ivon-merge -b 0.h5 1.h5 -o small/$out
    [ $status -eq 74 ] && [ "${#lines[@]}" -eq 1 ] && [ -z "$(ls -A small)" ] || failed="$out: $status $output"
  done
  umount small
  echo "$failed"
  [ -z "$failed" ]
}

@test "an unwritable directory ends with one line and 73" {
  models
  chmod 555 out
  as=()
  [ "$(id -u)" != 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  chmod a+rx .
  "${as[@]}" test -x "$IVON_BIN/ivon-merge" || skip "no other user may run the program here"
  for name in $index x.safetensors x.npz; do
    run "${as[@]}" "$IVON_BIN/ivon-merge" --method=average --dtype=f32 first/$index second/$index -o out/$name
    echo "$status $output"
    [ $status -eq 73 ]
    [ "${#lines[@]}" -eq 1 ]
    [[ $output == *"Permission denied"* ]]
  done
}

@test "killed at any moment, shards are all old, all new, or without an index" {
  mkdir out
  for i in 0 1; do posterior $i.h5 $i 'f["mean/big"] = np.full(1000000, float(seed), "f4"); f["hessian/big"] = np.ones(1000000, "f4")'; done
  ivon-merge --no-provenance -b 0.h5 1.h5 -o m.safetensors.index.json
  oracle '
arrays, _, _ = st.read_index("m.safetensors.index.json")
names = list(arrays)
st.write_index("like.safetensors.index.json", {f"like-{i}.safetensors": {n: arrays[n]} for i, n in enumerate(names)})'
  # the base is sharded as the output will be
  ivon-merge --no-provenance --method=average like.safetensors.index.json like.safetensors.index.json -o out/m.safetensors.index.json
  mkdir new
  ivon-merge --no-provenance -b 0.h5 1.h5:.5 -o half.safetensors
  ivon-merge --no-provenance --method=average like.safetensors.index.json half.safetensors -o new/m.safetensors.index.json
  cp -r out old
  for i in $(seq "${KILLS:-20}"); do
    rm -rf out
    cp -r old out
    ivon-merge --no-provenance -f --method=average like.safetensors.index.json half.safetensors -o out/m.safetensors.index.json & pid=$!
    sleep "0.0$((RANDOM % 6))$((RANDOM % 10))"
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    [ -e out/m.safetensors.index.json ] || continue
    diff -rq -x '.*' out old > /dev/null || diff -rq -x '.*' out new
  done
  ivon-merge --no-provenance -f --method=average like.safetensors.index.json half.safetensors -o out/m.safetensors.index.json
  diff -r out new
}
