# What the commands say to those who mistype, mistake or mix up: one line that tells what to do.
load common

setup_file() {
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_checkpoints.py" .
  mkdir folder full
  : > empty
  : > full/file
}

# expect STATUS LINE COMMAND...: standard error is that line, standard output is empty.
expect() {
  local want=$1 line=$2 got=0
  shift 2
  "$@" > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err" || got=$?
  diff <(echo "$got: $(cat "$BATS_TEST_TMPDIR/out")$(cat "$BATS_TEST_TMPDIR/err")") <(echo "$want: $line")
}

here() { cd "$BATS_FILE_TMPDIR"; }

@test "a mistyped command names the nearest" {
  while read -r typed meant; do
    expect 64 "ivon: '$typed' is no command; did you mean '$meant'?" ivon "$typed" x.h5
    expect 64 "ivon: '$typed' is no command; did you mean '$meant'?" ivon help "$typed"
  done << 'PAIRS'
merg merge
mrege merge
mergee merge
inof info
inf info
sens sensitivity
predict-gne predict-gen
prdict predict
covnert convert
hlep help
PAIRS
  expect 64 "ivon: 'frobnicate' is no command; 'ivon help' lists all" ivon frobnicate
  expect 64 "ivon: 'm' is no command; 'ivon help' lists all" ivon m
  expect 64 "ivon: '' is no command; 'ivon help' lists all" ivon ""
  expect 64 "ivon: unknown option '--vesion'; did you mean '--version'?" ivon --vesion
  long=$(printf 'merge%.0s' {1..500})
  expect 64 "ivon: '$long' is no command; 'ivon help' lists all" ivon "$long"
}

@test "an unknown long option names the nearest, of the command and of what it shares" {
  while read -r command typed meant; do
    expect 64 "ivon-$command: unknown option '$typed'; did you mean '$meant'?" ivon-$command "$typed=x" a.h5
    expect 64 "ivon-$command: unknown option '$typed'; did you mean '$meant'?" ivon "$command" a.h5 "$typed"
  done << 'PAIRS'
merge --bsae --base
merge --outptu --output
merge --froce --force
merge --theads --threads
merge --noprovenance --no-provenance
predict --metric5 --metrics
predict --posterior-tmeperature --posterior-temperature
predict-gen --folow --follow
sample --sed --seed
sensitivity --ressume --resume
convert --renmae --rename
info --tensor5 --tensors
info --hepl --help
PAIRS
  expect 64 "ivon-merge: unknown option '--colour'; --help lists them" ivon-merge --colour=never a.h5
  expect 64 "ivon-merge: unknown option '---'; --help lists them" ivon-merge ---
}

@test "abbreviations stay getopt's, and what is no option is left alone" {
  here
  run ivon-merge --bas=x a.h5
  [ $status -eq 64 ]
  [[ "$output" == *"option '--bas=x' is ambiguous; possibilities: '--base' '--base-scale'"* ]]
  run ivon-info --tens a.h5
  [ $status -eq 0 ]
  # an option's argument, and everything behind --
  expect 66 "ivon-merge: x: cannot open it: No such file or directory" ivon-merge -o --bsae x
  expect 66 "ivon-merge: x: cannot open it: No such file or directory" ivon-merge --output --bsae x
  expect 66 "ivon-info: --bsae: cannot open it: No such file or directory" ivon-info -- --bsae
  expect 66 "ivon-info: -json: cannot open it: No such file or directory" ivon-info -- -json
  run ivon-merge --help --bsae
  [ $status -eq 0 ]
  run ivon-merge --ess
  [ $status -eq 64 ]
  [[ "$output" == *"option '--ess' requires an argument"* ]]
  run -64 ivon-sensitivity p.h5 --data
  [[ "$output" == *"option '--data' requires an argument"*"usage' for more information." ]]
}

