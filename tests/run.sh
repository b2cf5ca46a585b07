#!/usr/bin/env bash
# Installs what is needed, builds with sanitizers and for release, runs every test with both; those of
# threads, which are built for it alone, with ThreadSanitizer, too.
# Tests on real data run where IVON_SHARED names the folder that holds it, and are skipped elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."

bash tests/install.sh
failed=0
for preset in asan tsan release; do
  cmake --preset "$preset" >/dev/null
  cmake --build --preset "$preset" -j "$(nproc)"
  ctest --preset "$preset" -j "$(nproc)" || failed=1
done
exit $failed
