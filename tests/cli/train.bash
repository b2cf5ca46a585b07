# For bats of ivon-train: data, and what their trainings have in common.
load common

# clouds SEED SCRIPT: data.h5, which SCRIPT fills: Python, for which `f` is the file (h5py), `r` the generator of numbers,
# and clouds(COUNT) points of three Gaussian clouds in the plane, and their labels; the error by the best boundary is below
# 3 %, and more where they spread more than 0.7.
clouds() {
  /usr/bin/python3 - "$@" <<'PYTHON'
import sys, h5py, numpy as np
r = np.random.default_rng(int(sys.argv[1]))
def clouds(count, spread=0.7):
    y = r.integers(0, 3, count)
    centre = np.array([[2, 0], [-1, 1.7], [-1, -1.7]])[y]
    return (centre + spread * r.standard_normal((count, 2))).astype("f4"), y
with h5py.File("data.h5", "w") as f:
    exec(sys.argv[2])
PYTHON
}

# in_its_place FUNCTION ARGUMENT...: a function that begins a command by "${via[@]}"; with & behind, $! is the command,
# which an interruption ends.
in_its_place() {
  via=(exec env --default-signal=INT)
  "$@"
}

test_set() { echo "--test=$BATS_FILE_TMPDIR/data.h5:/test"; }

# same A B: two trainings have the same files.
same() { diff -r "$1" "$2"; }
