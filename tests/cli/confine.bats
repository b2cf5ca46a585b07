# What an input that took over its parser could still do: tests/cli/intruder.c tries.
load common

confined_setup() {
  setup
  ! ldd "$IVON_BIN/ivon" | grep -qE 'lib[at]san' || skip "sanitizers are to be loaded first"
  # landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION)
  $python -c "import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 3)" \
    || skip "the kernel has no Landlock, or an early one"
  export INTRUDER_READ=$PWD/away/file INTRUDER_WRITE=$PWD/away/new
  mkdir -p away here/inputs here/outputs
  echo secret > away/file
  cd here
  posterior p.h5 1
  cp p.h5 inputs
}

# tries WHAT COMMAND...: the intruder within the command can do WHAT, and the command does its work.
tries() {
  run env LD_PRELOAD="$IVON_BIN/../tests/libintruder.so" "${@:2}"
  echo "$output"
  [ $status -eq 0 ]
  grep -qxF "intruder:$1" <<< "$output"
}

@test "a parser that is taken over can run nothing, reach nothing, write elsewhere nothing" {
  confined_setup
  tries "" ivon-info inputs/p.h5
  tries "" ivon-convert -q inputs/p.h5 -o outputs/o.safetensors
  tries "" ivon-convert -qf inputs/p.h5 --to=npz -oout
  tries "" ivon-merge -q -m average inputs/p.h5 p.h5 -o outputs/m.h5
  tries "" ivon-sample -q inputs/p.h5 -n 2 -o outputs/s-%d.h5
  tries " runs connects connects6 reads writes" ivon-info --no-sandbox inputs/p.h5
  [ -e ../away/new ]
  # What it may: read beside its inputs, write beside its outputs.
  INTRUDER_READ=inputs/p.h5 INTRUDER_WRITE=outputs/new tries " reads writes" \
    ivon-convert -qf inputs/p.h5 -o outputs/o.h5
  INTRUDER_READ=outputs/o.h5 INTRUDER_WRITE=inputs/new tries " reads" \
    ivon-convert -qf inputs/p.h5 -o outputs/o.h5
}

@test "what inputs link to, and where outputs lie, stays in reach" {
  confined_setup
  mkdir -p store snapshot
  ivon-convert -q p.h5 --shard-size=5k -o m.safetensors.index.json
  for file in m*.safetensors m.safetensors.index.json; do
    mv $file store/blob-$file
    ln -s ../store/blob-$file snapshot/$file
  done
  tries "" ivon-info -q snapshot/m.safetensors.index.json
  # An index that is no link, with shards that are.
  cp --remove-destination store/blob-m.safetensors.index.json snapshot/m.safetensors.index.json
  tries "" ivon-convert -q snapshot/m.safetensors.index.json -o a.npz
  cd snapshot
  tries "" ivon-merge -qf -m average m.safetensors.index.json --base=../p.h5 -o ../outputs/n.h5
  cd ..
  # A model's directory as a cache has it, and one as output: made, and written into.
  mkdir -p cache/blobs cache/snapshot
  ivon-convert -q p.h5 -o cache/blobs/1.safetensors
  echo '{}' > cache/blobs/2
  ln -s ../blobs/1.safetensors cache/snapshot/model.safetensors
  ln -s ../blobs/2 cache/snapshot/config.json
  tries "" ivon-merge -q -m average cache/snapshot -o outputs/model
  cmp cache/blobs/2 outputs/model/config.json
  tries "" ivon-merge -qf -m average cache/snapshot --no-card -o outputs/model
  INTRUDER_READ=cache/blobs/2 INTRUDER_WRITE=cache/snapshot/new tries " reads" \
    ivon-merge -qf -m average cache/snapshot -o outputs/model
  ivon-info < /dev/null /dev/stdin || [ $? = 66 ]
  ivon-info <(cat p.h5) || [ $? = 66 ]
  ln -s inputs/p.h5 link.h5
  tries "" ivon-convert -qf link.h5 -o link.h5
  [ ! -L link.h5 ]
}
