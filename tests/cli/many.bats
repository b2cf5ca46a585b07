# Checkpoints of very many tensors: time in proportion to their number.
load common

# within SECONDS COMMAND: of processor time, which do not depend on what else runs. All that follows
# takes one or two; what is quadratic in the number of tensors takes 20 and more.
within() {
  (ulimit -t "$1"; shift; "$@")
}

@test "10,000 tensors are converted, described and merged in seconds" {
  $python "$BATS_TEST_DIRNAME/../oracle/many_tensors.py" 10000
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
