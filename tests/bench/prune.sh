#!/usr/bin/env bash
# Accuracy and NLL at the mean of pruned reference networks, by signal-to-noise ratio and by magnitude.
set -euo pipefail
: "${IVON_BIN:?}" "${IVON_SHARED:?names the reference data}"
printf '%-18s %6s %22s %22s\n' network kept "accuracy, NLL by snr" "by magnitude"
while read -r network data; do
  folder=$IVON_SHARED/reference/$network
  for keep in 1 0.5 0.2 0.1; do
    printf '%-18s %6s' "$network" "$keep"
    for by in snr magnitude; do
      "$IVON_BIN/ivon-prune" -q "$folder/posterior.h5" --model="$folder/model.onnx" --keep=$keep --by=$by --json \
        --data="$IVON_SHARED/data/$data.h5:/test" |
        jq -j '.after | "\(.accuracy.value) \(.nll.value)"' | awk '{printf "        %.3f %8.3f", $1, $2}'
    done
    echo
  done
done <<< "digits-mlp digits
cifar-lenet cifar10
transformer-base text-mr
transformer-cr text-cr
transformer-mpqa text-mpqa"
