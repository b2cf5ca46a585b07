load common

setup_file() {
  export SEEDS=$BATS_FILE_TMPDIR
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../fuzz/seeds_checkpoint.py" "$SEEDS"
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../fuzz/seeds_torch.py" "$SEEDS"
}

# Of these only the one odd member is refused, to whom asks for it.
odd=" array.h5 complex.pt compound.h5 external-storage.h5 filter-foreign.h5 filter-nbit.h5
filter-szip.h5 float.h5 lzf.h5 nothing.h5 opaque.h5 rank.h5 references.h5 scaleoffset.h5 strings.h5
virtual.h5 vlen.h5 "

@test "every hostile file is refused with one line and 65" {
  for file in "$SEEDS"/hostile-*.{h5,pt}; do
    name=${file##*/hostile-}
    if [[ $odd == *[[:space:]]$name[[:space:]]* ]]; then
      echo "$name"
      ivon-info "$file" | grep -qE "not read        '(mean/)?a'"
      run ivon-convert "$file" -o copy.h5
      [ $status -eq 65 ]
      [ "${#lines[@]}" -eq 1 ]
      [[ "${lines[0]}" == *"a' is stored as "* ]]
      continue
    fi
    set +e
    timeout 30 ivon-info "$file" > out 2> err
    status=$?
    set -e
    echo "$status $file $(cat err)"
    [ $status -eq 65 ]
    [ ! -s out ]
    [ "$(wc -l < err)" -eq 1 ]
  done
}

@test "every other form of the format is read" {
  for file in "$SEEDS"/*.{h5,pt}; do
    case $file in */hostile-* | */canary.h5 | */bomb.pt) continue ;; esac
    echo "$file"
    ivon-info "$file" > out
    grep -q parameters out
  done
}

@test "inflating stays within its memory, and nothing in a pickle is called" {
  run ivon-info "$SEEDS/bomb.pt"
  [ $status -eq 71 ]
  [[ "$output" == *"134217729 bytes, when inflated, exceed the memory of 67108864" ]]
  run -65 ivon-info "$SEEDS/hostile-call.pt"
  [[ "$output" == *"'model' (an object of 'posix.system')" ]]
  run -65 ivon-info "$SEEDS/hostile-call-within.pt"
  [[ "$output" == *"'x' is an object of 'posix.system', expected a tensor" ]]
  [ ! -e called ]
  [ ! -e "$SEEDS/called" ]
}

@test "nothing outside the named files is opened" {
  command -v strace > /dev/null || skip "strace is missing"
  export ASAN_OPTIONS=detect_leaks=0 # which cannot be done under strace
  strace -o trace true || skip "cannot trace"
  for file in "$SEEDS"/hostile-{external,virtual}*.h5; do
    strace -f -e trace=open,openat,execve,connect -o trace ivon-info "$file" > /dev/null 2>&1 || true
    grep -q "$(basename "$file")" trace
    if grep canary trace; then
      return 1
    fi
  done
}

@test "the parser runs under a system call filter, unless told otherwise" {
  command -v strace > /dev/null || skip "strace is missing"
  export ASAN_OPTIONS=detect_leaks=0
  strace -o trace true || skip "cannot trace"
  strace -f -o trace ivon-info "$SEEDS/plain.h5" > /dev/null
  grep -qE '(seccomp\(SECCOMP_SET_MODE_FILTER|PR_SET_SECCOMP, SECCOMP_MODE_FILTER).* = 0' trace
  strace -f -o trace ivon-info --no-sandbox "$SEEDS/plain.h5" > /dev/null
  run -1 grep -qE 'seccomp\(|PR_SET_SECCOMP' trace
}
