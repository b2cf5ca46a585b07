#!/usr/bin/env bash
# From a fresh clone to a first result: installs, builds, and merges posteriors whose exact joint
# posterior is known.
set -euo pipefail
cd "$(dirname "$0")/.."
bash tests/install.sh
cmake --preset release > /dev/null
cmake --build --preset release -j "$(nproc)" --target ivon-program > /dev/null
PATH=$PWD/build/release/bin:$PATH
regression() { /usr/bin/python3 tests/oracle/linear_regression.py "$@"; }

rm -rf build/demo
echo "Three Bayesian linear regressions, each on a part of one data set, merged into one posterior."
echo "Relative distance to the exact posterior of all data:"
for design in orthogonal correlated; do
  demo=build/demo/$design
  regression make "$demo" "$design"
  for method in gradient-matching hessian task-arithmetic average; do
    ivon-merge --method=$method --base="$demo/base.h5" "$demo"/part-*.h5 -o "$demo/$method.h5"
  done
  echo
  echo "$design columns: a diagonal posterior is $([ $design = orthogonal ] && echo exact || echo 'an approximation')"
  regression compare "$demo" "$demo"/{gradient-matching,hessian,task-arithmetic,average}.h5
done

if [ -n "${IVON_SHARED:-}" ]; then
  echo
  echo "A transformer, finetuned on two tasks, merged:"
  reference=$IVON_SHARED/reference
  ivon-merge --verbose --base="$reference/transformer-base/posterior.h5" \
    "$reference"/transformer-{cr,mpqa}/posterior.h5 -o build/demo/transformer.h5 2>&1
  ivon-info build/demo/transformer.h5
fi
