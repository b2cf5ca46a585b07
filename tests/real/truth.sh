#!/usr/bin/env bash
# Removals by fitted posteriors beside retraining without the example, to the minimum, of an MLP and a
# convolutional network (tests/oracle/fit_truth.npz): the low-rank correction with leverage is within .01 of
# the whole matrix in rank correlation (.998 and .988), its sizes within .9 and 1.15 of the truth, its
# leave-one-out loss within 12 %; Kronecker factors are above the diagonal in rank and size.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "IVON_SHARED is not set: skipped"; exit 77; }
oracle=$(cd "$(dirname "$0")/../oracle" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
export PYTHONDONTWRITEBYTECODE=1
cd "$work"

removed() { # NETWORK STRUCTURE LEVERAGE [RANK LOW HIGH LOO]
  local network=$1 structure=$2 leverage=$3
  shift 3
  ivon-fit -q -f "$network/mean.h5" --model="$network/model.onnx" --data="$network/data.h5:/train" \
    --structure="$structure" --weight-decay=0.002142857142857143 -o fitted.h5 # 3 / 1,400
  ivon-sensitivity -q fitted.h5 --data="$network/data.h5:/removed" --n-train=1400 \
    --score=deviation,loo-loss --vectors --leverage="$leverage" -o $((++count)).h5
  echo compare "$oracle/fit_truth.npz" "$network" $count.h5 "$@" "# $structure, leverage $leverage" >> lines
}

truth() { /usr/bin/python3 -W ignore "$oracle/fit_truth.py" -; }
mkdir mlp cnn
printf "write $oracle/fit_truth.npz %s %s\n" mlp mlp cnn cnn | truth
count=0
# The diagonal's: .578 and 3.13, .708 and 2.31.
removed mlp diagonal none
removed mlp kronecker none .95 .8 1.5 .3
removed mlp lowrank auto .988 .9 1.15 .12
removed mlp lowrank:diagonal newton .988 .85 1.15 .12
removed cnn diagonal none
removed cnn kronecker none .8 .8 1.7 .4
removed cnn lowrank auto .978 .9 1.15 .12
removed cnn lowrank:diagonal newton .97 .85 1.15 .12
truth < lines
