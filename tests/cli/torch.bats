load common

# The files are made once; where PyTorch is missing, every test is skipped.
setup_file() {
  export FILES=$BATS_FILE_TMPDIR
  local script=$BATS_TEST_DIRNAME/../oracle/torch_checkpoints.py status=0
  /usr/bin/python3 "$script" "$FILES" 2> "$FILES/log" || status=$?
  if [ $status -eq 77 ]; then
    touch "$FILES/missing"
  elif [ $status -ne 0 ]; then
    cat "$FILES/log"
    return 1
  fi
}

torch_setup() {
  setup
  [ ! -e "$FILES/missing" ] || skip "PyTorch is not installed"
  cd "$FILES"
  PATH=$IVON_BIN/../tests/unit:$PATH
}

# same NAME [OPTION...]: NAME.pt is NAME.h5, or AS.h5.
same() {
  run unit-torch_compare "${@:2}" "$1.pt" "${AS:-$1}.h5"
  echo "$1 $*: $output"
  [ $status -eq 0 ]
}

# refused TEXT NAME [OPTION...]
refused() {
  run unit-torch_compare "${@:3}" "$2.pt" "$2.h5"
  echo "$2: $output"
  [ $status -eq 1 ]
  [[ "$output" == "$2.pt: "*"$1"* ]]
  [ "${#lines[@]}" -eq 1 ]
}

@test "storage offsets name the Hessian of one group" {
  torch_setup
  same flat
  [ "${lines[0]}" = "mapping: Hessian mapped to names by storage offsets, 6 tensors in 1 group" ]
  [ "${#lines[@]}" -eq 1 ]
  same prefixed
  [[ "$output" == *"storage offsets"* ]]
}

@test "copied weights are named by order, once counts leave one choice" {
  torch_setup
  refused "which 1 of 'first.weight', 'first.mask', 'second.weight' are buffers" copied
  [[ "$output" == *"are buffers, that is, no parameters of the optimizer?" ]]
  run -65 ivon-convert copied.pt -o x.h5
  [[ "$output" == *"that is, no parameters of the optimizer? --buffers='PATTERN' settles it" ]]
  same copied --buffers='*.mask'
  [[ "$output" == *"by the order of the state dict, 6 tensors in 1 group"* ]]
  [[ "$output" == *"warning: the weights do not share a storage"* ]]
  same settled
  [[ "$output" == *"order of the state dict"*"warning: "*"sampled_params()"* ]]
  same sample --buffers='*.mask'
  [[ "$output" == *"warning: "*"they are a sample and not the mean"* ]]
}

@test "groups keep their own ess and weight decay" {
  torch_setup
  for name in groups evaluated; do
    same $name
    [[ "$output" == "mapping: Hessian mapped to names by storage offsets, 6 tensors in 2 groups" ]]
  done
  same named
  [[ "$output" == *"by param_names, 6 tensors in 2 groups"*"warning: "*"step: 7" ]]
  same keyed
  [[ "$output" == *"by the names in params"* ]]
  refused "which of '0.weight', '0.bias', '1.weight', '1.bias' are in which of the optimizer's 2 groups?" ordered
  same apart
  [[ "$output" == *"by the order of the state dict, 4 tensors in 2 groups"* ]]
  refused "group 0 of the optimizer may be any of those that begin with '0.weight', '1.weight'" twins
}

@test "the state dict is found, or chosen" {
  torch_setup
  refused "several state dicts: 'model', 'ema'" several
  run -65 ivon-convert several.pt -o x.h5
  [[ "$output" == *"several state dicts: 'model', 'ema'; --key=NAME chooses one" ]]
  AS=several same several --key=ema --buffers=none
  AS=flat same nested --key=model
  AS=copied same nested --key=args.ema.model --buffers='*.mask'
  refused "key 'ema.net.2': there is no 'net.2' in 'ema'" nested --key=ema.net.2
  refused "'ema.model.x' is an integer, expected a state dict" nested --key=ema.model.x
  refused "which 1 of" nested --key=ema.net.1
  same squares
  [[ "$output" == "mapping: no Hessian: the file has no state of the optimizer IVON" ]]
}

