load train

# Clouds, 300 examples to train and 150 to test; images of 2 classes; regression on a line; events; tokens.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  clouds 1 '
for group, n in (("train", 300), ("test", 150)):
    f[group + "/x"], y = clouds(n)
    f[group + "/y"] = y
    x = r.standard_normal((n, 1, 28, 28)).astype("f4")
    x[:, 0, 10:18, 10:18] += (y[:, None, None] == 0) * 1.5
    f[group + "/image"], f[group + "/class"] = x[:40], (y == 0).astype("i8")[:40]
    x = r.standard_normal((n, 3)).astype("f4")
    f[group + "/point"] = x
    f[group + "/number"] = (x @ [[1.0], [-2.0], [0.5]] + 0.1 * r.standard_normal((n, 1))).astype("f4")
    f[group + "/event"] = (x @ [[1.0, 0], [0, 1.0], [1, -1.0]] > 0).astype("i8")
    f[group + "/tokens"] = np.arange(n * 8).reshape(n, 8) % 7
    f[group + "/next"] = (np.arange(n * 8).reshape(n, 8) + 1) % 7
with h5py.File("nan.h5", "w") as f:
    x = np.ones((10, 2), "f4"); x[7, 1] = np.nan
    f["x"], f["y"] = x, np.zeros(10, "i8")'
}

common=(--no-provenance -q)
mlp() { "${via[@]}" ivon-train "${common[@]}" --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.2 --h0=0.1 --beta2=0.99 --batch=20 "$@"; }
last() { tail -1 "$1/log.csv" | cut -d, -f"$2"; }
below() { awk -v a="$1" -v b="$2" 'BEGIN { exit !(a < b) }'; }

@test "a training learns, logs and keeps checkpoints that the other commands read" {
  mlp "$(test_set)" --epochs=10 -o run --seed=1
  [ "$(ls run | wc -l)" = 12 ]
  [ -e run/done ]
  [ -e run/posterior-00000150.h5 ]
  [ "$(head -1 run/log.csv)" = step,epoch,loss,learning_rate,test_loss,test_error,loo_loss,loo_loss_se ]
  [ "$(wc -l < run/log.csv)" = 151 ]
  [ "$(grep -vc ',,,,$' run/log.csv)" = 11 ]
  below "$(last run 6)" 0.06
  ivon-info --check run/posterior-*.h5 > /dev/null
  [ "$(ivon-info --json run/posterior-00000150.h5 | jq -c '[.step,.n_train,.ess,.weight_decay]')" = '[150,300,300,0.0001]' ]
  ivon-predict -q run/posterior-00000150.h5 --data="$BATS_FILE_TMPDIR/data.h5:/test" --mean --metrics > metrics
  grep -q accuracy metrics
  ivon-sensitivity -q run/posterior-00000150.h5 --data="$BATS_FILE_TMPDIR/data.h5:/train" --top=3 > top.csv
  [ "$(wc -l < top.csv)" = 4 ]
  ivon-predict-gen -q --follow=run --data="$BATS_FILE_TMPDIR/data.h5:/train" "$(test_set)" > gen.csv
  # What it logs is what others compute of the checkpoint: means of 150 losses in another order.
  awk -F, 'NR == FNR { if ($5 != "") loss[$1] = $5; if ($6 != "") error[$1] = $6; next }
           FNR > 1 { d = loss[$1] - $8; if (d < 0) d = -d; if (d > 1e-6) exit 1;
                     e = error[$1] - $9; if (e < 0) e = -e; if (e > 1e-6) exit 1; n++ }
           END { exit n != 10 }' run/log.csv gen.csv
}

@test "an epoch has its batches, however many of them a step takes" {
  mlp --epochs=4 --accumulate=3 --save-every=0 -o run # 15 batches an epoch, 60 in all
  [ "$(wc -l < run/log.csv)" = 21 ]
  [ -e run/posterior-00000020.h5 ]
  [ "$(last run 1),$(last run 2)" = 20,4 ]
}

@test "a network of some millions of parameters fits into memory" {
  ivon-train "${common[@]}" --arch=mlp:2,2000,2000,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.1 --batch=10 --steps=1 --save-every=0 -o run
  [ -e run/posterior-00000001.h5 ]
}

@test "the bits do not depend on threads, nor on being killed" {
  options=("$(test_set)" --steps=600 --mc-samples=2 --accumulate=2 --schedule=cosine --warmup=10 --save-every=150 --seed=5)
  mlp "${options[@]}" -o whole -j1
  mlp "${options[@]}" -o three -j3
  same whole three
  in_its_place mlp "${options[@]}" -o killed -j2 &
  training=$!
  until [ -e killed/posterior-00000150.h5 ]; do sleep 0.01; done
  kill -9 $training
  wait $training || true
  [ ! -e killed/done ]
  mlp "${options[@]}" -o killed -j2 --resume
  same whole killed
  # Without a training to go on with, it begins; with one that ended, nothing changes.
  mlp "${options[@]}" -o anew --resume
  same whole anew
  rm anew/done
  mlp "${options[@]}" -o anew --resume
  same whole anew
}

