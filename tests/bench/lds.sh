#!/usr/bin/env bash
# lds.sh [HALVES]: how well influences foretell the loss of networks that are trained on random halves of the digits
# (linear datamodelling score, ivon-influence --validate), by posterior; the table of man/results.md. Some minutes for 100.
set -euo pipefail
cd "$(dirname "$0")"
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 0
fi
root=$PWD/../..
export PATH=${IVON_BIN:-$root/build/release/bin}:$PATH PYTHONDONTWRITEBYTECODE=1
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
for network in mlp cnn; do /usr/bin/python3 lds.py $network "${1:-100}" "$work/$network"; done
