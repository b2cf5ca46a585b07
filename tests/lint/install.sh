#!/usr/bin/env bash
# The installed library serves a program that is built against it: by pkg-config and by CMake. The
# program is the example of libivon(3).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$IVON_BUILD" --prefix "$work/usr" > /dev/null
libdir=$(dirname "$(find "$work/usr" -name libivon.so)")
sed -n '/^\.Bd -literal$/,/^\.Ed$/p' man/libivon.3 | sed '1d;$d; s/\\en/\\n/' > "$work/example.c"
PKG_CONFIG_PATH=$libdir/pkgconfig sh -c "gcc -Wall -Werror $work/example.c \
  \$(pkg-config --cflags --libs libivon) -o $work/example"
mkdir "$work/project"
cat > "$work/project/CMakeLists.txt" << 'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(example LANGUAGES C)
find_package(ivon REQUIRED)
add_executable(example ../example.c)
target_link_libraries(example PRIVATE ivon::ivon)
CMAKE
cmake -S "$work/project" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/usr" > /dev/null
cmake --build "$work/build" > /dev/null
/usr/bin/python3 tests/oracle/linear_regression.py make "$work/data" orthogonal
for example in "$work/example" "$work/build/example"; do
  rm -f "$work/merged.h5"
  LD_LIBRARY_PATH=$libdir "$example" "$work/data/part-1.h5" "$work/data/part-2.h5" "$work/merged.h5"
  LD_LIBRARY_PATH=$libdir "$work/usr/bin/ivon-info" --check "$work/merged.h5"
done
for page in man/*.[135]; do
  find "$work/usr/share/man" -name "$(basename "$page").gz" | grep -q .
done
test -s "$work/usr/lib/python3/dist-packages/ivon_posterior.py"
find "$work/usr/share" -path '*completions/ivon*' | grep -q .
