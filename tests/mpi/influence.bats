#!/usr/bin/env bats
# ivon-influence by ranks: the bytes of one process, and one line where a rank fails.
load mpi.bash

# influence LAUNCHER... -- ARGUMENT...: of tiles of two examples, so that every rank has several blocks.
influence() {
  local launcher=()
  while [ "$1" != -- ]; do
    launcher+=("$1")
    shift
  done
  shift
  "${launcher[@]}" ivon-influence --data=train.h5 --batch=2 --no-provenance -f "$@"
}

# same COUNT OUTPUT ARGUMENT...: each MPI writes the bytes of one process to OUTPUT, and prints what it does.
same() {
  local count=$1 output=$2
  shift 2
  influence env -- -o "$output" "$@" > one.txt 2> one.err
  [ ! -e "$output" ] || mv "$output" one
  for name in $(each_mpi); do
    influence mpi "$name" "$count" -- -o "$output" "$@" --threads="$((count % 2 + 1))" > by.txt 2> by.err
    [ ! -e one ] || cmp "$output" one
    cmp by.txt one.txt
    cmp by.err one.err
    rm -f "$output"
  done
  rm -f one
}

@test "any number of ranks writes the same bytes, and prints the same" {
  for count in 1 2 3 4; do
    same "$count" matrix.h5 posterior.h5 --queries=test.h5 --top=3
  done
}

@test "so does every kind of output, query and sum" {
  same 3 - posterior.h5 --queries=test.h5 --top=5
  same 2 matrix.h5 posterior.h5 --queries=test.h5 --by=tensor
  same 4 matrix.csv posterior.h5 --queries=test.h5 --queries=train.h5 --rows=1-20,40-45 --measure=margin
  same 3 matrix.h5 step-0.h5 step-10.h5 --queries=test.h5 --weights=1,2
  same 2 matrix.h5 posterior.h5 --queries=test.h5 --groups=y
  same 4 - posterior.h5 --self --top=4
  same 2 matrix.h5 posterior.h5 --queries=test.h5 --memory=20K # several passes
}

@test "a row that one rank finds bad is told once, and the old output stays" {
  rm train.h5
  /usr/bin/python3 -c '
import h5py, shutil, sys
shutil.copy(sys.argv[1], "train.h5")
with h5py.File("train.h5", "r+") as f:
    f["x"][140, 0] = float("nan")' "$BATS_FILE_TMPDIR/train.h5"
  run ! influence env -- -q posterior.h5 --queries=test.h5 -o one.h5
  [ "${#lines[@]}" = 1 ]
  local message=${output#ivon-influence: }
  for name in $(each_mpi); do
    echo old > by.h5
    run influence mpi "$name" 4 -- -q posterior.h5 --queries=test.h5 -o by.h5
    [ "$status" = 65 ]
    [ "$(grep -c ^ivon-influence: <<< "$output")" = 1 ]
    [[ $output == *"$message"* ]]
    [ "$(cat by.h5)" = old ]
  done
}

@test "what trains is refused" {
  for name in $(each_mpi); do
    run influence mpi "$name" 2 -- -q posterior.h5 --queries=test.h5 --validate=20 -o by.csv
    [ "$status" = 64 ]
    [ "$(grep -c '^ivon-influence: --validate does not share its work' <<< "$output")" = 1 ]
    [ ! -e by.csv ]
  done
}

@test "a rank that is killed ends all within seconds, and the old output stays" {
  /usr/bin/python3 -c '
import h5py, numpy as np
with h5py.File("train.h5") as f, h5py.File("many.h5", "w") as g:
    for name in ("x", "y"):
        g[name] = np.concatenate([f[name][()]] * 400)'
  for name in $(each_mpi); do
    echo old > by.h5
    SECONDS=0
    run mpi "$name" 3 bash -c '
      stop() {
        until (($(sed -n "s/^SigCgt:\\t/0x/p" /proc/$$/status) >> 14 & 1)); do sleep .05; done
        kill -9 $$
      }
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || stop 2> /dev/null &
      exec ivon-influence -q posterior.h5 --data=many.h5 --queries=many.h5 --batch=1 -f -o by.h5'
    [ "$status" != 0 ]
    ((SECONDS < 15))
    [ "$(cat by.h5)" = old ]
    [ "$(grep -c ^ivon <<< "$output")" -le 1 ]
  done
}

@test "data other than those of rank 0 are told" {
  run mpi "$(each_mpi | cut -d' ' -f1)" 2 bash -c '
    data=test.h5
    [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || data=train.h5
    exec ivon-influence -q posterior.h5 --data=train.h5 --queries="$data" -f -o by.h5'
  [ "$status" = 65 ]
  [ "$(grep -c "^ivon-influence: rank 1 on .*: train.h5: is not what rank 0 opened" <<< "$output")" = 1 ]
  [ ! -e by.h5 ]
}
