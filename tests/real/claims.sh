#!/usr/bin/env bash
# IVON and EVON against SGD, AdamW and SOAP, as in man/results.md: claims.sh digits | cifar10 | resnet | text-mr |
# gpt | all [DIR] prints tables, of which the residual network's takes hours; DIR keeps what was trained, so that it
# can be interrupted, and is tests/real/residual of that network. Without an argument, seconds on the digits, and
# what must hold.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$(dirname "$0")/claims.py" "${1:-quick}" "${@:2}"