@test "an option behind another one is not its value, unless it is written so" {
  here
  no_value() { echo "ivon-$1: '$2' has no value, but the option '$3' behind it; if that is meant, write '$4'"; }
  expect 64 "$(no_value predict -o --data=x.h5 -o--data=x.h5)" ivon-predict a.h5 -o --data=x.h5
  expect 64 "$(no_value predict -qo --data=x.h5 -qo--data=x.h5)" ivon-predict a.h5 -qo --data=x.h5
  expect 64 "$(no_value predict --data --metrics --data=--metrics)" ivon-predict a.h5 --data --metrics
  expect 64 "$(no_value merge --out --force --out=--force)" ivon-merge a.h5 --out --force
  expect 64 "$(no_value info --key --help --key=--help)" ivon-info a.h5 --key --help
  expect 64 "$(no_value sample -o -f -o-f)" ivon-sample a.h5 -o -f
  expect 64 "$(no_value sample --output -qf --output=-qf)" ivon-sample a.h5 --output -qf
  expect 64 "$(no_value sample -o -qn -o-qn)" ivon-sample a.h5 -o -qn 2
  ivon-sample a.h5 -o ./-f
  ivon-sample a.h5 -o -fx.h5 # no option of that letter
  [ -s ./-f ]
  [ -s ./-fx.h5 ]
  rm ./-f ./-fx.h5
  # Where the value may be missing, it stands behind an equals sign.
  expect 66 "ivon-sensitivity: x: cannot open it: No such file or directory" ivon-sensitivity a.h5 --vectors --data=x
  ivon-sample a.h5 --output=--force
  ivon-sample a.h5 --seed=1 -o--seed=2
  [ -s ./--force ]
  [ -s ./--seed=2 ]
  rm ./--force ./--seed=2
}

@test "one dash for two, and an equals sign after a letter" {
  expect 64 "ivon-merge: unknown option '-base'; did you mean '--base'?" ivon-merge -base=x a.h5
  expect 64 "ivon-merge: unknown option '-base'; did you mean '--base'?" ivon-merge a.h5 -q -base x
  expect 64 "ivon-merge: unknown option '-quiet'; did you mean '--quiet'?" ivon-merge -quiet a.h5
  expect 64 "ivon-predict: unknown option '-json'; did you mean '--json'?" ivon-predict a.h5 -json
  expect 64 "ivon-sample: '-o=s.h5': write '-o s.h5', without the equals sign" ivon-sample a.h5 -o=s.h5
  here
  ivon-sample a.h5 -o"$BATS_TEST_TMPDIR/=s.h5"
  [ -s "$BATS_TEST_TMPDIR/=s.h5" ]
}

@test "files of the wrong kind" {
  here
  for command in info "merge -o x.h5" "sample -o x.h5" "convert -o x.h5" "predict --data=test.h5" \
    "sensitivity --data=test.h5"; do
    name=ivon-${command%% *}
    expect 66 "$name: folder: is a directory, expected a file, or model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, flax_model.msgpack, model.weights.h5 or model.weights.json in it" \
      ivon $command folder
    expect 65 "$name: empty: is empty, expected a checkpoint in HDF5, safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format" \
      ivon $command empty
  done
  printf '\x93NUMPY\x01\x00' > array
  expect 65 "ivon-info: array: is a single array of NumPy, expected a checkpoint in HDF5, safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format" \
    ivon-info array
  expect 65 "ivon-merge: hub/model.safetensors.index.json: tensor 'model.embed.weight' has no Hessian; --method=task-arithmetic and average need none" \
    ivon-merge hub tuned -o x.npz
  gzip -c a.h5 > compressed
  expect 65 "ivon-info: compressed: is compressed by gzip, expected a checkpoint in HDF5, safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format" \
    ivon-info compressed
  expect 65 "ivon-predict: compressed: a gzip file, but not of IDX data: gunzip it" ivon-predict a.h5 --data=compressed
  expect 65 "ivon-info: -: is empty, expected a checkpoint in HDF5, safetensors, npz, ONNX, PyTorch's, Keras' or Flax's format" \
    ivon-info - < /dev/null
  expect 74 "ivon-info: -: cannot read standard input: Is a directory" ivon-info - < .
  expect 66 "ivon-info: the name of an input is empty" ivon-info ""
  expect 66 "ivon-predict-gen: nofile: cannot open it: No such file or directory" \
    ivon-predict-gen a.h5 nofile --data=test.h5
  expect 66 "ivon-predict-gen: nofile: cannot open it: No such file or directory" \
    timeout 20 ivon-predict-gen --follow=folder --model=nofile --data=test.h5
  expect 65 "ivon-info: test.h5: an HDF5 file, but not a posterior: attribute 'format' is missing, expected 'ivon-posterior'" \
    ivon-info test.h5
  expect 65 "ivon-predict: posterior.h5: no ONNX file, or a damaged one: a field is cut off or of no known kind" \
    ivon-predict a.h5 --model=posterior.h5 --data=test.h5
  expect 66 "ivon-convert: folder: is a directory, expected a regular file" \
    ivon-convert a.h5 --model=folder -o x.h5
  expect 66 "ivon-convert: nofile: cannot open it: No such file or directory" \
    ivon-convert a.h5 --model=nofile -o x.h5
}

