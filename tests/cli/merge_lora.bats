# Low-rank adapters as models of ivon-merge, and as its output.
load common

setup_file() {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle /usr/bin/python3 -B "$BATS_TEST_DIRNAME/../oracle/adapters.py" make "$BATS_FILE_TMPDIR"
}

oracle() { PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B "$BATS_TEST_DIRNAME/../oracle/adapters.py" "$@"; }

merge() { ivon-merge -q -m task-arithmetic --dtype=f64 "$@"; }

refused() { # STATUS TEXT COMMAND...: one line, and no output
  run "${@:3}"
  [ "$status" -eq "$1" ] && [ "${#lines[@]}" -eq 1 ] && [[ $output == *"$2"* ]] && [ ! -e x.npz ] ||
    { echo "status $status: $output"; return 1; }
}

@test "adapters of every kind make of their base what numpy makes" {
  cases=$BATS_FILE_TMPDIR
  for case in plain default half rslora without-first prefix patterns embedding square fan-in-fan-out \
              convolution lora-bias whole dora dora-turned dora-embedding; do
    merge --base=$cases/$case/base.safetensors $cases/$case/adapter -o $case.npz
    oracle compare $cases/$case/expected.npz $case.npz || { echo "$case"; return 1; }
  done
}

@test "the file of the factors is its adapter, also PyTorch's" {
  cases=$BATS_FILE_TMPDIR
  merge --no-provenance --base=$cases/plain/base.safetensors $cases/plain/adapter/ -o directory.npz
  merge --no-provenance --base=$cases/plain/base.safetensors $cases/plain/adapter/adapter_model.safetensors -o file.npz
  cmp directory.npz file.npz
  (cd $cases/plain/adapter && merge --no-provenance --base=../base.safetensors adapter_model.safetensors -o "$OLDPWD/here.npz")
  cmp directory.npz here.npz
  $python -c 'import torch' 2> /dev/null || return 0
  mkdir bin
  cp $cases/plain/adapter/adapter_config.json bin
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c '
import safetensors_file, sys, torch
arrays, _ = safetensors_file.read(sys.argv[1])
torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, "bin/adapter_model.bin")' \
    $cases/plain/adapter/adapter_model.safetensors
  merge --no-provenance --base=$cases/plain/base.safetensors bin -o bin.npz
  cmp directory.npz bin.npz
}

@test "several adapters are merged as the changes they make, in any order, threads and memory" {
  cases=$BATS_FILE_TMPDIR/several
  merge --no-provenance --base=$cases/base.safetensors $cases/a:0.5 $cases/b $cases/c:-0.3 -o o.npz
  oracle compare $cases/expected.npz o.npz
  merge --no-provenance -j1 --memory=2M --base=$cases/base.safetensors $cases/c:-0.3 $cases/b $cases/a:0.5 -o other.npz
  cmp o.npz other.npz
}

@test "Hessians of factors give the product one, to first order" {
  cases=$BATS_FILE_TMPDIR/random
  ivon-merge -q -m average --base=$cases/base.safetensors $cases/adapter -o o.npz
  oracle precisions $cases/expected.npz o.npz 50 0.25
  ivon-merge -q -m hessian --base=$cases/base.safetensors $cases/adapter $cases/adapter:2 -o o.h5
  ivon-merge -q --base=$cases/base.safetensors --delta0=3 $cases/adapter -o matched.h5
  # Without Hessians a method that needs them names the tensor.
  refused 65 "'model.embed_tokens.weight' has no Hessian" ivon-merge --delta0=3 \
    --base=$BATS_FILE_TMPDIR/plain/base.safetensors $BATS_FILE_TMPDIR/plain/adapter -o x.npz
}

@test "an adapter without its base, or configuration, is refused" {
  cases=$BATS_FILE_TMPDIR/plain
  refused 65 "see --base" ivon-merge -m average $cases/adapter -o x.npz
  mkdir alone
  cp $cases/adapter/adapter_model.safetensors alone
  refused 65 "by the adapter_config.json beside it" merge --base=$cases/base.safetensors alone/adapter_model.safetensors -o x.npz
  cp $cases/adapter/adapter_config.json alone
  rm alone/adapter_model.safetensors
  refused 66 "alone/adapter_model.bin" merge --base=$cases/base.safetensors alone -o x.npz
}

