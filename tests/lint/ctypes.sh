#!/usr/bin/env bash
# What the Python package declares of libivon is what the compiler makes of the headers.
set -euo pipefail
exec /usr/bin/python3 tests/oracle/libivon_layout.py
