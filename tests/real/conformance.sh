#!/usr/bin/env bash
# ONNX's newer cases for operators, of opsets up to 28, each at its own: how many pass, and that those
# which do not are the ones in tests/oracle/onnx_not_passing.txt, which says why.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
here=$(cd "$(dirname "$0")/../oracle" && pwd)
run=$IVON_BIN/../tests/conformance/conformance
if ! /usr/bin/python3 -c 'import numpy, onnx' 2> /dev/null; then
  echo "skipped: no onnx to read the cases with"
  exit 77
fi
work=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
cases() { PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore "$here/onnx_cases.py" "$@"; }

mkdir "$work/given"
tar -xJf "$IVON_SHARED/data/onnx-node-cases.tar.xz" -C "$work/given"
# The archive may have one folder above the cases.
given=$(dirname "$(dirname "$(find "$work/given" -name model.onnx -print -quit)")")
cases --prepare "$given" "$work/cases"
"$run" "$work/cases" > "$work/output" || [ $? = 1 ] # 1: some do not pass
tail -n 1 "$work/output"
cases "$run" --judge "$given" < "$work/output"
