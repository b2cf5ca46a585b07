#!/usr/bin/env bash
# The movie reviews as texts in CSV, in capitals and with words that the vocabulary lacks: a transformer
# predicts and learns from them to the bit what it does from the rows of tokens.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$IVON_BIN:$PATH
data=$IVON_SHARED/data/text-mr.h5
vocabulary=$IVON_SHARED/data/text-vocab.txt
/usr/bin/python3 - "$data" "$vocabulary" << 'PYTHON'
import csv, sys
import h5py
words = open(sys.argv[2]).read().split("\n")
with h5py.File(sys.argv[1]) as file:
    for group in ("train", "test"):
        with open(group + ".csv", "w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["text", "id", "label"])
            for i, (x, y) in enumerate(zip(file[group]["x"][()], file[group]["y"][()])):
                text = [words[token].upper() if token != 1 else "Zyzzogeton" for token in x if token]
                writer.writerow([" ".join(text), f"no. {i}", int(y)])
PYTHON
head -n 3 test.csv
texts=(--target-column=label --text-column=text --tokens="$vocabulary")
network=("$IVON_SHARED/reference/transformer-base/posterior.h5"
  "--model=$IVON_SHARED/reference/transformer-base/model.onnx")
ivon-predict -q "${network[@]}" --mean --no-provenance --data=test.csv "${texts[@]}" > csv.txt
ivon-predict -q "${network[@]}" --mean --no-provenance --data="$data:/test" > hdf5.txt
cmp csv.txt hdf5.txt
echo "$(($(wc -l < csv.txt) - 1)) predictions are the same"
train() { # DIRECTORY OPTION...
  ivon-train -q --no-provenance --arch=textcnn:14634,8,4,2,48 --lr=.1 --batch=64 --steps=20 --save-every=0 -o "$@"
}
train hdf5 --data="$data:/train"
train csv --data=train.csv "${texts[@]}" --context=48
cmp {csv,hdf5}/posterior-00000020.h5