@test "posterior and data exchanged" {
  here
  arrays="'hessian/bias', 'hessian/weight', 'mean/bias', 'mean/weight', 'model.onnx'"
  for command in predict sensitivity predict-gen; do
    expect 65 "ivon-$command: posterior.h5: has no array 'x', but $arrays: it looks like a posterior, not data" \
      ivon-$command test.h5 --data=posterior.h5
  done
  ivon-convert -q posterior.h5 -o posterior.npz
  run -65 ivon-predict test.h5 --data=posterior.npz
  [[ ${lines[0]} == "ivon-predict: posterior.npz: has no array 'x', but "*"'hessian/bias'"*": it looks like a posterior, not data" ]]
}

@test "names that are not there come with those that are" {
  here
  expect 64 "ivon-predict: a.h5/model.onnx: the graph has no input 'z', but 'x'" \
    ivon-predict a.h5 --data=test.h5 --inputs=z=x
  expect 65 "ivon-predict: test.h5:/train: there is no group 'train', nor any other" \
    ivon-predict a.h5 --data=test.h5:/train
  expect 65 "ivon-predict: test.h5: has no array 'z', but 'x', 'y'; --inputs names another" \
    ivon-predict a.h5 --data=test.h5 --inputs=z
  expect 65 "ivon-info: checkpoint.pt: key 'ema': there is no 'ema', but 'model', 'optimizer'" \
    ivon-info --key=ema checkpoint.pt
  expect 65 "ivon-info: checkpoint.pt: key 'model.ema': there is no 'ema' in 'model', but 'weight', 'bias'" \
    ivon-info --key=model.ema checkpoint.pt
  expect 65 "ivon-predict: model.onnx: the graph has none of the 2 means of params.npz, such as 'params/Dense_0/kernel'; ivon-convert --rename changes names" \
    ivon-predict params.npz --model=model.onnx --data=test.h5
  expect 65 "ivon-sensitivity: test.h5: has no targets, which losses need; --targets names their array, or --target-column a column of CSV" \
    ivon-sensitivity a.h5 --data=test.h5 --targets=
  expect 64 "ivon-predict: --inputs: 'x' is given twice" ivon-predict a.h5 --data=test.h5 --inputs=x=x,x=y
  printf 'a;y\n1;0\n' > semicolons.csv
  expect 65 "ivon-predict: semicolons.csv: has no column 'y', but one column, 'a;y': expected commas between columns" \
    ivon-predict a.h5 --data=semicolons.csv --target-column=y
  printf 'a,b,c,d,y\n1,2,3,4,0\n' > wide.csv
  columns="all columns of CSV are inputs, but that of --target-column"
  expect 65 "ivon-predict: wide.csv: array 'x' has shape 1x5, input 'x' of a.h5/model.onnx takes ?x4; $columns" \
    ivon-predict a.h5 --data=wide.csv
  printf 'a,b,c,d\n1,2,3,4\n' > bare.csv
  expect 65 "ivon-predict: bare.csv: has no array 'y' of targets: --targets names another, or --target-column a column of CSV" \
    ivon-predict a.h5 --data=bare.csv --metrics
  expect 65 "ivon-predict: checkpoint.pt: has no array 'x', nor any other" ivon-predict a.h5 --data=checkpoint.pt
}

