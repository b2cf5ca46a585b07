#!/usr/bin/env bash
# Every man page passes mandoc's lint.
set -euo pipefail
command -v mandoc > /dev/null || { echo "skipped: mandoc is missing"; exit 77; }
mandoc -T lint -W warning man/*.[135]
echo "$(ls man/*.[135] | wc -l) pages"
