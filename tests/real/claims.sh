#!/usr/bin/env bash
# IVON against AdamW and SGD, as in man/results.md: claims.sh digits | cifar10 | resnet | text-mr | gpt | all
# prints tables, in an hour or so, of which the residual network takes most. Without an argument, seconds
# on the digits, and what must hold of them.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$(dirname "$0")/claims.py" "${1:-quick}"
