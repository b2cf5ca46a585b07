#!/usr/bin/env bats
# ivon-predict-gen by ranks: the bytes of one process.
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

# A training writes DIR: a file, one that is half-written at first, and `done`.
write_run() {
  mv "$1/later.part" "$1/step-0.h5"
  head -c 3000 step-3.h5 > "$1/step-3.h5"
  until grep -q step-3.h5: "$2"; do sleep 0.1; done
  cp step-3.h5 "$1/.whole"
  mv "$1/.whole" "$1/step-3.h5"
  touch "$1/done"
}

@test "so are criteria of samples" {
  more=(-n 25 --importance)
  G env
  mv rows.h5 one.h5
  mv points.csv one.csv
  for name in $(each_mpi); do
    G mpi "$name" 3
    cmp rows.h5 one.h5
    cmp points.csv one.csv
  done
}

@test "so are classes and groups that are left out" {
  more=(--groups=half)
  G env
  mv rows.h5 one.h5
  L() { "$@" ivon-predict-gen -q step-3.h5 step-10.h5 --data=train.h5 --batch=2 --no-provenance --by-class; }
  L env > one.csv
  for name in $(each_mpi); do
    G mpi "$name" 3
    cmp rows.h5 one.h5
    L mpi "$name" 3 > by.csv
    cmp by.csv one.csv
  done
}

@test "ranks follow a training, and a file that no rank can read yet comes again" {
  more=()
  ivon-predict-gen -q step-0.h5 step-3.h5 --data=train.h5 --no-provenance > one.csv
  for name in $(each_mpi); do
    rm -rf run errors
    mkdir run
    cp step-0.h5 run/later.part
    touch errors
    write_run run errors &
    mpi "$name" 3 ivon-predict-gen -q --follow=run --data=train.h5 --no-provenance > by.csv 2> errors
    wait
    cmp by.csv one.csv
    [ "$(grep -c '^ivon-predict-gen: run/step-3.h5: ' errors)" = 1 ] || { cat errors; false; }
  done
}

@test "ranks that follow end where a file is missing, when nothing comes, and by a signal to their launcher" {
  mkdir empty
  for name in $(each_mpi); do
    run mpi "$name" 2 ivon-predict-gen --follow=nowhere --data=train.h5
    [ "$status" = 66 ]
    [ "$(grep -c 'nowhere: cannot follow it: No such file' <<< "$output")" = 1 ]
    run mpi "$name" 2 ivon-predict-gen --follow=empty --idle-timeout=0.2 --data=train.h5
    [ "$status" = 0 ]
    [ "$(grep -c 'empty: no new checkpoint for 0.2 s: the end' <<< "$output")" = 1 ]
    SECONDS=0
    seconds=3 run mpi "$name" 2 ivon-predict-gen --follow=empty --data=train.h5
    [ "$status" = 124 ] && ((SECONDS < 10)) && [ "$(grep -c ^ivon <<< "$output")" -le 1 ] || { echo "$output"; false; }
  done
}
