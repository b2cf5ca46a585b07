#!/usr/bin/env bash
# merge_methods.sh [reference|story|demo ...]: accuracy and negative log-likelihood of every way to merge, at the
# scaling that is best on rows held out from the training data, on test data. Markdown, on standard output.
#   reference  the reference transformers, finetuned on customer reviews and opinions; their held-out rows are of
#              the training data, which those models have seen
#   story      README's transformers, trained here without the held-out rows (minutes)
#   demo       the demo's network, finetuned on turned and on inverse glyphs, without the held-out rows
# reference and story need IVON_SHARED. METHODS, a pattern, chooses lines of the list below. A method that this
# ivon-merge does not have is passed over.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=${IVON_BIN:-$root/build/release/bin}:$PATH
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work"

# One line for each: name | method as ivon-merge calls it | posteriors (see `posteriors`) | what is searched | options.
# A search is none, or that of a factor of all weights, or of the option in it.
methods() {
  cat << 'ROWS'
average|average|trained|none|
average, two weights|average|trained|simplex|
task arithmetic|task-arithmetic|trained|sweep|--base
Hessian-weighted|hessian|trained|none|
gradient matching|gradient-matching|trained|none|--base
gradient matching, scaled|gradient-matching|trained|sweep|--base
gradient matching, two weights|gradient-matching|trained|grid|--base
Hessian-weighted, fitted diagonal|hessian|diagonal|none|
gradient matching, fitted diagonal|gradient-matching|diagonal|none|--base
gradient matching, fitted diagonal, scaled|gradient-matching|diagonal|sweep|--base
RegMean|regmean|gram|none|
Hessian-weighted, Kronecker|hessian|kronecker|none|
gradient matching, Kronecker|gradient-matching|kronecker|none|--base
gradient matching, Kronecker, scaled|gradient-matching|kronecker|sweep|--base
gradient matching, low rank|gradient-matching|lowrank|none|--base
TIES|ties|trained|sweep|--base
DARE|dare|trained|sweep|--base
SLERP|slerp|trained|none|
model stock|model-stock|trained|none|--base
breadcrumbs|breadcrumbs|trained|sweep|--base
ROWS
}

# posteriors KIND NAME: prints the file of a model's posterior: as it was trained, or fitted to its training data.
posteriors() {
  local made=$1-$2.h5 options=()
  case $1 in
    trained) made=$2.h5 ;;
    diagonal) options=(--structure=diagonal) ;;
    kronecker) options=(--structure=kronecker) ;;
    lowrank) options=(--structure=lowrank:kronecker --rank=50) ;;
    gram) options=(--structure=diagonal --gram) ;;
  esac
  [ -e "$made" ] || ivon-fit -q "$2.h5" --data="$(train_data "$2")" "${graph[@]}" "${read_as[@]}" "${options[@]}" \
    --weight-decay=1e-3 -o "$made" 2> fit-errors || { cat fit-errors >&2; return 1; }
  echo "$made"
}

# result NAME FILE NOTE: one row of the table: accuracy and NLL on all test sets, and their means.
result() {
  for task in "${tasks[@]}"; do
    ivon-predict -q "$2" --data="$(test_data "$task")" "${graph[@]}" "${read_as[@]}" --mean --metrics --json \
      | jq -r '.metrics | "\(.accuracy.value) \(.nll.value)"'
  done | awk -v name="$1" -v note="$3" '
    {cells = cells sprintf(" %.3f, %.3f |", $1, $2); a += $1; n += $2}
    END {printf "| %s |%s %.3f, %.3f | %s |\n", name, cells, a / NR, n / NR, note}'
}

# try_method NAME METHOD POSTERIORS SEARCH OPTIONS
try_method() {
  local base='' models=() inputs=() search=() note='' held=()
  for model in "${finetuned[@]}"; do models+=("$(posteriors "$3" "$model")") || return 0; done
  [[ $5 != *--base* ]] || base=$(posteriors "$3" base) || return 0
  [ -z "$base" ] || inputs=(--base="$base" --on-nonpositive=base)
  for task in "${tasks[@]}"; do held+=(--evaluate="$(held_data "$task")"); done
  case $4 in
    sweep) search=(--sweep=0.1:1.5:0.1) ;;
    simplex) search=(--weights=simplex:10) ;;
    grid) search=(--weights=grid:0.25:1.5:0.25) ;;
  esac
  if ! ivon-merge -q -f --method="$2" "${inputs[@]}" ${5//--base/} "${models[@]}" "${search[@]}" \
    "${held[@]}" "${graph[@]}" "${read_as[@]}" --table=table.csv -o picked.h5 > text 2> errors; then
    echo "| $1 | refused: $(head -1 errors) |"
    return
  fi
  [ "$4" = none ] || note="at $(awk -F, 'NR == 1 {for (i = 2; $i ~ /^weight/ || $i == "scale"; i++) last = i}
    NR > 1 && $NF == 1 {for (i = last; i > last - 2; i--) text = $i " " text; print text}' table.csv | sed 's/ $//; s/ /, /g')"
  result "$1" picked.h5 "$note"
}

