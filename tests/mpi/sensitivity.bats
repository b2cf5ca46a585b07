#!/usr/bin/env bats
# ivon-sensitivity by ranks: the bytes of one process, and one line where a rank fails.
load mpi.bash

# Tiles of two examples, so that every rank has several.
S() { ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=2 --no-provenance "$@"; }

# by COUNT OUTPUT ARGUMENT...: each MPI writes the bytes of one.csv or one.h5
by() {
  local count=$1 one=$2
  shift 2
  for name in $(each_mpi); do
    mpi "$name" "$count" ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=2 --no-provenance --threads="$((count % 2 + 1))" \
      -f -o "by.${one##*.}" "$@"
    cmp "by.${one##*.}" "$one"
  done
}

@test "any number of ranks writes the same bytes" {
  S --score=deviation,mpe,self-influence,loo-loss --vectors=covariance -o one.h5
  S --suspects -o one.csv
  for count in 1 2 3 4; do
    by "$count" one.h5 --score=deviation,mpe,self-influence,loo-loss --vectors=covariance
  done
  by 3 one.csv --suspects
}

@test "samples, test data, sorting and standard output are those of one process" {
  S --expectation=samples -n 4 --on=test.h5 --top=5 > one.csv
  for name in $(each_mpi); do
    mpi "$name" 3 ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=2 --no-provenance \
      --expectation=samples -n 4 --on=test.h5 --top=5 > by.csv
    cmp by.csv one.csv
  done
}

@test "groups are those of one process, also where there are fewer than ranks" {
  S --groups=y > one.csv
  S --groups=half > two.csv
  for name in $(each_mpi); do
    by 2 one.csv --groups=y
    by 4 one.csv --groups=y
    by 3 two.csv --groups=half
  done
}

@test "what is removed leaves the same posterior" {
  R() { "$@" ivon-sensitivity posterior.h5 --data=train.h5 --batch=2 --no-provenance -f --remove=3,17,40-50 --leverage="$leverage" -o out.h5 2>&1; }
  for leverage in none newton; do
    R env > one.txt
    mv out.h5 one.h5
    for name in $(each_mpi); do
      R mpi "$name" 3 > by.txt
      cmp by.txt one.txt
      cmp out.h5 one.h5
    done
  done
  leverage=newton
  R mpi "$(each_mpi | cut -d' ' -f1)" 4 > by.txt
  cmp by.txt one.txt
}

@test "notes are printed once" {
  S_notes() { "$@" ivon-sensitivity posterior.h5 --data=train.h5 --batch=2 -f -o by.csv 2>&1; }
  S_notes env > one.txt
  for name in $(each_mpi); do
    S_notes mpi "$name" 3 > by.txt
    cmp by.txt one.txt
  done
}

@test "a row that one rank finds bad is told once, and the old output stays" {
  rm train.h5
  /usr/bin/python3 -c '
import h5py, shutil, sys
shutil.copy(sys.argv[1], "train.h5")
with h5py.File("train.h5", "r+") as f:
    name = next(n for n in f if f[n].ndim > 1)
    f[name][9, 0] = float("nan")' "$BATS_FILE_TMPDIR/train.h5"
  run ! S -o one.csv
  [ "${#lines[@]}" = 1 ]
  local message=$output
  for name in $(each_mpi); do
    echo old > by.csv
    run mpi "$name" 4 ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=2 -f -o by.csv
    [ "$status" = 65 ]
    [ "$(grep -c ^ivon-sensitivity: <<< "$output")" = 1 ]
    [[ $output == *"$message"* ]]
    [ "$(cat by.csv)" = old ]
  done
}

@test "a usage error and an unreadable input are told once" {
  for name in $(each_mpi); do
    run mpi "$name" 3 ivon-sensitivity posterior.h5 --data=train.h5 --sorrt
    [ "$status" = 64 ]
    [ "$(grep -c ^ivon-sensitivity: <<< "$output")" = 1 ]
    run mpi "$name" 3 ivon-sensitivity posterior.h5 --data=missing.h5
    [ "$status" = 66 ]
    [ "$(grep -c ^ivon-sensitivity: <<< "$output")" = 1 ]
  done
}

@test "an input that one rank cannot open is told with its rank" {
  for name in $(each_mpi); do
    run mpi "$name" 3 bash -c '
      file=train.h5
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 2 ] || file=missing.h5
      exec ivon-sensitivity -q posterior.h5 --data="$file" -f -o by.csv'
    [ "$status" = 66 ]
    [ "$(grep -c ^ivon-sensitivity: <<< "$output")" = 1 ]
    [[ $output == *"ivon-sensitivity: rank 2 on $(hostname): missing.h5: "* ]]
    [ ! -e by.csv ]
  done
}

