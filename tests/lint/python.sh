#!/usr/bin/env bash
# The Python that README and the manual pages show runs, and leaves what the commands read.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export IVON_LIBRARY=$IVON_BUILD/libivon.so.1
PATH=$IVON_BIN:$PATH /usr/bin/python3 "$here/tests/oracle/python_examples.py" "$here"/README.md "$here"/man/ivon-python.7 \
  "$here"/man/*.[15] "$here"/man/ivon-onnx.7
