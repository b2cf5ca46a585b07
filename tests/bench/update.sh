#!/usr/bin/env bash
# update.sh: the optimizers' step for 100 million parameters, on one thread and on all, beside the
# bandwidth of the memory. See update.c. Takes 2.5 GB.
set -euo pipefail
cd "$(dirname "$0")"
root=$PWD/../..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -O3 -fno-math-errno -fno-trapping-math -ffp-contract=off -D_DEFAULT_SOURCE -pthread \
  -I"$root" -I"$root/lib" update.c "$root"/lib/train/optimizer/{update,optimizer,settings,step}.c \
  "$root"/lib/core/{random,parallel,thread_pool,error,utf8}.c -o "$work/update" -lm
grep -m 1 'model name' /proc/cpuinfo
awk '$1 > 0.5 {print "the load was " $1 ": these figures are not to be quoted"}' /proc/loadavg
"$work/update" 1
"$work/update"
