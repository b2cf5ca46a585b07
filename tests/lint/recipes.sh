#!/usr/bin/env bash
# The recipes of ivon-hacking(7) work: their code is put where the page says, compiled, and asked for.
set -euo pipefail
exec /usr/bin/python3 tests/lint/recipes.py "$IVON_BUILD"
