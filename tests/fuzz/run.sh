#!/usr/bin/env bash
# run.sh [RUNS|corpus [TARGET...]]: RUNS mutated files through each TARGET, half of them on each of two
# processes; or the corpus that long.sh has grown, each of its files once, as it is. A target is the
# program fuzz-NAME, whose files seeds_NAME.py writes; without any, all are built with sanitizers.
# Exits with 77 where a package is missing to write the files with.
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-500}
targets=("${@:2}")
if ((${#targets[@]} == 0)); then
  cmake --preset asan >/dev/null
  cmake --build --preset asan -j "$(nproc)" --target fuzz >/dev/null
  for script in tests/fuzz/seeds_*.py; do
    name=$(basename "$script" .py)
    targets+=("build/asan/tests/fuzz/fuzz-${name#seeds_}")
  done
fi
# The parser's memory is limited by the kernel, but not beside a sanitizer's shadow: there by this.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256
# Inputs are in memory where they can be.
scratch=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$scratch"/*.seeds; rmdir --ignore-fail-on-non-empty "$scratch"/*/ "$scratch"' EXIT

write_seeds() { # NAME DIRECTORY
  if [[ $runs == corpus ]]; then
    tar -xJf "tests/fuzz/corpus/$1.tar.xz" -C "$2"
  else
    /usr/bin/python3 "tests/fuzz/seeds_$1.py" "$2"
  fi
}

fuzz() { # TARGET
  local name=${1##*/fuzz-} status=0 first second count=$runs
  local seeds=$scratch/$name.seeds files
  export TMPDIR=$scratch/$name
  mkdir "$seeds" "$TMPDIR"
  write_seeds "$name" "$seeds" || return $?
  files=("$seeds"/*)
  echo "$name:"
  if [[ $runs == corpus ]]; then
    "$1" "${#files[@]}" 1 "${files[@]}" || status=1
  else
    "$1" $((count / 2)) 1 "${files[@]}" & first=$!
    "$1" $((count - count / 2)) 2 "${files[@]}" & second=$!
    wait $first || status=1
    wait $second || status=1
  fi
  ((status == 0)) || echo "failing inputs:" "$TMPDIR"/ivon-fuzz-failed-* >&2
  return $status
}

result=0
for target in "${targets[@]}"; do
  status=0
  fuzz "$target" || status=$?
  ((status == 0 || (status == 77 && result))) || result=$status # a failure outweighs a skip
done
exit $result