@test "opposite pairs of steps go on from between the two" {
  mlp --steps=45 --save-every=15 --antithetic -o whole -j1
  cp -r whole again
  rm again/done again/posterior-000000[34]*.h5
  mlp --steps=45 --save-every=15 --antithetic -o again -j3 --resume
  same whole again
}

@test "every option changes the training, but those that say what is the default" {
  small() { mlp --steps=8 --save-every=0 -f -o run "$@" && sha256sum < run/posterior-00000008.h5; }
  base=$(small)
  [ "$(small --optimizer=ivon --hessian=price --rescale-lr --debias --prior=zero --init=keep --schedule=constant --warmup=0 --mc-samples=1 --accumulate=1 --seed=0 --beta1=0.9 --weight-decay=1e-4 --ess=300)" = "$base" ]
  for option in --hessian=gradsq --no-rescale-lr --no-debias --init=kaiming --init=xavier --init=normal \
    --schedule=cosine --schedule=linear --warmup=3 --mc-samples=2 --accumulate=2 --seed=1 --beta1=0.5 --beta2=0.9 --h0=0.2 --lr=0.1 \
    --weight-decay=0.1 --ess=100 --clip-radius=0.1 --clip-norm=0.1 --batch=10 --limit=100 --antithetic; do
    small $option
  done | sort > sums
  [ "$(uniq sums | wc -l)" = 23 ]
  run -1 grep -q "$base" sums
}

