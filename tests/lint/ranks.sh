#!/usr/bin/env bash
# Who may include whom: cmd -> formats -> lib, and within lib bayes -> core.
set -euo pipefail
failed=0
forbid() { # WHAT PATTERN FILE...
  if grep -nE "$2" "${@:3}"; then
    echo "^ $1"
    failed=1
  fi
}
forbid "lib includes formats or cmd" '#include "(formats|cmd|tests)/' lib/*/*.[ch]
forbid "core includes what is above it" '#include "(bayes|net|train)/' lib/core/*.[ch]
forbid "formats includes cmd" '#include "(cmd|tests)/' formats/*.[ch] formats/*/*.h
forbid "the program includes private headers" '#include "(core|bayes|formats)/' cmd/*.[ch]
forbid "HDF5 outside formats" '<hdf5(_hl)?\.h>' lib/*/*.[ch] cmd/*.[ch]
forbid "BLAS outside its file" '<cblas\.h>' lib/bayes/*.[ch] formats/*.[ch] cmd/*.[ch]
forbid "argp outside cmd" '<argp\.h>' lib/*/*.[ch] formats/*.[ch]
forbid "printing or ending in the library" '(^|[^a-z_])(printf|fprintf|puts|perror|exit|abort) *\(' \
  lib/*/*.c formats/*.c
forbid "unversioned HDF5 calls" '\bH5(Dopen|Dcreate|Gopen|Gcreate|Acreate|Aiterate|Eset_auto|Ewalk) *\(' \
  formats/*.c
if top=$(git ls-tree --name-only HEAD 2> /dev/null); then
  extra=$(grep -vE '^(\..*|CMakeLists\.txt|CMakePresets\.json|README\.md|NEWS\.md|LICENSE|cmd|lib|formats|tests|man)$' <<< "$top" || true)
  [ -z "$extra" ] || { echo "at the top level: $extra"; failed=1; }
fi
((failed)) || echo "the ranks hold"
exit $failed
