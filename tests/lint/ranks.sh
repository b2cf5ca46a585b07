#!/usr/bin/env bash
# Who may include whom: cmd -> formats -> lib, and within lib each folder only those before it.
set -euo pipefail
failed=0
sources() { find "$@" -name '*.[ch]' | sort; }
forbid() { # WHAT PATTERN FILE...
  if (($# < 3)); then
    echo "no files for: $1"
    failed=1
  elif grep -nE "$2" "${@:3}"; then
    echo "^ $1"
    failed=1
  fi
}
mapfile -t library < <(sources lib)
mapfile -t readers < <(sources formats)
mapfile -t program < <(sources cmd)
all=("${library[@]}" "${readers[@]}" "${program[@]}")
but() { printf '%s\n' "${all[@]}" | grep -vE "$1"; }

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
forbid "lib includes formats, cmd or tests" "$include(formats|cmd|tests)/" "${library[@]}"
forbid "formats includes cmd or tests" "$include(cmd|tests)/" "${readers[@]}"
if grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' "${program[@]}" | grep -vE '"(cmd|ivon)/'; then
  echo "^ the program includes what is neither its own nor public"
  failed=1
fi
# What is private to a folder: derivatives know plans from within.
while IFS=: read -r file line; do
  owner=$(sed -E 's/.*"(.*)\/private\.h".*/\1/' <<< "$line")
  case ${file%/*} in "lib/$owner" | "$owner") continue ;; esac
  case $file:$owner in lib/net/derivative/private.h:net/plan) continue ;; esac
  echo "$file includes the private header of $owner"
  failed=1
done < <(grep -E '#[[:space:]]*include "[^"]*/private\.h"' "${all[@]}")
folders=(core net metrics bayes train)
for i in "${!folders[@]}"; do
  [ -d "lib/${folders[i]}" ] || continue
  above=$(IFS='|'; echo "${folders[*]:i+1}")
  mapfile -t files < <(sources "lib/${folders[i]}")
  [ -z "$above" ] || forbid "lib/${folders[i]} includes what is above it" "$include(lib/)?($above)/" "${files[@]}"
done
mapfile -t files < <(but '^formats/')
forbid "HDF5 outside formats" "${include}hdf5" "${files[@]}"
mapfile -t files < <(but '^lib/core/blas\.c$')
forbid "BLAS outside its file" "${include}(openblas/)?(cblas|openblas_config|f77blas)" "${files[@]}"
mapfile -t files < <(but '^cmd/')
forbid "argp outside cmd" "${include}argp\\.h" "${files[@]}"
mapfile -t files < <(but '^cmd/|\.h$')
forbid "printing or ending in the library" \
  '(^|[^a-zA-Z_])(v?f?printf|puts|fputs|putchar|perror|exit|_Exit|abort|assert) *\(' "${files[@]}"
forbid "an option of the commands in the library: a hint says what may help (ivon/error.h)" \
  '"[^"]*--[a-z]' "${library[@]}" "${readers[@]}"
forbid "unversioned HDF5 calls" \
  '\bH5(Dopen|Dcreate|Gopen|Gcreate|Topen|Tcommit|Acreate|Aiterate|Eset_auto|Eget_auto|Ewalk|Epush|Eclear|Eprint|Rdereference|Rget_obj_type|Oget_info|Ovisit|Lvisit) *\(' \
  "${readers[@]}"
if top=$(git ls-tree --name-only HEAD 2> /dev/null); then
  extra=$(grep -vE '^(\..*|CMakeLists\.txt|CMakePresets\.json|README\.md|NEWS\.md|LICENSE|cmd|lib|formats|tests|man)$' <<< "$top" || true)
  [ -z "$extra" ] || { echo "at the top level: $extra"; failed=1; }
fi
((failed)) || echo "the ranks hold"
exit $failed
