#!/usr/bin/env bash
# The measures of the house stay within their limits (house.py).
set -euo pipefail
/usr/bin/python3 "$(dirname "$0")/house.py" --list
