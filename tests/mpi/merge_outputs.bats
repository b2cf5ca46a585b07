#!/usr/bin/env bats
# ivon-merge by ranks: what rank 0 does alone, ranks that do not see one directory, and ranks that are killed.
load mpi.bash

M() { ivon-merge -q --no-provenance -f "$@"; }

# by NAME COUNT ARGUMENT...
by() { mpi "$1" "$2" ivon-merge -q --no-provenance -f --threads=1 "${@:3}"; }

@test "what rank 0 does alone is what a process does" {
  local trials=(--base step-0.h5 step-3.h5 step-10.h5 --weights=grid:2 --evaluate=test.h5)
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/structured_posterior.py" p.h5
  M "${trials[@]}" --table=one.csv -o one.h5 > one.txt
  M p.h5 p.h5:2 --json -o structured-one.h5 > structured-one.json
  M --base step-0.h5 step-3.h5 --method=task-arithmetic --lora-rank=1 -o one/
  for name in $(each_mpi); do
    by "$name" 3 "${trials[@]}" --table=by.csv -o by.h5 > by.txt
    cmp by.h5 one.h5
    cmp by.csv one.csv
    cmp by.txt one.txt
  done
  by "$(each_mpi | cut -d' ' -f1)" 2 p.h5 p.h5:2 --json -o structured-by.h5 > structured-by.json
  cmp structured-by.h5 structured-one.h5
  diff <(sed s/-by/-one/ structured-by.json) structured-one.json
  by "$(each_mpi | cut -d' ' -f1)" 2 --base step-0.h5 step-3.h5 --method=task-arithmetic --lora-rank=1 -o by/
  cmp by/adapter_model.safetensors one/adapter_model.safetensors
}

@test "blocks of structured posteriors are shared" {
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/structured_posterior.py" p.h5
  ivon-convert -q --structure=base p.h5 -o k.h5 # four blocks, without the correction
  for method in hessian regmean; do
    M --method=$method k.h5 k.h5:2 --json -o one.h5 > one.json
    for name in $(each_mpi); do
      by "$name" 3 --method=$method k.h5 k.h5:2 --json -o by.h5 > by.json
      cmp by.h5 one.h5
      diff <(sed s/by.h5/one.h5/ by.json) one.json
    done
  done
}

@test "a rank that does not see the output's directory is named, and the old output stays" {
  mkdir there
  ln -s "$PWD"/*.h5 there
  for name in $(each_mpi); do
    for stale in no yes; do
      echo old > out.h5
      rm -f there/.out.h5.ivon-tmp
      [ $stale = no ] || head -c 100000 /dev/zero > there/.out.h5.ivon-tmp # that a killed run left
      run mpi "$name" 3 bash -c '
        [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 2 ] || cd there
        exec ivon-merge -q --base step-0.h5 step-3.h5 -f -o out.h5'
      [ "$status" = 73 ]
      [ "$(grep -c ^ivon-merge: <<< "$output")" = 1 ]
      [[ $output == *"ivon-merge: out.h5: rank 2 on $(hostname) cannot write the file that rank 0 on $(hostname) began ("*"): the output's directory has to be the same for all"* ]]
      [ "$(cat out.h5)" = old ]
      [ ! -e .out.h5.ivon-tmp ]
    done
  done
}

@test "tensors that are others elsewhere are told" {
  for name in $(each_mpi); do
    run mpi "$name" 2 bash -c '
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || set -- --dtype=f64
      exec ivon-merge -q --base step-0.h5 step-3.h5 "$@" -f -o out.h5' -
    [ "$status" = 66 ]
    [ "$(grep -c ^ivon-merge: <<< "$output")" = 1 ]
    [[ $output == *"ivon-merge: out.h5: rank 1 on $(hostname) has other inputs than rank 0 on $(hostname): tensor '"* ]]
    [ ! -e out.h5 ]
  done
}

@test "inputs and options that are others elsewhere are told" {
  for name in $(each_mpi); do
    for other in model=step-10.h5 "set -- --scale=0.5"; do
      echo old > out.h5
      run mpi "$name" 2 bash -c '
        model=step-3.h5
        [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || '"$other"'
        exec ivon-merge -q --base step-0.h5 "$model" "$@" -f -o out.h5' -
      [ "$status" = 65 ] || [ "$status" = 64 ]
      [ "$(grep -c ^ivon-merge: <<< "$output")" = 1 ]
      [[ $output == *"step-10.h5: is not what rank 0 opened"* || $output == *"the options are not those of rank 0"* ]]
      [ "$(cat out.h5)" = old ]
    done
  done
}

@test "a rank that is killed leaves the old output or the whole" {
  for name in $(each_mpi); do
    echo old > out.h5
    "$BATS_TEST_DIRNAME/kills.sh" 3 3 "$name" out.h5 ivon-merge -q --no-provenance --base step-0.h5 step-3.h5 -f -o out.h5
  done
}
