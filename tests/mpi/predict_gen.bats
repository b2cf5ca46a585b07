#!/usr/bin/env bats
# ivon-predict-gen by ranks: the bytes of one process.
bats_require_minimum_version 1.5.0
load mpi.bash

G() { "$@" ivon-predict-gen -q step-0.h5 step-3.h5 step-10.h5 --data=train.h5 --test=test.h5 --batch=2 --no-provenance -f -o rows.h5 --pointwise=points.csv "${more[@]}"; }

@test "losses, examples and comparisons are those of one process" {
  more=(--compare)
  G env
  mv rows.h5 one.h5
  mv points.csv one.csv
  for name in $(each_mpi); do
    for count in 1 2 3 4; do
      G mpi "$name" "$count"
      cmp rows.h5 one.h5
      cmp points.csv one.csv
    done
  done
}

@test "what follows a training is one process" {
  for name in $(each_mpi); do
    run mpi "$name" 2 ivon-predict-gen --follow=. --data=train.h5
    [ "$status" = 64 ] && [ "$(grep -c '^ivon-predict-gen: --follow does not share its work' <<< "$output")" = 1 ]
  done
}