@test "tied parameters keep one name, frozen ones their mean" {
  torch_setup
  same tied
  [[ "$output" == *"1 tied tensor under the first name only ('head.weight' under 'wte.weight')"* ]]
  AS=told same tied --buffers='body.[ms][ac]*'
}

@test "types and strides are read as they are" {
  torch_setup
  for name in bf16 f16 f64 integers strides complex-beside; do
    same $name
  done
}

@test "Adam's second moments become a Hessian when asked for" {
  torch_setup
  same adam --adam=8 --buffers='*.mask'
  [[ "$output" == *"warning: the Hessian is estimated from Adam's second moments"*"step: 3" ]]
  same adamw --adam=8
  AS=no-ivon same adam
  same adam --adam=8
  refused "which of 'first.bias', 'first.scale', 'normal.weight', 'normal.bias' are buffers" adam-open --adam=8
  same adam-open --adam=8 --buffers='first.[sm][ac]*'
  refused "takes the batch size" adam --adam=0
  refused "takes the batch size" adam --adam=nan
  refused "takes the batch size" adam --adam=inf
  refused "holds no state of Adam" flat --adam=8
}

# converted NAME MODEL [OPTION...]: what ivon-convert makes of a model is NAME.h5.
converted() {
  run bash -c 'exec ivon-convert "$@" 2>&1 > /dev/null' ivon-convert -fv "${@:2}" -o "$BATS_TEST_TMPDIR/out.h5"
  echo "$output"
  [ $status -eq 0 ]
  mapping=$output
  unit-torch_compare "$BATS_TEST_TMPDIR/out.h5" "$1.h5"
}

@test "second moments are named only where shapes leave one way" {
  torch_setup
  adam="--hessian-from=adam --batch-size=8"
  refused "groups 0 and 1 of the optimizer have parameters of the same shape: which of '0.bias', '1.bias', '2.bias' is whose?" adam-layers --adam=8
  run -65 ivon-convert adam-layers.pt --hessian-from=adam --batch-size=8 -o x.h5
  [[ "$output" == *"is whose? give the optimizer names (named_parameters), or list them (--parameters)" ]]
  refused "the shapes of the optimizer's 6 parameters do not follow the 6 tensors" adam-reversed --adam=8
  same adam-shapes --adam=8
  for name in adam-layers adam-reversed; do
    converted $name $name.pt $adam --parameters=$name.txt
    [[ "$mapping" == *"mapped to names by the list of parameters"* ]]
    converted $name $name.pt $adam --parameters=- < $name.txt
  done
  head -5 adam-layers.txt > "$BATS_TEST_TMPDIR/short"
  says 65 "adam-layers.pt: the optimizer has 6 parameters, and 5 are listed" adam-layers.pt $adam --parameters="$BATS_TEST_TMPDIR/short"
  sed 2d adam-layers.txt | sed 's/2.*weight/x.weight/; $a y' > "$BATS_TEST_TMPDIR/other"
  says 65 "adam-layers.pt: the optimizer's parameter 'module.x.weight' is not in the state dict" adam-layers.pt $adam --parameters="$BATS_TEST_TMPDIR/other"
  sed '3s/.*//' adam-layers.txt > "$BATS_TEST_TMPDIR/blank"
  says 65 "line 3 is empty, expected the name of a parameter" adam-layers.pt $adam --parameters="$BATS_TEST_TMPDIR/blank"
  says 66 "none: cannot open it: No such file" adam-layers.pt $adam --parameters=none
  says 65 "adam-layers.pt: holds no state of the optimizer IVON, whose parameters are listed" adam-layers.pt --parameters=adam-layers.txt
}