@test "configurations that are damaged, or of other adapters, are refused by what is wrong" {
  cases=$BATS_FILE_TMPDIR/plain
  cp -r $cases/adapter a
  chmod -R u+w a
  good=$(cat a/adapter_config.json)
  refused_config() { # TEXT
    refused 65 "$1" merge --base=$cases/base.safetensors a -o x.npz
  }
  changed() { # JQ TEXT
    jq "$1" <<< "$good" > a/adapter_config.json
    refused_config "$2"
  }
  changed '.r = 0' "'r' is 0, expected a whole number from 1 to 1048576"
  changed '.r = -1' "'r' is -1"
  changed '.r = 1e30' "'r' is"
  changed '.r = "4"' "'r' is \"4\""
  changed 'del(.r)' "'r' is missing"
  changed '.r = 5' "has shape 4x12, expected 5 rows, its rank"
  changed 'del(.lora_alpha)' "'lora_alpha' is missing"
  changed '.lora_alpha = null' "'lora_alpha' is null, expected a finite number"
  changed '.use_rslora = "yes"' "'use_rslora' is \"yes\", expected true or false"
  changed '.rank_pattern = [1]' "'rank_pattern' is [1], expected an object"
  changed '.rank_pattern = {"q_proj": 0}' "'rank_pattern' is 0, expected a whole number"
  changed '.alpha_pattern = {"q_proj": "x"}' "'alpha_pattern' is \"x\", expected a finite number"
  changed '.alpha_pattern = {"layers.(0|1).q_proj": 1}' "is a regular expression, expected the name of a module"
  changed '.peft_type = "LOHA"' "'peft_type' is \"LOHA\", expected \"LORA\""
  changed '.peft_type = "ADALORA"' "'peft_type' is \"ADALORA\""
  changed 'del(.peft_type)' "'peft_type' is missing"
  changed '.init_lora_weights = "pissa_niter_4"' "'init_lora_weights' is \"pissa_niter_4\""
  changed '.layer_replication = [[0, 2]]' "'layer_replication' is [[0,2]], expected nothing"
  changed '.use_dora = true' "has no magnitudes, and adapter_config.json says that use_dora is true"
  changed '[.]' "adapter_config.json is not a JSON object"
  echo '{"r": 4, "r": 4}' > a/adapter_config.json
  refused_config "adapter_config.json: line 1: duplicate object key"
  : > a/adapter_config.json
  refused_config "adapter_config.json: line 1"
  head -c 2000000 /dev/zero > a/adapter_config.json
  refused_config "adapter_config.json has 2000000 bytes, expected at most 1048576"
}

@test "factors that do not fit are refused by name" {
  cases=$BATS_FILE_TMPDIR/plain
  cp -r $cases/adapter a
  chmod -R u+w a
  changed() { # PYTHON TEXT
    PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c '
import sys, numpy as np, safetensors_file as st
t, _ = st.read(sys.argv[1])
t, p = dict(t), "base_model.model.model.layers.0.q_proj."
'"$1"'
st.write("a/adapter_model.safetensors", t)' $cases/adapter/adapter_model.safetensors
    refused 65 "$2" merge --base=$cases/base.safetensors a -o x.npz
  }
  changed 'del t[p + "lora_B.weight"]' "module 'model.layers.0.q_proj' lacks its factor B"
  changed 't[p + "lora_B.weight"] = np.zeros((20, 5), "f4")' "has shape 20x5, expected 4 columns, its rank"
  changed 't[p + "lora_A.weight"] = np.zeros((4, 13), "f4")' "has shape 4x13, expected one that fits 'model.layers.0.q_proj.weight', 20x12, and B, 20x4"
  changed 't[p + "lora_A.weight"] = np.zeros(4, "f4")' "has shape 4, expected 4 rows"
  changed 't[p + "lora_A.weight"], t[p + "lora_B.weight"] = np.zeros((4, 20), "f4"), np.zeros((12, 4), "f4")' "only if fan_in_fan_out were true"
  changed 't["other.lora_A.weight"] = t["other.lora_B.weight"] = np.zeros((4, 4), "f4")' "has factors for 'other.weight', which is not in the base"
  changed 't[p + "lora_B.bias"] = np.zeros(7, "f4")' "'base_model.model.model.layers.0.q_proj.lora_B.bias' has shape 7, expected 20"
  changed 't[p + "lora_A.x.weight"], t[p + "lora_B.y.weight"] = t.pop(p + "lora_A.weight"), t.pop(p + "lora_B.weight")' "holds two adapters, 'x' and 'y', expected one"
  changed 't[p + "lora_A.x.weight"] = t[p + "lora_A.weight"]' "are the same of one module"
  changed 't[p + "lora_magnitude_vector"] = np.ones(20, "f4")' "has magnitudes of DoRA, and adapter_config.json says that use_dora is false"
  for kind in lora_E hada_w1_a lokr_w2 vera_lambda_b lora_A.a.b.weight; do
    changed "t[p + '$kind'] = np.ones((4, 4), 'f4')" "$kind' is a factor of a kind of adapter that is not read here"
  done
}