@test "AdamW and SGD learn and resume too, with momenta that are no Hessian" {
  for optimizer in adamw sgd; do
    options=(--arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" "$(test_set)" --optimizer=$optimizer --lr=0.02 --steps=300 --save-every=120)
    ivon-train "${common[@]}" "${options[@]}" -o $optimizer
    below "$(last $optimizer 6)" 0.06
    cp -r $optimizer again
    rm again/done again/posterior-00000300.h5
    ivon-train "${common[@]}" "${options[@]}" -o again --resume
    same $optimizer again
    rm -r again
    [ "$(ivon-info --json $optimizer/posterior-00000300.h5 | jq .ess)" = null ]
  done
  $python -c '
import h5py
f = h5py.File("adamw/posterior-00000300.h5")
assert "hessian" not in f and (f["momentum/second_moment/fc1.weight"][()] > 0).any()'
  run -65 ivon-train "${common[@]}" "${options[@]}" -o adamw --lr=0.1 --optimizer=ivon --resume
  [ "$output" = "ivon-train: adamw/posterior-00000300.h5: was trained with another method" ]
}

@test "an interrupted training saves where it is, and goes on from there" {
  in_its_place mlp --steps=3000000 --save-every=0 -o run &
  training=$!
  until [ -s run/log.csv ] && [ "$(wc -l < run/log.csv)" -gt 3 ]; do sleep 0.01; done
  kill -INT $training
  status=0
  wait $training || status=$?
  [ $status = 130 ]
  [ ! -e run/done ]
  saved=$(echo run/posterior-*.h5)
  step=$((10#$(tail -1 run/log.csv | cut -d, -f1)))
  [ "$saved" = "run/posterior-$(printf %08d "$step").h5" ]
  mlp --steps=$((step + 5)) --save-every=0 -o run --resume
  mlp --steps=$((step + 5)) --save-every=0 -o whole
  cmp "run/posterior-$(printf %08d $((step + 5))).h5" whole/posterior-*.h5
  cmp run/log.csv whole/log.csv
}

@test "a training that diverges says where, and what may help" {
  run -65 mlp --steps=1000 --lr=1e30 --h0=0.0001 --save-every=1 -o run
  [[ $output == "ivon-train: step "*": "*diverged:*"lower the learning rate, raise the initial Hessian, or set a clip radius; run/log.csv has the losses up to there, and run/posterior-"*".h5 stays" ]]
  newest=$(ls run/posterior-*.h5 | tail -1)
  [[ $output == *" and $newest stays" ]]
  [ "$newest" = "run/posterior-$(printf %08d "$(last run 1)").h5" ]
  [ ! -e run/done ]
  ivon-info --check run/posterior-00000001.h5 > /dev/null
  run -65 mlp --steps=1000 --lr=1e30 --h0=0.0001 --save-every=0 -o bare
  [[ $output == *"; bare/log.csv has the losses up to there, and no checkpoint was written" ]]
}

@test "a training ends with a line of what it made" {
  a=(--arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.1 --beta2=0.9)
  run -0 --separate-stderr ivon-train "${a[@]}" "$(test_set)" --epochs=4 -o run
  # The loss is the mean over the last quarter, here the last epoch.
  loss=$(tail -6 run/log.csv | awk -F, '{ sum += $3 } END { printf "%.4g", sum / NR }')
  rounded() { printf %.4g "$(last run $1)"; }
  [ "$stderr" = "ivon-train: run/posterior-00000024.h5: 24 steps, loss $loss, test loss $(rounded 5), test error $(rounded 6)" ]
  [ "$output" = "" ]
  run -0 ivon-train "${a[@]}" --steps=1 -o one
  [[ ${lines[-1]} == "ivon-train: one/posterior-00000001.h5: 1 step, loss "*([0-9.]) ]]
  run -0 ivon-train "${a[@]}" --epochs=4 -o two -q
  [ "$output" = "" ]
}

@test "a training that ends far above its beginning is warned of, and one that learns is not" {
  run -0 --separate-stderr ivon-train --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" \
    --optimizer=sgd --lr=1000 --steps=4 -o rises
  [[ $stderr == "ivon-train: warning: the loss rose: it is "*" on average at the end, and was at most "*"; did the training diverge? A lower --lr or a --clip-norm may help"$'\n'"ivon-train: rises/posterior-00000004.h5: 4 steps, loss "* ]]
  run -0 --separate-stderr ivon-train --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" \
    --lr=100 --steps=6 -o rises-too
  [[ $stderr == *" --lr, a larger --h0 or a --clip-radius may help"$'\n'* ]]
  run -0 --separate-stderr ivon-train --arch=mlp:2,16,3 --data="$BATS_FILE_TMPDIR/data.h5:/train" \
    --optimizer=sgd --lr=0.1 --steps=20 --warmup=21 -o falls
  [ "${stderr_lines[0]}" = "ivon-train: warning: --warmup=21: the training has 20 steps, in which the rate never reaches --lr" ]
}

@test "architectures of images, tokens and numbers are trained" {
  data="$BATS_FILE_TMPDIR/data.h5"
  image=(--arch=lenet:1,2,28 --data="$data:/train" --inputs=x=image --targets=class --lr=0.1 --h0=0.1 --beta2=0.99 --batch=10 --epochs=2 --save-every=0)
  ivon-train "${common[@]}" "${image[@]}" -o image --augment=crop2,flip
  run -64 ivon-train "${common[@]}" "${image[@]}" -o reflected --augment=reflect28
  [ "$output" = "ivon-train: lenet:1,2,28: images of 28 x 28 pixels cannot be reflected by 28, expected fewer than they are wide and high" ]
  ivon-train "${common[@]}" "${image[@]}" -o plain
  run -1 cmp -s image/posterior-00000008.h5 plain/posterior-00000008.h5
  tokens=(--arch=gpt:7,8,16,1,2 --data="$data:/train" --inputs=tokens --targets=next --batch=30 --save-every=0)
  ivon-train "${common[@]}" "${tokens[@]}" --lr=0.3 --h0=0.05 --beta2=0.99 --epochs=10 -o gpt
  below "$(last gpt 3)" 0.5
  [ "$(ivon-info --json gpt/posterior-00000100.h5 | jq -c '[.n_train,.ess]')" = '[2400,2400]' ]
  # Of 1 ... 2400, 342 are multiples of 7.
  ivon-train "${common[@]}" "${tokens[@]}" --optimizer=adamw --lr=0.01 --epochs=1 --ignore-label=0 -o some
  [ "$(ivon-info --json some/posterior-00000010.h5 | jq .n_train)" = 2058 ]
  number=(--arch=linear:3,1 --data="$data:/train" "--test=$data:/test" --inputs=point --targets=number --likelihood=gaussian --noise-std=0.1 --save-every=0)
  ivon-train "${common[@]}" "${number[@]}" --lr=0.05 --h0=300 --beta2=0.999 --epochs=40 -o number
  below "$(last number 5)" 0.7
  event=(--arch=linear:3,2 --data="$data:/train" "--test=$data:/test" --inputs=point --targets=event --likelihood=bernoulli --save-every=0)
  ivon-train "${common[@]}" "${event[@]}" --lr=0.2 --h0=0.1 --beta2=0.99 --epochs=20 -o event
  below "$(last event 6)" 0.06
}

@test "a text is learnt, and read by the other commands too" {
  for _ in {1..100}; do echo to be or not to be; done > hamlet.txt # 8 characters: log 8 is 2.1
  text=(--data=hamlet.txt:train --tokens=char --context=12)
  ivon-train "${common[@]}" --arch=gpt:8,12,16,1,2 "${text[@]}" --test=hamlet.txt:test --lr=0.3 --h0=0.05 --beta2=0.99 --epochs=10 -o run --batch=10 --save-every=0
  below "$(last run 5)" 1
  last=$(echo run/posterior-*.h5)
  ivon-predict -q "$last" "${text[@]}" --data=hamlet.txt:test --mean --metrics > metrics
  loss=$(awk '$1 == "nll" { print $2 }' metrics)
  below "$loss" "$(awk -v x="$(last run 5)" 'BEGIN { print 1.0001 * x }')"
  below "$(last run 5)" "$(awk -v x="$loss" 'BEGIN { print 1.0001 * x }')"
  ivon-sensitivity -q "$last" "${text[@]}" --limit=3 --stride=5 > few.csv
  [ "$(wc -l < few.csv)" = 4 ]
  run -64 ivon-train --data=hamlet.txt --tokens=char
  [ "$output" = "ivon-train: --tokens needs --context=T" ]
  run -64 ivon-train --data=hamlet.txt --stride=3
  [ "$output" = "ivon-train: --stride needs --context=T" ]
}

@test "finetuning begins with a posterior, which may be the prior" {
  mlp --epochs=10 -o base --save-every=0
  base=base/posterior-00000150.h5
  options=(--data="$BATS_FILE_TMPDIR/data.h5:/train" --from=$base --lr=0.1 --batch=20 --beta2=0.99 --save-every=0)
  ivon-train "${common[@]}" "${options[@]}" --steps=1 --lr=0.000000001 -o same
  ivon-train "${common[@]}" "${options[@]}" --steps=60 -o tuned
  ivon-train "${common[@]}" "${options[@]}" --steps=60 --ess=1e-3 --prior=posterior --h0=0 --no-rescale-lr -o held
  ivon-train "${common[@]}" "${options[@]}" --steps=60 --freeze='fc1.*' -o frozen
  ivon-train -q --no-provenance "${options[@]}" --arch=mlp:2,16,3 --steps=60 -o arch
  cmp tuned/posterior-00000060.h5 arch/posterior-00000060.h5
  $python - <<'PYTHON'
import h5py, numpy as np
m = lambda path: {k: v[()] for k, v in h5py.File(path)["mean"].items()}
base, same, frozen = m("base/posterior-00000150.h5"), m("same/posterior-00000001.h5"), h5py.File("frozen/posterior-00000060.h5")
assert sorted(base) == ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]
for name in base:
    assert np.abs(same[name] - base[name]).max() < 1e-6
assert sorted(frozen["mean"]) == ["fc2.bias", "fc2.weight"] == sorted(frozen["hessian"])
assert (frozen["buffers/fc1.weight"][()] == base["fc1.weight"]).all()
# The prior's delta_p = S_p / 1e-3, near 3e4, is so strong that gradients, of at most some tens, move
# means by g / delta_p < 1e-3 of what they move without, and h by |g (theta - m) S_p| < 30 * 7 * 6.
held, b = h5py.File("held/posterior-00000060.h5"), h5py.File("base/posterior-00000150.h5")
tuned = m("tuned/posterior-00000060.h5")
S = lambda f, name: f.attrs["ess"] * (f["hessian/" + name][()] + f.attrs["weight_decay"])
assert held.attrs["ess"] == 1e-3
for name in base:
    assert np.abs(S(held, name) / S(b, name) - 1).max() < 1260 / 3e4
    assert np.abs(held["mean/" + name][()] - base[name]).max() < 0.1 * np.abs(tuned[name] - base[name]).max()
PYTHON
  ivon-predict -q frozen/posterior-00000060.h5 --data="$BATS_FILE_TMPDIR/data.h5:/test" -n 2 > /dev/null
  run -65 ivon-train "${options[@]}" --arch=mlp:2,16,8,3 --steps=1 -o more
  [ "$output" = "ivon-train: $base: tensor 'fc2.weight': shape 3x16, mlp:2,16,8,3 has 8x16" ]
  $python -c '
import h5py, sys
f = h5py.File(sys.argv[1], "a")
del f["mean/fc2.weight"], f["mean/fc2.bias"]; f["mean/other"] = 1.0' $base
  run -0 ivon-train "${options[@]}" --beta2=0.1 --arch=mlp:2,16,3 --steps=1 -o head
  [ "${lines[0]}" = "ivon-train: warning: $base: lacks 2 tensors, which begin anew, 'fc2.weight' the first" ]
  run -65 ivon-train "${options[@]}" --arch=linear:2,3 --steps=1 -o more
  [ "$output" = "ivon-train: $base: has no mean of linear:2,3" ]
}

@test "the prior may be structured, all of whose precision pulls" {
  mlp --epochs=10 -o base --save-every=0
  data=--data=$BATS_FILE_TMPDIR/data.h5:/train
  options=("$data" --lr=0.1 --batch=20 --beta2=0.99 --prior=posterior)
  for structure in "--structure=kronecker" "--structure=lowrank:diagonal --rank=9"; do
    ivon-fit -q -f base/posterior-00000150.h5 "$data" $structure --weight-decay=1e-3 -o prior.h5
    for threads in 1 3; do
      ivon-train "${common[@]}" "${options[@]}" --from=prior.h5 --steps=60 --save-every=30 -o a$threads -j$threads
    done
    same a1 a3
    rm a3/done a3/posterior-00000060.h5
    ivon-train "${common[@]}" "${options[@]}" --from=prior.h5 --steps=60 --save-every=30 -o a3 --resume
    same a1 a3
    # A weight alone is trained given its bias, with which it has one covariance.
    ivon-train "${common[@]}" "${options[@]}" --from=prior.h5 --steps=3 --save-every=0 --freeze=fc1.bias -o b
    # Along every direction the prior's precision over ess is 300 * 0.001 / 0.001 or more: gradients, below 3, move
    # means by less than 0.01. What is left of the precision is its diagonal.
    ivon-train "${common[@]}" "${options[@]}" --from=prior.h5 --steps=60 --ess=1e-3 --h0=0 --no-rescale-lr -o c
    $python - <<'PYTHON'
import h5py, json, numpy as np
p, c = h5py.File("prior.h5"), h5py.File("c/posterior-00000060.h5")
structure = json.loads(p["structure.json"][()].tobytes())
weight, bias = p["mean/fc1.weight"][()], p["mean/fc1.bias"][()]
S = p.attrs["ess"] * (p["hessian/fc1.weight"][()].astype(float) + p.attrs["weight_decay"])
if "blocks" in structure:
    A, B = p["basis_input/fc1.weight"][()], p["basis_output/fc1.weight"][()]
    diagonal = ((B ** 2) @ S @ (A ** 2).T)[:, :2]
else:
    u = p["lowrank_vectors/fc1.weight"][()].reshape(-1, *S.shape)
    diagonal = S * (1 + np.tensordot(structure["low_rank"]["values"], u ** 2, 1))
found = c.attrs["ess"] * (c["hessian/fc1.weight"][()] + c.attrs["weight_decay"])
assert np.abs(found / diagonal - 1).max() < 0.05, np.abs(found / diagonal - 1).max()
assert np.abs(c["mean/fc1.weight"][()] - weight).max() < 0.01
PYTHON
    rm -r a1 a3 b c
  done
  # Factors of inputs alone are no posterior, and one of the last layer is a prior of that alone.
  ivon-train "${common[@]}" "$data" --arch=mlp:2,16,3 --optimizer=adamw --lr=0.01 --steps=9 --save-every=0 -o adamw
  ivon-fit -q adamw/posterior-00000009.h5 "$data" --gram -o gram.h5
  ivon-fit -q adamw/posterior-00000009.h5 "$data" --include='fc2.*' -o last.h5
  for prior in gram last; do
    run -65 ivon-train "${options[@]}" --from=$prior.h5 --steps=3 -o d
    [ "$output" = "ivon-train: $prior.h5: tensor 'fc1.weight' has no Hessian, expected a posterior of what is trained" ]
  done
  ivon-train "${common[@]}" "${options[@]}" --from=last.h5 --steps=3 --freeze='fc1.*' -o d
}

@test "the prior's precision is multiplied by --prior-scale" {
  mlp --epochs=10 -o base --save-every=0
  data=--data=$BATS_FILE_TMPDIR/data.h5:/train
  options=("$data" --lr=0.1 --batch=20 --beta2=0.99 --prior=posterior --steps=20)
  cp base/posterior-00000150.h5 diagonal.h5
  ivon-fit -q diagonal.h5 "$data" --structure=kronecker --weight-decay=1e-3 -o kronecker.h5
  ivon-fit -q diagonal.h5 "$data" --structure=lowrank:diagonal --rank=9 --weight-decay=1e-3 -o lowrank.h5
  for prior in diagonal kronecker lowrank; do
    # The precision is ess (h + weight_decay): with half the ess and twice the scale it is the same.
    $python -c '
import h5py, sys
h5py.File(sys.argv[1], "a").attrs["ess"] /= 2' $prior.h5
    ivon-train "${common[@]}" "${options[@]}" --from=$prior.h5 --save-every=0 -o halved
    ivon-train "${common[@]}" "${options[@]}" --from=$prior.h5 --save-every=0 -o one --prior-scale=1
    ivon-train "${common[@]}" "${options[@]}" --from=$prior.h5 --save-every=10 -o doubled --prior-scale=2
    rm doubled/done doubled/posterior-00000020.h5
    ivon-train "${common[@]}" "${options[@]}" --from=$prior.h5 --save-every=10 -o doubled --prior-scale=2 --resume -j3
    same halved one
    $python -c '
import h5py, sys
h5py.File(sys.argv[1], "a").attrs["ess"] *= 2' $prior.h5
    ivon-train "${common[@]}" "${options[@]}" --from=$prior.h5 --save-every=10 -o whole
    same whole doubled
    ! cmp -s halved/posterior-00000020.h5 whole/posterior-00000020.h5 || return 1
    rm -r halved one doubled whole
  done
}

@test "a prior's scale is recorded, and told of when a training goes on with another" {
  mlp --steps=9 -o base --save-every=0
  options=(--data="$BATS_FILE_TMPDIR/data.h5:/train" --from=base/posterior-00000009.h5 --lr=0.1 --beta2=0.5 -o run)
  ivon-train "${options[@]}" --steps=2 --prior=posterior --prior-scale=0.25
  run -0 ivon-train "${options[@]}" --steps=3 --resume --prior=posterior
  [ "${lines[0]}" = "ivon-train: warning: run/posterior-00000002.h5: --prior-scale was 0.25 and is 1.0: this goes on, but not as one training would have" ]
  run -0 ivon-train "${options[@]}" --steps=4 --resume
  [ "${lines[0]}" = "ivon-train: warning: run/posterior-00000003.h5: --prior-scale was 1.0 and is none: this goes on, but not as one training would have" ]
  run -65 ivon-train "${options[@]}" --steps=4 -f --prior=posterior --prior-scale=1e300
  [[ $output == "ivon-train: base/posterior-00000009.h5: the precision of 'fc1.weight' over 3e-298 is "*" at element 0, beyond single precision" ]]
}

@test "three tasks in turn, each the prior of the next, are all data together" {
  $python "$BATS_TEST_DIRNAME/../oracle/continual.py"
}

@test "a graph's own initializers are trained, and so are checkpoints of other writers" {
  $python - "$BATS_TEST_DIRNAME/../oracle" <<'PYTHON'
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
w = np.random.default_rng(0).standard_normal((3, 2)).astype("f4")
nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["z"], transB=1), helper.make_node("Mul", ["z", "two"], ["f"])]
initializers = [numpy_helper.from_array(w, "weight"), numpy_helper.from_array(np.zeros(3, "f4"), "bias"),
                numpy_helper.from_array(np.float32(2), "two")]
graph = helper.make_graph(nodes, "g", [info("x", tensor, ["n", 2])], [info("f", tensor, ["n", 3])], initializers)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), "g.onnx")
PYTHON
  options=(--model=g.onnx --data="$BATS_FILE_TMPDIR/data.h5:/train" "$(test_set)" --lr=0.2 --h0=0.1 --beta2=0.99)
  ivon-train "${common[@]}" "${options[@]}" --epochs=20 --save-every=50 -o run
  below "$(last run 6)" 0.06
  $python - <<'PYTHON'
