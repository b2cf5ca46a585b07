bats_require_minimum_version 1.5.0
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
  [ "$output" = "" ]
  run -0 ivon-train "${a[@]:1}" --class-weights=1,2,3,5 --steps=30 --resume
  [[ $output == *"--class-weights was 1,2,3,4 and is 1,2,3,5, --label-smoothing was 0.1 and is 0.0: this goes on, but not as one training would have" ]]
}
