#!/usr/bin/env bash
# posteriors.sh [digits | cifar10 | text-mr]...: networks that AdamW trained get posteriors of several structures
# from ivon-fit, and predict by them, beside IVON's own and laplace-torch's default by its formulas: the
# table of man/results.md, in a quarter of an hour.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ] || ! /usr/bin/python3 -c 'import torch' 2> /dev/null; then
  echo "skipped: needs IVON_SHARED and PyTorch"
  exit 0
fi
cd "$(dirname "$0")"
export IVON_BIN=${IVON_BIN:-$PWD/../../build/release/bin} PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -W ignore posteriors.py "$@"
