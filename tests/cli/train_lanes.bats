load train

# --lane-samples: each lane of a step draws weights of its own.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/training_losses.py" write .
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(2)
with h5py.File("data.h5", "w") as f:
    f["x"], f["y"] = r.standard_normal((96, 5)).astype("f4"), r.integers(0, 3, 96)
    f["image"], f["class"] = r.standard_normal((16, 3, 32, 32)).astype("f4"), r.integers(0, 4, 16)
PYTHON
}

oracle() { PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python "$BATS_TEST_DIRNAME/../oracle/training_lanes.py" "$@"; }
common=(-q --no-provenance --lr=0.1 --beta2=0.9 --lane-samples)
mlp() { ivon-train "${common[@]}" --arch=mlp:5,9,7,3 --data="$BATS_FILE_TMPDIR/data.h5" --batch=20 "$@"; }

# any_threads STEPS COMMAND...: it leaves the same bytes by one thread, by three, and in two parts.
any_threads() {
  local last
  last=$(printf 'posterior-%08d.h5' "$1")
  "${@:2}" --steps="$1" --save-every=2 -o one -j1
  "${@:2}" --steps="$1" --save-every=2 -o three -j3
  same one three
  rm three/done "three/$last"
  "${@:2}" --steps="$1" --save-every=2 -o three -j2 --resume
  same one three
  rm -r one three
}

@test "gradients and estimates are those of lanes with their own weights, by numpy" {
  read -ra options <<< "$(oracle options)"
  for lanes in 1 7; do
    ivon-train -q --no-provenance --model="$BATS_FILE_TMPDIR/rows.onnx" --data="$BATS_FILE_TMPDIR/rows.h5" --ignore-label=-100 \
      "${options[@]}" --lanes=$lanes --steps=9 --save-every=0 -o run$lanes
    oracle run$lanes $lanes 9
  done
}

@test "the bits depend neither on threads nor on being interrupted" {
  any_threads 5 mlp --lanes=5 --mc-samples=2 --antithetic --accumulate=2 --hess-every=2 --clip-norm=1 --clip-radius=2 --average=0.5
  any_threads 3 mlp --lanes=20 --dropout=0.3 --dtype=bf16 --param-group='*bias:lr=0.2,ess=40,h0=2'
  any_threads 3 ivon-train "${common[@]}" --arch=resnet20-bn:4 --data="$BATS_FILE_TMPDIR/data.h5" --inputs=x=image --targets=class \
    --batch=16 --lanes=4 --augment=crop2,flip
  mlp --steps=2 -o base
  any_threads 3 mlp --from=base/posterior-00000002.h5 --lora='*:2' --lanes=3
  any_threads 3 mlp --from=base/posterior-00000002.h5 --prior=posterior --lanes=3 --memory=1M
}

@test "one lane draws what a step does, and several do not" {
  one() { mlp --steps=4 --mc-samples=2 --save-every=0 "$@"; }
  one --lanes=1 -o own
  common=("${common[@]:0:4}")
  one --lanes=1 -o shared
  same own shared
  one --lanes=4 -o shared4
  common+=(--lane-samples)
  one --lanes=4 -o own4
  ! cmp -s own4/posterior-00000004.h5 shared4/posterior-00000004.h5
}

@test "other methods and estimates are refused, and a change is told of" {
  for method in evon bbb adamw soap sgd; do
    run -64 mlp --steps=1 --optimizer=$method -o run
    [[ $output == "ivon-train: "--*" is not for --optimizer=$method" ]]
  done
  run -64 ivon-train -q --arch=mlp:5,3 --data="$BATS_FILE_TMPDIR/data.h5" --lr=0.1 --steps=1 --optimizer=evon --lane-samples -o run
  [ "$output" = "ivon-train: --lane-samples is not for --optimizer=evon" ]
  run -64 mlp --steps=1 --hessian=gradsq -o run
  [ "$output" = "ivon-train: --lane-samples is for --hessian=price" ]
  [ ! -e run ]
  a=(--arch=mlp:5,3 --data="$BATS_FILE_TMPDIR/data.h5" --lr=0.1 --beta2=0.9 -o run)
  ivon-train "${a[@]}" --steps=2
  run -0 ivon-train "${a[@]}" --steps=3 --resume --lane-samples
  [ "${lines[0]}" = "ivon-train: warning: run/posterior-00000002.h5: --lane-samples was no and is yes: this goes on, but not as one training would have" ]
}
