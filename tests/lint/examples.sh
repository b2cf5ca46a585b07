#!/usr/bin/env bash
# Every "$ " line of the man pages and of README runs on small posteriors, and prints what is shown
# below it. Each command's page shows an output.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
/usr/bin/python3 tests/oracle/linear_regression.py make "$work/data" orthogonal
mkdir "$work/example"
/usr/bin/python3 tests/oracle/example_files.py "$work/example"
/usr/bin/python3 tests/oracle/example_checkpoints.py "$work/example"
run() { # DOCUMENT
  rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run"
  cp ../data/base.h5 base.h5 && cp ../data/part-1.h5 cr.h5 && cp ../data/part-2.h5 mpqa.h5
  cp -r ../example/. .
  /usr/bin/python3 "$here/tests/lint/examples.py" "$here/$1"
  cd "$here"
}
for page in man/*.[1357] README.md; do run "$page"; done
