# ivon-merge with models' directories, as hubs have them, in and out.
load common

# hub DIRECTORY SHARDS SEED: a directory with a model of .4 MB; of the same seed 0, finetuned.
hub() { $python -B "$BATS_TEST_DIRNAME/../oracle/model_directory.py" "$1" "$2" .4 "$3"; }

oracle() { # PYTHON, with `st` the reader of safetensors, `np`, and wide(bits of bf16)
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c "
import json, os, sys, numpy as np, safetensors_file as st
wide = lambda bits: (bits.astype('u4') << 16).view('f4').astype('f8')
model = lambda d: (st.read_index(d + '/model.safetensors.index.json', ordered=False)[0]
                   if os.path.exists(d + '/model.safetensors.index.json')
                   else st.read(d + '/model.safetensors', ordered=False)[0])
$1"
}

refused() { # STATUS TEXT COMMAND...
  local want=$1 text=$2
  shift 2
  run timeout 20 "$@"
  echo "$output"
  [ $status -eq "$want" ]
  [ "${#lines[@]}" -eq 1 ]
  [[ $output == *"$text"* ]]
}

merge() { ivon-merge -q -m task-arithmetic --no-provenance "$@"; }

@test "a base of two shards and two finetuned models give a directory that has all of the base's files" {
  hub base 2 0; hub first 2 1; hub second 1 2
  cp -r base before
  ivon-merge -m task-arithmetic --base=base first:.5 second/:.25 --hash -o out
  [ "$(ls out)" = "$(ls base)" ]
  for name in base/*; do
    case ${name#base/} in model-*|model.safetensors*|README.md) continue ;; esac
    cmp "$name" "out/${name#base/}"
  done
  diff -r base before
  oracle '
base, first, second, out = map(model, ("base", "first", "second", "out"))
assert list(out) and set(out) == set(base)
for name, found in out.items():
    b = wide(base[name])
    expected = b + .5 * (wide(first[name]) - b) + .25 * (wide(second[name]) - b)
    # rounded once, to 8 binary digits: half a unit of the last is at most 2^-8 of the number
    assert np.all(np.abs(wide(found) - expected) <= 2.0 ** -8 * np.abs(expected)), name
for name, (_, metadata) in st.read_index("out/model.safetensors.index.json", ordered=False)[2].items():
    assert metadata["format"] == "pt", name'
  # The card: the front matter, the command, and hashes that anybody can check.
  [ "$(sed -n 1,10p out/README.md)" = '---
library_name: transformers
base_model:
- "base"
- "first"
- "second/"
tags:
- merge
- ivon
---' ]
  grep -qxF "    ivon-merge -m task-arithmetic --base=base first:.5 second/:.25 --hash -o out" out/README.md
  sum=$(cat first/model.safetensors.index.json first/model-* | sha256sum)
  grep -qxF "| first | 0.5 | ${sum%% *} |" out/README.md
  sum=$(sha256sum < second/model.safetensors)
  grep -qxF "| second/ | 0.25 | ${sum%% *} |" out/README.md
  # What names the weights says the same, and every command opens the directory.
  merge --base=base/model.safetensors.index.json first/model.safetensors.index.json:.5 second/model.safetensors:.25 -o files/
  merge --base=base first:.5 second:.25 -o dirs/
  diff -rx README.md files dirs
  ivon-info --header out | grep -q '11 tensors'
  ivon-convert -q out --dtype=f32 -o out.npz
  [ -z "$(find . -name '*ivon-tmp')" ]
}

@test "names say what becomes a directory" {
  hub base 1 0; hub first 1 1
  cp base/model.safetensors plain.safetensors
  merge --base=base first -o named
  merge --base=plain.safetensors first -o file
  merge --base=plain.safetensors first -o slash///
  mkdir there there.too
  merge --base=plain.safetensors first -o there
  merge --base=base first -o there.too
  merge --base=base first -o Llama-3.1-8B
  merge --base=base first -o o.safetensors
  [ -f file ]
  [ -f o.safetensors ]
  for name in named slash there there.too Llama-3.1-8B; do
    cmp o.safetensors $name/model.safetensors
  done
  [ -f named/config.json ]
  [ ! -e slash/config.json ]
  refused 64 "o.bin: no checkpoint is written as .bin" ivon-merge -m average base first -o o.bin
  mkdir o.h5
  refused 73 "o.h5: is a directory, expected a file to write" ivon-merge -m average base first -f -o o.h5
  refused 73 "file: is a file, expected a directory to write" ivon-merge -m average base first -f -o file/
  refused 73 "no/o: cannot create it: No such file" ivon-merge -m average base first -o no/o
  refused 64 "--no-card is for an output that is a directory" ivon-merge -m average base first --no-card -o x.h5
  refused 64 "--tokenizer-from is for" ivon-merge -m average base first --tokenizer-from=base -o x.h5
  merge --base=base first --sweep=0.5:1:0.5 -o 'sweep-%g'
  cmp sweep-1/model.safetensors named/model.safetensors
  grep -q 'all weights multiplied by 0.5' sweep-0.5/README.md
  ivon-merge --dry-run -m average base first -o never
  [ ! -e never ]
  [ -z "$(find . -name '*ivon-tmp')" ]
}

@test "the weights are those that transformers would take" {
  hub base 1 0; hub shards 2 1
  cp shards/model-* shards/model.safetensors.index.json base
  merge -m average base -o first.h5
  merge -m average base/model.safetensors -o same.h5
  cmp first.h5 same.h5
  rm base/model.safetensors
  echo '{' > base/pytorch_model.bin
  merge -m average base -o second.h5
  rm base/model.safetensors.index.json
  refused 65 "base/pytorch_model.bin: " ivon-merge -m average base -o x.h5
  rm base/pytorch_model.bin
  refused 66 "base: is a directory, expected a file, or model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json, flax_model.msgpack, model.weights.h5 or model.weights.json in it" \
    ivon-merge -m average base -o x.h5
  touch base/adapter_config.json shards/adapter_config.json
  refused 66 "base: is a directory of an adapter, without its weights" ivon-info base
  refused 66 "shards: holds a model and an adapter (adapter_config.json): name shards/model.safetensors.index.json" ivon-info shards
  ln -s nowhere base/model.safetensors
  rm base/adapter_config.json
  refused 66 "base/model.safetensors: cannot open it" ivon-info base
}

@test "the type in config.json follows the weights, and nothing else in it changes" {
  hub base 1 0; hub first 1 1
  merge --base=base first --dtype=f32 -o wide
  diff <(sed 's/"torch_dtype": "bfloat16"/"torch_dtype": "float32"/' base/config.json) wide/config.json
  printf '{"a":[{"dtype":"x\\"}"}],"torch_dtype" : null , "dtype":"auto","e":1E-05}' > base/config.json
  merge --base=base first -o same
  cmp base/config.json same/config.json
  merge --base=base first --dtype=f16 -o half
  [ "$(cat half/config.json)" = '{"a":[{"dtype":"x\"}"}],"torch_dtype" : "float16" , "dtype":"float16","e":1E-05}' ]
  echo '{}' > base/config.json
  merge --base=base first --dtype=f16 -o none
  cmp base/config.json none/config.json
}

@test "a tokenizer may come from elsewhere, and what is no model's file stays behind" {
  hub base 1 0; hub first 1 1
  mkdir words base/onnx
  echo other > words/tokenizer.json; echo more > words/added_tokens.json; echo no > words/notes.txt
  touch base/optimizer.pt base/training_args.bin base/tf_model.h5 base/.gitattributes base/run.sh base/onnx/x
  merge --base=base first --tokenizer-from=words --no-card -o out
  [ "$(ls -A out | tr '\n' ' ')" = "LICENSE added_tokens.json config.json generation_config.json model.safetensors modeling_own.py tokenizer.json " ]
  [ "$(cat out/tokenizer.json)" = other ]
  refused 66 "--tokenizer-from=base/onnx: has no file of a tokenizer" \
    ivon-merge -m average base first --tokenizer-from=base/onnx -o x/
  refused 66 "nowhere: cannot read it" ivon-merge -m average base first --tokenizer-from=nowhere -o x/
}

@test "a directory that is there keeps its other files, and its weights are never mixed" {
  hub base 1 0; hub shards 2 1
  mkdir out
  echo mine > out/notes
  refused 73 "out: directory exists, and is not empty; --force replaces what it would write there, and leaves the rest" \
    ivon-merge -m average base -o out
  merge -f -m average shards -o out
  touch out/pytorch_model.bin
  merge -f -m average base -o out
  [ "$(cat out/notes)" = mine ]
  [ ! -e out/model.safetensors.index.json ]
  [ ! -e out/pytorch_model.bin ]
  cmp out/model.safetensors base/model.safetensors || ivon-info out
  merge -f -m average shards -o out
  [ ! -e out/model.safetensors ]
  oracle 'assert all((model("out")[n] == a).all() for n, a in model("shards").items())'
  # In place of one's own base.
  merge -f --base=base shards:.5 -o base
  oracle 'assert set(model("base")) == set(model("shards"))'
  [ -z "$(find . -name '*ivon-tmp')" ]
}

@test "links in an output are replaced, and inputs follow links as caches have them" {
  mkdir -p hub/models--org--tiny/{blobs,snapshots}
  cd hub/models--org--tiny
  hub snapshots/one 2 0
  for file in snapshots/one/*; do
    name=blobs/$(sha256sum < "$file" | cut -c1-40)
    mv "$file" "$name"
    ln -s ../../"$name" "$file"
  done
  cd ../..
  hub first 2 1
  cp -r hub/models--org--tiny/snapshots/one hub/models--org--tiny/snapshots/mine
  (cd hub/models--org--tiny/blobs && sha256sum * > "$BATS_TEST_TMPDIR/sums")
  ivon-merge -q -f -m task-arithmetic --base=hub/models--org--tiny/snapshots/one first:.5 -o hub/models--org--tiny/snapshots/mine
  (cd hub/models--org--tiny/blobs && sha256sum --quiet -c "$BATS_TEST_TMPDIR/sums")
  [ "$(ls hub/models--org--tiny/blobs | wc -l)" = "$(sort -u sums | wc -l)" ]
  [ "$(ls hub/models--org--tiny/snapshots/mine)" = "$(ls hub/models--org--tiny/snapshots/one)" ]
  [ -z "$(find hub/models--org--tiny/snapshots/mine -type l)" ]
  grep -qx -- '- "org/tiny"' hub/models--org--tiny/snapshots/mine/README.md
  # A link in the place of the directory itself.
  mkdir store
  echo precious > store/config.json
  ln -s store out
  refused 73 "out: a symbolic link exists; --force replaces it, not what it leads to" ivon-merge -m average first -o out
  merge -f -m average first -o out/
  [ ! -L out ]
  [ -f out/config.json ]
  [ "$(ls store)" = config.json ]
  [ "$(cat store/config.json)" = precious ]
}

@test "hostile directories end with one line, or leave what is hostile behind" {
  hub base 1 0; hub first 1 1
  echo secret > secret
  ln -s ../secret base/vocab.txt
  ln -s /etc/passwd base/notes.txt
  mkfifo base/pipe.txt
  touch base/$'new\nline.txt' base/$'\e[31m.txt'
  truncate -s 300M base/huge.txt
  refused 0 "base: 6 of its files are not carried: '" timeout 20 ivon-merge -m task-arithmetic --base=base first -o out
  [ "$(ls out)" = "$(ls first)" ]
  rm base/*.txt
  for config in fifo huge deep text list empty link directory null; do
    rm -rf base/config.json
    case $config in
      fifo) mkfifo base/config.json; want="66 base/config.json: is a device or a pipe" ;;
      huge) truncate -s 20M base/config.json; want="65 base/config.json: a configuration of 20971520 bytes, expected at most 16777216" ;;
      deep) $python -c 'print("[" * 100000)' > base/config.json; want="65 base/config.json: is no JSON object: maximum parsing depth" ;;
      text) echo hello > base/config.json; want="65 base/config.json: is no JSON object" ;;
      list) echo '[1]' > base/config.json; want="65 base/config.json: is no JSON object" ;;
      empty) : > base/config.json; want="65 base/config.json: is no JSON object" ;;
      null) printf '{"a": "\0"}' > base/config.json; want="65 base/config.json: is no JSON object" ;;
      link) ln -s /etc/hosts base/config.json; want="66 base/config.json: is a link out of the directory" ;;
      directory) mkdir base/config.json; want="66 base/config.json: is a directory" ;;
    esac
    refused "${want%% *}" "${want#* }" ivon-merge -q -m task-arithmetic --base=base first -o no
    [ ! -e no ]
  done
  hub shards 2 0
  for name in '..' '../first/model.safetensors' 'a\nb' '/etc/passwd'; do
    sed "0,/model-00001-of-00002.safetensors/s|model-00001-of-00002.safetensors|${name/\\/\\\\}|" \
      shards/model.safetensors.index.json > index
    cp -r shards bad
    cp index bad/model.safetensors.index.json
    run timeout 20 ivon-merge -q -m average bad -o no
    echo "$output"
    [[ $status = 6[56] ]]
    [ "${#lines[@]}" -eq 1 ]
    [ ! -e no ]
    rm -r bad
  done
}

@test "killed at any moment, a directory is whole or absent" {
  hub base 2 0; hub first 2 1
  merge --base=base first -o whole
  for delay in 0 .002 .004 .006 .008 .01 .012 .015 .02 .03; do
    for signal in KILL TERM; do
      rm -rf out .out.ivon-tmp
      ivon-merge -q -m task-arithmetic --no-provenance --base=base first -o out &
      sleep $delay
      kill -$signal $! 2> /dev/null || true
      wait $! || true
      [ ! -e out ] || diff -rx README.md out whole
      [ $signal = KILL ] || [ ! -e .out.ivon-tmp ]
    done
  done
  rm -rf out
  mkdir .out.ivon-tmp
  echo left > .out.ivon-tmp/left.txt
  merge --base=base first -o out
  diff -rx README.md out whole
  mkdir -p .next.ivon-tmp/folder
  refused 73 "next: cannot create it: '.next.ivon-tmp/folder' is in the way" ivon-merge -m average first -o next
}

@test "a full disk ends with one line and 74, and leaves nothing" {
  [ "$(id -u)" = 0 ] || skip "needs to mount a file system"
  hub base 2 0; hub first 2 1
  mkdir small
  mount -t tmpfs -o size=64k tmpfs small || skip "cannot mount"
  run ivon-merge -q -m average base first -o small/out
  left=$(ls -A small)
  umount small
  echo "$status $output $left"
  [ $status -eq 74 ]
  [ "${#lines[@]}" -eq 1 ]
  [ -z "$left" ]
  [[ $output == "ivon-merge: small/out/model-00001-of-00002.safetensors: cannot write its"* ]]
}

@test "models are renamed to fit their base" {
  hub base 2 0
  $python - << 'PYTHON'
import numpy as np
r = np.random.default_rng(0)
names = {"a.w": r.standard_normal((4, 3)), "b.w": r.standard_normal(5)}
np.savez("plain.npz", **names)
np.savez("prefixed.npz", **{"model." + n: v + 1 for n, v in names.items()})
np.savez("swapped.npz", **{"c.w": names["a.w"] + 1, "d.w": names["b.w"] + 1})
PYTHON
  merge --base=plain.npz prefixed.npz:.5 --rename='^model\.:' -o one.h5
  merge --base=plain.npz swapped.npz:.5 --rename='^c:a' --rename='^d:b' -o two.h5
  $python -c '
import h5py, numpy as np
base = np.load("plain.npz")
for path in "one.h5", "two.h5":
    with h5py.File(path) as f:
        assert sorted(f["mean"]) == ["a.w", "b.w"]
        for n in base.files:
            # one sum and one product, rounded once
            assert np.abs(f["mean"][n][:] - (base[n] + .5)).max() < 1e-15, n'
  run -0 ivon-merge -m task-arithmetic --base=plain.npz plain.npz --rename='^x:y' -o three.h5
  [[ $output == *"--rename: '^x:y' matches no tensor of a model"* ]]
  refused 65 "--rename: swapped.npz: tensor 'a.w' occurs twice" ivon-merge -m average swapped.npz --rename='^[cd]:a' -o four.h5
}
