#!/usr/bin/env bash
# merge_methods.sh [reference|story|texts|demo|digits ...]: accuracy and negative log-likelihood of every way to merge, at the
# scaling that is best on rows held out from the training data, on test data. Markdown, on standard output.
#   reference  the reference transformers, finetuned on customer reviews and opinions; their held-out rows are of
#              the training data, which those models have seen
#   story      the transformers of man/results.md, trained here without the held-out rows (minutes)
#   texts      the same networks by settings near those of tests/real/claims.sh; here, too, not every seed learns
#   demo       the demo's network, finetuned on turned and on inverse glyphs, without the held-out rows
#   digits     a network of 64-48-10 units, finetuned on images of digits turned by a quarter and on inverse ones
# All but demo need IVON_SHARED. SEEDS is the number of trainings, of which means are shown: 3 unless it is given, and
# 1 of reference and story. METHODS, a pattern, chooses lines of the list below. A method that this ivon-merge does not have is
# passed over.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
PATH=${IVON_BIN:-$root/build/release/bin}:$PATH
work=$(mktemp -d -p "${IVON_BENCH_DIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

# One line for each: name | method as ivon-merge calls it | posteriors (see `posteriors`) | what is searched | options,
# of which --base stands for the base as ivon-merge takes it, and +base for the base as one of the models.
# A search is none, or that of a factor of all weights, or of each weight.
methods() {
  cat << 'ROWS'
average|average|trained|none|
average, the base too|average|trained|none|+base
SLERP|slerp|trained|none|
model stock|model-stock|trained|none|--base
task arithmetic|task-arithmetic|trained|none|--base
Hessian-weighted|hessian|trained|none|
Hessian-weighted, the base too|hessian|trained|none|+base
gradient matching|gradient-matching|trained|none|--base
Hessian-weighted, fitted diagonal|hessian|diagonal|none|
Hessian-weighted, fitted diagonal, the base too|hessian|diagonal|none|+base
gradient matching, fitted diagonal|gradient-matching|diagonal|none|--base
Hessian-weighted, Kronecker|hessian|kronecker|none|
Hessian-weighted, Kronecker, the base too|hessian|kronecker|none|+base
gradient matching, Kronecker|gradient-matching|kronecker|none|--base
gradient matching, low rank|gradient-matching|lowrank|none|--base
RegMean|regmean|gram|none|
RegMean, the base too|regmean|gram|none|+base
RegMean, the base too, shrunk|regmean|gram|none|+base --shrink=0.9
average, weights searched|average|trained|simplex|
task arithmetic, scaled|task-arithmetic|trained|sweep|--base
TIES, scaled|ties|trained|sweep|--base
DARE, scaled|dare|trained|sweep|--base
breadcrumbs, scaled|breadcrumbs|trained|sweep|--base
gradient matching, scaled|gradient-matching|trained|sweep|--base
gradient matching, weights searched|gradient-matching|trained|grid|--base
gradient matching, fitted diagonal, scaled|gradient-matching|diagonal|sweep|--base
gradient matching, Kronecker, scaled|gradient-matching|kronecker|sweep|--base
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
    gram) options=(--gram) ;;
  esac
  [ -e "$made" ] || ivon-fit -q "$2.h5" --data="$(train_data "$2")" "${graph[@]}" "${read_as[@]}" "${options[@]}" \
    -o "$made" 2> fit-errors || { cat fit-errors >&2; return 1; }
  echo "$made"
}

# result NAME FILE NOTE: one row of the table: accuracy and NLL on all test sets, and their means.
result() {
  for task in "${tasks[@]}"; do
    ivon-predict -q "$2" --data="$(test_data "$task")" "${graph[@]}" "${read_as[@]}" --mean --metrics --json \
      | jq -r '.metrics | "\(.accuracy.value) \(.nll.value)"'
  done | awk -v name="$1" -v note="$3" '
    {cells = cells sprintf(" %.5f, %.5f |", $1, $2); a += $1; n += $2}
    END {printf "| %s |%s %.5f, %.5f | %s |\n", name, cells, a / NR, n / NR, note}'
}

