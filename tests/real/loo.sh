#!/usr/bin/env bash
# The leave-one-out loss along trainings beside the test loss: loo.sh all prints the table of man/results.md, within an
# hour; loo.sh NAME its rows of that name. Without an argument, seconds on digits, and what must hold of them.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
exec /usr/bin/python3 "$(dirname "$0")/loo.py" "${@:-quick}"
