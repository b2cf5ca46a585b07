#!/usr/bin/env bash
# Installs what is needed, builds with sanitizers and for release, and runs the tests: those of threads,
# which are built for it alone, with ThreadSanitizer, too; what is labelled for one build, with that
# (see tests/CMakeLists.txt).
# Tests on real data run where IVON_SHARED names the folder that holds it, and are skipped elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

bash tests/install.sh
failed=0
try() { # PRESET [OPTION...]
  cmake --preset "$1" -G Ninja -DCMAKE_EXE_LINKER_FLAGS=-fuse-ld=mold >/dev/null
  cmake --build --preset "$1" -j "$(nproc)"
  ctest --preset "$1" -j $(($(nproc) + 1)) "${@:2}" || failed=1 # one more, as tests wait, too
}
try asan -LE released
try tsan
try release -LE sanitized
exit $failed
