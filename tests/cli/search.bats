load train

# Clouds, 100 examples to train and 50 to test, and four points on a line.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  clouds 1 '
for group, n in (("train", 100), ("test", 50)):
    f[group + "/x"], f[group + "/y"] = clouds(n)
f["line/x"], f["line/y"] = np.array([[1], [1], [-1], [-1]], "f4"), np.array([[1], [2], [2], [5]], "f4")'
}

common=(--no-provenance -q)
train() { "${via[@]}" ivon-train "${common[@]}" --data="$BATS_FILE_TMPDIR/data.h5:/train" --batch=20 "$@"; }
refused() { # STATUS MESSAGE OPTION...
  run "-$1" train "${@:3}"
  [ "$output" = "ivon-train: $2" ] || { echo "$output"; return 1; }
}

@test "a grid trains as plain commands do, and ranks by their losses on the test data" {
  a=(--arch=mlp:2,8,3 "$(test_set)" --steps=12 --save-every=5)
  train "${a[@]}" --grid='lr=.05,.2;no-debias=yes,no; h0=.1,default' -o grid/ -j1 > table
  cmp table grid/grid.csv
  [ "$(ls grid | wc -l),$(wc -l < table)" = 9,9 ]
  [ "$(head -1 table)" = rank,lr,no-debias,h0,test_loss,standard_error,accuracy,result,checkpoint ]
  train "${a[@]}" --lr=.05 --no-debias --h0=.1 -o plain1 -j3
  train "${a[@]}" --lr=.2 -o plain2 -j3
  same plain1 grid/lr=.05_no-debias=yes_h0=.1
  same plain2 grid/lr=.2_no-debias=no_h0=default
  train "${a[@]}" --grid='lr=.05,.2;no-debias=yes,no;h0=.1,default' -qo again -j3 > other
  diff <(sed 's,grid/,again/,' table) other
  # The numbers of the last test, in order; of ivon-predict, its error.
  while IFS=, read -r rank _ _ _ loss error accuracy result checkpoint; do
    [ "$result,$(tail -1 "${checkpoint%/*}/log.csv" | cut -d, -f5)" = "trained,$loss" ]
    awk -v a="$accuracy" -v e="$(tail -1 "${checkpoint%/*}/log.csv" | cut -d, -f6)" 'BEGIN { d = a + e - 1; exit d * d > 1e-16 }'
    [ "$rank" != 1 ] || ivon-predict -q "$checkpoint" --data="$BATS_FILE_TMPDIR/data.h5:/test" --mean --metrics |
      awk -v l="$loss" -v e="$error" '$1 == "nll" { l = $2 / l - 1; e = $3 / e - 1; n++ }
                                      END { exit !(n == 1 && l * l < 1e-10 && e * e < 1e-3) }'
    echo "$rank,$loss"
  done < <(tail -n +2 table) > order
  sort -t, -k2,2g order | cmp - order
  [ "$(cut -d, -f1 order | tr '\n' ' ')" = "1 2 3 4 5 6 7 8 " ]
}

@test "without test data leave-one-out losses judge, those of ivon-predict-gen" {
  common=(-q)
  train --arch=mlp:2,8,3 --steps=12 --save-every=0 --grid='lr=.05,.2' --grid='optimizer=ivon,evon,bbb' -o grid > table
  [ "$(head -1 table)" = rank,lr,optimizer,loo_loss,standard_error,accuracy,result,checkpoint ]
  while IFS=, read -r _ _ _ loss error accuracy _ checkpoint; do
    ivon-predict-gen -q "$checkpoint" --data="$BATS_FILE_TMPDIR/data.h5:/train" |
      awk -F, -v l="$loss" -v e="$error" -v a="$accuracy" 'NR == 2 { l -= $4; e -= $5; a += $6 - 1 }
                                                           END { exit !(NR == 2 && l * l + e * e + a * a < 1e-16) }'
  done < <(tail -n +2 table)
  # The best command, as it is told, trains the same; the checkpoint's own provenance names its folder.
  run --separate-stderr -0 train -f --arch=mlp:2,8,3 --steps=12 --save-every=0 --grid='lr=.05,.2;optimizer=ivon,evon,bbb' -o grid
  [ "$output" = "$(cat table)" ]
  [ -z "$stderr" ]
  common=(--no-provenance)
  best=$(train -f --arch=mlp:2,8,3 --steps=12 --save-every=0 --grid='lr=.05,.2;optimizer=ivon,evon,bbb' -o grid 2>&1 > table | grep least)
  [[ $best == "ivon-train: the least leave-one-out loss is that of: ivon-train --no-provenance "*" --lr=.2 --optimizer="*" --output=DIR" ]]
  (cd "$BATS_FILE_TMPDIR"; eval "${best#*: *: } -q")
  folder=$(sed -n 2p table | cut -d, -f8)
  same "$BATS_FILE_TMPDIR/DIR" "${folder%/*}"
}

@test "a grid warns once of Hessians that will be, and are, as they began" {
  common=()
  train --arch=mlp:2,8,3 --steps=2 --grid='lr=.05,.2,.3' -o grid > table 2> errors
  [ "$(grep -c 'warning: beta2 is 0.99999: after 2 steps' errors),$(grep -c 'never left its start' errors)" = 1,1 ]
  train --arch=mlp:2,8,3 --steps=2 --grid='lr=.05;beta2=.1,.99999,.9999' -o other > table 2> errors # of the first
  [ "$(grep -c 'warning: beta2 is 0.99999: after 2 steps' errors),$(grep -c 'warning: beta2' errors)" = 1,1 ]
}

@test "with patience the best checkpoint of each combination is judged" {
  a=(--arch=mlp:2,8,3 --steps=60 --eval-every=3 --save-every=0 --patience=1 --stop-by=test --held-out=.2)
  train "${a[@]}" --grid='lr=2,.3' -o grid > table
  train "${a[@]}" --lr=2 -o plain
  same plain grid/lr=2
  for rate in 2 .3; do
    [ "$(awk -F, -v r=$rate '$2 == r { print $7 " " $3 }' table)" = \
      "grid/lr=$rate/best.h5 $(cut -d, -f5 grid/lr=$rate/log.csv | tail -n +2 | sort -g | grep -m1 .)" ]
  done
  train --arch=mlp:2,8,3 --steps=60 --loo-every=3 --patience=1 --lr=2 --grid='seed=1,2' -o loo > table
  for seed in 1 2; do
    awk -F, -v l="$(cut -d, -f7 loo/seed=$seed/log.csv | tail -n +2 | sort -g | grep -m1 .)" -v s=$seed \
      '$2 == s { n++; d = $3 / l - 1 } END { exit !(n == 1 && d * d < 1e-12) }' table
  done
}

@test "a grid that was killed goes on to the same bits" {
  a=(--arch=mlp:2,8,3 --steps=300 --save-every=50 --mc-samples=3 "$(test_set)" --grid='lr=.1,1e30,.2;h0=.1,.2')
  train "${a[@]}" -o whole > table
  in_its_place train "${a[@]}" -o killed -j2 > unfinished &
  training=$!
  until [ -e killed/lr=.2_h0=.1/posterior-00000050.h5 ]; do sleep 0.01; done
  kill -9 $training
  wait $training || true
  [ ! -s unfinished ]
  [ "$(wc -l < killed/grid.csv)" = 5 ]
  [ ! -e killed/lr=.2_h0=.2 ]
  rm killed/lr=.1_h0=.1/log.csv # of a training that ended nothing is made again: its log would be whole
  before=$(stat -c %i killed/lr=.1_h0=.2/posterior-*)
  train "${a[@]}" -o killed -j2 --resume > resumed
  [ "$(stat -c %i killed/lr=.1_h0=.2/posterior-*)" = "$before" ]
  [ "$(wc -l < killed/lr=.1_h0=.1/log.csv)" = 1 ]
  cp whole/lr=.1_h0=.1/log.csv killed/lr=.1_h0=.1
  diff <(sed 's,killed/,whole/,' resumed) table
  cmp resumed killed/grid.csv
  rm {killed,whole}/grid.csv
  same whole killed
  # Where options changed in between, each training says so.
  common=()
  train -q --arch=mlp:2,3 --steps=2 --grid='lr=.1,.2' -o small > table
  run -0 --separate-stderr train --arch=mlp:2,3 --steps=3 --seed=4 --grid='lr=.1,.2' -o small --resume
  [ "$(grep -c 'posterior-00000002.h5: --seed was 0 and is 4: this goes on, but not' <<< "$stderr")" = 2 ]
  run -73 train --arch=mlp:2,3 --steps=2 --grid='lr=.1,.2' -o small
  [ "$output" = "ivon-train: small: holds a grid: go on with it by --resume, or replace it by --force" ]
}

@test "a combination that diverges is a row" {
  common=(--no-provenance)
  run -0 --separate-stderr train --optimizer=sgd --steps=5 --arch=mlp:2,8,3 "$(test_set)" --grid='lr=1e30,.1' -o grid
  [[ ${lines[1]} == 1,.1,*,trained,grid/lr=.1/posterior-00000005.h5 ]]
  [ "${lines[2]}" = ",1e30,,,,diverged," ]
  [[ $stderr == *"warning: 1 of 2, lr=1e30: step "*"diverged: lower the learning rate"* ]]
  run -65 --separate-stderr train --optimizer=sgd --steps=5 --arch=mlp:2,8,3 "$(test_set)" --grid='lr=1e30,1e31' -o none -q
  [ "$stderr" = "ivon-train: none: each of the 2 combinations diverged" ]
  [ "$(tail -1 none/grid.csv)" = ",1e31,,,,diverged," ]
}

@test "values with commas stand between bars, and folders have names of their own" {
  train --steps=2 --grid='arch=mlp:2,4,3|linear:2,3|mlp:2;4,3' "$(test_set)" --lr=.1 -o grid || true
  train --steps=2 --grid='arch=mlp:2,4,3|mlp:2,5,3' "$(test_set)" --lr=.1 -o grid > table
  for width in 4 5; do
    train --steps=2 --arch=mlp:2,$width,3 "$(test_set)" --lr=.1 -o plain$width
    grep -q "^[12],\"mlp:2,$width,3\"," table
    same plain$width "$(echo grid/arch=mlp-2-$width-3~*)"
  done
}

@test "examples that are held out are a share that a seed chooses" {
  common=(--no-provenance)
  a=(--arch=mlp:2,8,3 --lr=.2 --steps=6 --save-every=0)
  run -0 train "${a[@]}" --held-out=.2,7 -o run -q
  data="$BATS_FILE_TMPDIR/data.h5:/train"
  # They are those that ivon-predict-gen chooses, and the others are all that is trained on.
  ivon-predict-gen -q run/posterior-00000006.h5 --data="$data" --subsample=20 --seed=7 --pointwise=held.csv > gen.csv
  awk -F, 'FNR == 1 { next } NR == FNR { loss = $5; next } { d = $2 - loss; n++ } END { exit !(n == 1 && d * d < 1e-12) }' \
    <(sed -n '1p;$p' run/log.csv) gen.csv
  $python - "$BATS_FILE_TMPDIR/data.h5" <<'PYTHON'
import csv, h5py, numpy as np, sys
held = [int(row["index"]) for row in csv.DictReader(open("held.csv"))]
with h5py.File("others.h5", "w") as f, h5py.File(sys.argv[1]) as data:
    for name in "xy":
        f[name] = np.delete(data["train/" + name][()], held, 0)
    assert len(f["x"]) == 80
PYTHON
  train "${a[@]}" -q --data=others.h5 -o others
  cmp {run,others}/posterior-00000006.h5
  train "${a[@]}" -q --held-out=.2 -o first
  run -1 cmp -s {run,first}/posterior-00000006.h5
  train --arch=mlp:2,8,3 --steps=6 --save-every=0 --held-out=.2,7 --grid='lr=.1,.2' -o grid -q > table
  [ "$(sed 's/.*_loss.*/held_out_loss/; 1q' table)" = held_out_loss ]
  cmp run/posterior-00000006.h5 grid/lr=.2/posterior-00000006.h5
  refused 64 "$data: --held-out=0.001 takes 0 of 100 examples, expected some and not all" "${a[@]}" --held-out=.001 -o none
  refused 64 "--held-out: 1, expected a share below 1" "${a[@]}" --held-out=1 -o none
  refused 64 "--held-out: 'x', expected a number from 0 to 9223372036854775807" "${a[@]}" --held-out=.1,x -o none
  refused 64 "--test and --held-out exclude each other" "${a[@]}" --held-out=.1 --test=x -o none
  common=(-q)
  train "${a[@]}" --held-out=.2 --save-every=3 -o run -f
  rm run/posterior-00000006.h5
  run -64 ivon-influence -q run/posterior-00000003.h5 --data="$data" --queries="$data" --rows=0 --validate=3
  [ "$output" = "ivon-influence: run/posterior-00000003.h5: was trained on what --held-out=0.2 left of its data, which are not all of these" ]
  common=()
  run -0 train "${a[@]}" --held-out=.2,1 -o run --resume
  [[ $output == *"run/posterior-00000003.h5: --held-out was 0.2,0 and is 0.2,1: this goes on, but not as one training would have"* ]]
}

@test "grids that make no sense are refused" {
  common=()
  a=(--arch=mlp:2,3 --steps=2 -o grid)
  refused 64 "'--grid' has no value, but the option '--batch=2' behind it; if that is meant, write '--grid=--batch=2'" "${a[@]}" --grid --batch=2
  refused 64 "--grid: 'lr', expected OPTION=VALUE,VALUE;OPTION=VALUE..." "${a[@]}" --grid=lr
  refused 64 "--grid: '', expected OPTION=VALUE,VALUE;OPTION=VALUE..." "${a[@]}" --grid='lr=.1,.2;'
  refused 64 "--grid: --lr has an empty value; to leave it out say 'default'" "${a[@]}" --grid=lr=.1,
  refused 64 "--grid: --lr has '.1' twice" "${a[@]}" --grid=lr=.1,.1
  refused 64 "--grid: --lr is there twice" "${a[@]}" --grid='lr=.1' --grid=lr=.2
  refused 64 "--grid: ivon-train has no option --rate" "${a[@]}" --grid=rate=.1
  refused 64 "--grid: --no-debias is '1', and takes no value: expected yes and no" "${a[@]}" --grid=no-debias=1
  for option in output threads save-every grid find-lr; do
    refused 64 "--grid: --$option does not change what is learnt: give it beside the grid" "${a[@]}" --grid=$option=1
  done
  for option in data likelihood noise-std held-out; do
    refused 64 "--grid: --$option changes of which data the losses are, or their unit: they could not be compared" "${a[@]}" --grid=$option=1
  done
  refused 64 "--steps is given beside --grid, which has values of it" "${a[@]}" --grid='lr=.1;steps=1,2'
  refused 64 "--lr: 'x', expected a finite number" "${a[@]}" --grid=lr=.1,x
  refused 64 "no learning rate given: name it by --lr" "${a[@]}" --grid=h0=.1
  refused 64 "--h0 is not for --optimizer=sgd" "${a[@]}" --lr=.1 --h0=1 --grid=optimizer=ivon,sgd
  refused 64 "--grid: --optimizer=sgd leaves no posterior, which leave-one-out losses are computed by: give --test=DATA or --held-out=SHARE" \
    "${a[@]}" --lr=.1 --grid=optimizer=ivon,sgd
  refused 64 "--grid: there are more than 10000 combinations" "${a[@]}" --lr=.1 --grid="seed=$(seq -s, 101)" --grid="batch=$(seq -s, 100)"
  refused 64 "--judge is for --grid" "${a[@]}" --lr=.1 --judge=loo
  refused 64 "--judge=test needs --test=DATA" "${a[@]}" --grid=lr=.1 --judge=test
  refused 64 "--judge=held-out needs --held-out=SHARE" "${a[@]}" --grid=lr=.1 --judge=held-out
  refused 64 "--resume and --force exclude each other" "${a[@]}" --grid=lr=.1 -f --resume
  refused 64 "no output given: name a directory by -o DIR" --arch=mlp:2,3 --steps=2 --grid=lr=.1
  [ ! -e grid ]
}

@test "a sweep of the rate is what a quadratic makes of it, and what plain steps are" {
  common=(-q)
  a=(--arch=linear:1,1 --likelihood=gaussian --noise-std=0.25 --optimizer=sgd --beta1=0)
  b=("${a[@]}" --data="$BATS_FILE_TMPDIR/data.h5:/line")
  train "${b[@]}" --find-lr=40 -j1 > table
  train "${b[@]}" --find-lr=40 -j3 | cmp - table
  train "${b[@]}" --lr=1e-6 --steps=2 -o plain
  [ ! -e table.h5 ]
  [ "$(ls)" = "plain
table" ]
  # Steps of r multiply what the loss is above its least by (1 - r/s^2)^2: the features are orthonormal.
  $python - <<'PYTHON'
import csv, numpy as np
rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(open("table"))]
plain = [float(row["loss"]) for row in csv.DictReader(open("plain/log.csv"))]
rates = 1e-6 * 1e8 ** (np.arange(40) / 39)
variance = 0.0625
least = np.mean([0.25, 0.25, 2.25, 2.25]) / 2 / variance  # the line's values are 1.5 and 3.5
away = np.cumprod(np.r_[1, 1 - rates[:-1] / variance])
losses = least + (rows[0]["loss"] - least) * away ** 2
average, smoothed = 0, []
for i, loss in enumerate(losses):
    average = 0.98 * average + 0.02 * loss
    smoothed.append(average / (1 - 0.98 ** (i + 1)))
    if smoothed[-1] > 4 * min(smoothed):
        break
assert len(rows) == len(smoothed) < 40, (len(rows), len(smoothed))
# Weights below 4 in binary32 are off by 2^-22 a step, which is small beside the distance that they are away.
assert abs(away).min() > 0.005
for i, row in enumerate(rows):
    assert abs(row["learning_rate"] / rates[i] - 1) < 1e-14
    assert abs(row["loss"] / losses[i] - 1) < 1e-4 and abs(row["smoothed_loss"] / smoothed[i] - 1) < 1e-4, i
best = int(np.argmin(smoothed))
assert rows[-1]["suggested_rate"] == float("%.1e" % (rates[best] / 10)) < 2 * variance
assert plain == [float("%.9g" % row["loss"]) for row in rows[:2]]
PYTHON
}

@test "a sweep suggests a rate, and says where it cannot" {
  common=()
  a=(--arch=mlp:2,8,3 --optimizer=adamw)
  run -0 --separate-stderr ivon-train "${a[@]}" --data="$BATS_FILE_TMPDIR/data.h5:/train" --find-lr=40
  rate=${lines[-1]##*,}
  [[ $stderr == *"try --lr=$rate: "* ]]
  for std in 1e-4 1e-18; do # of which one ends by its losses, and one by what is no number
    run -0 --separate-stderr ivon-train --arch=linear:1,1 --likelihood=gaussian --noise-std=$std --optimizer=sgd \
      --data="$BATS_FILE_TMPDIR/data.h5:/line" --find-lr=20
    [ "$stderr" = "ivon-train: warning: the loss fell at no rate by more than batches differ: none is suggested" ]
    [[ ${lines[1]} == 1e-06,*,nan && ${#lines[@]} -lt 5 ]]
  done
  run -0 --separate-stderr ivon-train --arch=mlp:2,8,3 --h0=1e-6 --data="$BATS_FILE_TMPDIR/data.h5:/train" --find-lr=40
  [ "$stderr" = "ivon-train: warning: the loss fell at no rate by more than batches differ: none is suggested; a larger --h0 means less noise" ]
  for option in --lr=1 --epochs=1 --steps=1 --schedule=cosine --warmup=1 --output=x --test=x --eval-every=1 --save-every=1 --loo --patience=1 --average=.9 --resume --force --grid=lr=1; do
    refused 64 "--find-lr sweeps rates, and writes a table: ${option%%=*} does not go with it" "${a[@]}" --find-lr $option
  done
  refused 64 "--find-lr: '19', expected a number from 20 to 1000000" "${a[@]}" --find-lr=19
}
