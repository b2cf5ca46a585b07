#!/usr/bin/env bats
# ivon-influence by ranks: the bytes of one process, and one line where a rank fails.
load mpi.bash

# Tiles of two examples, so that every rank has several blocks.
influence=(ivon-influence --data=train.h5 --batch=2 --no-provenance -f)

# same COUNT OUTPUT ARGUMENT...: each MPI writes the bytes of one process to OUTPUT, and prints what it does.
same() { one_and_by "$1" "$2" "${influence[@]}" "${@:3}"; }

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
  tells_bad_row 4 "${influence[@]}" posterior.h5 --queries=test.h5
}

@test "what trains is refused" {
  for name in $(each_mpi); do
    run mpi "$name" 2 "${influence[@]}" -q posterior.h5 --queries=test.h5 --validate=20 -o by.csv
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
        until (($(sed -n "s/^SigCgt:\\t/0x/p" /proc/$$/status) >> 14 & 1)); do [ -d /proc/$$ ] || return; sleep .05; done
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
