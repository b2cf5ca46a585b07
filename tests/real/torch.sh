#!/usr/bin/env bash
# The reference checkpoints that PyTorch saved are, bit by bit, the posteriors beside them.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data"
  exit 77
fi
compare=$IVON_BIN/../tests/unit/unit-torch_compare
count=0
for checkpoint in "$IVON_SHARED"/reference/*/checkpoint.pt; do
  "$compare" "$checkpoint" "${checkpoint%checkpoint.pt}posterior.h5"
  count=$((count + 1))
done
test $count -ge 7

# Copies of the weights, as .cpu() makes them, leave open what is a buffer.
python=/usr/bin/python3
$python -c "import torch" 2> /dev/null || { echo "PyTorch is not installed: no copies"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
reference=$IVON_SHARED/reference/gpt-char
$python - "$reference/checkpoint.pt" "$work/copied.pt" << 'PYTHON'
import sys, torch
c = torch.load(sys.argv[1], map_location="cpu")
c["model"] = {k: v.clone() for k, v in c["model"].items()}
torch.save(c, sys.argv[2])
PYTHON
if "$compare" "$work/copied.pt" "$reference/posterior.h5" > "$work/output"; then
  echo "an ambiguous checkpoint was accepted"
  exit 1
fi
grep -q "which 2 of 'wpe.weight', 'layers.0.att.mask'.* are buffers, that is, no parameters of the optimizer?" "$work/output"
"$compare" --buffers='*.mask' "$work/copied.pt" "$reference/posterior.h5"