@test "other data, weights or options than those of rank 0 are told, before anything is computed" {
  other() {
    run mpi "$name" 3 bash -c '
      file=$0 data=$1 samples=$2
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || file=$3 data=$4 samples=$5
      exec ivon-sensitivity -q "$file" --data="$data" --expectation=samples -n "$samples" --on=test.h5 -f -o by.csv' "$@"
    [ ! -e by.csv ]
  }
  for name in $(each_mpi); do
    other posterior.h5 train.h5 3 posterior.h5 test.h5 3
    [ "$status" = 65 ]
    [ "$(grep -c "rank 1 on .*: test.h5: is not what rank 0 opened: all ranks need the same file" <<< "$output")" = 1 ]
    other posterior.h5 train.h5 3 step-10.h5 train.h5 3
    [ "$status" = 65 ]
    [ "$(grep -c "rank 1 on .*: step-10.h5: is not what rank 0 opened" <<< "$output")" = 1 ]
    other posterior.h5 train.h5 3 posterior.h5 train.h5 4
    [ "$status" = 64 ]
    [ "$(grep -c "rank 1 on .*: the options are not those of rank 0" <<< "$output")" = 1 ]
  done
}

@test "commands that do not share their work refuse several processes, before they write" {
  for name in $(each_mpi); do
    for command in convert info sample; do
      run mpi "$name" 2 "ivon-$command" posterior.h5 -o out.h5
      [ "$status" = 64 ]
      [ "$(grep -c "^ivon-$command: .* does not share its work" <<< "$output")" = 1 ]
    done
    [ ! -e out.h5 ]
    run -0 mpi "$name" 1 ivon-info posterior.h5
  done
  IVON_MPI=off mpi "$(each_mpi | cut -d' ' -f1)" 2 ivon-info posterior.h5
  IVON_MPI=other run mpi "$(each_mpi | cut -d' ' -f1)" 2 ivon-info posterior.h5
  [ "$status" = 64 ]
  [ "$(grep -c "IVON_MPI is 'other', expected openmpi, mpich or off" <<< "$output")" = 1 ]
}

@test "standard input is refused, which one rank alone has" {
  for name in $(each_mpi); do
    for wrong in "- --data=train.h5" "posterior.h5 -d-" "posterior.h5 --data=-,y.npy"; do
      run mpi "$name" 2 ivon-sensitivity $wrong -f -o by.csv < train.h5
      [ "$status" = 66 ]
      [ "$(grep -c "^ivon-sensitivity: -: standard input is closed, as it is for ranks of MPI: name a file" <<< "$output")" = 1 ]
      [ ! -e by.csv ]
    done
    run -0 mpi "$name" 2 ivon-sensitivity -q posterior.h5 --data=train.h5 -o -
  done
}

@test "a rank that is killed ends all within seconds, and the old output stays" {
  for name in $(each_mpi); do
    echo old > by.csv
    SECONDS=0
    run mpi "$name" 3 bash -c '
      [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || { sleep 1; kill -9 $$; } &
      exec ivon-sensitivity -q posterior.h5 --data=train.h5 --batch=1 --expectation=samples -n 1000000 -f -o by.csv'
    [ "$status" != 0 ]
    ((SECONDS < 15))
    [ "$(cat by.csv)" = old ]
    [ "$(grep -c ^ivon <<< "$output")" -le 1 ]
  done
}

@test "a rank that fails while the others are busy says why, and ends all" {
  local name=$(each_mpi | cut -d' ' -f1)
  cp "$BATS_FILE_TMPDIR/train.h5" bad.h5
  /usr/bin/python3 -c '
import h5py
with h5py.File("bad.h5", "r+") as f:
    f["x"][100, 0] = float("nan")'
  echo old > by.csv
  run mpi "$name" 2 bash -c '
    file=train.h5
    [ "${OMPI_COMM_WORLD_RANK:-$PMI_RANK}" != 1 ] || file=bad.h5
    exec ivon-sensitivity -q posterior.h5 --data="$file" --batch=1 --expectation=samples -n 1000000 -f -o by.csv'
  [ "$status" = 65 ]
  [ "$(grep -c "^ivon-sensitivity: rank 1 on $(hostname): bad.h5: " <<< "$output")" = 1 ]
  [ "$(cat by.csv)" = old ]
}
