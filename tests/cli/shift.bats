load common

# A network of images, and their corruptions by an oracle in double precision; numbers of a channel
# that is constant, and channels of different ranges.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 - << 'PYTHON'
import numpy as np
from corruptions import CONSTANTS, corrupt
r = np.random.default_rng(5)
y = r.integers(0, 3, 40)
x = r.uniform(-1, 1, (40, 3, 9, 6)) + np.array([0, 2, 5])[:, None, None]
x[:, 0, 2:5] += y[:, None, None]
x = x.astype("f4")
x[:, 2] = 0.7
low, high = x.min((0, 2, 3)), x.max((0, 2, 3))
np.savez("data.npz", x=x, y=y)
np.savez("flat.npz", x=x.reshape(40, -1), y=y)
np.savez("last.npz", x=x.transpose(0, 2, 3, 1), y=y)
for name in CONSTANTS:
    for level in 1, 4, 5:
        np.savez(f"{name}-{level}.npz", x=corrupt(name, level, x, low, high, seed=3), y=y)
bytes_ = r.integers(40, 200, (20, 1, 5, 5)).astype("u1")
floats = ((bytes_ / 255 - 0.5) / 0.2).astype("f4")
for name, images in ("bytes", bytes_), ("floats", floats), ("gray", floats[:, 0]):
    np.savez(name + ".npz", x=images, y=np.arange(20) % 3)
PYTHON
  ivon-train -q --lr=.02 --epochs=5 --batch=20 --save-every=0 --data=flat.npz -o run --arch=mlp:162,5,3,tanh
  mv run/posterior-*.h5 posterior.h5
  small_networks
}

setup() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
}

P() { ivon-predict -q --no-provenance -f "$@"; }

@test "metrics are those of data that an oracle corrupted" {
  P posterior.h5 --data=data.npz --mean --seed=3 --metrics --shift=all:1,4..5 --json > shifted.jsonl
  P posterior.h5 --data=data.npz --samples=4 --seed=3 --metrics --shift=noise:4 --json > averaged.jsonl
  for file in noise impulse blur pixelate contrast brightness; do
    for level in 1 4 5; do P posterior.h5 --data=$file-$level.npz --mean --metrics --json; done
  done > expected.jsonl
  P posterior.h5 --data=noise-4.npz --samples=4 --seed=3 --metrics --json >> expected.jsonl
  # Pixels are the oracle's but for their last bits, and the noise for 2^-21 of it.
  $python - << 'PYTHON'
import json
found = [json.loads(line) for name in ("shifted", "averaged") for line in open(name + ".jsonl")]
expected = [json.loads(line)["metrics"] for line in open("expected.jsonl")]
assert len(found) == len(expected) == 19
for a, b in zip(found, expected):
    assert a["accuracy"] == b["accuracy"]["value"]
    for name in "nll", "brier", "ece", "aurc":
        assert abs(a[name] - b[name]["value"]) < 2e-6, (a, name)
        assert abs(a[name + "_se"] - b[name]["standard_error"]) < 2e-6
names = ["noise", "impulse", "blur", "pixelate", "contrast", "brightness"]
assert [(a["shift"], a["level"]) for a in found[:18]] == [(n, l) for n in names for l in (1, 4, 5)]
assert len({a["nll"] for a in found}) == 19
PYTHON
}

@test "level 0 is the data, and CSV has the numbers of JSON" {
  for how in --mean --samples=3 "--method=linear"; do
    P posterior.h5 --data=data.npz --metrics --json $how > plain.json
    P posterior.h5 --data=data.npz --metrics --shift=contrast:0 --shift=blur:2 $how --json > shift.jsonl
    P posterior.h5 --data=data.npz --metrics --shift=contrast:0 --shift=blur:2 $how > shift.csv
    $python - << 'PYTHON'
import csv, json
plain = json.load(open("plain.json"))["metrics"]
lines = [json.loads(line) for line in open("shift.jsonl")]
for name in "accuracy", "nll", "brier", "ece", "aurc":
    assert (lines[0][name], lines[0][name + "_se"]) == (plain[name]["value"], plain[name]["standard_error"])
rows = list(csv.DictReader(open("shift.csv")))
assert [{k: v if k == "shift" else float(v) for k, v in row.items()} for row in rows] == lines
PYTHON
  done
}

@test "threads, tiles and limits change no bit of a corruption" {
  at=(posterior.h5 --data=data.npz --mean --metrics --shift=noise:1..2 --shift=impulse:5)
  P "${at[@]}" -j1 --memory=64K > one.csv
  P "${at[@]}" -j3 | cmp - one.csv
  P "${at[@]}" -o two.csv
  cmp one.csv two.csv
  P "${at[@]}" --seed=1 > other.csv
  run -1 cmp -s one.csv other.csv
  # The first examples have the same pixels, of the ranges of all, whatever --limit says.
  $python - << 'PYTHON'
import numpy as np
whole = np.load("noise-5.npz")
np.savez("first.npz", x=whole["x"][:10], y=whole["y"][:10])
PYTHON
  P posterior.h5 --data=data.npz --mean --seed=3 --metrics --shift=noise:5 --limit=10 --json > limited.json
  P posterior.h5 --data=first.npz --mean --metrics --json > first.json
  $python -c '
import json
a, b = (json.load(open(n + ".json")) for n in ("limited", "first"))
assert abs(a["nll"] - b["metrics"]["nll"]["value"]) < 2e-6'
}

