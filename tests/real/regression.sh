#!/usr/bin/env bash
# Regression by IVON on UCI's sets: regression.sh all prints tables, within a minute. Without an
# argument, seconds on two sets, and what must hold of them.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$(dirname "$0")/regression.py" "${1:-quick}"
