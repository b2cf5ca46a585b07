#!/usr/bin/env bash
# Matrices of influences against PyTorch's gradients of single examples, within 1e-4 of the largest: an
# MLP, a convolutional network, a GPT on sequences and tokens, a transformer; of diagonal posteriors, and
# of those that ivon-fit makes of them, with Kronecker factors and of low rank; each measure.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "IVON_SHARED is not set: skipped"; exit 77; }
here=$(cd "$(dirname "$0")/../oracle" && pwd)
references=$IVON_SHARED/reference data=$IVON_SHARED/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
cd "$work"

# KIND NETWORK DATA QUERIES ROWS QUERY_ROWS [MEASURE [OPTIONS OF THE ORACLE]]: writes a matrix, and what
# the oracle is to compare it with. KIND is ivon's own posterior, or what was fitted.
compare() {
  local network=$2 measure=${7:-loss} model=$references/$2/model.onnx
  local posterior=$network-$1.h5 matrix=$network-$1-${measure/:/}.h5
  [ "$1" != own ] || posterior=$references/$network/posterior.h5
  ivon-influence -q "$posterior" --model="$model" --data="$3" --limit="$5" --queries="$4" \
    --rows=0-$(($6 - 1)) --measure="$measure" --rho=1 -o "$matrix"
  echo "$matrix $posterior $3 $4 --model=$model --limit=$5 --query-rows=$6 --measure=$measure --rho=1 ${8:-}" >> lines
}

fitted() { # NETWORK DATA ROWS
  local common=(-q "$references/$1/posterior.h5" --model="$references/$1/model.onnx" --data="$2"
    --limit="$3" --no-provenance)
  ivon-fit "${common[@]}" -o "$1-kronecker.h5"
  ivon-fit "${common[@]}" --structure=lowrank --rank=8 -o "$1-lowrank.h5"
}

train=$data/digits.h5:/train test=$data/digits.h5:/test
fitted digits-mlp "$train" 100
for kind in own kronecker lowrank; do compare $kind digits-mlp "$train" "$test" 40 9; done
compare lowrank digits-mlp "$train" "$test" 20 9 logit:3
compare lowrank digits-mlp "$train" "$test" 20 9 margin

train=$data/cifar10.h5:/train test=$data/cifar10.h5:/test
fitted cifar-lenet "$train" 40
for kind in own kronecker lowrank; do
  compare $kind cifar-lenet "$train" "$test" 20 5 loss --scale=255
done

train=$references/gpt-char/refs.h5
fitted gpt-char "$train" 4
for kind in own kronecker lowrank; do compare $kind gpt-char "$train" "$train" 5 3; done
compare kronecker gpt-char "$train" "$train" 3 1 token-loss

train=$data/text-cr.h5:/train test=$data/text-cr.h5:/test
fitted transformer-cr "$train" 10
for kind in own kronecker lowrank; do compare $kind transformer-cr "$train" "$test" 8 4; done

PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore "$here/influence.py" < lines
