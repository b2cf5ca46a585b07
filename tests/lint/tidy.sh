#!/usr/bin/env bash
# clang-tidy finds nothing in the sources by the checks of .clang-tidy, which says what they leave out.
set -euo pipefail
. tests/lint/sources.bash
command -v clang-tidy > /dev/null || { echo "skipped: clang-tidy is missing"; exit 77; }
recent_sources | xargs -0 -r -n 4 -P "$(nproc)" clang-tidy --quiet -p "$IVON_BUILD" 2> /dev/null
echo "$(recent_sources | tr -dc '\0' | wc -c) files"
