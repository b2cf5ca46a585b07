#!/usr/bin/env bash
# The sources are written as .clang-format has it, in at most 100 columns.
set -euo pipefail
command -v clang-format > /dev/null || { echo "skipped: clang-format is missing"; exit 77; }
mapfile -t files < <(find lib formats cmd tests -name '*.[ch]' | sort)
failed=0
clang-format --dry-run --Werror "${files[@]}" || failed=1
# Characters, not bytes; text in strings and comments is broken by hand.
/usr/bin/python3 - "${files[@]}" << 'PYTHON' || failed=1
import sys
long = [f"{path}:{i + 1}: {len(line) - 1} columns" for path in sys.argv[1:]
        for i, line in enumerate(open(path, encoding="utf-8")) if len(line) > 101]
print("\n".join(long))
sys.exit(bool(long))
PYTHON
((failed)) || echo "${#files[@]} files are formatted"
exit $failed