@test "outputs that cannot be, or would mislead" {
  here
  expect 73 "ivon-sample: folder: is a directory, expected a file to write" ivon-sample a.h5 -o folder
  expect 73 "ivon-merge: full: directory exists, and is not empty; --force replaces what it would write there, and leaves the rest" \
    ivon-merge a.h5 b.h5 -o full
  expect 73 "ivon-predict: folder: is a directory, expected a file to write" \
    ivon-predict a.h5 --data=test.h5 --format=csv -o folder
  for suffix in .pt .pth .onnx .npy .csv .bin .ckpt .gguf .json .H5 .nc .; do
    for command in merge sample convert; do
      [ $suffix != .onnx ] || continue
      expect 64 "ivon-$command: x$suffix: no checkpoint is written as $suffix, expected a name in .h5, .hdf5, .safetensors, .safetensors.index.json, .npz or .onnx" \
        ivon-$command a.h5 -o x$suffix
      [ ! -e x$suffix ]
    done
    case $suffix in
      .npy | .csv | .json) continue ;;
    esac
    for command in predict sensitivity predict-gen; do
      expect 64 "ivon-$command: -o: 'x$suffix' ends in none of .csv, .jsonl, .npy and .h5: name its --format" \
        ivon-$command a.h5 --data=test.h5 -o x$suffix
      [ ! -e x$suffix ]
    done
    expect 64 "ivon-plot: -o: 'x$suffix' ends in neither .svg nor .png: name its --format" \
      ivon-plot samples a.csv -o x$suffix
  done
  for name in bare .hidden scale-0.5 down.bin/x; do
    mkdir -p down.bin
    ivon-sample -q a.h5 -o $name
    [ "$(ivon-info $name | head -n 1)" = $name ]
    [ "$(head -c 4 $name | tail -c 3)" = HDF ]
    rm $name
  done
  expect 64 "ivon-predict: x.csv: no log-likelihoods are written as .csv, expected a name in .nc, .h5 or .hdf5" \
    ivon-predict a.h5 --data=test.h5 --metrics --log-likelihoods=x.csv
  for command in merge sample convert; do
    expect 64 "ivon-$command: standard output cannot take what is not written in order: name a file" \
      ivon-$command a.h5 -o -
    expect 73 "ivon-$command: the name of an output is empty" ivon-$command a.h5 -o ""
  done
  expect 64 "ivon-predict-gen: an npy file holds one array only: write CSV, JSON Lines or HDF5" \
    ivon-predict-gen a.h5 --data=test.h5 --format=npy
  [ "$(ivon-predict a.h5 --data=test.h5 -o - | wc -l)" -eq 61 ]
  expect 64 "ivon-predict: standard output cannot take what is not written in order: name a file" \
    ivon-predict a.h5 --data=test.h5 --metrics --log-likelihoods=-
  ivon-convert -q a.h5 --to=h5 -o "$BATS_TEST_TMPDIR/x.pt"
  ivon-info -q "$BATS_TEST_TMPDIR/x.pt"
}

