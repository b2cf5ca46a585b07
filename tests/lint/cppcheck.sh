#!/usr/bin/env bash
# cppcheck finds nothing in the sources. What is suppressed, and why:
# - incorrectLogicOperator: version 2.10 reads hexadecimal floating constants as 0.
# - legacyUninitvar: it objects to an array whose address is one of two that `?:` chooses from.
# - shiftTooManyBitsSigned: GCC defines the right shift of a negative number.
# - invalidPointerCast: a workspace holds doubles, and floats behind them.
set -euo pipefail
. tests/lint/sources.bash
command -v cppcheck > /dev/null || { echo "skipped: cppcheck is missing"; exit 77; }
cppcheck --quiet -j "$(nproc)" --std=c11 --enable=warning,performance,portability --error-exitcode=1 \
  --suppress=incorrectLogicOperator --suppress=legacyUninitvar --suppress=shiftTooManyBitsSigned \
  --suppress=invalidPointerCast -D__x86_64__ -D__GNUC__=12 -I. -Ilib -Iformats --file-list=<(recent_sources | tr '\0' '\n')
