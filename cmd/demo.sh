#!/usr/bin/env bash
# From a fresh clone to a first result: installs what is needed, builds, and takes drawn glyphs, of which
# a known share has wrong labels, through training, prediction, sensitivity, generalization and merging.
# Leaves checkpoints, tables, pictures and a page that shows them in build/demo.
set -euo pipefail
if [ $# -gt 0 ]; then
  echo "demo.sh: '$1': no arguments are taken; results go to build/demo, whatever was there before" >&2
  exit 64
fi
cd "$(dirname "$0")/.."
if [ -z "${IVON_BIN:-}" ]; then # else the commands are there
  bash tests/install.sh
  cmake --preset release > /dev/null
  cmake --build --preset release -j "$(nproc)" --target ivon-program > /dev/null
fi
PATH=${IVON_BIN:-$PWD/build/release/bin}:$PATH
for tool in ivon-train gnuplot jq /usr/bin/python3; do
  command -v $tool > /dev/null || { echo "demo.sh: $tool is missing; tests/install.sh installs what is needed" >&2; exit 69; }
done
glyphs=$PWD/cmd/glyphs.awk
rm -rf build/demo && mkdir -p build/demo && cd build/demo
start=$SECONDS

# draw FILE COUNT SEED STYLE WRONG: FILE.csv, and in FILE.wrong which labels are wrong
draw() {
  awk -f "$glyphs" -v count="$2" -v seed="$3" -v style="$4" -v wrong="$5" > all.csv
  cut -d, -f1-145 all.csv > "$1.csv"
  cut -d, -f146 all.csv > "$1.wrong"
  rm all.csv
}
quiet=(-q --target-column=y)
settings=(--batch=50 --h0=0.2 --beta2=0.995 --weight-decay=1e-3)
newest() { ls "$1"/posterior-*.h5 | tail -1; }

echo "1. A network of 144-64-8 units, trained by IVON on 1,600 glyphs, of whose labels 5 % are wrong."
draw train 1600 1 plain 0.05
draw test 1600 2 plain 0.05
draw clean 1600 3 plain 0
ivon-train "${quiet[@]}" --arch=mlp:144,64,8,relu --data=train.csv "${settings[@]}" --lr=0.1 \
  --epochs=60 --save-every=96 -o run

echo
echo "2. Its predictions on unseen glyphs, at the mean and averaged over 64 weight samples:"
echo "weights,accuracy,nll" > predicting.csv
for way in --mean --samples=64; do
  ivon-predict "${quiet[@]}" "$(newest run)" --data=test.csv $way --metrics --json -o predictions.h5 -f \
    | jq -r --arg way "${way#--}" '.metrics | [$way, .accuracy.value, .nll.value] | @csv' | tr -d '"' \
    | tee -a predicting.csv | awk -F, '{printf "   %-11s accuracy %.3f  NLL %.3f\n", $1, $2, $3}'
done

echo
echo "3. Which labels are wrong? The loss of each example if the network had not seen it:"
ivon-sensitivity "${quiet[@]}" "$(newest run)" --data=train.csv \
  --score=loo-loss,self-influence,deviation -o sensitivity.csv
paste -d, sensitivity.csv train.wrong | tail -n +2 | sort -t, -k6 -gr | awk -F, '
  {rank++; if ($9) {sum += rank; wrong++} if (NR <= 80 && $9) top++}
  END {right = NR - wrong; auroc = 1 - (sum - wrong * (wrong + 1) / 2) / (wrong * right)
       printf "   %d planted; %d of them among the 80 greatest; AUROC %.3f\n", wrong, top, auroc}'

echo
echo "4. The loss on unseen glyphs, predicted from the training data alone:"
ivon-predict-gen "${quiet[@]}" run/posterior-*.h5 --data=train.csv --test=test.csv -o generalization.csv
awk -F, 'NR == 1 || NR % 4 == 0 {
  if (NR == 1) print "   step   train     leave-one-out     test"
  else printf "   %4d   %.3f   %.3f +- %.3f   %.3f\n", $1, $2, $4, $5, $8}' generalization.csv

echo
echo "5. Finetuned on turned glyphs, and on inverse ones, and merged; accuracy on both; means of five trainings:"
draw plain 1600 11 plain 0
for task in turned inverse; do
  draw $task 1600 12 $task 0
  draw $task-test 800 14 $task 0
