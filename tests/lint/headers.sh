#!/usr/bin/env bash
# Every public header compiles alone, as C and as C++; what the library exports is what they declare.
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
echo "$(ls "$work"/ivon | wc -l) headers, $(wc -l < "$work/exported") symbols"