import h5py, onnx
f = h5py.File("run/posterior-00000120.h5")
assert sorted(f["mean"]) == ["bias", "weight"]
model = onnx.load_from_string(f["model.onnx"][()].tobytes())
onnx.checker.check_model(model, full_check=True)
assert [i.name for i in model.graph.initializer] == ["two"]
PYTHON
  ivon-train "${common[@]}" "${options[@]}" --epochs=20 --save-every=50 -o again
  rm again/done again/posterior-00000120.h5
  ivon-train "${common[@]}" "${options[@]}" --epochs=20 --save-every=50 -o again --resume
  same run again
}

refused() { # STATUS MESSAGE OPTION...
  run "-$1" ivon-train "${common[@]}" "${@:3}"
  [ "$output" = "ivon-train: $2" ] || { echo "$output"; return 1; }
}

@test "a training in the way is kept, unless it is to be replaced" {
  mlp --steps=3 -o run
  cp -r run before
  run -73 mlp --steps=3 -o run
  [ "$output" = "ivon-train: run: holds a training: go on with it by --resume, or replace it by --force" ]
  same run before
  run -64 mlp --steps=3 -o run --force --resume
  run -65 mlp --steps=3 -o run --force --data="$BATS_FILE_TMPDIR/nan.h5" # what fails before it begins changes nothing
  same run before
  mlp --steps=2 -o run --force
  [ "$(ls run | tr '\n' ' ')" = "done log.csv posterior-00000002.h5 " ]
  touch file
  run -73 mlp --steps=3 -o file
  [ "$output" = "ivon-train: file: is a file, expected a directory" ]
  run -65 mlp --steps=9 -o run --resume --ess=7
  [ "$output" = "ivon-train: run/posterior-00000002.h5: was trained with ess 300 and weight decay 0.0001, expected 7 and 0.0001" ]
  head -c 2000 run/posterior-00000002.h5 > cut
  mv cut run/posterior-00000002.h5
  run -65 mlp --steps=9 -o run --resume
  [[ $output == "ivon-train: run/posterior-00000002.h5: damaged HDF5 file: "*"; remove it to go on from the one before it" ]]
}

