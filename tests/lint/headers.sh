#!/usr/bin/env bash
# Every public header compiles alone, as C and as C++; what the library exports is what they declare, and a
# C test calls each of it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/ivon"
cp lib/ivon/*.h formats/ivon/*.h "$work/ivon"
for header in "$work"/ivon/*.h; do
  name=ivon/$(basename "$header")
  printf "#include <%s>\nextern int alone;\n" "$name" > "$work/alone.c"
  gcc -std=c11 -Wall -Wextra -Wpedantic -Wconversion -Werror -I"$work" -fsyntax-only "$work/alone.c"
  g++ -std=c++17 -Wall -Wextra -Wpedantic -Werror -I"$work" -x c++ -fsyntax-only "$work/alone.c"
done
library=$IVON_BUILD/libivon.so
cat "$work"/ivon/*.h | tr '\n' ' ' | grep -oE 'IVON_API [^;]*;' \
  | grep -oE 'ivon_[a-z0-9_]+ ?(\(|\[)' | tr -d ' ([' | sort -u > "$work/declared"
nm -D --defined-only "$library" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort -u > "$work/exported"
diff "$work/declared" "$work/exported"
readelf -d "$library" | grep -q 'soname: \[libivon.so.1\]'
# Objects of the tests' own sources, not of the program's that some are linked with.
find "$IVON_BUILD/tests/unit" "$IVON_BUILD/tests/property" -name '*.c.o' -not -path '*/__/*' -exec nm -u {} + \
  | awk '$1 == "U" {print $2}' | sort -u > "$work/called"
if comm -23 "$work/declared" "$work/called" | grep .; then
  echo "^ called by no test in tests/unit or tests/property"
  exit 1
fi
echo "$(ls "$work"/ivon | wc -l) headers, $(wc -l < "$work/exported") symbols"
