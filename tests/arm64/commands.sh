#!/usr/bin/env bash
# commands.sh BUILD FOLDER MODELS [EMULATOR...]: leaves in FOLDER what the commands of BUILD make of small data,
# and of the models in MODELS, which it makes first where there are none.
set -euo pipefail
glyphs=$(cd "$(dirname "$0")/../.." && pwd)/cmd/glyphs.awk
program=$(cd "$1" && pwd)/bin/ivon
emulator=("${@:4}")
mkdir -p "$2" "$3"
models=$(cd "$3" && pwd)
cd "$2"
ivon() { "${emulator[@]}" "$program" "$@"; }
draw() { awk -f "$glyphs" -v count="$2" -v seed="$3" -v style="$4" | cut -d, -f1-145 > "$1.csv"; } # FILE COUNT SEED STYLE
data=(-q -j 2 --target-column=y)
same=(-q --no-provenance)
train() { # FILE OPTION...
  ivon train "${data[@]}" --no-provenance --save-every=0 --batch=50 "${@:2}" -o run
  mv run/posterior-*.h5 "$1"
  rm -r run
}
fit() { ivon fit "${data[@]}" --no-provenance "$models/$1.h5" --data="$1.csv" -o "$2"; } # MODEL FILE

draw plain 400 1 plain
draw turned 400 2 turned
draw test 200 3 plain
new=(--arch=mlp:144,32,8,relu --lr=0.1 --h0=0.2 --beta2=0.99 --weight-decay=1e-3)
if [ ! -e "$models/fitted-turned.h5" ]; then
  train "$models/plain.h5" --data=plain.csv "${new[@]}" --epochs=20
  train "$models/turned.h5" --data=turned.csv --from="$models/plain.h5" --lr=0.05 --epochs=2 --optimizer=evon
  fit plain "$models/fitted.h5"
  fit turned "$models/fitted-turned.h5"
fi
plain=$models/plain.h5 turned=$models/turned.h5 fitted=$models/fitted.h5

train trained.h5 --data=plain.csv "${new[@]}" --epochs=1
fit plain fitted.h5
ivon sample "${same[@]}" "$plain" --samples=2 --seed=5 -o 'sample-%d.h5'
ivon sample "${same[@]}" "$fitted" --samples=1 --seed=5 -o 'sample-fitted-%d.h5'
ivon merge "${same[@]}" "$plain" "$turned" --method=average -o average.h5
ivon merge "${same[@]}" --base="$plain" "$plain" "$turned" --method=ties -o ties.h5
ivon merge "${same[@]}" "$fitted" "$models/fitted-turned.h5" --method=regmean -o regmean.h5
ivon prune "${same[@]}" "$plain" --keep=0.5 -o pruned.h5
for suffix in npz safetensors; do ivon convert "${same[@]}" "$plain" -o "plain.$suffix"; done
for model in plain fitted; do
  of=("${data[@]}" "$models/$model.h5")
  ivon predict "${of[@]}" --data=test.csv --samples=8 -o "predictions-$model.csv"
  ivon sensitivity "${of[@]}" --data=plain.csv --score=loo-loss,self-influence,deviation -o "sensitivity-$model.csv"
  ivon predict-gen "${of[@]}" --data=plain.csv --test=test.csv -o "generalization-$model.csv"
done
ivon influence "${data[@]}" "$fitted" --data=plain.csv --queries=test.csv --rows=0-4 --top=5 -o influence.csv
ivon calibrate "${data[@]}" --no-provenance "$plain" --data=test.csv -o calibration.json > calibration.txt
ivon info "$plain" > info.txt