@test "options that make no sense are refused" {
  data="$BATS_FILE_TMPDIR/data.h5:/train"
  a=(--arch=mlp:2,16,3 --data="$data" -o run --epochs=1)
  b=("${a[@]}" --lr=1)
  refused 64 "no learning rate given: name it by --lr" "${a[@]}"
  refused 64 "give one of --epochs and --steps" "${b[@]}" --steps=3
  refused 64 "give one of --epochs and --steps" --arch=mlp:2,3 --data="$data" -o run --lr=1
  refused 64 "no data given: name them by --data=FILE" --arch=mlp:2,3 -o run --lr=1 --epochs=1
  refused 64 "no output given: name a directory by -o DIR" --arch=mlp:2,3 --data="$data" --lr=1 --epochs=1
  refused 64 "no network given: name one by --arch=SPEC or --model=GRAPH.onnx" --data="$data" -o run --lr=1 --epochs=1
  refused 64 "--arch and --model exclude each other" "${b[@]}" --model=g.onnx
  refused 64 "--init is for --arch" --model=g.onnx --init=kaiming --data="$data" -o run --lr=1 --epochs=1
  refused 64 "--prior=posterior needs --from=POSTERIOR" "${b[@]}" --prior=posterior
  refused 64 "--prior-scale is for --prior=posterior" "${b[@]}" --prior-scale=2
  refused 64 "--prior-scale: '0', expected a positive number" "${b[@]}" --prior=posterior --from=x --prior-scale=0
  refused 64 "--eval-every is for --test and --held-out" "${b[@]}" --eval-every=3
  refused 64 "--likelihood=gaussian needs --noise-std" "${b[@]}" --likelihood=gaussian
  refused 64 "--noise-std is for --likelihood=gaussian" "${b[@]}" --noise-std=1
  refused 64 "no output given: name a directory by -o DIR" "${b[@]}" -o ""
  refused 64 "standard output cannot take checkpoints: name a directory by -o DIR" "${b[@]}" -o -
  refused 64 "nothing is left to train; see --freeze" "${b[@]}" --freeze='*'
  refused 64 "'more': no arguments are taken; see --help" "${b[@]}" more
  refused 64 "--beta1: 1, expected a number below 1" "${b[@]}" --beta1=1
  for option in --ess=1 --h0=1 --clip-radius=1 --hessian=price --mc-samples=2 --antithetic --rescale-lr --prior=posterior; do
    refused 64 "${option%%=*} is not for --optimizer=adamw" "${b[@]}" --optimizer=adamw $option --from=x
  done
  refused 64 "--beta2 is not for --optimizer=sgd" "${b[@]}" --optimizer=sgd --beta2=0.9
  refused 64 "--debias is not for --optimizer=sgd" "${b[@]}" --optimizer=sgd --no-debias
  refused 64 "architecture 'mlp:2', expected mlp:IN,WIDTH,...,OUT[,relu|tanh|gelu]" "${b[@]}" --arch=mlp:2
  run ivon-train "${b[@]}" --arch=mlp:2,100000000,100000000,2
  [ $status = 71 ]
  [[ $output == *"has 1e+16 parameters, which take 2.4e+08 GB of memory to train"* ]]
  refused 64 "augmentation 'turn', expected some of crop or reflect with a padding (1 to 64), flip, and cutout with a side (1 to 1024), as in crop4,flip,cutout16" "${b[@]}" --augment=turn
  refused 64 "mlp:2,16,3: augmentation is for networks with one input of examples x channels x height x width" "${b[@]}" --augment=flip
  refused 64 "warmup of 6 steps in a training of 6, expected fewer" "${b[@]}" --warmup=6 --schedule=cosine
  [ ! -e run ]
}

