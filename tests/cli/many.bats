# Checkpoints of very many tensors: time in proportion to their number, and signals heeded meanwhile.
load common

# How long things take is the release's to show.
many_setup() {
  setup
  ! ldd "$IVON_BIN/ivon" | grep -qE 'lib[at]san' || skip "sanitizers take time"
}

# make COUNT: a.safetensors and b.safetensors, of so many tensors of 7 elements.
make() {
  /usr/bin/python3 - "$1" << 'PYTHON'
import json, struct, sys
import numpy as np
count = int(sys.argv[1])
for seed, name in ((0, "a"), (1, "b")):
    header = {f"layers.{i // 10}.block.{i % 10}.weight":
              {"dtype": "F32", "shape": [7], "data_offsets": [28 * i, 28 * (i + 1)]}
              for i in range(count)}
    text = json.dumps(header).encode()
    values = np.random.default_rng(seed).standard_normal(count * 7).astype("f4")
    with open(name + ".safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + values.tobytes())
PYTHON
}

# within SECONDS COMMAND: of processor time, which do not depend on what else runs. All that follows
# takes one or two; what is quadratic in the number of tensors takes 20 and more.
within() {
  (ulimit -t "$1"; shift; "$@")
}

@test "10,000 tensors are converted, described and merged in seconds" {
  many_setup
  make 10000
  for format in h5 npz safetensors; do
    within 15 ivon-convert -q a.safetensors -o "first.$format"
    within 15 ivon-convert -qf "first.$format" -o "second-$format.npz"
  done
  within 15 ivon-convert -q a.safetensors --shard-size=1M -o s.safetensors.index.json
  within 15 ivon-convert -q s.safetensors.index.json -o second-sharded.npz
  $python - << 'PYTHON'
import h5py, numpy as np
want = np.random.default_rng(0).standard_normal(70000).astype("f4").reshape(-1, 7)
names = [f"layers.{i // 10}.block.{i % 10}.weight" for i in range(10000)]
for path in "first.npz", "second-h5.npz", "second-npz.npz", "second-safetensors.npz", "second-sharded.npz":
    found = np.load(path)
    assert len(set(found.files) & set(names)) == 10000 and len(found.files) <= 10005, path
    assert all((found[name] == row).all() for name, row in zip(names, want)), path
with h5py.File("first.h5") as file:
    assert all(file["mean/" + name].id.get_offset() % 64 == 0 for name in names)
PYTHON
  within 15 ivon-info first.h5 > out
  within 15 ivon-merge -q -m average first.h5 b.safetensors -o merged.h5
}

@test "a signal ends any command on 20,000 tensors within a second" {
  many_setup
  make 20000
  ivon-convert -q a.safetensors -o a.h5
  $python "$BATS_TEST_DIRNAME/../oracle/signals.py" 2 << 'COMMANDS'
ivon-convert -qf a.safetensors -o o.h5
ivon-convert -qf a.h5 -o o.npz
ivon-convert -qf a.safetensors -o o.safetensors
ivon-convert -qf a.h5 --shard-size=1M -o o.safetensors.index.json
ivon-merge -qf -m average a.h5 b.safetensors -o o.h5
ivon-info a.h5
COMMANDS
}

@test "a signal ends computations within a second, and a training goes on to the same bits" {
  many_setup
  $python - << 'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(0)
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = r.standard_normal((4000, 64)).astype("f4"), r.integers(0, 10, 4000)
PYTHON
  options=(--no-provenance -q --arch=mlp:64,512,512,10 --data=data.h5 --test=data.h5 --lr=.1 --batch=4000 --steps=3 --save-every=0 --eval-every=1)
  ivon-train "${options[@]}" -o whole
  cp whole/posterior-00000003.h5 p.h5
  $python "$BATS_TEST_DIRNAME/../oracle/signals.py" 3 << COMMANDS
ivon-predict -qf p.h5 --data=data.h5 -n 30 -o p.csv
ivon-sensitivity -qf p.h5 --data=data.h5 -o s.h5 --vectors
ivon-sensitivity -qf p.h5 --data=data.h5 --limit=400 --groups=y -o g.csv
ivon-predict-gen -qf p.h5 --data=data.h5 --samples=20 -o g.csv
ivon-sample -qf p.h5 -n 20 -o s-%d.h5
ivon-train ${options[@]} -f -o run
COMMANDS
  rm -rf run
  for delay in .3 .6 .9 1.2 1.5; do
    timeout -s TERM $delay ivon-train "${options[@]}" --resume -o run || [ $? = 124 ]
  done
  ivon-train "${options[@]}" --resume -o run
  cmp run/log.csv whole/log.csv
  cmp run/posterior-00000003.h5 whole/posterior-00000003.h5
}