@test "the graph, the data or --image-shape say what an image is" {
  at=(posterior.h5 --mean --metrics --shift=pixelate:3)
  P "${at[@]}" --data=data.npz > shaped.csv
  P "${at[@]}" --data=flat.npz --image-shape=3x9x6 | cmp - shaped.csv
  P "${at[@]}" --data=flat.npz --image-shape=27x6 > tall.csv
  run -1 cmp -s tall.csv shaped.csv
  run -65 P "${at[@]}" --data=flat.npz
  [[ $output == *"flat.npz: an example of 'x' has 1 axes and 162 numbers, expected images of channels x height x width"* ]]
  run -65 P "${at[@]}" --data=last.npz
  [[ $output == *"--image-shape says what they are" ]]
  run -65 P "${at[@]}" --data=flat.npz --image-shape=9x6
  [[ $output == *"has 162 numbers, expected 1 x 9 x 6 as --image-shape has it" ]]
  $python -c 'import onnx' 2> /dev/null || skip "no onnx"
  mkdir example
  cd example
  $python "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  $python - << 'PYTHON'
import onnx
from onnx import helper
model = onnx.load("model.onnx")
graph = model.graph
graph.input[0].CopyFrom(helper.make_tensor_value_info("x", 1, ["n", 1, 2, 2]))
graph.node[0].input[0] = "flat"
graph.node.insert(0, helper.make_node("Flatten", ["x"], ["flat"]))
onnx.save(model, "images.onnx")
PYTHON
  P a.h5 --data=test.h5 --model=images.onnx --mean --metrics --shift=blur > graph.csv
  P a.h5 --data=test.h5 --mean --metrics --shift=blur --image-shape=2x2 | cmp - graph.csv
}

@test "bytes are scaled as they are normalised, and images need no channels" {
  ivon-train -q --lr=.02 --epochs=1 --batch=20 --save-every=0 --data=bytes.npz -o bytes --arch=mlp:25,3
  at=(bytes/posterior-*.h5 --mean --metrics --shift=noise:4)
  P "${at[@]}" --data=bytes.npz --normalize='.5,.2' > bytes.csv
  P "${at[@]}" --data=floats.npz > floats.csv
  P "${at[@]}" --data=gray.npz > gray.csv
  $python - << 'PYTHON'
import csv
bytes_, floats, gray = (next(csv.DictReader(open(n + ".csv"))) for n in ("bytes", "floats", "gray"))
assert gray == floats and abs(float(bytes_["nll"]) - float(floats["nll"])) < 2e-6
PYTHON
}

@test "a calibration is applied, and regressions have their metrics" {
  ivon-calibrate -q -f posterior.h5 --mean --data=data.npz --method=temperature --conformal=thr -o c.json > /dev/null
  P posterior.h5 --mean --data=data.npz --metrics --calibration=c.json --json > plain.json
  P posterior.h5 --mean --data=data.npz --metrics --calibration=c.json --risk=.1 --json --shift=noise:0 > shift.json
  $python -c '
import json
a, b = (json.load(open(n + ".json")) for n in ("plain", "shift"))
for name in "accuracy", "nll", "ece", "coverage", "set_size":
    assert a["metrics"][name]["value"] == b[name]
assert "coverage_at_risk" in b'
  P number.h5 --data=data.h5 --inputs=x --targets=number --likelihood=gaussian --noise-std=1 --mean --metrics \
    --shift=noise:5 --image-shape=2x2 > number.csv
  [[ $(head -1 number.csv) == shift,level,rmse,rmse_se,nll,nll_se,crps,crps_se,coverage_90,coverage_90_se ]]
}

@test "what cannot be corrupted or measured is refused" {
  run -65 P tokens.h5 --data=data.h5 --inputs=tokens --targets=tokens --mean --metrics --shift=noise
  [[ $output == *"takes whole numbers, as tokens are: --shift corrupts images" ]]
  for wrong in fog noise:6 noise:3..1 noise: noise:1, :1 noise:1..; do
    run -64 P posterior.h5 --data=data.npz --metrics --shift=$wrong
    [[ $output == *"--shift: '$wrong', expected noise, impulse,"* ]]
  done
  for wrong in 8 0x8 8x 8x8x8x8 axb; do
    run -64 P posterior.h5 --data=data.npz --metrics --shift=blur --image-shape=$wrong
    [[ $output == *"--image-shape: '$wrong', expected HEIGHTxWIDTH"* ]]
  done
  run -64 P posterior.h5 --data=data.npz --shift=blur
  [[ $output == *"--shift prints metrics: it needs --metrics"* ]]
  run -64 P posterior.h5 --data=data.npz --metrics --image-shape=9x6
  [[ $output == *"--image-shape is for --shift"* ]]
  run -64 P posterior.h5 --data=data.npz --metrics --shift=blur --by-class
  run -64 P posterior.h5 --data=data.npz --metrics --shift=blur -o x.h5
  [[ $output == *"--shift prints text: write CSV or JSON Lines"* ]]
  run -64 P posterior.h5 --data=data.npz --metrics --shift=blur -o x.csv --json
  run -64 P posterior.h5 --data=data.npz --metrics --mean --shift=noise --include=x
  echo > there.csv
  run -73 ivon-predict -q posterior.h5 --data=data.npz --metrics --shift=noise -o there.csv
  [[ $output == *"there.csv: file exists"* ]]
}
