#!/usr/bin/env bash
# Each check of tests/**/*.bats can fail its test (bats.py).
set -euo pipefail
/usr/bin/python3 "$(dirname "$0")/bats.py"
