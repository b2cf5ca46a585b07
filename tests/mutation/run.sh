#!/usr/bin/env bash
# run.sh [--seed N] [--count N] [--all] [FILES]: tries the tests on small mutations of the numeric code (mutate.py),
# and lists those that no test notices. A seeded sample, or all of FILES. Builds in build/mutation, and measures
# there once which test runs which line: a mutant is tried only on tests that run its line, the fast ones first.
# What cannot be noticed, since it computes the same, stands in equivalent.txt with the reason, and does not count.
set -euo pipefail
exec /usr/bin/python3 "$(dirname "$0")/judge.py" "$@"