table() {
  echo "| accuracy, NLL on | $(printf '%s | ' "${tasks[@]}")mean | weights |"
  echo "|---$(printf '%s' "${tasks[@]/*/|---}")|---|---|"
  result "the base" base.h5 ""
  for model in "${finetuned[@]}"; do result "finetuned on $model" "$model.h5" ""; done
  methods | grep -E "${METHODS:-.}" | while IFS='|' read -r name method posteriors search options; do
    # Names of methods are words of the help, which may break a line behind a bar.
    ivon-merge --help | tr -d ' \n' | grep -qE "[=|]$method([^a-z-]|$)" || continue
    try_method "$name" "$method" "$posteriors" "$search" "$options" < /dev/null
  done
}

# Data: the last fifth of the training rows is held out.
split_texts() {
  /usr/bin/python3 - "$IVON_SHARED" << 'PYTHON'
import sys, h5py
for task in ("mr", "cr", "mpqa"):
    with h5py.File(f"{sys.argv[1]}/data/text-{task}.h5") as f, h5py.File(f"{task}-split.h5", "w") as g:
        rows = len(f["train/y"]) * 4 // 5
        for name in ("x", "y"):
            g[f"train/{name}"], g[f"held/{name}"] = f[f"train/{name}"][:rows], f[f"train/{name}"][rows:]
            g[f"test/{name}"] = f[f"test/{name}"][()]
PYTHON
  task_of() { [ "$1" = base ] && echo mr || echo "$1"; }
  train_data() { echo "$(task_of "$1")-split.h5:/train"; }
  held_data() { echo "$1-split.h5:/held"; }
  test_data() { echo "$1-split.h5:/test"; }
  tasks=(mr cr mpqa) finetuned=(cr mpqa) read_as=() graph=()
}
newest() { find "$1" -name 'posterior-*.h5' | sort | tail -1; }

reference() {
  split_texts
  graph=(--model="$IVON_SHARED/reference/transformer-base/model.onnx")
  for name in base cr mpqa; do ln -s "$IVON_SHARED/reference/transformer-$name/posterior.h5" $name.h5; done
}

story() {
  local settings=(-q --batch=50 --h0=1 --beta2=0.9995 --ess=1e5 --clip-radius=1e-2 --schedule=cosine)
  split_texts
  ivon-train "${settings[@]}" --arch=transformer:14634,48,64,2,4,2 --data=mr-split.h5:/train --lr=0.1 --epochs=4 \
    --save-every=0 -o base 2> /dev/null
  for task in cr mpqa; do
    ivon-train "${settings[@]}" --from="$(newest base)" --data=$task-split.h5:/train --lr=0.05 --epochs=3 \
      --save-every=0 -o $task 2> /dev/null
  done
  for name in base cr mpqa; do mv "$(newest $name)" $name.h5; done
}

demo() {
  local settings=(-q --target-column=y --batch=50 --h0=0.2 --beta2=0.995 --weight-decay=1e-3 --lr=0.1 --epochs=20
    --save-every=0)
  draw() { awk -f "$root/cmd/glyphs.awk" -v count="$2" -v seed="$3" -v style="$4" -v wrong=0 | cut -d, -f1-145 > "$1.csv"; }
  draw all-base 1600 11 plain
  for task in turned inverse; do
    draw all-$task 1600 12 $task
    draw $task-test 800 14 $task
  done
  for name in base turned inverse; do
    head -n 1281 all-$name.csv > $name-train.csv
    { head -n 1 all-$name.csv; tail -n 320 all-$name.csv; } > $name-held.csv
  done
  ivon-train "${settings[@]}" --arch=mlp:144,64,8,relu --data=base-train.csv -o base 2> /dev/null
  for task in turned inverse; do
    ivon-train "${settings[@]}" --from="$(newest base)" --data=$task-train.csv -o $task 2> /dev/null
  done
  for name in base turned inverse; do mv "$(newest $name)" $name.h5; done
  train_data() { echo "$1-train.csv"; }
  held_data() { echo "$1-held.csv"; }
  test_data() { echo "$1-test.csv"; }
  tasks=(turned inverse) finetuned=(turned inverse) read_as=(--target-column=y) graph=()
}

for kind in "${@:-demo}"; do
  case $kind in
    reference | story | demo) ;;
    *) echo "merge_methods.sh: '$kind', expected reference, story or demo" >&2; exit 64 ;;
  esac
  [ "$kind" = demo ] || [ -n "${IVON_SHARED:-}" ] || { echo "skipped: IVON_SHARED does not name the data"; continue; }
  mkdir "$work/$kind" && cd "$work/$kind"
  $kind
  echo "### $kind"
  table
done