@test "options that are not as they were are told of when a training goes on" {
  data="$BATS_FILE_TMPDIR/data.h5:/train"
  a=(--arch=mlp:2,16,3 --data="$data" -o run --beta2=0.9)
  ivon-train "${a[@]}" --lr=0.1 --steps=10
  a+=(--lr=0.2 --clip-norm=3 --seed=4 --no-rescale-lr --antithetic --resume)
  run -0 ivon-train "${a[@]}" --steps=12
  [ "${lines[0]}" = "ivon-train: warning: run/posterior-00000010.h5: --lr was 0.1 and is 0.2, --clip-norm was none and is 3.0, --seed was 0 and is 4, --antithetic was no and is yes, --rescale-lr was yes and is no: this goes on, but not as one training would have" ]
  run -0 ivon-train "${a[@]}" --steps=20
  [[ $output == "ivon-train: run/posterior-00000020.h5: 20 steps, loss "*([0-9.]) ]]
  run -0 ivon-train "${a[@]}" --steps=15
  [ "$output" = "ivon-train: warning: run/posterior-00000020.h5: is of step 20, beyond the 15 steps that are asked for: nothing is left to do" ]
}

@test "what is resumed must be the same network" {
  a=(-q --data="$BATS_FILE_TMPDIR/data.h5:/train" --lr=0.1 --no-provenance --steps=4 --save-every=2)
  ivon-train "${a[@]}" --arch=mlp:2,8,3 -o run
  rm run/posterior-00000004.h5 run/done
  refused 65 "run/posterior-00000002.h5: tensor 'fc1.weight': shape 8x2, mlp:2,9,3 has 9x2" \
    "${a[@]}" --arch=mlp:2,9,3 --resume -o run
  ivon-train "${a[@]}" --arch=mlp:2,8,3 --resume -o run
}

