# Standard input in a file's place.
bats_require_minimum_version 1.5.0
load common

setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 "$BATS_TEST_DIRNAME/../oracle/example_files.py" .
  ivon-convert -q a.h5 -o a.safetensors
  ivon-predict -q a.h5 --data=test.h5 -o p.csv
  ivon-sensitivity -q a.h5 --data=test.h5 -o s.jsonl
  ivon-predict -q a.h5 --data=test.h5 -o p.h5
}

same() { # FILE COMMAND: which says as much of the file as of the stream, with - for %
  eval "${2//%/$1}" > expected
  [ -s expected ]
  eval "${2//%/-}" < "$1" | cmp - expected
  cat "$1" | eval "${2//%/-}" | cmp - expected
}

@test "a checkpoint, data or a table may be standard input" {
  cd "$BATS_FILE_TMPDIR"
  for checkpoint in a.h5 a.safetensors; do
    same $checkpoint "ivon-info --tensors % | tail -n +2"
    same $checkpoint "ivon-predict -q % --model=model.onnx --data=test.h5"
  done
  same test.h5 "ivon-predict -q a.h5 --data=%"
  same test.h5 "ivon-sensitivity -q a.h5 --data=%"
  for table in p.csv p.h5; do
    same $table "ivon-predict -q --average % --data=test.h5 --metrics"
    same $table "ivon-calibrate -q % --data=test.h5"
  done
}

@test "a picture of what is piped into ivon-plot" {
  command -v gnuplot > /dev/null || skip
  cd "$BATS_FILE_TMPDIR"
  same s.jsonl "ivon-plot sensitivity % -o -"
}

@test "it may be read once, and be nothing" {
  cd "$BATS_FILE_TMPDIR"
  run -65 ivon-predict a.h5 --data=- < /dev/null
  [ "$output" = "ivon-predict: -: is empty, expected HDF5, npz, npy, IDX or CSV" ]
  run -65 ivon-predict - --data=- < a.h5
}
