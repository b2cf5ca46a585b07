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

measure() { # CHECKPOINT NAME OPTION...: a row of predicting.csv
  ivon-predict "${quiet[@]}" "$1" --data=test.csv --metrics --json "${@:3}" \
    | jq -r --arg name "$2" '.metrics | [$name, .accuracy.value, .nll.value] | @csv' | tr -d '"' \
    | tee -a predicting.csv | awk -F, '{printf "   %-17s accuracy %.3f  NLL %.3f\n", $1, $2, $3}'
}
found() { # SCORES.csv COLUMN: how many labels are wrong, how many of them are among the 80 greatest, and the AUROC
  paste -d, "$1" train.wrong | awk -F, -v column="$2" '
    NR == 1 {for (i = 1; i <= NF; i++) if ($i == column) at = i; next}
    {print $at, $NF}' | sort -k1,1gr | awk '
    $2 {sum += NR; wrong++; if (NR <= 80) top++}
    END {right = NR - wrong; printf "%d %d %.3f\n", wrong, top, 1 - (sum - wrong * (wrong + 1) / 2) / (wrong * right)}'
}

echo "1. A network of 144-64-8 units, trained by IVON on 1,600 glyphs, of whose labels 5 % are wrong."
draw train 1600 1 plain 0.05
draw test 1600 2 plain 0.05
draw held 800 3 plain 0.05
ivon-train "${quiet[@]}" --arch=mlp:144,64,8,relu --data=train.csv "${settings[@]}" --lr=0.1 --schedule=cosine \
  --epochs=60 --save-every=96 -o run

echo
echo "2. Its predictions on unseen glyphs, at the mean and averaged over 64 weight samples:"
echo "weights,accuracy,NLL" > predicting.csv
measure "$(newest run)" "IVON at the mean" --mean -o mean.h5
measure "$(newest run)" "IVON averaged" --samples=64 -o averaged.h5

echo
echo "3. Which labels are wrong? The loss of each example if the network had not seen it:"
ivon-sensitivity "${quiet[@]}" "$(newest run)" --data=train.csv \
  --score=loo-loss,self-influence,deviation -o sensitivity.csv
read -r planted ivon_top auroc <<< "$(found sensitivity.csv loo_loss)"
echo "   $planted planted; $ivon_top of them among the 80 greatest; AUROC $auroc"

echo
echo "4. The loss on unseen glyphs, predicted from the training data alone:"
ivon-predict-gen "${quiet[@]}" run/posterior-*.h5 --data=train.csv --test=test.csv -o generalization.csv
awk -F, 'NR == 1 || NR % 4 == 0 {
  if (NR == 1) print "   step   train     leave-one-out     test"
  else printf "   %4d   %.3f   %.3f +- %.3f   %.3f\n", $1, $2, $4, $5, $8}' generalization.csv
read -r estimated measured <<< "$(tail -n 1 generalization.csv | awk -F, '{printf "%.2f %.2f\n", $4, $8}')"

echo
echo "5. The same network, trained by AdamW; its posterior is what ivon-fit makes of it afterwards:"
ivon-train "${quiet[@]}" --optimizer=adamw --arch=mlp:144,64,8,relu --data=train.csv --batch=50 --lr=1e-3 \
  --epochs=20 --save-every=0 -o adamw
ivon-fit "${quiet[@]}" "$(newest adamw)" --data=train.csv -o fitted.h5
ivon-sensitivity "${quiet[@]}" fitted.h5 --data=train.csv --score=loo-loss -o fitted.csv
read -r planted adamw_top auroc <<< "$(found fitted.csv loo_loss)"
echo "   $planted planted; $adamw_top of them among the 80 of greatest leave-one-out loss; AUROC $auroc"
read -r _ _ auroc <<< "$(found fitted.csv loss)"
echo "   by the loss alone, with each example in the training: AUROC $auroc"
ivon-predict-gen "${quiet[@]}" fitted.h5 --data=train.csv --test=test.csv -o fitted-generalization.csv
tail -n 1 fitted-generalization.csv \
  | awk -F, '{printf "   loss: training %.3f, leave-one-out %.3f +- %.3f, test %.3f\n", $2, $4, $5, $8}'
