#!/usr/bin/env bash
# run.sh TARGET: the onnx package's own cases for operators through TARGET; those that do not pass are the
# ones in tests/oracle/onnx_package_not_passing.txt, which says why. Exits with 77 where onnx is missing.
set -euo pipefail
cd "$(dirname "$0")/../oracle"
if ! /usr/bin/python3 -c 'import numpy, onnx' 2> /dev/null; then
  echo "skipped: no onnx to make the cases with" >&2
  exit 77
fi
work=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$work"' EXIT
cases() { PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore onnx_cases.py "$@"; }

cases --package "$work/cases"
"$1" "$work/cases" > "$work/output" || [ $? = 1 ] # 1: some do not pass
tail -n 1 "$work/output" | grep -q '^[0-9]* passed'
cases --judge onnx_package_not_passing.txt "$work/cases" < "$work/output"