@test "what merging and drawing need" {
  here
  expect 66 "ivon-merge: a.h5:zwei: cannot open it: No such file or directory; 'zwei' is no number, and not taken for a weight" \
    ivon-merge b.h5 a.h5:zwei -o x.h5
  expect 64 "ivon-merge: 'a.h5:nan': weight 'nan', expected a finite number" ivon-merge a.h5:nan b.h5 -o x.h5
  expect 64 "ivon-merge: --ess: '-1', expected a positive number" ivon-merge a.h5 b.h5 --ess=-1 -o x.h5
  for sweep in nan:1:0.1 0:inf:0.1 0:1:nan 0:1:inf 0:1 0:1:.1: 0,1,.1; do
    expect 64 "ivon-merge: --sweep: '$sweep', expected FROM:TO:STEP, such as 0.2:1:0.1" \
      ivon-merge a.h5 b.h5 --sweep=$sweep -o 'x-%g.h5'
  done
  for pairs in nan,1 '0,1;inf,1' 0,inf 0,nan 0,0 '0;1' 0,1,; do
    expect 64 "ivon-predict: --normalize: '$pairs', expected none or MEAN,STD, for each channel separated by ';'" \
      ivon-predict a.h5 --data=test.h5 --normalize="$pairs"
  done
  expect 64 "ivon-merge: --delta0 is for a base: name it by --base=FILE" ivon-merge a.h5 --delta0=3 -o x.h5
  expect 64 "ivon-merge: --base-scale is for a base: name it by --base=FILE" \
    ivon-merge a.h5 --base-scale=0 -o x.h5
  expect 64 "ivon-merge: task arithmetic needs a base; see --base" \
    ivon-merge --method=task-arithmetic a.h5 -o x.h5
  expect 65 "ivon-sample: params.npz: nothing to draw: no mean has a Hessian; ivon-fit makes a posterior of it, or see --hessian" \
    ivon-sample params.npz -o x.h5
  expect 65 "ivon-sample: a.h5: nothing to draw: no mean is selected; see --include and --exclude" \
    ivon-sample a.h5 --include=zzz -o x.h5
  ivon-sample a.h5 -o "$BATS_TEST_TMPDIR/drawn.h5" # has no Hessian
  expect 65 "ivon-sensitivity: $BATS_TEST_TMPDIR/drawn.h5: nothing can move: no mean has a Hessian; ivon-fit makes a posterior of it, or see --hessian" \
    ivon-sensitivity "$BATS_TEST_TMPDIR/drawn.h5" --data=test.h5
  expect 65 "ivon-merge: tensor 'bias': the merged precision is not positive for 3 of 3 elements, the worst -20.2 at element 0; with a --base, --on-nonpositive=base keeps the base's values there" \
    ivon-merge a.h5:-3 b.h5 -o x.h5
  expect 65 "ivon-convert: a.h5: no tensor is selected (see --include and --exclude)" \
    ivon-convert a.h5 --include=zzz -o x.h5
  expect 65 "ivon-sensitivity: a.h5: Hessian of 'bias' is 0.1 at element 0: 1e+298 / (h + weight_decay) does not fit into f32" \
    ivon-sensitivity -q a.h5 --data=test.h5 --rho=1e300
  expect 64 "ivon-predict: no predictions given; see --help" ivon-predict --average
  [ ! -e x.h5 ]
}

@test "what is empty is refused, and of an option that is given twice the last one counts" {
  here
  expect 64 "ivon-predict: --inputs: '', expected INPUT=ARRAY,..." ivon-predict a.h5 --data=test.h5 --inputs=
  for text in '' '0,1;' ';0,1' '0'; do
    expect 64 "ivon-predict: --normalize: '$text', expected none or MEAN,STD, for each channel separated by ';'" \
      ivon-predict a.h5 --data=test.h5 --normalize="$text"
  done
  for command in "ivon-convert a.h5 -o x.h5 --model=" "ivon-predict-gen --data=test.h5 --follow=" \
    "ivon-predict a.h5 --data=" "ivon-predict-gen a.h5 --data=test.h5 --model="; do
    expect 66 "${command%% *}: the name of an input is empty" $command
  done
  expect 66 "ivon-convert: nowhere: cannot open it: No such file or directory" \
    ivon-convert a.h5 -o x.h5 --model=nowhere
  ivon-predict -q a.h5 --data=test.h5 --normalize=0.5,2 -n 2 > "$BATS_TEST_TMPDIR/once"
  ivon-predict -q a.h5 --data=test.h5 --normalize=7,3 --inputs=z=z --inputs=x=x --normalize=0.5,2 -n 2 \
    > "$BATS_TEST_TMPDIR/twice"
  cmp "$BATS_TEST_TMPDIR/once" "$BATS_TEST_TMPDIR/twice"
}