# try_method NAME METHOD POSTERIORS SEARCH OPTIONS
try_method() {
  local base='' models=() inputs=(--memory=4G) search=() note='' held=()
  [[ $3 != lowrank || $low_rank = yes ]] || return 0
  [[ $5 != *+base* ]] || models=("$(posteriors "$3" base)") || return 0
  for model in "${finetuned[@]}"; do models+=("$(posteriors "$3" "$model")") || return 0; done
  [[ $5 != *--base* ]] || base=$(posteriors "$3" base) || return 0
  [ -z "$base" ] || inputs+=(--base="$base" --on-nonpositive=base)
  [[ $5 != *--shrink* ]] || inputs+=("--shrink=${5##*=}")
  for task in "${tasks[@]}"; do held+=(--evaluate="$(held_data "$task")"); done
  case $4 in
    none) held=() ;;
    sweep) search=(--sweep="$sweep") ;;
    simplex) search=(--weights=simplex:10) ;;
    grid) search=(--weights=grid:"$grid") ;;
  esac
  [ "$4" = none ] || search+=("${graph[@]}" "${read_as[@]}" --table=table.csv)
  if ! ivon-merge -q -f --method="$2" "${inputs[@]}" "${models[@]}" "${search[@]}" "${held[@]}" -o picked.h5 \
    > text 2> errors; then
    echo "merge_methods.sh: $1: $(head -1 errors)" >&2
    return
  fi
  [ "$4" = none ] || note=$(awk -F, 'NR == 1 {for (i = 2; $i ~ /^weight/ || $i == "scale"; i++) last = i}
    NR > 1 && $NF == 1 {for (i = last; i > last - 2; i--) text = $i " " text; print text}' table.csv \
    | sed 's/ $//; s/^\(.*\) \1$/\1/; s/ /, /g')
  result "$1" picked.h5 "$note"
}

rows() {
  result "the base" base.h5 ""
  for model in "${finetuned[@]}"; do result "finetuned on $model" "$model.h5" ""; done
  methods | grep -E "${METHODS:-.}" | while IFS='|' read -r name method posteriors search options; do
    # Names of methods are words of the help, which may break a line behind a bar.
    ivon-merge --help | tr -d ' \n' | grep -qE "[=|]$method([^a-z-]|$)" || continue
    try_method "$name" "$method" "$posteriors" "$search" "$options" < /dev/null
  done
}

# Means over trainings, of the rows that all of them have; notes are joined.
mean_rows() { # FILE...
  awk -F' *[|] *' '
    !($2 in seen) {names[++rows] = $2; columns = NF - 3}
    {
      seen[$2]++
      for (i = 3; i < columns + 2; i++) {
        split($i, pair, ", ")
        accuracy[$2, i] += pair[1]
        nll[$2, i] += pair[2]
      }
      notes[$2] = notes[$2] (notes[$2] == "" ? "" : "; ") $(columns + 2)
    }
    END {
      for (r = 1; r <= rows; r++) {
        name = names[r]
        if (seen[name] < ARGC - 1) continue
        printf "| %s |", name
        for (i = 3; i < columns + 2; i++)
          printf " %.3f, %.3f |", accuracy[name, i] / seen[name], nll[name, i] / seen[name]
        printf " %s |\n", notes[name]
      }
    }' "$@"
}

hold_out() { /usr/bin/python3 "$root/tests/oracle/hold_out.py" "$@"; }

split_texts() {
  for task in mr cr mpqa; do hold_out "$IVON_SHARED/data/text-$task.h5" $task-split.h5; done
  task_of() { [ "$1" = base ] && echo mr || echo "$1"; }
  train_data() { echo "$(task_of "$1")-split.h5:/train"; }
  held_data() { echo "$1-split.h5:/held"; }
  test_data() { echo "$1-split.h5:/test"; }
  tasks=(mr cr mpqa) finetuned=(cr mpqa) read_as=() graph=()
  low_rank=no sweep=0.2:1.4:0.2 grid=0.25:1:0.25 # what takes hours otherwise
}
newest() { find "$1" -name 'posterior-*.h5' | sort | tail -1; }

# train_all ARCH "OPTIONS OF THE BASE" "OF THE OTHERS": trains the base, and from it the others.
train_all() {
  # shellcheck disable=SC2086 # words
  ivon-train "${settings[@]}" --arch="$1" --data="$(train_data base)" $2 --save-every=0 -o base 2> /dev/null
  for name in "${finetuned[@]}"; do
    # shellcheck disable=SC2086
    ivon-train "${settings[@]}" --from="$(newest base)" --data="$(train_data "$name")" $3 --save-every=0 -o "$name" \
      2> /dev/null
  done
  for name in base "${finetuned[@]}"; do mv "$(newest "$name")" "$name.h5"; done
}

