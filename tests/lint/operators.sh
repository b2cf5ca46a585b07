#!/usr/bin/env bash
# The table of operators in ivon-onnx(7) is of the rows that there are.
set -euo pipefail
exec /usr/bin/python3 tests/lint/operators.py "$IVON_BUILD" man/ivon-onnx.7
