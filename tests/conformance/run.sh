#!/usr/bin/env bash
# run.sh TARGET: ONNX's own cases for operators through TARGET. Exits with 77 where onnx is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
if ! /usr/bin/python3 -c 'import numpy, onnx' 2> /dev/null; then
  echo "skipped: no onnx to make the cases with" >&2
  exit 77
fi
cases=$(mktemp -d -p /dev/shm 2> /dev/null || mktemp -d)
trap 'rm -rf "$cases"' EXIT
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore tests/oracle/onnx_cases.py "$1" "$cases"
"$1" "$cases"