# says STATUS TEXT MODEL [OPTION...]: ivon-convert refuses it in one line, and writes nothing.
says() {
  run bash -c 'exec ivon-convert "$@" 2>&1 > /dev/null' ivon-convert "${@:3}" -o "$BATS_TEST_TMPDIR/none.h5"
  echo "$output"
  [ $status -eq "$1" ]
  [[ "$output" == *"$2"* && "$output" != *$'\n'* ]]
  [ ! -e "$BATS_TEST_TMPDIR/none.h5" ]
}

@test "weights and the optimizer's state may be two files" {
  torch_setup
  adam="--hessian-from=adam --batch-size=8"
  ivon-convert -qf trainer-model.pt -o "$BATS_TEST_TMPDIR/m.safetensors"
  ivon-convert -qf trainer-model.pt -o "$BATS_TEST_TMPDIR/m.npz"
  for model in trainer-model.pt trainer-model.npz "$BATS_TEST_TMPDIR"/m.npz; do
    converted trainer "$model" --hessian=trainer-optimizer.pt $adam
    [[ "$mapping" == *"Hessian from 'trainer-optimizer.pt': Hessian mapped to names by the order of the state dict, 6 tensors in 2 groups"* ]]
  done
  converted frozen frozen-model.pt --hessian=frozen-optimizer.pt $adam
  converted apart apart-model.pt --hessian=apart-optimizer.pt
  # By name: no order, and some shapes are of several tensors.
  says 65 "m.safetensors: has its tensors by name, which is not the order of the optimizer's 6 parameters, and several have one shape" "$BATS_TEST_TMPDIR/m.safetensors" --hessian=trainer-optimizer.pt $adam
  converted trainer "$BATS_TEST_TMPDIR/m.safetensors" --hessian=trainer-optimizer.pt $adam --parameters=trainer.txt
  for suffix in h5 safetensors; do
    ivon-convert -qf apart-model.pt -o "$BATS_TEST_TMPDIR/apart.$suffix"
  done
  converted apart "$BATS_TEST_TMPDIR/apart.h5" --hessian=apart-optimizer.pt
  says 65 "which is not the order of the optimizer's 4 parameters" "$BATS_TEST_TMPDIR/apart.safetensors" --hessian=apart-optimizer.pt
  says 65 "holds no state dict" trainer-optimizer.pt $adam
  says 64 "option 'hessian-from' does not apply to a file in npz format" trainer-model.pt --hessian=trainer-model.npz $adam
}

@test "names lose what wrappers put into them, tensors keep their flags" {
  torch_setup
  same wrapped
  same own-module
  same flags
  run -65 ivon-convert flags-strange.pt -o "$BATS_TEST_TMPDIR/none.h5"
  echo "$output"
  [[ "$output" == *"'w'"*"a view with flags"* ]]
}

@test "a state dict in several files is read by its index" {
  torch_setup
  for command in "ivon-convert -q" "ivon-merge -q -m average weights.bin.index.json"; do
    $command weights.bin.index.json -o "$BATS_TEST_TMPDIR/${command:5:5}.h5"
    unit-torch_compare "$BATS_TEST_TMPDIR/${command:5:5}.h5" weights.h5
  done
  says 65 "short.bin.index.json: tensor 'z': is in 'weights-2.bin', expected nowhere" short.bin.index.json
  says 65 "long.bin.index.json: tensor 'gone': is not in 'weights-1.bin'" long.bin.index.json
}

@test "what is no state dict is refused with the way out" {
  torch_setup
  refused "was saved by PyTorch's format before 1.6: load it there, and save it again" legacy
  refused "it is an object of 'torch.nn.modules.container.Sequential', a whole module" module
  refused "'net' is an object of 'torch.nn.modules.container.Sequential'" module-within
  refused "is a TorchScript archive" script
  refused "holds no state dict, that is, tensors by name, but 'a' (an integer), 'b' (a list)" nothing
  refused "group 0: hess has 37 elements, numel is 38" numel
}

@test "nothing is called" {
  torch_setup
  refused "'model' (an object of 'posix.system')" call
  refused "'model' is an object of 'posix.system'" call --key=model
  refused "'x' is an object of 'posix.system', expected a tensor" call-within --key=model
  same call-beside
  [ ! -e called ]
}
