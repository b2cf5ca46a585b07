#!/usr/bin/env bash
# The Debian package: what it holds, what lintian says of it, and that its commands, library, manual
# pages, completions and Python module work from where it unpacks them.
set -euo pipefail
for tool in cpack dpkg-deb dpkg-shlibdeps file; do
  command -v $tool > /dev/null || { echo "skipped: $tool is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cpack --config "$IVON_BUILD/CPackConfig.cmake" -B "$work/package" > "$work/log" 2>&1 \
  || { cat "$work/log"; exit 1; }
version=$(sed -n 's/^project(ivon VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
package=$work/package/ivon_${version}_$(dpkg --print-architecture).deb
# README installs what the build needs, which is what the tests install less what they alone use, and
# less MPI, which it names beside.
named() { grep -oE '[a-z0-9-]+-(dev|c-compiler)|zlib1g-dev' | LC_ALL=C sort; }
diff <(sed -n '/^sudo apt install/,/^cmake/p' README.md | named) \
  <(named < tests/packages.txt | grep -v '^dpkg-dev\|^libcmocka-dev\|^libmpich-dev\|^libopenmpi-dev')
# It installs the package by a pattern.
pattern=$(sed -n 's|.*apt install \./build/release/||p' README.md)
[ -n "$pattern" ] && [[ $(basename "$package") == $pattern ]]
dpkg-deb -x "$package" "$work/root"
dpkg-deb -e "$package" "$work/control"
usr=$work/root/usr
commands=$("$IVON_BIN/ivon" help | sed -n 's/^  \([a-z-]*\)  .*/\1/p' | grep -vE '^(help|completion)$')

expected() {
  local file
  sed 's/$/ -rw-r--r--/' << FILES
include/ivon/$(cd lib/ivon && echo *.h | sed 's| |\ninclude/ivon/|g')
include/ivon/$(cd formats/ivon && echo *.h | sed 's| |\ninclude/ivon/|g')
lib/cmake/ivon/ivon-config-release.cmake
lib/cmake/ivon/ivon-config-version.cmake
lib/cmake/ivon/ivon-config.cmake
lib/libivon.so.$version
lib/pkgconfig/libivon.pc
lib/python3/dist-packages/ivon_posterior/$(cd formats/python/ivon_posterior && echo *.py py.typed \
  | sed 's| |\nlib/python3/dist-packages/ivon_posterior/|g')
share/bash-completion/completions/ivon
share/doc/ivon/changelog.gz
share/doc/ivon/copyright
share/doc/ivon/examples/posterior.py
share/doc/ivon/examples/train.py
share/doc/ivon/html/index.html
share/doc/ivon/html/manual.css
share/doc/ivon/results.md
$(cd man && printf 'share/doc/ivon/%s\n' pictures/*)
share/fish/vendor_completions.d/ivon.fish
share/zsh/site-functions/_ivon
FILES
  for file in man/*.[1357]; do
    echo "share/man/man${file##*.}/${file#man/}.gz -rw-r--r--"
    echo "share/doc/ivon/html/${file#man/}.html -rw-r--r--"
  done
  for file in $commands; do
    echo "share/bash-completion/completions/ivon-$file -rw-r--r--"
    echo "bin/ivon-$file lrwxrwxrwx"
  done
  echo "bin/ivon -rwxr-xr-x"
  printf '%s lrwxrwxrwx\n' lib/libivon.so lib/libivon.so.1
}
dpkg-deb -c "$package" | awk '{print $6, $1}' | sed -E '/\/ d/!b; s/.* (.*)/\1/' \
  | sed -E 's|^\./usr/||; s|^lib/[^/ ]*-linux-gnu/|lib/|' | LC_ALL=C sort > "$work/found"
sed -i '/^drwxr-xr-x$/d' "$work/found" # a folder with other permissions stays, as a difference
dpkg-deb -c "$package" | awk '$2 != "root/root"' | tee "$work/owners"
[ ! -s "$work/owners" ]
diff <(expected | LC_ALL=C sort) "$work/found"

dpkg-deb -f "$package" Depends | grep 'libhdf5.*libjpeg.*libopenblas0.*libpng' > /dev/null
# Ranks are in a package of their own, which brings the MPIs along that the build has found.
(! dpkg-deb -f "$package" Depends | grep -E 'mpi')
for plugin in $(cd "$IVON_BUILD" && ls ivon/ranks-*.so 2> /dev/null); do
  ranks=$work/package/ivon-mpi_${package##*/ivon_}
  dpkg-deb -c "$ranks" | grep "/$plugin$" > /dev/null
  dpkg-deb -f "$ranks" Depends | grep "ivon (= $version).*lib$(basename "$plugin" .so | cut -d- -f2)" > /dev/null
done
grep -q 'activate-noawait ldconfig' "$work/control/triggers"
(cd "$work/root" && md5sum --quiet -c "$work/control/md5sums")
for file in "$usr/bin/ivon" "$(find "$usr" -name "libivon.so.$version")"; do
  [ -z "$(readelf -S "$file" | grep -E '\.(symtab|debug)')" ]
  [ -z "$(readelf -d "$file" | grep -E 'R(UN)?PATH')" ]
done
gzip -dc "$usr/share/doc/ivon/changelog.gz" > "$work/changelog"
dpkg-parsechangelog -l "$work/changelog" -S Version > "$work/version"
[ "$(cat "$work/version")" = "$version" ]
if command -v lintian > /dev/null; then
  lintian --allow-root --fail-on error "$package"
else
  echo "without lintian, which is missing"
fi

library=$(dirname "$(find "$usr" -name libivon.so)")
export LD_LIBRARY_PATH=$library PATH=$usr/bin:$PATH
/usr/bin/python3 tests/oracle/linear_regression.py make "$work/data" orthogonal
ivon info --check "$work/data/base.h5"
for command in $commands; do
  [ "$(command -v "ivon-$command")" = "$usr/bin/ivon-$command" ]
  grep -q "^Usage: ivon-$command " <<< "$("ivon-$command" --help)"
done
ivon-merge --base="$work/data/base.h5" "$work"/data/part-*.h5 -o "$work/merged.h5"
PYTHONPATH=$usr/lib/python3/dist-packages PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -c "
import ivon_posterior
assert ivon_posterior.__file__.startswith('$usr')
assert ivon_posterior.info('$work/merged.h5')['parameters'] > 0"
for page in man/*.[1357]; do
  compressed=$usr/share/man/man${page##*.}/${page#man/}.gz
  gzip -dc "$compressed" | cmp - "$page"
  # neither name (4 in the flags) nor date
  [ "$(od -An -tx1 -j3 -N5 "$compressed")" = " 00 00 00 00 00" ]
done
completed=$(bash -uc ". '$usr/share/bash-completion/completions/ivon-merge'
  compopt() { :; }
  COMP_WORDS=(ivon-merge --ba) COMP_CWORD=1
  _ivon && echo \"\${COMPREPLY[*]}\"")
[ "$completed" = "--base= --base-scale= --batch-size= --batch= --batch-axis=" ]
include=$(PKG_CONFIG_PATH=$library/pkgconfig pkg-config --variable=includedir libivon)
test -f "$include/ivon/ivon.h"
echo "$(wc -l < "$work/found") files, $(stat -c %s "$package") bytes"
