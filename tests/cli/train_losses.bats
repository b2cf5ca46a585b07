load common

# The loss of a training that is not the likelihood's own: smoothed labels, weights of classes, dropout.
setup_file() {
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/training_losses.py" write "$BATS_FILE_TMPDIR"
}

rows() { ivon-train -q --no-provenance --model="$BATS_FILE_TMPDIR/rows.onnx" --data="$BATS_FILE_TMPDIR/rows.h5" --ignore-label=-100 "$@"; }

refused() { # STATUS MESSAGE OPTION...
  run "-$1" ivon-train "${@:3}"
  [ "$output" = "ivon-train: $2" ] || { echo "$output"; return 1; }
}

@test "labels are smoothed and classes weighted as in PyTorch, by any threads and batches" {
  one() { rows --optimizer=sgd --lr=1 --beta1=0 --batch=64 --steps=1 "$@"; }
  one -o plain
  one -o smooth --label-smoothing=0.1 -j1
  one -o smoother --label-smoothing=1
  one -o weighted --class-weights=1,2.5,0,0.3
  one -o balanced --class-weights=balanced
  printf '%s\n' 1 2.5 0 0.3 > weights.txt
  one -o both --class-weights=weights.txt --label-smoothing=0.3
  one -o parts --class-weights=1,2.5,0,0.3 --label-smoothing=0.3 --batch=16 --accumulate=4 -j3
  cmp both/posterior-00000001.h5 parts/posterior-00000001.h5
  $python "$BATS_TEST_DIRNAME/../oracle/training_losses.py" check . plain:0 smooth:0.1 smoother:1 weighted:0:1,2.5,0,0.3 balanced:0:balanced both:0.3:1,2.5,0,0.3
}

@test "the loss of tests and the number of losses are those of the likelihood" {
  two() { rows --test="$BATS_FILE_TMPDIR/rows.h5" --lr=1e-9 --steps=1 "$@"; }
  two -o plain
  two -o other --label-smoothing=0.5 --class-weights=balanced
  [ "$(cut -d, -f5,6 plain/log.csv)" = "$(cut -d, -f5,6 other/log.csv)" ]
  [ "$(cut -d, -f3 plain/log.csv)" != "$(cut -d, -f3 other/log.csv)" ]
  info() { ivon-info --json "$1/posterior-00000001.h5" | jq -c '[.n_train,.ess]'; }
  [ "$(info plain)" = "$(info other)" ]
}

@test "losses that make no sense are refused, and those that changed told of" {
  a=(-q --model="$BATS_FILE_TMPDIR/rows.onnx" --data="$BATS_FILE_TMPDIR/rows.h5" --ignore-label=-100 --lr=0.1 --beta2=0.9 -o run)
  refused 64 "a label smoothing of 1.5, expected a number from 0 to 1" "${a[@]}" --steps=1 --label-smoothing=1.5
  refused 64 "3 class weights, expected 4, one for each class" "${a[@]}" --steps=1 --class-weights=1,2,3
  refused 64 "--class-weights: '1,2,-3,1', expected balanced, numbers that are not negative, such as 1,2.5,1, or a file of them" \
    "${a[@]}" --steps=1 --class-weights=1,2,-3,1
  refused 64 "the classes of all targets have a weight of 0" "${a[@]}" --steps=1 --class-weights=0,0,0,0
  printf '1\nmany\n' > weights.txt
  refused 65 "weights.txt: line 2 is 'many', expected the weight of a class, a number that is not negative" \
    "${a[@]}" --steps=1 --class-weights=weights.txt
  refused 66 "none.txt: cannot open it: No such file or directory" "${a[@]}" --steps=1 --class-weights=none.txt
  b=(-q --arch=linear:15,12 --data="$BATS_FILE_TMPDIR/rows.h5" --targets=y --lr=1 --steps=1 -o run)
  refused 64 "label smoothing is for the categorical likelihood, and this is poisson" "${b[@]}" --likelihood=poisson --label-smoothing=0.1
  refused 64 "class weights are for the categorical likelihood, and this is bernoulli" "${b[@]}" --likelihood=bernoulli --class-weights=balanced
  [ ! -e run ]
  printf '%s\n' 1 2 3 4 > weights.txt
  ivon-train "${a[@]}" --class-weights=weights.txt --label-smoothing=0.1 --steps=2
  run -0 ivon-train "${a[@]:1}" --class-weights=1,2,3,4 --label-smoothing=0.1 --steps=20 --resume
  [[ $output == "ivon-train: run/posterior-00000020.h5: 20 steps, loss "*([0-9.]) ]]
  run -0 ivon-train "${a[@]:1}" --class-weights=1,2,3,5 --steps=30 --resume
  [[ ${lines[0]} == *"--class-weights was 1,2,3,4 and is 1,2,3,5, --label-smoothing was 0.1 and is 0.0: this goes on, but not as one training would have" ]]
}

# clouds FILE: 48 examples of 5 numbers and 3 classes.
clouds() {
  $python - "$1" <<'PYTHON'
import h5py, numpy as np, sys
r = np.random.default_rng(2)
with h5py.File(sys.argv[1], "w") as f:
    y = r.integers(0, 3, 48)
    f["x"], f["y"] = (r.standard_normal((48, 5)) + y[:, None]).astype("f4"), y
PYTHON
}