@test "a merged change is cut to a rank as numpy cuts it, from factors and from whole matrices" {
  cases=$BATS_FILE_TMPDIR/several
  merge --base=$cases/base.safetensors $cases/a:0.5 $cases/b $cases/c:-0.3 -o full.safetensors
  for rank in 1 4 9 11 16; do
    ivon-merge --json -q -m task-arithmetic --base=$cases/base.safetensors $cases/a:0.5 $cases/b $cases/c:-0.3 \
      --lora-rank=$rank -o factors-$rank/ > json
    oracle truncated $cases/expected.npz $cases/base.safetensors factors-$rank $rank json
    ivon-merge --json -q -m task-arithmetic --base=$cases/base.safetensors full.safetensors --lora-rank=$rank \
      -o whole-$rank > json
    oracle truncated $cases/expected.npz $cases/base.safetensors whole-$rank $rank json
  done
  for threads in 1 3; do
    ivon-merge -q -m task-arithmetic -j$threads --no-provenance --base=$cases/base.safetensors full.safetensors \
      --lora-rank=4 -o threads-$threads
  done
  cmp threads-1/adapter_model.safetensors threads-3/adapter_model.safetensors
  # Twelve rows have at most twelve ranks.
  jq -e '.r == 16 and .rank_pattern["model.square"] == 12 and .alpha_pattern["model.square"] == 12' \
    factors-16/adapter_config.json
  # What was written is an adapter.
  merge --base=$cases/base.safetensors whole-16 -o back.npz
  oracle compare $cases/expected.npz back.npz 1e-6
}

@test "a base that is a directory is the directory to whoever loads the adapter" {
  cases=$BATS_FILE_TMPDIR/several
  mkdir base
  cp $cases/base.safetensors base/model.safetensors
  cp $cases/base.safetensors single.safetensors
  for named in base base/model.safetensors "$PWD/base/"; do
    ivon-merge -q -f -m average --base="$named" $cases/a $cases/b -o cut --lora-rank=2
    jq -r .base_model_name_or_path cut/adapter_config.json >> names
    sed -n '/^base_model:/,/^tags:/p' cut/README.md | sed -n 2p >> names
  done
  ivon-merge -q -f -m average --base=single.safetensors $cases/a $cases/b -o cut --lora-rank=2
  jq -r .base_model_name_or_path cut/adapter_config.json >> names
  printf '%s\n' base '- "base"' base '- "base"' "$PWD/base/" "- \"$PWD/base/\"" single.safetensors | diff - names
  echo '{}' > base/config.json
  ivon-merge -q -m average --base=base $cases/a $cases/b:2 -o whole/
  sed -n '/^base_model:/,/^tags:/p' whole/README.md | diff - <(
    printf '%s\n' base_model: '- "base"' "- \"$cases/a\"" "- \"$cases/b\"" tags:)
}

@test "an average of adapters is cut as one" {
  cases=$BATS_FILE_TMPDIR/several
  ivon-merge -q --json -m average --base=$cases/base.safetensors $cases/a:3 $cases/b -o factors --lora-rank=2 > one
  merge -m average --base=$cases/base.safetensors $cases/a:3 $cases/b -o full.safetensors
  ivon-merge -q --json -m average --base=$cases/base.safetensors full.safetensors -o whole --lora-rank=2 > two
  jq -es '[.[].results[0].adapter.layers | map(.error)] | [.[0], .[1]] | transpose | all((.[0] - .[1]) | fabs < 1e-12)' one two
}

