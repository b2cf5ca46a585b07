#!/usr/bin/env bash
# The whole story on real texts: a base trained on movie reviews, with its test loss predicted beside the
# training; finetuned on customer reviews and on opinions; merged by four methods, each at its best
# scaling; the examples that it depends on most; predictions at the mean and averaged. README shows it.
set -euo pipefail
if [ -z "${IVON_SHARED:-}" ] || [ -n "${IVON_SANITIZE:-}" ]; then
  echo "skipped: IVON_SHARED does not name the reference data, or sanitizers would make this long"
  exit 77
fi
PATH=$IVON_BIN:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for task in mr cr mpqa; do ln -s "$IVON_SHARED/data/text-$task.h5" $task.h5; done
words=$(wc -l < "$IVON_SHARED/data/text-vocab.txt")
settings=(-q --batch=50 --h0=1 --beta2=0.9995 --ess=1e5 --clip-radius=1e-2 --schedule=cosine)
newest() { ls "$1"/posterior-*.h5 | tail -1; }

mkdir base
ivon-predict-gen -q --follow=base --data=mr.h5:/train --subsample=1500 --test=mr.h5:/test > gen.csv &
ivon-train "${settings[@]}" --arch=transformer:"$words",48,64,2,4,2 --data=mr.h5:/train --lr=0.1 --epochs=4 -o base
wait $!
echo "loss of the base on 1,500 training reviews, leave-one-out, and on the test reviews:"
cut -d, -f1,2,4,5,10 gen.csv

for task in cr mpqa; do
  ivon-train "${settings[@]}" --from="$(newest base)" --data=$task.h5:/train --lr=0.05 --epochs=3 --save-every=0 \
    -o $task 2> /dev/null
done
accuracies() { # CHECKPOINT: on the three test sets, and their mean
  for task in mr cr mpqa; do
    ivon-predict -q "$1" --data=$task.h5:/test --mean --metrics --json | jq .metrics.accuracy.value
  done | awk '{a[NR] = $1; sum += $1} END {printf "%.3f  %.3f  %.3f  mean %.4f", a[1], a[2], a[3], sum / 3}'
}
echo "accuracy on mr, cr, mpqa:"
for model in base cr mpqa; do printf '%-20s %s\n' "$model alone" "$(accuracies "$(newest $model)")"; done
for method in average hessian task-arithmetic gradient-matching; do
  base=(--base="$(newest base)" --sweep=0.3:0.9:0.2 --on-nonpositive=base -o "$method-%g.h5")
  case $method in average | hessian) base=(-o "$method-1.h5") ;; esac
  ivon-merge -q --method=$method "$(newest cr)" "$(newest mpqa)" "${base[@]}"
  for merged in "$method"-*.h5; do
    echo "$(accuracies "$merged")  at $(basename "${merged#"$method"-}" .h5)"
  done | sort -k5 -gr | head -1 > best
  printf '%-20s %s\n' $method "$(cat best)"
  awk -v m=$method '{print m, $5}' best >> means
done

echo "the reviews that the base depends on most:"
ivon-sensitivity -q "$(newest base)" --data=mr.h5:/train --top=3
echo "predictions of the base, at the mean and averaged over 32 samples:"
for way in --mean --samples=32; do
  ivon-predict -q "$(newest base)" --data=mr.h5:/test $way --metrics | awk -v w="${way#--}" '
    /^accuracy|^nll|^ece / {printf "%s%s %s", NR == 2 ? w ": " : ", ", $1, $2} END {print ""}'
done

# The estimate knows what the training loss does not: it ends nearer to the test loss.
tail -1 gen.csv | awk -F, '{train = $2; loo = $4; test = $10; a = test - train; b = test - loo
  exit !((b < 0 ? -b : b) < (a < 0 ? -a : a))}'
# Merging with Hessians is no worse than without, on the average of the three tasks.
awk '{mean[$1] = $2} END {exit !(mean["gradient-matching"] >= mean["task-arithmetic"] - 0.01)}' means