read -r adamw_estimated adamw_measured <<< "$(tail -n 1 fitted-generalization.csv | awk -F, '{printf "%.2f %.2f\n", $4, $8}')"
ivon-fit "${quiet[@]}" "$(newest adamw)" --data=train.csv --tune=validation --validation=held.csv -o tuned.h5
measure fitted.h5 "AdamW at the mean" --mean -o fitted-predictions.csv
measure tuned.h5 "AdamW averaged" --method=linear

echo
echo "6. Which training glyphs spoke most for and against three unseen ones that it gets wrong? (* is mislabelled)"
misread=$(paste -d, test.wrong <(cut -d, -f145 test.csv) <(cut -d, -f1,2 fitted-predictions.csv) \
  | awk -F, 'NR > 1 && !$1 && $2 != $4 {print $3}' | head -n 3 | paste -sd,)
ivon-influence "${quiet[@]}" fitted.h5 --data=train.csv --queries=test.csv --rows="$misread" --top=3 -o influence.csv
awk -F, -v rows="$misread" '
  FILENAME == "train.wrong" {wrong[FNR - 2] = $1; next}
  FILENAME == "test.csv" {class[FNR - 2] = $145; next}
  FILENAME == "fitted-predictions.csv" {taken[$1] = $2; next}
  FNR > 1 {said[$1] = said[$1] sprintf("%s %d%s", $2 == 1 ? " for" : $2 == -1 ? "; against" : ",", $3,
    wrong[$3] ? "*" : "")}
  END {for (i = 1; i <= split(rows, row, ","); i++)
    printf "   %d, a %d taken for a %d:%s\n", row[i], class[row[i]], taken[row[i]], said[row[i]]}
  ' train.wrong test.csv fitted-predictions.csv influence.csv | tee misread.txt
misled=$(sed 's/.*against//' misread.txt | grep -o '\*' | wc -l)

echo
echo "7. Finetuned on turned glyphs, and on inverse ones, and merged; accuracy on both; means of five trainings:"
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
echo "8. Three Bayesian linear regressions, each on a part of one data set, merged; relative distance from the"
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
ivon-plot reliability mean.h5 averaged.h5 --data=test.csv --target-column=y -o reliability.svg
ivon-plot influence influence.csv --data=train.csv --queries=test.csv --target-column=y --top=3 -o influence.svg
table() { # FILE.csv [FIRST]: as HTML; from row FIRST on the best of each column is marked, the least of NLL
  awk -F, -v first="${2:-2}" '
    NR == FNR {
      for (i = 2; i <= NF && FNR >= first; i++) if (!(i in best) || ($i > best[i]) == (i < NF)) best[i] = $i
      next
    }
    {
      printf "<tr>"
      for (i = 1; i <= NF; i++)
        if (FNR == 1) printf "<th>%s</th>", $i
        else if (i == 1) printf "<td>%s</td>", $i
        else printf "<td%s>%.3f</td>", (FNR >= first && $i == best[i] ? " class=\"best\"" : ""), $i
      print "</tr>"
    }
    BEGIN {print "<table>"} END {print "</table>"}' "$1" "$1"
}
{
  cat << 'HTML'
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>ivon: what a posterior over weights knows</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root { color-scheme: light dark; --text: #222; --paper: #fff; --soft: #667; --line: #d5d8de; --best: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e4e6ea; --paper: #16181c; --soft: #9aa0ab; --line: #3a3f48; --best: #7cc4f0 }
}
body { font: 17px/1.55 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto 4rem; padding: 0 1rem;
  color: var(--text); background: var(--paper) }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem } h2 { font-size: 1.35rem; margin: 3rem 0 .3rem }
