#!/usr/bin/env bash
# run.sh [RUNS [TARGET]]: RUNS mutated checkpoints through TARGET (built with sanitizers if none is
# given), half of them on each of two processes. Exits with 77 where h5py is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! /usr/bin/python3 -c 'import h5py, numpy' 2> /dev/null; then
  echo "skipped: no h5py to write the seeds with" >&2
  exit 77
fi
runs=${1:-500}
target=${2:-}
if [ -z "$target" ]; then
  cmake --preset asan >/dev/null
  cmake --build --preset asan -j "$(nproc)" --target fuzz-checkpoint >/dev/null
  target=build/asan/tests/fuzz/fuzz-checkpoint
fi
TMPDIR=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d) # inputs are in memory where they can be
export TMPDIR
seeds=$TMPDIR/seeds
mkdir "$seeds"
failed=0
trap 'rm -rf "$seeds"; ((failed)) || rm -rf "$TMPDIR"' EXIT
/usr/bin/python3 tests/fuzz/seeds.py "$seeds"
# The parser's memory is limited by the kernel, but not beside a sanitizer's shadow: there by this.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256
"$target" $((runs / 2)) 1 "$seeds"/*.h5 & first=$!
"$target" $((runs - runs / 2)) 2 "$seeds"/*.h5 & second=$!
wait $first || failed=1
wait $second || failed=1
if ((failed)); then
  echo "failing inputs:" "$TMPDIR"/ivon-fuzz-failed-* >&2
fi
exit $failed
