# How data and outputs meet graphs that are not as the engine has them (tests/oracle/fed_graphs.py).
load common

setup_file() {
  cd "$BATS_FILE_TMPDIR"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/fed_graphs.py" .
}

setup() {
  cd "$BATS_TEST_TMPDIR"
  PATH=$IVON_BIN:$PATH
  python=/usr/bin/python3
  cp "$BATS_FILE_TMPDIR"/* .
}

# near FILE COLUMN ARRAY: within 1e-6 of the largest, some ten roundings of binary32.
near() {
  $python - "$@" << 'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    a = np.float64(f[sys.argv[2]][()])
b = np.load(sys.argv[3])
assert a.shape == b.shape, (a.shape, b.shape)
assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max(), np.abs(a - b).max()
PYTHON
}

# alike A B [TOLERANCE]: the same columns of the same numbers, within 1e-5 of the largest of a column,
# since sums may have another order.
alike() {
  $python - "$@" << 'PYTHON'
import sys, h5py, numpy as np
tolerance = float(sys.argv[3]) if len(sys.argv) > 3 else 1e-5
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2]) as b:
    assert list(a) == list(b) and len(a), (list(a), list(b))
    for name in a:
        x, y = a[name][()], b[name][()]
        assert x.shape == y.shape, (name, x.shape, y.shape)
        if x.dtype.kind in "fiu":
            assert np.abs(np.float64(x) - y).max() <= tolerance * np.abs(np.float64(y)).max() + 1e-12, name
PYTHON
}

mean() { # GRAPH DATA ...: at the mean, all output
  local graph=$1 data=$2
  shift 2
  ivon-predict post.h5 --model=$graph.onnx --data=$data --mean --logits --force -o o.h5 "$@" 2> err \
    || { cat err; return 1; }
}

numbers() { # GRAPH DATA ...: outputs as they are
  mean "$@" --likelihood=gaussian --targets=
}

refused() { # MESSAGE COMMAND ...
  local message=$1
  shift
  run "$@"
  [ $status -ne 0 ] && [[ $output == *"$message"* ]] || { echo "$status: $output"; return 1; }
}

@test "an output is chosen by name, or the first of floats; others' nodes are not looked at" {
  mean labelled x.npz
  near o.h5 probabilities softmax.npy
  near o.h5 logits logits.npy
  grep -q "labelled.onnx: output 'label' holds no floats: 'p' is taken, --graph-output chooses another" err
  grep -q "ends in Softmax" err
  grep -q "1 means are left out, which the graph's output does not need, 'v' the first" err
  mean labelled x.npz --graph-output=z
  run -1 grep "holds no floats\|ends in" err
  near o.h5 logits logits.npy
  numbers labelled x.npz --graph-output=p
  near o.h5 logits softmax.npy
  refused "labelled.onnx: the graph has no output 'q', but 'label', 'p', 'z', 'other', 'i'" \
    ivon-predict post.h5 --model=labelled.onnx --data=x.npz --mean --graph-output=q
  refused "operators that are not supported: ai.onnx.ml.Unknown (1 node, 'i'); --graph-output chooses another" \
    ivon-predict post.h5 --model=labelled.onnx --data=x.npz --mean --graph-output=i
  refused "--graph-output chooses another" \
    ivon-predict post.h5 --model=labelled.onnx --data=x.npz --mean --graph-output=i
  refused "has no array 'mask'" \
    ivon-predict post.h5 --model=labelled.onnx --data=x.npz --mean --graph-output=other
}

@test "a checkpoint holds a graph with one output" {
  ivon-convert -q post.h5 --model=labelled.onnx --graph-output=z -o whole.h5
  ivon-predict whole.h5 --data=x.npz --mean --logits -o o.h5 2> err
  near o.h5 logits logits.npy
  run -1 grep "holds no floats" err
  refused "whole.h5/model.onnx: the graph has no output 'p', but 'z'" \
    ivon-predict whole.h5 --data=x.npz --mean --graph-output=p
  refused "the graph has no output 'q', but 'label'" \
    ivon-convert post.h5 --model=labelled.onnx --graph-output=q -o q.h5
  refused "--graph-output is for --model" ivon-convert post.h5 --graph-output=z -o q.h5
  [ ! -e q.h5 ]
}

@test "what is said of a graph is said once" {
  ivon-predict post.h5 post.h5 --model=labelled.onnx --data=x.npz --mean -o o.h5 2> err
  [ "$(grep -c "ends in Softmax: its input is taken for the logits" err)" = 1 ]
  [ "$(grep -c "holds no floats" err)" = 1 ]
  ivon-predict -q post.h5 --model=labelled.onnx --data=x.npz --mean -f -o o.h5 2> err
  [ ! -s err ]
}

@test "rows that may be no examples' are warned of" {
  local said="output 'y' has 7 rows for one example, as many as there are examples: all are run at once"
  for graph in rows_named rows_of_none; do
    numbers $graph x.npz
    near o.h5 logits $graph.npy
    grep -q "warning: $graph.onnx: $said, and row i is taken for example i" err
    numbers $graph x.npz -q
    [ ! -s err ]
    refused "output is float 7x3 for 1 examples" \
      ivon-predict post.h5 --model=$graph.onnx --data=x.npz --mean --limit=6
    refused "output is float 7x3 for 1 examples" ivon-sensitivity post.h5 --model=$graph.onnx --data=x.npz
  done
}

@test "axes of one element are none" {
  mean rank4 x.npz
  near o.h5 logits logits.npy
  numbers rank1 x.npz
  near o.h5 logits rank1.npy
  refused "expected float, examples x outputs or examples x tokens x outputs; --output-axes says what" \
    ivon-predict post.h5 --model=segmentation.onnx --data=s.npz --mean
}

@test "the function that the likelihood applies is taken from the end" {
  for graph in softmax log_softmax softmax_passed; do
    mean $graph x.npz
    near o.h5 logits logits.npy
    near o.h5 probabilities softmax.npy
    grep -q "$graph.onnx: ends in \(Log\)\?Softmax: its input is taken for the logits" err
  done
  mean sigmoid x.npz --likelihood=bernoulli --targets=events
  near o.h5 probabilities sigmoid.npy
  grep -q "sigmoid.onnx: ends in Sigmoid" err
  numbers softmax x.npz
  near o.h5 logits softmax.npy
  numbers sigmoid x.npz
  near o.h5 logits sigmoid.npy
  run -1 grep "ends in" err
  # Neither a softmax along another axis nor one with another use is the likelihood's.
  for graph in softmax_of_two softmax_used; do
    mean $graph x.npz
    run -1 grep "ends in" err
  done
}

@test "probabilities are not taken for logits in silence" {
  mean exp x.npz
  grep -q "exp.onnx: the outputs are between 0 and 1 and have sum 1, .* say --probabilities" err
  ivon-sensitivity post.h5 --model=exp.onnx --data=x.npz 2> err > /dev/null
  grep -q "exp.onnx: the outputs are between 0 and 1" err
  ivon-predict-gen post.h5 --model=exp.onnx --data=x.npz 2> err > /dev/null
  grep -q "post.h5: the outputs are between 0 and 1" err
  ivon-train --model=exp.onnx --data=x.npz --lr=.1 --steps=1 -o run 2> err
  grep -q "exp.onnx: the outputs are between 0 and 1" err
  ivon-fit post.h5 --model=exp.onnx --data=x.npz -o fitted.h5 2> err > /dev/null
  grep -q "exp.onnx: the outputs are between 0 and 1" err
  ivon-fit -f post.h5 --model=exp.onnx --data=x.npz --probabilities -o fitted.h5 2> err > /dev/null
  run -1 grep "between 0 and 1" err
  mean exp x.npz --probabilities
  near o.h5 probabilities softmax.npy
  run -1 grep "between 0 and 1" err
  mean softmax x.npz --probabilities
  near o.h5 logits logits.npy
  mean logistic x.npz --probabilities --likelihood=bernoulli --targets=events
  near o.h5 probabilities sigmoid.npy
  near o.h5 logits logits.npy
  refused "--probabilities is for labels, not for --likelihood=gaussian" \
    ivon-predict post.h5 --model=exp.onnx --data=x.npz --mean --probabilities --likelihood=gaussian
}

@test "the output's axes are named" {
  mean segmentation s.npz --output-axes=batch,class,token,token
  near o.h5 logits tokens.npy
  mean segmentation_softmax s.npz --output-axes=batch,class,token,token
  near o.h5 logits tokens.npy
  near o.h5 probabilities tokens-softmax.npy
  mean tokens-plain s.npz --output-axes=batch,token,class
  near o.h5 logits tokens.npy
  numbers token_sums s.npz --output-axes=batch,token
  near o.h5 logits token_sums.npy
  numbers segmentation s.npz --output-axes=batch,class,class,class
  near o.h5 logits flat.npy
  refused "--output-axes: 'class,token', expected batch once" \
    ivon-predict post.h5 --model=segmentation.onnx --data=s.npz --mean --output-axes=class,token
  refused "--output-axes: 'rows', expected one of batch, token, class" \
    ivon-predict post.h5 --model=segmentation.onnx --data=s.npz --mean --output-axes=batch,rows
  refused "(Transpose)" \
    ivon-predict post.h5 --model=segmentation.onnx --data=s.npz --mean --output-axes=batch,token,class
}

@test "examples need not be the first axis of a graph" {
  mean sequence s.npz --batch-axis=1
  near o.h5 logits tokens.npy
  mean sequence s.npz --batch-axis=x=1,y=1
  near o.h5 logits tokens.npy
  mean sequence_unsaid s.npz --batch-axis=1 --output-axes=token,batch,class
  near o.h5 logits tokens.npy
  mean sequence_end s.npz --batch-axis=x=1 --targets=
  near o.h5 logits sequence_end.npy
  refused "does not say how many axes its output 'y' has; --output-axes says what its axes are" \
    ivon-predict post.h5 --model=sequence_unsaid.onnx --data=s.npz --mean --batch-axis=1
  refused "'q' is neither an input nor the output of the graph" \
    ivon-predict post.h5 --model=sequence.onnx --data=s.npz --mean --batch-axis=q=1
  refused "input 'x' has 3 axes, and no axis 5 of examples" \
    ivon-predict post.h5 --model=sequence.onnx --data=s.npz --mean --batch-axis=x=5
  refused "--batch-axis: '1,2', expected N or NAME=N,..." \
    ivon-predict post.h5 --model=sequence.onnx --data=s.npz --mean --batch-axis=1,2
}

@test "inputs are set" {
  all="--set=rate=3 --set=starts=0,0 --set=ends=9,9223372036854775807"
  mean set x.npz $all --set=flag=true
  near o.h5 logits set.npy
  mean set x.npz $all --set=flag=0,0,0,0
  near o.h5 logits logits.npy
  mean set x.npz --set=rate=1 $all --set=flag=1
  near o.h5 logits set.npy
  refused "the graph has no input 'speed' to set, but 'x', 'rate'" \
    ivon-predict post.h5 --model=set.onnx --data=x.npz --mean --set=speed=1
  refused "input 'rate' is set to 1.5, expected whole numbers" \
    ivon-predict post.h5 --model=set.onnx --data=x.npz --mean --set=rate=1.5
  refused "input 'rate' takes scalar, and is set to 2 numbers" \
    ivon-predict post.h5 --model=set.onnx --data=x.npz --mean --set=rate=1,2
  refused "input 'flag' is set to yes, expected true or false" \
    ivon-predict post.h5 --model=set.onnx --data=x.npz --mean --set=flag=yes
  refused "--set: 'rate', expected INPUT=VALUE,..." \
    ivon-predict post.h5 --model=set.onnx --data=x.npz --mean --set=rate
}

@test "a buffer in an input's place is every example's" {
  mean state x.npz
  near o.h5 logits state.npy
  mean state x.npz --batch=3
  near o.h5 logits state.npy
}

@test "arrays of the inputs' names feed several inputs, and booleans are 0 or 1" {
  mean several several.npz
  near o.h5 logits several.npy
  mean several several.npz --inputs=left=left,right=right,mask=mask
  near o.h5 logits several.npy
  mean pixels pixels.npz
  near o.h5 logits logits.npy
  ivon-sensitivity -q post.h5 --model=several.onnx --data=several.npz -o scores.h5
  ivon-predict-gen -q post.h5 --model=pixels.onnx --data=pixels.npz > /dev/null
  ivon-train -q --model=several.onnx --data=several.npz --lr=.1 --steps=1 -o run
  refused "'mask' holds 2, expected 0 or 1: the graph's input is boolean" \
    ivon-predict post.h5 --model=several.onnx --data=wrong.npz --mean
  refused "wrong.npz: has no array 'pixels'" \
    ivon-predict post.h5 --model=pixels.onnx --data=wrong.npz --inputs=pixels --mean
}

@test "derivatives are those of the plain graphs" {
  scores() { # FILE GRAPH DATA ...
    local file=$1 graph=$2 data=$3
    shift 3
    ivon-sensitivity -q post.h5 --model=$graph.onnx --data=$data -f -o $file "$@"
  }
  all=--score=deviation,self-influence,loo-loss
  scores plain.h5 plain x.npz $all --vectors
  for graph in softmax softmax_passed labelled rank4; do
    scores o.h5 $graph x.npz $all --vectors
    alike o.h5 plain.h5
  done
  # log p is a logit but for a shift, which these scores do not depend on.
  scores o.h5 exp x.npz --probabilities --score=self-influence,loo-loss
  scores plain.h5 plain x.npz --score=self-influence,loo-loss
  alike o.h5 plain.h5 1e-4 # through exp and log
  scores plain.h5 tokens-plain s.npz $all --vectors
  scores o.h5 segmentation s.npz $all --vectors --output-axes=batch,class,token,token
  alike o.h5 plain.h5
  scores o.h5 sequence s.npz $all --vectors --batch-axis=1
  alike o.h5 plain.h5
}

@test "a training has the network as it was adapted" {
  train() { # DIR GRAPH DATA ...
    local directory=$1 graph=$2 data=$3
    shift 3
    ivon-train -q --model=$graph.onnx --data=$data --from=post.h5 --lr=.1 --steps=3 --batch=4 -o $directory "$@"
  }
  same() { # A B
    $python - $1/posterior-00000003.h5 $2/posterior-00000003.h5 << 'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as a, h5py.File(sys.argv[2]) as b:
    for name in "wb":
        x, y = a["mean"][name][()], b["mean"][name][()]
        assert np.abs(x - y).max() < 1e-5, (x, y)
PYTHON
  }
  train plain plain x.npz
  train soft softmax x.npz
  same plain soft
  train plains tokens-plain s.npz
  train segmentation segmentation s.npz --output-axes=batch,class,token,token
  same plains segmentation
  train sequence sequence s.npz --batch-axis=1
  same plains sequence
  for directory in plains segmentation sequence; do
    ivon-predict -q $directory/posterior-00000003.h5 --data=s.npz --mean -o $directory.h5
    alike $directory.h5 plains.h5
  done
  train sequence sequence s.npz --batch-axis=1 --resume
  refused "--arch has no graph to be told of" \
    ivon-train --arch=linear:4,3 --data=x.npz --lr=.1 --steps=1 --set=a=1 -o run
}

@test "a run goes on only with what was said of the graph" {
  call="ivon-sensitivity -q post.h5 --no-provenance --model=set.onnx --data=x.npz --set=starts=0,0 --set=ends=9,9 --set=flag=1"
  command -v strace > /dev/null || skip "strace is missing"
  export ASAN_OPTIONS=detect_leaks=0 # which cannot be done under strace
  strace -o trace true || skip "cannot trace"
  $call --set=rate=3 -o whole.csv
  run strace -f -qq -o /dev/null -P "$PWD/o.csv.part" -e inject=pwrite64:signal=KILL:when=5 \
    "$IVON_BIN"/$call --set=rate=3 --resume -o o.csv
  [ $status -ne 0 ]
  [ -s o.csv.part ]
  refused "o.csv.part" $call --set=rate=2 -o o.csv --resume
  $call --set=rate=3 -o o.csv --resume
  cmp whole.csv o.csv
}

@test "options of graphs are refused where there is none" {
  refused "--average runs no network" ivon-predict --average a.h5 --set=a=1
}
