#!/usr/bin/env bats
# What ranks do together (lib/core/ranks.h), by each MPI that there is.
load mpi.bash

@test "ranks copy, gather, sum in the order of lanes, and map blocks" {
  for mpi in $(each_mpi); do
    for count in 1 2 3 4; do
      run mpi "$mpi" "$count" "$IVON_BIN/../ranks" copies sums maps
      [ "$status" = 0 ] && [[ $output == "$count ranks: fine" ]] || { echo "$mpi $count: $output"; false; }
    done
  done
}

@test "the failure of a rank reaches all, whatever they do" {
  for mpi in $(each_mpi); do
    for count in 2 3 4; do
      run mpi "$mpi" "$count" "$IVON_BIN/../ranks" fails
      [ "$status" = 0 ] && [[ $output == "$count ranks: fine" ]] || { echo "$mpi $count: $output"; false; }
    done
  done
}

@test "a rank that fails while another is busy ends all after five seconds" {
  for mpi in $(each_mpi); do
    SECONDS=0
    run mpi "$mpi" 2 "$IVON_BIN/../ranks" waits
    [ "$status" != 0 ] && [[ $output == *"rank 1 is alone"* ]] && ((SECONDS < 15)) || { echo "$mpi: $output"; false; }
  done
}
