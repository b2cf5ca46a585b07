#!/usr/bin/env bash
# One path of each command reads nothing that is not initialized, and leaks nothing, by valgrind. Each
# process, parsers' children too, has its own log.
set -euo pipefail
command -v valgrind > /dev/null || { echo "skipped: valgrind is missing"; exit 77; }
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
status=0
bash "$(dirname "$0")/commands.sh" valgrind -q --leak-check=full --show-leak-kinds=definite \
  --log-file="$logs/%p" || status=1
echo "$(ls "$logs" | wc -l) processes"
cat "$logs"/*
[ "$status" = 0 ] && [ -z "$(cat "$logs"/*)" ]
