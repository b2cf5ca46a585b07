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
