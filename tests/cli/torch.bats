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
  [[ "$output" == *"--buffers='PATTERN' settles it" ]]
  same copied --buffers='*.mask'
  [[ "$output" == *"by the order of the state dict, 6 tensors in 1 group"* ]]
  [[ "$output" == *"doubt: the weights do not share a storage"* ]]
  same settled
  [[ "$output" == *"order of the state dict"*"doubt: "*"sampled_params()"* ]]
  same sample --buffers='*.mask'
  [[ "$output" == *"doubt: "*"they are a sample and not the mean"* ]]
}

@test "groups keep their own ess and weight decay" {
  torch_setup
  for name in groups evaluated; do
    same $name
    [[ "$output" == "mapping: Hessian mapped to names by storage offsets, 6 tensors in 2 groups" ]]
  done
  same named
  [[ "$output" == *"by param_names, 6 tensors in 2 groups"*"doubt: "*"step: 7" ]]
  same keyed
  [[ "$output" == *"by the names in params"* ]]
  same ordered
  [[ "$output" == *"the groups are taken to follow the order of the state dict"* ]]
  refused "group 0 of the optimizer may be any of those that begin with '0.weight', '1.weight'" twins
}

@test "the state dict is found, or chosen" {
  torch_setup
  refused "several state dicts: 'model', 'ema': --key=NAME chooses one" several
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
  [[ "$output" == *"doubt: the Hessian is estimated from Adam's second moments"*"step: 3" ]]
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
