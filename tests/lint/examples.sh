#!/usr/bin/env bash
# Every "$ " line of the man pages, on small posteriors, and of README prints what is shown below it. Each
# command's page shows an output.
set -euo pipefail
here=$PWD
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
/usr/bin/python3 tests/oracle/linear_regression.py make "$work/data" orthogonal
mkdir "$work/example"
/usr/bin/python3 tests/oracle/example_files.py "$work/example"
/usr/bin/python3 tests/oracle/example_checkpoints.py "$work/example"
run() { # DOCUMENT
  rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run"
  cp ../data/base.h5 base.h5 && cp ../data/part-1.h5 cr.h5 && cp ../data/part-2.h5 mpqa.h5
  cp -r ../example/. .
  /usr/bin/python3 "$here/tests/lint/examples.py" "$here/$1"
  cd "$here"
}
for page in man/*.[1357]; do [ $page = man/ivon.1 ] || run "$page"; done

# README's begin with a training by PyTorch, in an empty directory, where ivon(1) goes on. Their numbers are
# those of one thread and of instructions that any machine has: another rounding, and 1,800 steps later it is
# another network.
/usr/bin/python3 -c 'import torch' 2> /dev/null || { echo "not README.md and ivon.1, as torch is missing"; exit 0; }
mkdir "$work/first" && cd "$work/first"
cp "$here/man/examples/train.py" .
mkdir "$work/python" && ln -s /usr/bin/python3 "$work/python/python3"
export PATH=$work/python:$PATH OMP_NUM_THREADS=1 OPENBLAS_CORETYPE=Haswell ATEN_CPU_CAPABILITY=avx2 \
  ONEDNN_MAX_CPU_ISA=AVX2 NPY_DISABLE_CPU_FEATURES="AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL"
python3 "$here/tests/lint/examples.py" "$here/README.md"
cp ../data/base.h5 base.h5 && cp ../data/part-1.h5 cr.h5 && cp ../data/part-2.h5 mpqa.h5
python3 "$here/tests/lint/examples.py" "$here/man/ivon.1"
# What ivon(1) goes on from are commands of README.
sed -n '/^python3 train.py$/,/^\.Ed$/p' "$here/man/ivon.1" | sed '$d; s/^ivon fit/ivon-fit -q/; s/^/$ /' > ../begun
[ "$(wc -l < ../begun)" = 3 ] && [ -z "$(grep -vxFf "$here/README.md" ../begun)" ]

# The two of each command's --help, in an order that makes what they take.
mkdir ../help && cd ../help
cp ../first/{train,held,test,dark}.h5 ../first/network.onnx .
for command in fit train predict calibrate sensitivity influence predict-gen sample prune merge convert info plot; do
  "ivon-$command" --help | sed -n 's/^  \(ivon-.*\)/\1/p' > examples
  [ "$(wc -l < examples)" = 2 ]
  while IFS= read -r example; do
    echo "$example"
    bash -euo pipefail -c "$example" > printed 2> said || { cat said; exit 1; }
  done < examples
done
