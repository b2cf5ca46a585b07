#!/usr/bin/env bash
# The Python that README and the manual pages show runs, and leaves what the commands read.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
PATH=$IVON_BIN:$PATH /usr/bin/python3 "$here/tests/oracle/python_examples.py" "$here"/README.md \
  "$here"/man/*.[15] "$here"/man/ivon-onnx.7
