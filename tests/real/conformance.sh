#!/usr/bin/env bash
# ONNX's newer cases for operators, of opsets up to 28, each at its own: at least 1080 pass, and those
# that do not are the ones in tests/oracle/onnx_not_passing.txt, which says why.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
if ! /usr/bin/python3 -c 'import numpy, onnx' 2> /dev/null; then
  echo "skipped: no onnx to read the cases with"
  exit 77
fi
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
work=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
cases() { PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore "$oracle/onnx_cases.py" "$@"; }

mkdir "$work/archive"
tar -xJf "$IVON_SHARED/data/onnx-node-cases.tar.xz" -C "$work/archive"
# The archive may have one folder above the cases.
given=$(dirname "$(dirname "$(find "$work/archive" -name model.onnx -print -quit)")")
cases --prepare "$given" "$work/cases"
"$IVON_BIN/../tests/conformance/conformance" "$work/cases" > "$work/output" || [ $? = 1 ] # some fail
passed=$(tail -n 1 "$work/output" | sed -n 's/^\([0-9]*\) passed.*/\1/p')
status=0
cases --judge "$oracle/onnx_not_passing.txt" "$work/cases" < "$work/output" || status=1
[ "$passed" -ge 1080 ] || { echo "$passed pass, expected at least 1080"; status=1; }
exit $status
