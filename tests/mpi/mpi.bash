bats_require_minimum_version 1.5.0

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
setup_file() {
  export PYTHONPATH=$BATS_TEST_DIRNAME/../oracle PYTHONDONTWRITEBYTECODE=1
  /usr/bin/python3 "$PYTHONPATH/softmax_regression.py" make "$BATS_FILE_TMPDIR"
}

setup() {
  [ -n "$(each_mpi)" ] || skip "no MPI"
  cd "$BATS_TEST_TMPDIR"
  export PATH=$IVON_BIN:$PATH OMP_NUM_THREADS=1
  ln -s "$BATS_FILE_TMPDIR"/*.h5 .
}
