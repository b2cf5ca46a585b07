# ivon-train's leave-one-out loss, and early stopping by it and by the test loss.
load train

# Clouds that overlap, of which a training soon learns more than there is to know; numbers on a plane.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  clouds 5 '
for group, n in (("train", 60), ("test", 40)):
    f[group + "/x"], y = clouds(n, spread=1.5)
    f[group + "/y"] = y
    f[group + "/number"] = (f[group + "/x"][()] @ [[1.0], [-2.0]] + r.standard_normal((n, 1))).astype("f4")
    f[group + "/count"] = y[:, None].astype("f4")
    f[group + "/tokens"] = r.integers(0, 7, (n, 6))'
}

train() { # OPTION...
  "${via[@]}" ivon-train -q --no-provenance --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.2 --h0=0.1 --beta2=0.95 --batch=20 "$@"
}
refused() { # STATUS MESSAGE OPTION...
  run -"$1" ivon-train "${@:3}"
  [ "${lines[0]}" = "ivon-train: $2" ]
}

# agrees RUN OPTION...: the log has what ivon-predict-gen prints of each checkpoint, to the log's digits.
agrees() {
  ivon-predict-gen -q "$1"/posterior-*.h5 --data="$BATS_FILE_TMPDIR/data.h5:/train" "${@:2}" \
    | awk -F, 'NR == 1 { for (i = 1; i <= NF; i++) of[$i] = i; next }
               { printf "%d,%.9g,%.9g\n", $1, $of["loo_loss"], $of["loo_loss_se"] }' > gen
  awk -F, 'NR > 1 && $7 != "" { print $1 "," $7 "," $8 }' "$1/log.csv" > log
  [ -s log ]
  cmp gen log
}

@test "the log has the leave-one-out loss that ivon-predict-gen says of the checkpoints" {
  for optimizer in ivon evon bbb; do
    train --optimizer=$optimizer --steps=12 --loo -o $optimizer
    agrees $optimizer
  done
  # Some rows, other steps, threads, a likelihood without an error, tokens of which some do not count.
  train --steps=12 --loo --loo-rows=25 --seed=3 --loo-every=5 --save-every=5 -o rows -j3
  agrees rows --subsample=25 --seed=3
  train --steps=12 --loo --loo-rows=60 -o all # as many as there are
  cmp all/log.csv ivon/log.csv
  number=(--targets=number --likelihood=gaussian --noise-std=1)
  train --steps=6 --loo "${number[@]}" --arch=mlp:2,4,1 -o number
  agrees number "${number[@]}"
  tokens=(--inputs=tokens --targets=tokens --ignore-label=0)
  train --steps=6 --loo "${tokens[@]}" --arch=gpt:7,6,8,1,2 -o tokens --optimizer=evon
  agrees tokens "${tokens[@]}"
  # It changes nothing but the log.
  train --steps=12 -o without
  for file in without/*.h5; do cmp "$file" "ivon/${file##*/}"; done
  [ "$(cut -d, -f7,8 without/log.csv | sort -u | tr '\n' ' ')" = ", loo_loss,loo_loss_se " ]
}

@test "patience ends a training, and keeps the best checkpoint" {
  options=(--optimizer=evon --epochs=60 --patience=4 --loo-every=2)
  run -0 train "${options[@]}" -o run
  [ -z "$output" ]
  awk -F, 'NR > 1 && $7 != "" { if (!n++ || $7 < best) { best = $7; step = $1 } last = $1 }
           END { printf "%d %d\n", step, last }' run/log.csv > steps
  read -r best last < steps
  [ "$last" = $((best + 8)) ]
  [ "$last" -lt 180 ]
  [ "$(readlink run/best.h5)" = "$(cat run/done)" ]
  [ "$(ivon-info --json run/best.h5 | jq .step)" = "$best" ]
  [ -e "run/posterior-$(printf %08d "$last").h5" ]
  # Without checkpoints on the way there are these two.
  train "${options[@]}" --save-every=0 -o few
  [ "$(ls few | wc -l)" = 5 ]
  cmp few/best.h5 run/best.h5
  cmp few/log.csv run/log.csv
  # The ones that come follow no link.
  ivon-predict-gen -q --follow=few --data="$BATS_FILE_TMPDIR/data.h5:/train" > gen.csv
  [ "$(wc -l < gen.csv)" = 3 ]
  # What ended stays, more patience goes on, and less has nothing left to do.
  cp -r few before
  train "${options[@]}" --save-every=0 -o few --resume
  same few before
  run -0 --separate-stderr ivon-train --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.2 --h0=0.1 --beta2=0.95 --batch=20 \
    "${options[@]}" -o few --resume --save-every=0 --patience=5
  [[ ${stderr_lines[-2]} == "ivon-train: stopped after step "*", 5 evaluations behind: loo_loss was least at step $best: "*"; best.h5 is its checkpoint" ]]
}

