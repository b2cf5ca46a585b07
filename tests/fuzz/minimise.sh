#!/usr/bin/env bash
# minimise.sh [TARGET...]: makes tests/fuzz/corpus/TARGET.tar.xz of what long.sh has grown: as few and as
# small files as cover the same. Where that is too much to keep, the smallest files are kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
most=300000 # bytes of an archive
names=("$@")
((${#names[@]} > 0)) || mapfile -t names < <(ls build/fuzz/grown)
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p tests/fuzz/corpus

pack() { # NAME FILES: the smallest
  find "$scratch/$1" -type f -printf '%s %f\n' | sort -k1,1n -k2 | head -n "$2" | cut -d ' ' -f 2 |
    tar -cJf "tests/fuzz/corpus/$1.tar.xz" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
      -C "$scratch/$1" -T -
}

for name in "${names[@]}"; do
  mkdir "$scratch/$name"
  old=()
  if [[ -e tests/fuzz/corpus/$name.tar.xz ]]; then
    mkdir "$scratch/$name.old"
    tar -xJf "tests/fuzz/corpus/$name.tar.xz" -C "$scratch/$name.old"
    old=("$scratch/$name.old")
  fi
  "build/fuzz/tests/fuzz/fuzz-$name" -merge=1 -timeout=60 "$scratch/$name" "${old[@]}" \
    "build/fuzz/grown/$name" > "$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; exit 1; }
  count=$(find "$scratch/$name" -type f | wc -l)
  pack "$name" "$count"
  while (($(stat -c %s "tests/fuzz/corpus/$name.tar.xz") > most)); do
    count=$((count * 9 / 10))
    pack "$name" $count
  done
  echo "$name: $count files, $(stat -c %s "tests/fuzz/corpus/$name.tar.xz") bytes"
done
