#!/usr/bin/env bash
# long.sh MINUTES [TARGET...]: lets libFuzzer mutate the files of each target, or of all, for MINUTES
# of processor time, led by what they cover; then prints a table of what was run, covered and found.
# Begins with what seeds_TARGET.py writes, the corpus in tests/fuzz/corpus, and what earlier runs left
# in build/fuzz/grown, from which minimise.sh makes the corpus. Needs clang, and its libclang-rt.
# Exits with 1 when there is a finding; the input stands in build/fuzz/findings.
set -euo pipefail
cd "$(dirname "$0")/../.."
(($# > 0)) || { echo "usage: $0 MINUTES [TARGET...]" >&2; exit 64; }
seconds=$(awk -v minutes="$1" 'BEGIN {printf "%d", 60 * minutes}')
names=("${@:2}")
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz -j "$(nproc)" >/dev/null
if ((${#names[@]} == 0)); then
  for script in tests/fuzz/seeds_*.py; do
    name=$(basename "$script" .py)
    names+=("${name#seeds_}")
  done
fi
# What was freed is kept for a while only: fresh memory for each input takes most of the time.
export ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=256:quarantine_size_mb=16
scratch=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
export TMPDIR=$scratch
trap 'rm -rf "$scratch"' EXIT
findings=build/fuzz/findings
mkdir -p $findings

# Seconds of processor time that a process and what it waited for have used, in $used.
measure() { # PROCESS
  local stat fields
  stat=$(cat "/proc/$1/stat" 2> /dev/null) || return 1
  read -ra fields <<< "${stat##*) }"
  [[ ${fields[0]} != Z ]] || return 1
  used=$(((fields[11] + fields[12] + fields[13] + fields[14]) / $(getconf CLK_TCK)))
}

# Large inputs take long, and short ones reach as much: the seeds that are longer are run by run.sh.
limit_of() { # NAME: bytes
  case $1 in
    checkpoint|columns|dataset|hdf5|keras) echo 16384 ;;
    torch|npz|onnx|derivative) echo 8192 ;;
    *) echo 4096 ;;
  esac
}

# One run, until `left` seconds are used: libFuzzer ends by itself at a finding only.
run_once() { # NAME LOG SECONDS
  local process dictionary=() used_before=0
  [[ ! -e tests/fuzz/$1.dict ]] || dictionary=("-dict=tests/fuzz/$1.dict")
  # What the HDF5 library does wrong need not be told by name, which takes seconds.
  [[ $1 != hdf5 ]] || local -x ASAN_OPTIONS=$ASAN_OPTIONS:symbolize=0
  # A parser's process has five seconds of its own and more; the machine may be busy.
  "build/fuzz/tests/fuzz/fuzz-$1" -timeout=60 -rss_limit_mb=2048 -malloc_limit_mb=512 \
    -max_len="$(limit_of "$1")" -print_final_stats=1 -artifact_prefix="$findings/$1-" \
    "${dictionary[@]}" "build/fuzz/grown/$1" "$scratch/$1" > "$2" 2>&1 &
  process=$!
  used=0
  while measure $process; do
    used_before=$used
    ((used < $3)) || kill -USR1 $process # ends after this input
    sleep 1
  done
  used=$used_before
  wait $process
}

# Sets executed, found, covered, features, files.
fuzz() { # NAME
  local left=$seconds log="$scratch/$1.log" units last
  mkdir -p "$scratch/$1" "build/fuzz/grown/$1" "$scratch/$1.seeds"
  /usr/bin/python3 "tests/fuzz/seeds_$1.py" "$scratch/$1.seeds"
  find "$scratch/$1.seeds" -type f -size "-$(limit_of "$1")c" -exec mv -t "$scratch/$1" {} +
  [[ ! -e tests/fuzz/corpus/$1.tar.xz ]] || tar -xJf "tests/fuzz/corpus/$1.tar.xz" -C "$scratch/$1"
  executed=0 found=0 spent=0
  while ((left > 0 && found < 5)); do
    run_once "$1" "$log" "$left" || {
      found=$((found + 1))
      grep -aE 'runtime error|ERROR: |SUMMARY|Assertion|Test unit written' "$log" >&2 || tail -n 20 "$log" >&2
    }
    units=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    executed=$((executed + ${units:-0})) spent=$((spent + used)) left=$((left - used - 1))
    last=$(grep -aE '^#[0-9]+.* cov: ' "$log" | tail -n 1)
    covered=$(sed -nE 's/.* cov: ([0-9]+).*/\1/p' <<< "$last")
    features=$(sed -nE 's/.* ft: ([0-9]+).*/\1/p' <<< "$last")
  done
  files=$(find "build/fuzz/grown/$1" -type f | wc -l)
  rm -rf "${scratch:?}/$1" "$scratch/$1.seeds"
}

result=0
row='%-12s %11s %9s %7s %9s %7s %9s\n'
table=$(printf "$row" target executions per_sec edges features files findings)
for name in "${names[@]}"; do
  fuzz "$name"
  table+=$'\n'$(printf "$row" "$name" "$executed" $((executed / (spent > 0 ? spent : 1))) "${covered:-0}" \
    "${features:-0}" "$files" "$found")
  tail -n 1 <<< "$table" >&2
  ((found == 0)) || result=1
done
echo "$table"
((result == 0)) || echo "failing inputs: $findings" >&2
exit $result