@test "batch norms train by the statistics of batches, and keep running ones" {
  $python -c '
import h5py, numpy as np
r = np.random.default_rng(0)
with h5py.File("images.h5", "w") as f:
    f["x"], f["y"] = r.integers(0, 256, (64, 3, 32, 32)).astype("u1"), r.integers(0, 10, 64)'
  a=(-q --arch=resnet20-bn --data=images.h5 --batch=32 --lr=0.1 --beta2=0.9 --save-every=1 --no-provenance)
  ivon-train "${a[@]}" --steps=2 -j1 -o one
  ivon-train "${a[@]}" --steps=2 -j2 -o two
  cmp one/posterior-00000002.h5 two/posterior-00000002.h5
  rm two/posterior-00000002.h5 two/done
  ivon-train "${a[@]}" --steps=2 --resume -o two
  cmp one/posterior-00000002.h5 two/posterior-00000002.h5
  # The first layer is linear in its input, so its running mean after one step is a tenth of what the
  # layer gives on average at the sampled weights; here only that statistics moved, and stayed sane.
  $python -c '
import h5py, numpy as np
with h5py.File("one/posterior-00000002.h5") as f:
    found = {}
    f["buffers"].visititems(lambda n, o: found.update({n: o[()]}) if isinstance(o, h5py.Dataset) else None)
    means = [v for n, v in found.items() if n.endswith("running_mean")]
    variances = [v for n, v in found.items() if n.endswith("running_var")]
    assert len(means) == len(variances) == 19
    assert all(np.abs(v).max() > 0 for v in means) and all(v.min() > 0 and (v != 1).any() for v in variances)'
  ivon-predict -q one/posterior-00000002.h5 --data=images.h5 --mean -o predictions.csv
}

