#!/usr/bin/env bash
# README's commands on what transformers' Trainer leaves: its checkpoints get posteriors, and what is merged of them is a
# directory that loads.
set -euo pipefail
/usr/bin/python3 -c "import torch" 2> /dev/null || { echo "skipped: PyTorch is missing"; exit 77; }
PATH=$IVON_BIN:$PATH
export PYTHONDONTWRITEBYTECODE=1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
/usr/bin/python3 -W ignore "$here/trainer.py" make
sed -n '/^```sh$/,/^```$/p' "$here/../../README.md" | grep checkpoint-60 > commands
[ "$(wc -l < commands)" = 3 ]
bash -euo pipefail -x commands
/usr/bin/python3 "$here/trainer.py" load merged
