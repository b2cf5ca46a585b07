#!/usr/bin/env bash
# GCC's -fanalyzer finds nothing in the sources. Two of its warnings are off: version 12 loses what
# loops and called functions write into arrays (use-of-uninitialized-value; valgrind runs the
# commands for that), and who owns what a structure points to (malloc-leak; the tests run with
# LeakSanitizer). Takes minutes, and finds little that clang's (tidy.sh) does not: runs where
# IVON_ANALYZE is set.
set -euo pipefail
if [ -z "${IVON_ANALYZE:-}" ]; then
  echo "skipped: IVON_ANALYZE is not set"
  exit 77
fi
python3 - "$IVON_BUILD/compile_commands.json" <<'PYTHON' \
  | xargs -0 -n 1 -P "$(nproc)" bash -c
import json, os, re, shlex, sys

sources = re.compile(re.escape(os.getcwd()) + "/(lib|formats|cmd)/")
for entry in json.load(open(sys.argv[1])):
    if sources.match(entry["file"]):
        words = shlex.split(entry["command"])
        words[words.index("-o") + 1] = "/dev/null"
        words += ["-O1", "-DIVON_ANALYSIS", "-fanalyzer", "-Werror",
                  "-Wno-unused-value", "-Wno-redundant-decls", # of what IVON_ANALYSIS adds
                  "-Wno-analyzer-use-of-uninitialized-value", "-Wno-analyzer-malloc-leak"]
        print("exec " + shlex.join(words), end="\0")
PYTHON