@test "data that do not fit are refused" {
  data="$BATS_FILE_TMPDIR/data.h5"
  a=(-o run --epochs=1 --lr=1 --data="$data:/train")
  refused 65 "$data:/train: array 'x' has shape 300x2, input 'x' of mlp:4,3 takes ?x4" "${a[@]}" --arch=mlp:4,3
  refused 65 "$data:/train: row 2: target 2, expected a class from 0 to 1" "${a[@]}" --arch=mlp:2,2
  refused 65 "$data:/train: has no targets, which losses need; --targets names their array, or --target-column a column of CSV" "${a[@]}" --arch=mlp:2,3 --targets=
  refused 65 "$BATS_FILE_TMPDIR/nan.h5: 'x': row 7 holds nan, expected a finite number" "${a[@]}" --arch=mlp:2,3 --data="$BATS_FILE_TMPDIR/nan.h5"
  refused 65 "$BATS_FILE_TMPDIR/nan.h5: all targets are to be ignored" "${a[@]}" --arch=mlp:1,3 --data="$BATS_FILE_TMPDIR/nan.h5" --inputs=y --ignore-label=0
  # test examples before the first step, not at the end of an epoch
  $python -c "import numpy as n; n.savez('wide.npz', x=n.zeros((5, 3), 'f4'), y=n.zeros(5, 'i8'))"
  refused 65 "wide.npz: array 'x' has shape 1x3, input 'x' of mlp:2,3 takes ?x2" "${a[@]}" --arch=mlp:2,3 --test=wide.npz
  # and test data of which nothing counts, also in a last example, and among those that are held out
  $python -c "import numpy as n; x = n.zeros((20, 2), 'f4'); y = n.full(20, -100)
n.savez('none.npz', x=x, y=y); n.savez('events.npz', x=x, y=n.full((20, 3), -1))
n.savez('happened.npz', x=x, y=n.ones((20, 3), 'i8')); y[19] = 1; n.savez('one.npz', x=x, y=y)
n.savez('first.npz', x=x, y=y[::-1])"
  refused 65 "none.npz: all targets are the ignored label -100, expected some that count" "${a[@]}" --arch=mlp:2,3 --test=none.npz
  refused 65 "none.npz: all targets are the ignored label -100, expected some that count" "${a[@]}" --arch=mlp:2,3 --test=none.npz --grid=h0=.1,.2
  refused 65 "events.npz: all targets are the ignored label -1, expected some that count" --lr=1 --epochs=1 -o run \
    --data=happened.npz --arch=mlp:2,3 --ignore-label=-1 --test=events.npz --likelihood=bernoulli
  refused 65 "first.npz: all targets that --held-out=0.1 takes are the ignored label -100, expected some that count" \
    --lr=1 --epochs=1 -o run --data=first.npz --held-out=.1 --arch=mlp:2,3
  [ ! -e run ]
  ivon-train -q "${a[@]}" --lr=.1 --arch=mlp:2,3 --test=one.npz
  tail -n 1 run/log.csv | cut -d, -f5 | grep -q '^[0-9]'
  rm -r run
  run -66 ivon-train "${a[@]}" --arch=mlp:2,3 --from=missing.h5
  run -71 ivon-train "${a[@]}" --arch=mlp:2,3 --memory=1K
  [ ! -e run ]
}
