#!/usr/bin/env bash
# Weight decays that ivon-fit chooses, against a grid of them, on networks that AdamW trained: an MLP
# for digits, a bag of words for text, two regressions. Prints the grid.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 -W ignore "$(dirname "$0")/tune.py"
