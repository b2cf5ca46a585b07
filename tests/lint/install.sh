#!/usr/bin/env bash
# The installed library serves a program that is built against it: by pkg-config and by CMake. The
# program is the example of libivon(3). The installed commands run in an empty environment, also when the
# prefix was moved, and for directories as distributions and users choose them.
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

commands=$("$IVON_BIN/ivon" help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -vE '^(help|completion)$')

# runs BIN: every command, by its name and through ivon, with nothing in its environment.
runs() {
  local command
  for command in $commands; do
    [[ $(env -i "$1/ivon-$command" --help) == "Usage: ivon-$command "* ]]
    [[ $(env -i "$1/ivon" "$command" --help) == "Usage: ivon-$command "* ]]
  done
  [ "$(ls "$1" | grep -c '^ivon-')" = "$(wc -l <<< "$commands")" ]
  rm -f "$work/merged.h5"
  env -i "$1/ivon-merge" -q "$work/data/part-1.h5" "$work/data/part-2.h5" -o "$work/merged.h5"
  env -i "$1/ivon-info" --check "$work/merged.h5"
  ln -sf "$1/ivon" "$work/ivon-info" # as in a directory of links
  env -i "$work/ivon-info" --check "$work/merged.h5"
}

runs "$work/usr/bin"
if readelf -d "$work/usr/bin/ivon" | grep -F "$IVON_BUILD"; then exit 1; fi
mv "$work/usr" "$work/moved"
runs "$work/moved/bin"
mv "$work/moved" "$work/usr"

# README's lines, without what takes long: they configure, and name presets, targets and files that there are.
version=$(sed -n 's/.*project(.*VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt | head -n 1)
cat > "$work/readme" << 'STUBS'
set -euf -o pipefail
configured=$1/configured version=$2
fail() { echo "README.md: $1"; exit 1; }
sudo() { "$@"; }
apt() { [ "$*" = "install ./build/release/ivon_${version}_*.deb" ] || fail "apt $*"; }
build() {
  while [ $# -gt 0 ]; do
    case $1 in
      --preset) jq -e --arg name "$2" '.buildPresets | any(.name == $name)' CMakePresets.json > /dev/null || fail "$2" ;;
      --target) command cmake --build "$configured" --target help | grep -E "^(\.\.\. )?$2(:|$)" > /dev/null || fail "$2" ;;
      -j) ;;
      *) fail "cmake --build $*" ;;
    esac
    shift 2
  done
}
cmake() {
  case $1 in
    --preset) command cmake "$@" -B "$configured" > /dev/null ;;
    --build) build "${@:2}" ;;
    --install) [ "$2" = build/release ] && grep -qF '"binaryDir": "${sourceDir}/build/${presetName}"' CMakePresets.json ||
      fail "cmake $*" ;;
    *) fail "cmake $*" ;;
  esac
}
STUBS
{ grep '^cmake ' README.md; grep -oE '`cmake [^`]*`' README.md | tr -d '`'; } > "$work/lines"
[ "$(wc -l < "$work/lines")" = 3 ]
cat "$work/lines" >> "$work/readme"
bash "$work/readme" "$work" "$version"

# The same for other directories, of which only the program's run path depends.
run_path() {
  cmake -DCMAKE_INSTALL_PREFIX=/opt/ivon "$@" "$work/configured" > /dev/null
  sed -n 's/^ *RPATH "\(..*\)")*$/\1/p' "$work/configured/cmake_install.cmake" | head -n 1 | tr -d '\\'
}
while read -r bin lib expected; do
  found=$(run_path -DCMAKE_INSTALL_BINDIR="$bin" -DCMAKE_INSTALL_LIBDIR="$lib")
  [ "$found" = "$expected" ] || { echo "$bin and $lib: '$found', expected '$expected'"; exit 1; }
done << 'DIRECTORIES'
bin lib $ORIGIN/../lib
bin lib64 $ORIGIN/../lib64
bin lib/x86_64-linux-gnu $ORIGIN/../lib/x86_64-linux-gnu
libexec/ivon lib $ORIGIN/../../lib
/usr/bin /usr/lib64 $ORIGIN/../lib64
bin /srv/lib /srv/lib
DIRECTORIES

for page in man/*.[1357]; do
  find "$work/usr/share/man" -name "$(basename "$page").gz" | grep -q .
done
env -i PYTHONPATH="$work/usr/lib/python3/dist-packages" PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -c "
import ivon_posterior
assert ivon_posterior.info('$work/merged.h5')['parameters'] > 0
assert '$work/usr' in open('/proc/self/maps').read()"
find "$work/usr/share" -path '*completions/ivon*' | grep -q .