@test "tables, layers that lie the other way, DoRA, biases and whole tensors are written as what they are" {
  cases=$BATS_FILE_TMPDIR
  for case in embedding fan-in-fan-out dora dora-turned dora-embedding lora-bias whole convolution patterns; do
    ivon-merge --json -q -m task-arithmetic --base=$cases/$case/base.safetensors $cases/$case/adapter \
      --lora-rank=3 -o $case > json
    oracle truncated $cases/$case/expected.npz $cases/$case/base.safetensors $case 3 json || { echo $case; return 1; }
    ivon-merge -q -m task-arithmetic --base=$cases/$case/base.safetensors $cases/$case/adapter \
      --lora-rank=1000 -o $case-all
    merge --base=$cases/$case/base.safetensors $case-all -o $case.npz
    oracle compare $cases/$case/expected.npz $case.npz 1e-6 || { echo $case; return 1; }
  done
  jq -e '.fan_in_fan_out' fan-in-fan-out/adapter_config.json
  jq -e '.bias == "all" and .modules_to_save == ["model.norm"]' whole/adapter_config.json
}

@test "of full models a bias tells which way a layer lies" {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B - <<'PYTHON'
import numpy as np, safetensors_file as st
r = np.random.default_rng(0)
f = lambda *shape: r.standard_normal(shape).astype("f4")
shapes = {"h.0.attn.c_attn.weight": (8, 24), "h.0.attn.c_attn.bias": (24,), "h.0.attn.c_proj.weight": (8, 8),
          "h.0.attn.c_proj.bias": (8,), "wte.weight": (30, 8), "lm_head.weight": (30, 8)}
st.write("base.safetensors", {n: f(*s) for n, s in shapes.items()})
model = {n: f(*s) for n, s in shapes.items()}
st.write("model.safetensors", model)
np.savez("expected.npz", **{n: a.astype("f8") for n, a in model.items()})
PYTHON
  ivon-merge --json -q -m task-arithmetic --base=base.safetensors model.safetensors --lora-rank=3 -o a > json
  oracle truncated expected.npz base.safetensors a 3 json
  jq -e '.fan_in_fan_out' a/adapter_config.json
  ivon-merge -q -m task-arithmetic --base=base.safetensors model.safetensors --lora-rank=8 -o all
  merge --base=base.safetensors all -o back.npz
  oracle compare expected.npz back.npz 1e-5
}

@test "an adapter is written whole, where nothing is, by every method, and for every factor" {
  cases=$BATS_FILE_TMPDIR/random
  ivon-merge -q --base=$cases/base.safetensors --delta0=3 $cases/adapter --lora-rank=2 -o matched
  ivon-merge -q -m task-arithmetic --base=$cases/base.safetensors $cases/adapter --lora-rank=2 --sweep=0.5:1:0.5 -o 'swept-%g/'
  ivon-merge -q -m task-arithmetic --base=$cases/base.safetensors $cases/adapter:0.5 --lora-rank=2 -o half --no-provenance
  ivon-merge -f -q -m task-arithmetic --base=$cases/base.safetensors $cases/adapter --lora-rank=2 --no-provenance --sweep=0.5:1:0.5 -o 'swept-%g/'
  cmp half/adapter_model.safetensors swept-0.5/adapter_model.safetensors
  ls -A half > names
  printf '%s\n' README.md adapter_config.json adapter_model.safetensors | cmp - names
  adapter() { run ivon-merge -q -m task-arithmetic --base=$cases/base.safetensors "$@"; }
  adapter $cases/adapter --lora-rank=2 -o half
  [ "$status" -eq 73 ]
  [[ $output == *"half: directory exists, and is not empty; --force replaces what it would write there"* ]]
  touch file
  adapter $cases/adapter --lora-rank=2 -o file
  [ "$status" -eq 73 ]
  [[ $output == *"file: is a file, expected a directory"* ]]
  adapter $cases/adapter --lora-rank=2 -o none/there
  [ "$status" -eq 73 ]
  [[ $output == *"none/there: cannot create it"* ]]
  adapter $cases/adapter:0 --lora-rank=2 -o nothing
  [ "$status" -eq 65 ]
  [[ $output == *"no tensor changed, of which an adapter could be made"* ]]
  [ ! -e nothing ]
  run ivon-merge -m average $cases/adapter --lora-rank=2 -o nothing
  [ "$status" -eq 64 ]
  [[ $output == *"--lora-rank is for a base"* ]]
  # f16 holds no number above 65504.
  ivon-merge -q -m task-arithmetic --base=$cases/base.safetensors $cases/adapter --lora-rank=2 --dtype=bf16 -o bf16
  ivon-info --json bf16/adapter_model.safetensors | jq -e '.tensors | all(.dtype == "bf16")' || ivon-info --tensors bf16/adapter_model.safetensors | grep -q bf16
  adapter $cases/adapter:1e12 --lora-rank=2 --dtype=f16 -o large
  [ "$status" -eq 65 ]
  [[ $output == *"which does not fit into f16"* ]]
  [ ! -e large ]
  [ ! -e .large.ivon-tmp ]
  ivon-merge -v -m task-arithmetic --base=$cases/base.safetensors $cases/adapter --lora-rank=2 -o said 2> said.txt
  grep -q "said: 'model.layers.0.q_proj.weight': rank 2, relative error 0\.[0-9]* of a change of norm" said.txt
}

