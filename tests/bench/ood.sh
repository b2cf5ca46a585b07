#!/usr/bin/env bash
# How well movie reviews are told from what is none (the other texts' test sets) by a classifier of reviews: AUROC, with
# the error of DeLong et al., at the mean and averaged over 64 weight samples.
set -euo pipefail
: "${IVON_BIN:?}" "${IVON_SHARED:?names the reference data}"
folder=$IVON_SHARED/reference/transformer-base
printf '%-8s %-20s %18s %18s\n' others score "at the mean" "64 samples"
for others in ${*:-subj cr mpqa}; do
  for way in --mean --samples=64; do
    "$IVON_BIN/ivon-predict" -q "$folder/posterior.h5" --model="$folder/model.onnx" "$way" --metrics --json \
      --data="$IVON_SHARED/data/text-mr.h5:/test" --ood="$IVON_SHARED/data/text-$others.h5:/test"
  done | jq -rs --arg others "$others" '
    def show: if . then "\(.auroc.value) \(.auroc.standard_error)" else "nan nan" end;
    . as $runs | "max_probability", "entropy", "mutual_information" | . as $score
    | [$others, $score, ($runs[] | .detection[$score] | show)] | join(" ")' |
    awk '{printf "%-8s %-20s %8.3f +- %5.3f   %8.3f +- %5.3f\n", $1, $2, $3, $4, $5, $6}'
done