@test "dropout takes the masks of its addresses, and none where it is over" {
  clouds data.h5
  sgd=(-q --no-provenance --arch=mlp:5,9,7,3 --data=data.h5 --test=data.h5 --optimizer=sgd --beta1=0 --lr=0.5 --batch=48 --seed=7)
  ivon-train "${sgd[@]}" --dropout=0.3 --steps=3 --save-every=1 -o run
  PYTHONPATH="$BATS_TEST_DIRNAME/../oracle" $python "$BATS_TEST_DIRNAME/../oracle/training_dropout.py" data.h5 run 7 0.3 3
  # The graph has its Dropout nodes, which other commands, and tests, pass by.
  last=run/posterior-00000003.h5
  nll=$(ivon-predict -q $last --data=data.h5 --mean --metrics | awk '$1 == "nll" { print $2 }')
  awk -v a="$nll" -v b="$(tail -1 run/log.csv | cut -d, -f5)" 'BEGIN { exit !(a - b < 6e-6 && b - a < 6e-6) }'
  # Of what is in a checkpoint, the nodes' own ratio goes on as that of the architecture does.
  ivon-train "${sgd[@]:0:2}" "${sgd[@]:3}" --from=$last --dropout=own --steps=2 --save-every=0 -o own
  ivon-train "${sgd[@]}" --from=$last --dropout=0.3 --steps=2 --save-every=0 -o arch
  ivon-train "${sgd[@]:0:2}" "${sgd[@]:3}" --from=$last --steps=2 --save-every=0 -o none
  $python - <<'PYTHON'
import h5py
own, arch, none = (h5py.File(f"{run}/posterior-00000002.h5")["mean/fc1.weight"][()] for run in ("own", "arch", "none"))
assert (own == arch).all() and (own != none).any()
PYTHON
}

@test "the bits of dropout depend neither on threads nor on being killed; weight samples have their own" {
  clouds data.h5
  a=(-q --no-provenance --arch=mlp:5,9,7,3 --data=data.h5 --lr=0.1 --beta2=0.9 --batch=20 --accumulate=2 --mc-samples=2 --dropout=0.5 --save-every=4)
  same() { for file in "$1"/*; do cmp "$file" "$2/${file##*/}" || return 1; done; }
  ivon-train "${a[@]}" --steps=10 -o one -j1
  ivon-train "${a[@]}" --steps=10 -o three -j3
  same one three
  rm three/done three/posterior-00000008.h5 three/posterior-00000010.h5
  ivon-train "${a[@]}" --steps=10 -o three --resume
  same one three
}

@test "dropout of a graph that was exported in training mode, and of one that has none" {
  clouds data.h5
  $python - <<'PYTHON'
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
w = np.random.default_rng(0).standard_normal((5, 3)).astype("f4")
info = helper.make_tensor_value_info
def save(name, ratio, training):
    nodes = [helper.make_node("Dropout", ["x", "ratio", "training"], ["d"], name="drop"), helper.make_node("MatMul", ["d", "w"], ["f"])]
    initializers = [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.float32(ratio), "ratio"),
                    numpy_helper.from_array(np.array(training), "training")]
    graph = helper.make_graph(nodes, "g", [info("x", TensorProto.FLOAT, ["n", 5])], [info("f", TensorProto.FLOAT, ["n", 3])], initializers)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), name)
save("on.onnx", 0.4, True); save("off.onnx", 0.9, False); save("all.onnx", 1, True)
PYTHON
  a=(-q --no-provenance --data=data.h5 --lr=0.1 --beta2=0.9 --steps=4 --save-every=2)
  run -65 ivon-train "${a[@]}" --model=on.onnx -o run
  [ "$output" = "ivon-train: on.onnx: node 'drop' (Dropout): it is in training mode; export the network for inference" ]
  ivon-train "${a[@]}" --model=on.onnx --dropout=own -o own
  ivon-train "${a[@]}" --model=off.onnx --dropout=0.4 -o given
  cmp <(ivon-predict own/posterior-00000004.h5 --data=data.h5 --mean) <(ivon-predict given/posterior-00000004.h5 --data=data.h5 --mean)
  $python -c '
import h5py, onnx
onnx.checker.check_model(onnx.load_from_string(h5py.File("own/posterior-00000004.h5")["model.onnx"][()].tobytes()), full_check=True)'
  rm own/done own/posterior-00000004.h5
  ivon-train "${a[@]}" --model=on.onnx --dropout=own -o own --resume
  ivon-train "${a[@]}" --model=on.onnx --dropout=own -o again
  cmp own/posterior-00000004.h5 again/posterior-00000004.h5
  refused 65 "all.onnx: node 'drop' (Dropout): its ratio is out of bounds, expected a constant from 0 to below 1" "${a[@]}" --model=all.onnx --dropout=own -o run
  refused 64 "linear:5,3: has no Dropout that drops" "${a[@]}" --arch=linear:5,3 --dropout=0.1 -o run
  refused 64 "a dropout of 1, expected a number from 0 to below 1" "${a[@]}" --arch=mlp:5,4,3 --dropout=1 -o run
}
