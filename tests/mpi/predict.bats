#!/usr/bin/env bats
# ivon-predict by ranks: the bytes of one process, in tables and metrics.
load mpi.bash

# same COUNT ARGUMENT...: standard output, and out.h5 if it is made, are those of one process.
same() {
  local count=$1
  shift
  local predict=(ivon-predict --data=test.h5 --batch=2 --no-provenance -f "$@")
  rm -f out.h5 one.h5
  "${predict[@]}" > one.txt
  [ ! -e out.h5 ] || mv out.h5 one.h5
  for name in $(each_mpi); do
    mpi "$name" "$count" "${predict[@]}" > by.txt
    cmp by.txt one.txt
    [ ! -e one.h5 ] || cmp out.h5 one.h5
  done
}

@test "averaged predictions and their metrics are those of one process" {
  for count in 1 2 3 4; do
    same "$count" posterior.h5 -n 5 -o out.h5 --logits --threads="$((count % 2 + 1))"
    same "$count" posterior.h5 -n 20 --metrics
  done
}

@test "so are several posteriors, the mean, linearised networks, and log-likelihoods" {
  same 3 step-0.h5 step-10.h5 -n 3 -o out.h5
  same 3 posterior.h5 --mean --metrics
  same 3 posterior.h5 --method=linear --metrics
  same 3 step-0.h5 step-10.h5 -n 3 --metrics --each
  same 2 posterior.h5 -n 4 --log-likelihoods=out.h5 --metrics
}

@test "so are averages of files, and what to label next" {
  ivon-predict -q posterior.h5 --data=test.h5 -n 2 -o a.csv
  ivon-predict -q step-10.h5 --data=test.h5 -n 2 -o b.csv
  same 3 a.csv b.csv --average --weights=1,3 --metrics -o out.h5
  same 2 posterior.h5 -n 4 --acquire=entropy --top=5
  same 3 posterior.h5 step-10.h5 -n 4 --acquire=batchbald --top=3
}