reference() {
  split_texts
  graph=(--model="$IVON_SHARED/reference/transformer-base/model.onnx")
  for name in base cr mpqa; do ln -s "$IVON_SHARED/reference/transformer-$name/posterior.h5" $name.h5; done
}

story() { # SEED
  local settings=(-q --seed="$1" --batch=50 --h0=1 --beta2=0.9995 --ess=1e5 --clip-radius=1e-2 --schedule=cosine)
  split_texts
  train_all transformer:14634,48,64,2,4,2 "--lr=0.1 --epochs=4" "--lr=0.05 --epochs=3"
}

texts() { # SEED
  local settings=(-q --seed="$1" --batch=50 --h0=1e-3 --beta2=0.9966 --ess=2e5 --clip-radius=1e-2 --schedule=cosine)
  split_texts
  train_all transformer:14634,48,64,2,4,2 "--lr=60 --epochs=4" "--lr=60 --epochs=3"
}

demo() { # SEED
  local settings=(-q --seed="$1" --target-column=y --batch=50 --h0=0.2 --beta2=0.995 --weight-decay=1e-3)
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
  train_data() { echo "$1-train.csv"; }
  held_data() { echo "$1-held.csv"; }
  test_data() { echo "$1-test.csv"; }
  tasks=(turned inverse) finetuned=(turned inverse) read_as=(--target-column=y) graph=() low_rank=yes
  sweep=0.1:1.5:0.1 grid=0.25:1.5:0.25
  train_all mlp:144,64,8,relu "--lr=0.1 --epochs=20" "--lr=0.1 --epochs=20"
}

digits() { # SEED
  local settings=(-q --seed="$1" --batch=50 --h0=0.5 --beta2=0.999 --weight-decay=1e-4 --schedule=cosine)
  /usr/bin/python3 - "$IVON_SHARED/data/digits.h5" << 'PYTHON'
import sys, h5py, numpy as np
looks = {"base": lambda x: x, "turned": lambda x: np.rot90(x.reshape(-1, 8, 8), axes=(1, 2)).reshape(-1, 64).copy(),
         "inverse": lambda x: 1 - x}
with h5py.File(sys.argv[1]) as f:
    for name, look in looks.items():
        with h5py.File(f"{name}-all.h5", "w") as g:
            for group in "train", "test":
                g[f"{group}/x"], g[f"{group}/y"] = look(f[f"{group}/x"][()]), f[f"{group}/y"][()]
PYTHON
  for name in base turned inverse; do hold_out $name-all.h5 $name-split.h5; done
  train_data() { echo "$1-split.h5:/train"; }
  held_data() { echo "$1-split.h5:/held"; }
  test_data() { echo "$1-split.h5:/test"; }
  tasks=(turned inverse) finetuned=(turned inverse) read_as=() graph=() low_rank=yes
  sweep=0.1:1.5:0.1 grid=0.25:1.5:0.25
  train_all mlp:64,48,10,relu "--lr=0.5 --epochs=100" "--lr=0.5 --epochs=100"
}

for kind in "${@:-demo}"; do
  case $kind in
    reference | story) seeds=1 ;;
    texts | demo | digits) seeds=${SEEDS:-3} ;;
    *) echo "merge_methods.sh: '$kind', expected reference, story, texts, demo or digits" >&2; exit 64 ;;
  esac
  [ "$kind" = demo ] || [ -n "${IVON_SHARED:-}" ] || { echo "skipped: IVON_SHARED does not name the data"; continue; }
  for ((seed = 0; seed < seeds; seed++)); do
    mkdir "$work/$kind-$seed" && cd "$work/$kind-$seed"
    $kind $seed
    rows > "../$kind-$seed.rows"
  done
  echo "### $kind"
  echo "| accuracy, NLL on | $(printf '%s | ' "${tasks[@]}")mean | weights |"
  echo "|---$(printf '%s' "${tasks[@]/*/|---}")|---|---|"
  mean_rows "$work/$kind"-*.rows
done