done
train() { # SEED DATA OPTION...: posterior.h5 in a folder of that name
  ivon-train "${quiet[@]}" --seed="$1" --data="../$2.csv" "${settings[@]}" --lr=0.1 --epochs=20 --save-every=0 \
    -o "$2" "${@:3}" 2> /dev/null
  mv "$(newest "$2")" "$2.h5"
}
fit() { # DATA OPTION...
  ivon-fit "${quiet[@]}" "$1.h5" --data="../$1.csv" "${@:2}" 2> /dev/null # the means are not quite at a minimum
}
merged() { # NAME OPTION... MODEL...: a row of merging.csv
  ivon-merge -q --evaluate=../turned-test.csv --evaluate=../inverse-test.csv --target-column=y --json "${@:2}" \
    | jq -r --arg name "$1" '.evaluated[0].data | map(.metrics)
        | [$name, .[].accuracy.value, (map(.nll.value) | add / 2)] | @csv' | tr -d '"' >> merging.csv
}
merge_networks() { # SEED
  mkdir merging-"$1" && cd merging-"$1"
  train "$1" plain --arch=mlp:144,64,8,relu
  for task in turned inverse; do
    train "$1" $task --from=plain.h5
    fit $task --gram -o gram-$task.h5
  done
  for task in plain turned inverse; do fit $task --structure=kronecker -o kronecker-$task.h5; done
  merged "turned alone" --method=average turned.h5
  merged "inverse alone" --method=average inverse.h5
  merged average --method=average turned.h5 inverse.h5
  merged task-arithmetic --method=task-arithmetic --base=plain.h5 turned.h5 inverse.h5
  merged hessian --method=hessian turned.h5 inverse.h5
  merged gradient-matching --base=plain.h5 --on-nonpositive=base turned.h5 inverse.h5
  merged kronecker-matching --base=kronecker-plain.h5 kronecker-turned.h5 kronecker-inverse.h5
  merged regmean --method=regmean gram-turned.h5 gram-inverse.h5
}
networks=()
for seed in 0 1 2 3 4; do
  (merge_networks $seed) & # each is too small for two threads
  networks+=($!)
done
for network in "${networks[@]}"; do wait "$network"; done
echo "method,turned,inverse,NLL" > merging.csv
awk -F, '
  !($1 in count) {names[++rows] = $1}
  {count[$1]++; for (i = 2; i <= 4; i++) sum[$1, i] += $i}
  END {
    for (r = 1; r <= rows; r++) {
      name = names[r]
      for (i = 2; i <= 4; i++) mean[i] = sum[name, i] / count[name]
      printf "   %-20s %.3f %.3f  mean %.3f  NLL %.3f\n", name, mean[2], mean[3], (mean[2] + mean[3]) / 2, mean[4]
      printf "%s,%.4f,%.4f,%.4f\n", name, mean[2], mean[3], mean[4] >> "merging.csv"
    }
  }' merging-?/merging.csv
echo
echo "6. Three Bayesian linear regressions, each on a part of one data set, merged; relative distance from the"
echo "   posterior of all data, which is known:"
regression() { /usr/bin/python3 ../../tests/oracle/linear_regression.py "$@"; }
for design in orthogonal correlated; do
  regression make $design $design
  for method in gradient-matching hessian task-arithmetic average; do
    ivon-merge -q --method=$method --base=$design/base.h5 $design/part-*.h5 -o $design/$method.h5
  done
  echo "   $design columns: a diagonal posterior is $([ $design = orthogonal ] && echo exact || echo 'an approximation')"
  regression compare $design $design/{gradient-matching,hessian,task-arithmetic,average}.h5 | sed 's/^/   /'
done

ivon-plot generalization generalization.csv -o generalization.svg
ivon-plot images sensitivity.csv --data=train.csv --target-column=y --top=18 -o labels.svg \
  --title="The glyphs of greatest leave-one-out loss"
ivon-plot sensitivity sensitivity.csv -o sensitivity.svg
ivon-plot reliability predictions.h5 --data=test.csv --target-column=y -o reliability.svg
table() { # FILE.csv
  awk -F, '{cell = NR == 1 ? "th" : "td"; printf "<tr>"
    for (i = 1; i <= NF; i++) printf "<%s>%s</%s>", cell, $i == $i + 0 ? sprintf("%.4g", $i) : $i, cell
    print "</tr>"} BEGIN {print "<table>"} END {print "</table>"}' "$1"
}
{
  cat << 'HTML'
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ivon: what a posterior makes possible</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #222 }
img { max-width: 100%; height: auto } table { border-collapse: collapse; margin: 1em 0 }
th, td { padding: .2em .8em; border-bottom: 1px solid #ccc; text-align: right }
th:first-child, td:first-child { text-align: left }
</style></head><body>
<h1>What a variational posterior makes possible</h1>
<p>A small network, trained by <code>ivon-train</code> on drawn glyphs of eight classes, of whose labels 5 % are
wrong. Every number and picture here was made by the commands on this machine.</p>
<h2>Which labels are wrong?</h2>
<p><code>ivon-sensitivity</code> asks what the loss of each example would be without it.</p>
<p><img src="labels.svg" alt="The glyphs of greatest leave-one-out loss"></p>
<p><img src="sensitivity.svg" alt="Histogram of leave-one-out losses"></p>
<h2>How will it do on unseen data?</h2>
<p><code>ivon-predict-gen</code> predicts the loss on unseen data from the training data alone.</p>
<p><img src="generalization.svg" alt="Training, leave-one-out and test loss along the training"></p>
<h2>Averaged predictions</h2>
<p><code>ivon-predict</code>, on unseen glyphs whose labels are wrong as often.</p>
HTML
  table predicting.csv
  echo '<p><img src="reliability.svg" alt="Reliability diagram"></p><h2>Merged models</h2>'
  echo '<p>The network, finetuned on turned and on inverse glyphs, merged by <code>ivon-merge</code>; accuracy and
    negative log-likelihood, means of five trainings.</p>'
  table merging.csv
  echo '</body></html>'
} > index.html
echo
echo "$((SECONDS - start)) s; checkpoints, tables and pictures are in build/demo, shown by build/demo/index.html"