@test "an adapter has the base's tokenizer, and a card, and appears as a whole" {
  cases=$BATS_FILE_TMPDIR/plain
  mkdir base words
  cp $cases/base.safetensors base/model.safetensors
  echo '{"torch_dtype": "float32"}' > base/config.json
  echo words > base/tokenizer.json; echo merges > base/merges.txt; echo terms > base/LICENSE
  echo other > words/vocab.txt
  adapter() { ivon-merge -q -m task-arithmetic --base=base $cases/adapter:0.5 --lora-rank=2 "$@"; }
  adapter -o out
  [ "$(ls -A out | tr '\n' ' ')" = "README.md adapter_config.json adapter_model.safetensors merges.txt tokenizer.json " ]
  cmp base/tokenizer.json out/tokenizer.json
  [ "$(sed -n 1,9p out/README.md)" = '---
library_name: peft
base_model:
- "base"
tags:
- merge
- ivon
- lora
---' ]
  grep -qE 'method `task-arithmetic`, cut to an adapter of rank 2, relative error 0\.[0-9]+\.$' out/README.md
  grep -qxF "    ivon-merge -q -m task-arithmetic --base=base $cases/adapter:0.5 --lora-rank=2 -o out" out/README.md
  grep -qaF '{"format":"pt"' out/adapter_model.safetensors
  merge --base=base out -o back.npz
  adapter --tokenizer-from=words --no-card -o bare/
  [ "$(ls -A bare | tr '\n' ' ')" = "adapter_config.json adapter_model.safetensors vocab.txt " ]
  # Beside what is there already, old factors in PyTorch's format go, and no model's weights do.
  mkdir there
  touch there/notes there/adapter_model.bin there/model.safetensors
  adapter -f -o there
  [ ! -e there/adapter_model.bin ]
  [ -e there/notes ]
  [ -e there/model.safetensors ]
  ivon-info there/adapter_model.safetensors > /dev/null
  # What fails leaves nothing.
  refused 66 "base/nowhere: cannot read it" adapter --tokenizer-from=base/nowhere -o x.npz
  refused 64 "--no-card is for an output that is a directory" ivon-merge -m average base -o x.npz --no-card
  [ -z "$(find . -name '*ivon-tmp')" ]
}

@test "patterns may mark the ends of a module's name" {
  cases=$BATS_FILE_TMPDIR/plain
  cp -r $cases/adapter a
  chmod -R u+w a
  pattern() { # PATTERN OUTPUT
    jq --arg pattern "$1" '.alpha_pattern = {($pattern): 50}' $cases/adapter/adapter_config.json > a/adapter_config.json
    merge --no-provenance --base=$cases/base.safetensors a -o $2.npz
  }
  pattern model.layers.0.q_proj name
  pattern no.such.module none
  run cmp -s name.npz none.npz
  [ "$status" -eq 1 ]
  for ends in '^model\.layers\.0\.q_proj$' '0.q_proj$' '^model.layers.0.q_proj' 'layers.0.q_proj$'; do
    pattern "$ends" ends
    cmp name.npz ends.npz || { echo "$ends"; return 1; }
    rm ends.npz
  done
  for other in '^layers.0.q_proj$' 'q_pro$' 'x_proj$'; do
    pattern "$other" other
    cmp none.npz other.npz || { echo "$other"; return 1; }
    rm other.npz
  done
}
