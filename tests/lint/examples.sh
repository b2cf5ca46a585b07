#!/usr/bin/env bash
# Every "$ " line of the man pages' examples and of the tutorial, and README's session, runs on small
# posteriors.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
/usr/bin/python3 tests/oracle/linear_regression.py make "$work/data" orthogonal
mkdir "$work/example"
/usr/bin/python3 tests/oracle/example_files.py "$work/example"
/usr/bin/python3 tests/oracle/example_checkpoints.py "$work/example"
run() { # NAME, commands on standard input
  rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run"
  cp ../data/base.h5 base.h5 && cp ../data/part-1.h5 cr.h5 && cp ../data/part-2.h5 mpqa.h5
  cp -r ../example/. .
  while IFS= read -r command; do
    echo "$1: $command"
    status=0
    bash -euo pipefail -c "$command" > output < /dev/null || status=$?
    # 141: what `head` no longer read
    [ $status = 0 ] || [[ $status = 141 && $command == *"| head"* ]]
  done
  cd "$here"
}
for page in man/*.[15]; do
  awk '/^\.Sh /{shown = / (EXAMPLES|TUTORIAL)$/} shown' "$page" | sed -n 's/^\$ //p' | run "$page"
done
sed -n '/^A session\|A session:/,$p' README.md | sed -n '/^```sh$/,/^```$/p' | sed '/^```/d;/^cmake/d' | run README.md