@test "who is killed or interrupted decides as who is not" {
  options=(--epochs=2000 --patience=60 --schedule=cosine --save-every=40 "$(test_set)")
  train "${options[@]}" -o whole
  in_its_place train "${options[@]}" -o killed &
  training=$!
  until [ -e killed/posterior-00000040.h5 ]; do sleep 0.01; done
  kill -9 $training
  wait $training || true
  [ ! -e killed/done ]
  train "${options[@]}" -o killed --resume -j1
  same whole killed
  # An interruption within an evaluation leaves its columns empty.
  last=$(tail -n 1 whole/log.csv | cut -d, -f1-4)
  rm killed/done
  sed -i "\$s/.*/$last,,,,/" killed/log.csv
  train "${options[@]}" -o killed --resume
  same whole killed
  # Logs of versions before had fewer columns.
  cut -d, -f1-6 whole/log.csv > killed/log.csv
  train --epochs=20 --schedule=cosine --save-every=40 "$(test_set)" -o killed --resume
  [ "$(sed 's/,[^,]*,[^,]*$/,,/;1d' whole/log.csv)" = "$(sed 1d killed/log.csv)" ]
  cmp <(head -n 1 killed/log.csv) <(head -n 1 whole/log.csv)
}

@test "a posterior that is far too wide has no best checkpoint, and is told of" {
  # 1 / (N h) is 167: predictions of the rates' logarithms move by hundreds, which exp does not bear.
  run -0 ivon-train --no-provenance --arch=linear:2,1 --data="$BATS_FILE_TMPDIR/data.h5:/train" --targets=count \
    --likelihood=poisson --h0=1e-4 --weight-decay=0 --ess=1e12 --beta2=0.99999999 --lr=1e-9 --no-rescale-lr \
    --steps=9 --batch=20 --patience=2 -o wide
  cut -d, -f7 wide/log.csv
  [ "${lines[1]}" = "ivon-train: warning: step 3: the leave-one-out loss is not finite: the posterior is far too wide for it to mean anything" ]
  [ "${lines[2]}" = "ivon-train: warning: stopped after step 6, 2 evaluations behind: no loo_loss was finite: none is the best" ]
  [ "$(ls wide | tr '\n' ' ')" = "done log.csv posterior-00000003.h5 posterior-00000006.h5 " ]
  [ ! -s wide/done ]
}

@test "patience may be with the test loss, of which all methods have one" {
  run -0 ivon-train --no-provenance --optimizer=adamw --lr=0.05 --epochs=60 --batch=20 --patience=2 --eval-every=2 "$(test_set)" \
    --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" -o adamw
  best=$(awk -F, 'NR > 1 && $5 != "" { if (!n++ || $5 < best) { best = $5; step = $1 } } END { print step }' adamw/log.csv)
  [[ ${lines[-2]} == "ivon-train: stopped after step $((best + 4)), 2 evaluations behind: test_loss was least at step $best: "*"; best.h5 is its checkpoint" ]]
  [ "$(ivon-info --json adamw/best.h5 | jq .step)" = "$best" ]
}

@test "what cannot be evaluated or is not wanted is refused" {
  a=(--arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" -o run --epochs=1 --lr=1)
  refused 64 "--loo is not for --optimizer=sgd" "${a[@]}" --optimizer=sgd --loo
  refused 64 "--loo-every is for --loo" "${a[@]}" --loo-every=2
  refused 64 "--loo-rows is for --loo" "${a[@]}" --loo-rows=2
  refused 64 "--stop-by is for --patience" "${a[@]}" --stop-by=loo
  refused 64 "--stop-by=test needs --test=DATA or --held-out" "${a[@]}" --patience=2 --stop-by=test
  refused 64 "--loo-every is for --loo" "${a[@]}" --patience=2 --stop-by=test "$(test_set)" --loo-every=2
  refused 64 "--stop-by=loo: --optimizer=soap leaves no posterior, which the leave-one-out loss is of" "${a[@]}" --optimizer=soap --patience=2 --stop-by=loo
  refused 64 "--patience: --optimizer=adamw leaves no posterior, whose leave-one-out loss would tell when to stop: give --test or --held-out" \
    "${a[@]}" --optimizer=adamw --patience=2
  refused 64 "--patience: '0', expected a number from 1 to 9223372036854775807" "${a[@]}" --patience=0
  [ ! -e run ]
  # Other patience than before is told of.
  ivon-train -q "${a[@]}" --patience=2 --loo-rows=10
  run -0 ivon-train "${a[@]}" --patience=3 --loo-rows=20 --resume --beta2=0.9 --epochs=2
  [[ ${lines[0]} == "ivon-train: warning: run/posterior-00000001.h5: "*"--patience was 2 and is 3, --loo-rows was 10 and is 20: this goes on, but not as one training would have" ]]
}
