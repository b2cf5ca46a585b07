#!/usr/bin/env bash
# Posteriors that are fitted to the reference networks hold the curvature that PyTorch finds, within
# 1e-4: of each structure, curvature and likelihood, with tokens, convolutions and embeddings.
set -euo pipefail
[ -n "${IVON_SHARED:-}" ] || { echo "IVON_SHARED is not set: skipped"; exit 77; }
here=$(cd "$(dirname "$0")/../oracle" && pwd)
references=$IVON_SHARED/reference data=$IVON_SHARED/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
PATH=$IVON_BIN:$PATH
cd "$work"

# Left by each: the options of ivon-fit, then those of the oracle, for the network that is being tried.
ours=() theirs=() path= count=0
fitted() { # NETWORK OPTIONS [OPTIONS OF THE ORACLE]
  local r=$references/$1
  echo "$1 $2:"
  # shellcheck disable=SC2086 # options are words
  ivon-fit -q --no-provenance "$r/posterior.h5" --model="$r/model.onnx" --data="$path" "${ours[@]}" $2 -o $((++count)).h5
  echo compare $count.h5 "$path" "${theirs[@]}" "${3:-}" >> lines
}

likelihood=--likelihood=categorical # where the file does not say it
path=$data/digits.h5:/train ours=(--limit=100) theirs=(--limit=100)
fitted digits-mlp ""
fitted digits-mlp --moments=factors
fitted digits-mlp "--curvature=fisher --fisher-samples=3 --seed=5"
fitted digits-mlp --curvature=empirical
fitted digits-mlp --structure=diagonal "$likelihood"
fitted digits-mlp --max-factor=33
fitted digits-mlp "--structure=lowrank --rank=12" --rank-tolerance=.1 # the last pairs of 32 steps
path=$data/cifar10.h5:/train ours=(--limit=40) theirs=(--limit=40 --scale=255)
fitted cifar-lenet ""
fitted cifar-lenet --shared=reduce
fitted cifar-lenet --structure=diagonal "$likelihood --curvature=ggn"
path=$data/text-mr.h5:/train ours=(--limit=25) theirs=(--limit=25)
fitted transformer-base ""
fitted transformer-base --shared=reduce
path=$references/gpt-char/refs.h5 ours=() theirs=(--signs=0)
fitted gpt-char ""
fitted gpt-char "--curvature=fisher --fisher-samples=3"
fitted gpt-char --curvature=empirical
path=$references/uci-energy/refs.h5
noise=$(/usr/bin/python3 -c "import h5py; print(h5py.File('$references/uci-energy/refs.h5')['noise_std'][()])")
ours=(--likelihood=gaussian "--noise-std=$noise") theirs=("--noise-std=$noise" --likelihood=gaussian)
fitted uci-energy ""
fitted uci-energy "--curvature=fisher --fisher-samples=3"
fitted uci-energy "--structure=lowrank:diagonal --rank=10"
PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 -W ignore "$here/fit.py" - < lines
