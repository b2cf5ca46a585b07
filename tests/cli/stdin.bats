# Standard input in a file's place.
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
  $python -c 'import h5py, numpy as np
with h5py.File("test.h5") as f, h5py.File("group.h5", "w") as g:
    g["t/x"], g["t/y"] = f["x"][()], f["y"][()]
    np.save("x.npy", f["x"][()]), np.save("y.npy", f["y"][()])'
  same group.h5 "ivon-predict -q a.h5 --data=%:/t"
  same x.npy "ivon-predict -q a.h5 --data=%,y.npy"
  same y.npy "ivon-predict -q a.h5 --data=x.npy,%"
  for table in p.csv p.h5; do
    same $table "ivon-predict -q --average % --data=test.h5 --metrics"
    same $table "ivon-calibrate -q % --data=test.h5"
  done
}

@test "what a command opens more than once may be standard input" {
  cd "$BATS_FILE_TMPDIR"
  same a.h5 "ivon-predict-gen -q % b.h5 --data=test.h5"
  same a.h5 "ivon-calibrate -q % --data=test.h5"
  same test.h5 "ivon-predict-gen -q a.h5 --data=% --limit=10"
  same test.h5 "ivon-sensitivity -q a.h5 --data=% --limit=7"
  same test.h5 "ivon-influence -q a.h5 --data=% --queries=% --rows=1"
  same reviews.csv "ivon-train -q --arch=transformer:8,10,8,1,2,2 --lr=.1 --epochs=1 --batch=2 --no-provenance -fo words --tokens=words.txt --context=10 \
    --data=% --target-column=label; cat words/log.csv"
  training="ivon-train -q --arch=mlp:4,3 --epochs=2 --batch=20 --no-provenance"
  same test.h5 "$training --lr=.1 --data=test.h5 --test=% -fo run; cat run/log.csv"
  same test.h5 "$training --data=% --held-out=.2 --grid=lr=.1,.2 -fo grid"
}

@test "lists, calibrations, recipes and graphs may be standard input" {
  cd "$BATS_FILE_TMPDIR"
  printf '%s\n' ant bee wasp > names.txt
  printf '%s\n' 1 2 .5 > weights.txt
  ivon-calibrate -q a.h5 --data=test.h5 -fo calibration.json > table
  same names.txt "ivon-predict -q a.h5 --data=test.h5 --classes=%"
  same calibration.json "ivon-predict -q a.h5 --data=test.h5 --calibration=%"
  same weights.txt "ivon-train -q --arch=mlp:4,3 --grid=lr=.1,.2 --epochs=2 --batch=20 --no-provenance --data=test.h5 \
    --held-out=.2 --class-weights=% -fo weighted"
  same model.onnx "ivon-convert -q a.h5 --model=% --no-provenance -fo o.h5; ivon-info o.h5"
  same words.txt "ivon-train -q --arch=transformer:8,10,8,1,2,2 --lr=.1 --epochs=1 --batch=2 --no-provenance -fo words --tokens=% --context=10 \
    --data=reviews.csv --target-column=label; cat words/log.csv"
  ivon-predict -q a.h5 --data=test.h5 --classes=<(cat names.txt) | head -n 2 | grep -q ',\(ant\|bee\|wasp\),' # a pipe of another name
  run -66 ivon-predict a.h5 --data=test.h5 --classes=absent.txt
  [ "$output" = "ivon-predict: absent.txt: cannot open it: No such file or directory" ]
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
