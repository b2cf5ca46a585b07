#!/usr/bin/env bats
# ivon-merge by ranks: the bytes of one process in every format, and old or whole whatever happens.
load mpi.bash

# A base and two models whose tensors are of several jobs, of one, and of less.
setup_file() {
  /usr/bin/python3 -c '
import h5py, numpy as np, sys
random = np.random.default_rng(0)
shapes = {"large": (2200, 1000), "bias": (1000,), "small": (40, 30), "middle": (300, 400), "scalar": ()}
base = {name: random.standard_normal(shape, "f4") for name, shape in shapes.items()}
for k, name in enumerate(("base", "one", "two")):
    with h5py.File(f"{sys.argv[1]}/{name}.h5", "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1e4, weight_decay=1e-4)
        for tensor, shape in shapes.items():
            change = np.float32(0.01 * k) * random.standard_normal(shape, "f4")
            f["mean/" + tensor], f["hessian/" + tensor] = base[tensor] + change, random.random(shape, "f4")
        f["buffers/steps"] = np.int64(5 + k // 2)
' "$BATS_FILE_TMPDIR"
}

# same MPIS COUNT OUTPUT ARGUMENT...: the output, standard output and standard error are those of one process; @ stands
# for the directory of the inputs.
same() {
  local mpis=$1 count=$2 output=$3
  shift 3
  local merge=(ivon-merge --no-provenance -f "$@" -o "$output")
  rm -rf one by
  mkdir one by
  (cd one && "${merge[@]/#@/../}" --threads=2 > ../one.txt 2> ../one.err) || true
  for name in $mpis; do
    (cd by && mpi "$name" "$count" "${merge[@]/#@/../}" --threads="$((count % 2 + 1))" > ../by.txt 2> ../by.err) || true
    sed -i '/^ivon/!d' by.err # without the launcher's own lines
    diff -r by one && diff by.txt one.txt && diff by.err one.err || { echo "$name $count $*"; return 1; }
  done
}

# One that there is, or the other: by itself each joins ranks for all commands.
first() { each_mpi | cut -d' ' -f1; }
last() { each_mpi | rev | cut -d' ' -f1 | rev; }

@test "any number of ranks writes the same bytes" {
  for count in 1 2 3 4; do
    same "$(each_mpi)" "$count" out.h5 --base @base.h5 @one.h5 @two.h5 --json
  done
  [ -s one/out.h5 ]
  grep -q "1 buffer differs" one.err
}

@test "so do methods that need numbers of a whole tensor, and other formats" {
  same "$(first)" 3 out.safetensors --method=ties --base @base.h5 @one.h5 @two.h5 --json
  same "$(last)" 2 out.npz --method=breadcrumbs --base @base.h5 @one.h5 @two.h5
  same "$(first)" 2 out.h5 --method=model-stock --base @base.h5 @one.h5 @two.h5
  same "$(last)" 2 out-%g.h5 --method=dare --base @base.h5 @one.h5 @two.h5 --sweep=.5:1:.5
  [ -s one/out-0.5.h5 ]
  [ -s one/out-1.h5 ]
}

@test "a directory of shards is that of one process" {
  mkdir base
  ivon-convert -q base.h5 -o base/model.safetensors.index.json --shard-size=10M
  echo '{"torch_dtype": "float32"}' > base/config.json
  for name in $(each_mpi); do
    same "$name" 3 out/ --base @base @one.h5 @two.h5 --hash
  done
  [ -s one/out/model-00001-of-00002.safetensors ]
  [ -s one/out/README.md ]
}

@test "elements without a precision are told once, and the old output stays" {
  run ! ivon-merge --base base.h5 one.h5:-3 two.h5 -o out.h5
  [[ $output == *"tensor 'large': the merged precision is not positive for "* ]]
  [ "${#lines[@]}" = 1 ]
  local message=$output
  same "$(last)" 2 out.h5 --base @base.h5 @one.h5:-3 @two.h5 --on-nonpositive=base
  grep -q "elements kept the base's mean" one.err
  for name in $(each_mpi); do
    echo old > out.h5
    run mpi "$name" 3 ivon-merge --base base.h5 one.h5:-3 two.h5 -f -o out.h5
    [ "$status" = 65 ]
    [ "$(grep ^ivon-merge: <<< "$output")" = "$message" ]
    [ "$(cat out.h5)" = old ]
    [ ! -e .out.h5.ivon-tmp ]
  done
}
