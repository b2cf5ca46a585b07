#!/usr/bin/env bash
# A model's directory of two shards, 200 MB of bf16, and two finetuned from it: one command makes a
# directory that has every file of the base, by the rules of safetensors and the formula; killed at
# any moment it is whole or absent, and so it is on a full disk.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
free=$(df --output=avail -B1M . | tail -1)
if ((free < 1500)); then
  echo "skipped: 1500 MB of disk are needed here, and $free are free"
  exit 77
fi
for seed in 0 1 2; do
  /usr/bin/python3 -B "$here/../oracle/model_directory.py" model-$seed 2 200 $seed
done
command=("$IVON_BIN/ivon-merge" -q -m task-arithmetic --no-provenance --base=model-0 model-1:.5 model-2:.5)
merge() { "${command[@]}" "$@"; }
time merge -o merged
[ "$(ls merged)" = "$(ls model-0)" ]
for name in model-0/*; do
  name=${name#*/}
  case $name in model-0*|model.safetensors.index.json|README.md) continue ;; esac
  cmp "model-0/$name" "merged/$name"
done
PYTHONPATH=$here/../oracle /usr/bin/python3 -B << 'PYTHON'
import numpy as np
import safetensors_file as st

shards = lambda d: st.read_index(f"{d}/model.safetensors.index.json", ordered=False)
wide = lambda bits: (bits.astype("u4") << 16).view("f4")
(base, _, like), (out, _, found) = shards("model-0"), shards("merged")
assert {n: list(a) for n, (a, _) in like.items()} == {n: list(a) for n, (a, _) in found.items()}
assert all(metadata["format"] == "pt" for _, metadata in found.values())
tuned, worst, count = [shards(f"model-{t}")[0] for t in (1, 2)], 0, 0
for name, bits in out.items():
    b = wide(base[name])
    expected = b + (wide(tuned[0][name]) - b) / 2 + (wide(tuned[1][name]) - b) / 2
    error = np.abs(wide(bits) - expected)
    # rounded once, to 8 binary digits, half a unit of the last being at most 2^-8 of the number;
    # the sum in binary32 adds a few 2^-24 of the terms, which are below 16
    assert np.all(error <= 2.0 ** -8 * np.abs(expected) + 16 * 2.0 ** -22), name
    count += bits.size
print(f"{count} numbers of {len(out)} tensors in {len(found)} shards are the formula's")
PYTHON

stopped=0
for delay in .02 .1 .2 .3; do
  "${command[@]}" --no-card -o out & process=$! # of the program, not of a function around it
  sleep $delay
  kill -KILL $process 2> /dev/null || true
  if wait $process 2> /dev/null; then
    for name in out/*; do cmp "$name" "merged/${name#*/}"; done
    rm -r out
  else
    [ ! -e out ]
    stopped=$((stopped + 1))
  fi
done
echo "stopped $stopped times, and nothing was there"
[ $stopped -gt 0 ]
merge -o out
diff -rx README.md out merged
rm -r out

# As on a full disk: files that may not grow to their size.
if (ulimit -f 50000 && trap '' XFSZ && merge -o out 2> error); then
  echo "100 MB went into 50"
  exit 1
fi
cat error
[ "$(wc -l < error)" = 1 ] && grep -q '^ivon-merge: out/model-00001-of-00002.safetensors: cannot write' error
[ -z "$(ls -Ad out .out* 2> /dev/null)" ]
