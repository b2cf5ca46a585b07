#!/usr/bin/env bash
# run.sh [RUNS [TARGET]]: RUNS mutated checkpoints through TARGET (built with sanitizers if none is
# given), half of them on each of two processes.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-500}
target=${2:-}
if [ -z "$target" ]; then
  cmake --preset asan >/dev/null
  cmake --build --preset asan -j "$(nproc)" --target fuzz-checkpoint >/dev/null
  target=build/asan/tests/fuzz/fuzz-checkpoint
fi
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
/usr/bin/python3 tests/fuzz/seeds.py "$seeds"
# The parser's memory is limited by the kernel, but not beside a sanitizer's shadow: there by this.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256
"$target" $((runs / 2)) 1 "$seeds"/*.h5 & first=$!
"$target" $((runs - runs / 2)) 2 "$seeds"/*.h5 & second=$!
failed=0
wait $first || failed=1
wait $second || failed=1
if ((failed)); then
  echo "failing inputs: $(ls /dev/shm/ivon-fuzz-failed-* 2>/dev/null)" >&2
fi
exit $failed