@test "sensitivities that overflow are told of" {
  here
  printf 'a,b,c,d,y\n1,2,3,4,1\n1e30,-1e30,1e30,1e30,0\n' > huge.csv
  ivon-sensitivity a.h5 --data=huge.csv --target-column=y > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err"
  grep -q '^1,.*nan$' "$BATS_TEST_TMPDIR/out"
  grep -qxF "ivon-sensitivity: warning: huge.csv: scores of 1 examples are not finite, row 1 the first: are the inputs normalized as for the training?" \
    "$BATS_TEST_TMPDIR/err"
  ivon-sensitivity a.h5 --data=huge.csv --target-column=y --groups=y > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err"
  grep -q nan "$BATS_TEST_TMPDIR/out"
  grep -qE "^ivon-sensitivity: warning: huge.csv: the losses without [12] groups are not finite, group [01] the first: are the inputs normalized as for the training\?$" \
    "$BATS_TEST_TMPDIR/err"
  $python -c "
import numpy as np
np.savez('rates.npz', x=np.array([[1, 2, 3, 4], [10, -10, 10, 10]], 'f4'), y=np.ones((2, 3), 'i8'))"
  ivon-sensitivity a.h5 --data=rates.npz --likelihood=poisson --remove=1 -o rest.h5 > "$BATS_TEST_TMPDIR/out" 2> "$BATS_TEST_TMPDIR/err"
  grep -qxF 'loss without          inf' "$BATS_TEST_TMPDIR/out"
  grep -qxF "ivon-sensitivity: warning: rates.npz: the loss without these examples is not finite: are the inputs normalized as for the training?" \
    "$BATS_TEST_TMPDIR/err"
}

@test "an output that overflows is told of with its row, however far into the data" {
  here
  $python -c "
import numpy as np
x = np.random.default_rng(0).standard_normal((3000, 4)).astype('f4')
x[2345] = 3e38
np.savez('late.npz', x=x, y=np.zeros(3000, 'i8'))"
  for command in "ivon-predict --mean" "ivon-sensitivity" "ivon-predict-gen" "ivon-influence --queries=test.h5"; do
    expect 65 "$(cut -d ' ' -f 1 <<< "$command"): late.npz: row 2345: the network's output is not a finite number, though the data are: weights, or normalized inputs, are too large" \
      $command -q a.h5 --data=late.npz --memory=64k --batch=8 -o out.csv
  done
}

@test "-h is --help" {
  cmp <(ivon -h) <(ivon --help)
  for command in $(ivon help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -vE '^(help|completion)$'); do
    cmp <("ivon-$command" -h) <("ivon-$command" --help)
  done
}

@test "help that cannot be written is no success" {
  run bash -c 'ivon-merge --help > /dev/full'
  [ $status -eq 74 ]
  [ "$output" = "ivon-merge: cannot write standard output: No space left on device" ]
}

@test "the demo takes no arguments, and tells what it lacks" {
  demo=$BATS_TEST_DIRNAME/../../cmd/demo.sh
  expect 64 "demo.sh: '--help': no arguments are taken; results go to build/demo, whatever was there before" \
    bash "$demo" --help
  mkdir bare
  ln -s "$(command -v dirname)" bare/dirname
  expect 69 "demo.sh: ivon-train is missing; tests/install.sh installs what is needed" \
    env PATH="$PWD/bare" IVON_BIN="$PWD/bare" "$(command -v bash)" "$demo"
}