p { max-width: 44rem; margin: .5rem 0 } code { font-size: .92em }
.numbers, .pair { display: grid; gap: 1rem; margin: 1.2rem 0 }
.numbers { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)) }
.pair { grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); align-items: start }
.numbers div { border-top: 3px solid var(--best); padding-top: .4rem; color: var(--soft); line-height: 1.35 }
.numbers b { display: block; font-size: 1.7rem; color: var(--text) }
figure { margin: 1.2rem 0; padding: .5rem; background: #fff; border: 1px solid var(--line); border-radius: .5rem;
  overflow-x: auto }
.pair figure { margin: 0 }
img { display: block; max-width: 100%; height: auto; margin: auto } .wide img { min-width: 38rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .8rem; border-bottom: 1px solid var(--line); text-align: right }
th { color: var(--soft); font-weight: 600 } th:first-child, td:first-child { text-align: left; padding-left: 0 }
td.best { font-weight: 700; color: var(--best) } footer { margin-top: 3rem; color: var(--soft) }
</style></head><body>
<h1>What a posterior over weights knows</h1>
<p>A small network has learnt to tell drawn glyphs of eight classes, though 5&nbsp;% of their labels are wrong. Its
optimizer, IVON, says not only what each weight is, but also how firmly the data hold it there. That answers questions
that the weights alone leave open. Every number and picture here was made on this machine, in seconds, by the commands
that are named.</p>
HTML
  cat << HTML
<div class="numbers">
<div><b>$ivon_top of $planted</b> wrong labels are among the 80 of 1,600 examples that it lists first</div>
<div><b>$estimated</b> loss on unseen glyphs, estimated from the training data alone; on them it is $measured</div>
<div><b>$(awk -F, '/^IVON/ {printf "%s%.2f", arrow, $3; arrow = " → "}' predicting.csv)</b>
that loss when predictions are averaged over weights</div>
</div>
<h2>Which labels are wrong?</h2>
<p><code>ivon-sensitivity</code> asks of each example what its loss would be if the network had not seen it. Each
glyph has its number and that loss, below its label and what the network says.</p>
<figure class="wide"><img src="labels.svg" alt="The glyphs of greatest leave-one-out loss"></figure>
<h2>Why does it say this?</h2>
<p><code>ivon-influence</code> finds the training examples that spoke for and against the right answer. These three
unseen glyphs it gets wrong; $misled of the 9 that misled it most are mislabelled.</p>
<figure class="wide"><img src="influence.svg" alt="Three glyphs, each with what helped and what harmed"></figure>
<h2>How will it do on unseen data?</h2>
<p><code>ivon-predict-gen</code> predicts the loss on unseen data, here along the training, without any.</p>
<figure class="wide"><img src="generalization.svg" alt="Training, leave-one-out and test loss along the training"></figure>
<h2>How sure may it be?</h2>
<p><code>ivon-predict</code> averages predictions over weights, here on glyphs whose labels are wrong as often. Averaged ones are right more often than they say, and are seldom sure of what is wrong: their loss is lower.</p>
<div class="pair">
<figure><img src="reliability.svg" alt="Reliability diagram at the mean, and averaged"></figure>
<div>
$(table predicting.csv)
<p>Trained by AdamW, and given a posterior by <code>ivon-fit</code> afterwards, the network finds $adamw_top of the
$planted wrong labels among the first 80, and puts its loss at $adamw_estimated, where it is $adamw_measured.</p>
</div></div>
<h2>Can two networks become one?</h2>
<p>Finetuned on turned and on inverse glyphs, and merged by <code>ivon-merge</code>: accuracy on either and negative
log-likelihood, means of five trainings. The average and task arithmetic see the weights alone; the others know which
weights matter to whom, by IVON's Hessian, by Kronecker factors, or by the inputs of each layer (RegMean).</p>
$(table merging.csv 4)
<footer>Made by <code>cmd/demo.sh</code> of ivon; tables and checkpoints are beside this page.</footer>
</body></html>
HTML
} > index.html
echo
echo "$((SECONDS - start)) s; checkpoints, tables and pictures are in build/demo, shown by build/demo/index.html"
