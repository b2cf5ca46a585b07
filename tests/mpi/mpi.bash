# What tests of ranks share, and scripts that are no tests.
if declare -F bats_require_minimum_version > /dev/null; then bats_require_minimum_version 1.5.0; fi

# The launchers of the MPIs that the build found. On a machine that has none the test is skipped.
each_mpi() {
  local found=()
  for name in openmpi mpich; do
    [ -e "$IVON_BIN/../ivon/ranks-$name.so" ] && command -v "mpirun.$name" > /dev/null && found+=("$name")
  done
  echo "${found[@]}"
}

# NAME COUNT PROGRAM...: the program by so many ranks, of one thread for each waiting, however few processors there are.
# Its launcher gets SIGTERM after $seconds.
mpi() {
  local name=$1 count=$2
  shift 2
  case $name in
    openmpi) timeout -k 30 "${seconds:-60}" mpirun.openmpi --allow-run-as-root --oversubscribe -q -n "$count" "$@" ;;
    mpich) timeout -k 30 "${seconds:-60}" mpirun.mpich -n "$count" "$@" ;;
  esac
}

# A model, its data and checkpoints of its training, for each test where it runs.
make_model() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make "$BATS_FILE_TMPDIR"
}

setup_file() {
  make_model
}

setup() {
  [ -n "$(each_mpi)" ] || skip "no MPI"
  cd "$BATS_TEST_TMPDIR"
  export PATH=$IVON_BIN:$PATH OMP_NUM_THREADS=1
  ln -s "$BATS_FILE_TMPDIR"/*.h5 .
}

# one_and_by COUNT OUTPUT PROGRAM...: each MPI writes the bytes of one process to OUTPUT, where that makes it, and prints
# what it does.
one_and_by() {
  local count=$1 output=$2
  shift 2
  "$@" -o "$output" > one.txt 2> one.err
  [ ! -e "$output" ] || mv "$output" one
  for name in $(each_mpi); do
    mpi "$name" "$count" "$@" -o "$output" --threads="$((count % 2 + 1))" > by.txt 2> by.err
    [ ! -e one ] || cmp "$output" one
    cmp by.txt one.txt
    cmp by.err one.err
    rm -f "$output"
  done
  [ ! -e "$output.part" ]
  rm -f one
}

# tells_bad_row COUNT PROGRAM...: where a row of train.h5, far behind, has what is no number, PROGRAM ends with one line, the
# same by each MPI, and keeps the old output.
tells_bad_row() {
  local count=$1 command=$2 message
  shift
  rm train.h5
  /usr/bin/python3 -c '
import h5py, shutil, sys
shutil.copy(sys.argv[1], "train.h5")
with h5py.File("train.h5", "r+") as f:
    f["x"][140, 0] = float("nan")' "$BATS_FILE_TMPDIR/train.h5"
  run -65 "$@" -q -o one.h5
  [ "${#lines[@]}" = 1 ]
  message=${output#"$command: "}
  for name in $(each_mpi); do
    echo old > by.h5
    run mpi "$name" "$count" "$@" -q -o by.h5
    [ "$status" = 65 ]
    [ "$(grep -c "^$command: " <<< "$output")" = 1 ]
    [[ $output == *"$message"* ]]
    [ "$(cat by.h5)" = old ]
  done
}
