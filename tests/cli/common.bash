bats_require_minimum_version 1.5.0

# For bats: a scratch directory, the commands on the path, small posteriors.
setup() {
  cd "$BATS_TEST_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
}

# posterior FILE SEED [SCRIPT]: a small posterior; SCRIPT is Python that may change `f` (h5py).
posterior() {
  $python - "$@" <<'PYTHON'
import sys, h5py, numpy as np
path, seed = sys.argv[1], int(sys.argv[2])
r = np.random.default_rng(seed)
with h5py.File(path, "w", track_order=True) as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=1000.0, weight_decay=1e-3)
    for name, shape in [("fc1.weight", (30, 40)), ("fc1.bias", (30,)), ("head.weight", (3, 30))]:
        f["mean/" + name] = r.standard_normal(shape).astype("f4")
        f["hessian/" + name] = r.gamma(1.0, 0.1, shape).astype("f4")
    if len(sys.argv) > 3:
        exec(sys.argv[3])
PYTHON
}

# small_networks: data.h5, and posteriors of one event, of two, of numbers and of tokens, trained on it.
small_networks() {
  /usr/bin/python3 - << 'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("data.h5", "w") as f:
    x = r.standard_normal((80, 4)).astype("f4")
    f["x"], f["y"] = x, (x[:, :1] + r.standard_normal((80, 1)) > 0).astype("i8")
    f["number"], f["tokens"] = x[:, :1], r.integers(0, 7, (80, 6))
    f["both"] = (x[:, :2] > 0).astype("i8")
PYTHON
  made() { # NAME ARCHITECTURE OPTION...
    ivon-train -q --no-provenance --lr=.05 --epochs=3 --batch=20 --save-every=0 --data=data.h5 -o run \
      --arch="$2" "${@:3}"
    mv run/posterior-*.h5 "$1.h5"
    rm -r run
  }
  made event mlp:4,3,1,tanh --likelihood=bernoulli
  made events mlp:4,3,2,tanh --likelihood=bernoulli --targets=both
  made number mlp:4,3,1,tanh --likelihood=gaussian --noise-std=1 --targets=number
  made tokens gpt:7,6,8,1,2 --inputs=tokens --targets=tokens
}
