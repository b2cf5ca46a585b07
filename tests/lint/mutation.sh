#!/usr/bin/env bash
# What makes mutants of the numeric code (tests/mutation/run.sh) finds in a fixture what it should.
set -euo pipefail
exec /usr/bin/python3 tests/mutation/check.py
