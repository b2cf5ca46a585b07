load train

setup_file() {
  cd "$BATS_FILE_TMPDIR"
  clouds 1 'f["x"], f["y"] = clouds(300)'
}

common=(--no-provenance -q --lr=0.2 --h0=0.1 --beta2=0.99)
mlp() { ivon-train "${common[@]}" --arch=mlp:2,16,3 --batch=20 --data="$BATS_FILE_TMPDIR/data.h5" "$@"; }
refused() { # STATUS MESSAGE OPTION...
  run "-$1" mlp "${@:3}" --steps=3 -o no
  [ "$output" = "ivon-train: $2" ] || { echo "$output"; return 1; }
  [ ! -e no ]
}

# resumes OPTION...: a training in $PWD/whole is the same with three threads, and where its last checkpoint was lost.
resumes() {
  mlp --steps=31 --save-every=20 -o whole -j1 "$@"
  mlp --steps=31 --save-every=20 -o again -j3 "$@"
  same whole again
  rm again/done again/posterior-00000031.h5
  mlp --steps=31 --save-every=20 -o again -j2 --resume "$@"
  same whole again
  rm -r again
}

@test "groups of parameters have settings of their own, which the checkpoint has" {
  data=$BATS_FILE_TMPDIR/data.h5 last=whole/posterior-00000031.h5
  groups=(--param-group='*.bias:lr=0,weight-decay=0' --param-group='fc2.*:ess=900,h0=0.3,weight-decay=1e-3')
  for method in ivon evon bbb; do
    common=(--no-provenance -q --lr=0.05 --h0=0.1 --optimizer=$method)
    rm -rf whole
    resumes "${groups[@]}"
    $python - $last <<'PYTHON'
import sys, h5py
f = h5py.File(sys.argv[1])
scale = {n: (h.attrs.get("ess", f.attrs["ess"]), h.attrs.get("weight_decay", f.attrs["weight_decay"])) for n, h in f["hessian"].items()}
assert scale == {"fc1.weight": (300, 1e-4), "fc1.bias": (300, 0), "fc2.weight": (900, 1e-3), "fc2.bias": (300, 0)}, scale
PYTHON
    ivon-info $last > info
    grep -qx '  ess             300, of tensors 300 to 900' info
    grep -qx '  weight decay    0.0001, of tensors 0 to 0.001' info
  done
  rm whole/done whole/posterior-00000031.h5
  run -65 mlp --steps=31 "${groups[0]}" -o whole --resume
  [ "$output" = "ivon-train: whole/posterior-00000020.h5: tensor 'fc2.weight' was trained with ess 900 and weight decay 0.001, expected 300 and 0.0001" ]
  common=(-q --lr=0.02 --optimizer=adamw)
  rm -r whole
  resumes --no-provenance --param-group='*.bias:weight-decay=0' --param-group='fc1*:lr=0.1'
  rm -r whole
  mlp --steps=2 -o whole --param-group='*.bias:weight-decay=0' --param-group='fc1.*:lr=0.1,weight-decay=0.5'
  common=(--lr=0.02 --optimizer=adamw)
  run -0 mlp --steps=4 -o whole --resume
  [ "${lines[0]}" = 'ivon-train: warning: whole/posterior-00000002.h5: --param-group was *.bias:weight-decay=0 fc1.*:lr=0.1,weight-decay=0.5 and is none: this goes on, but not as one training would have' ]
}

@test "a removal is of one example, whatever the ess of its tensors" {
  data=$BATS_FILE_TMPDIR/data.h5 own=run/posterior-00000031.h5
  mlp --steps=31 --save-every=0 -o run --param-group='fc2.*:ess=900' --param-group='fc1.bias:ess=20'
  # The same h and weight decay with one ess: what 1 / (N (h + weight decay)) is of.
  $python - $own <<'PYTHON'
import sys, h5py
f = h5py.File(sys.argv[1])
assert f["hessian/fc1.bias"].attrs["ess"] == 20
with h5py.File("one.h5", "w") as g:
    for part in f:
        f.copy(part, g)
    g.attrs.update(f.attrs)
    for h in g["hessian"].values():
        h.attrs.pop("ess", None)
PYTHON
  for posterior in $own one.h5; do
    ivon-sensitivity -q $posterior --data="$data" --score=deviation,self-influence,loo-loss
    ivon-influence -q $posterior --data="$data" --queries="$data" --rows=0-3 --top=2
    ivon-predict-gen -q $posterior --data="$data" | cut -d, -f1-6
  done > both
  lines=$(($(wc -l < both) / 2))
  cmp <(head -n $lines both) <(tail -n $lines both)
  run -65 ivon-fit $own --data="$data" --structure=lowrank:posterior --rank=2 -o fitted.h5
  [ "$output" = "ivon-fit: $own: Hessian of 'fc1.bias' has an ess of 20, expected that of all, 300" ]
  # A merge has the precisions of both, by each tensor's own ess.
  ivon-merge -q $own one.h5 --method=hessian -o merged.h5
  $python - $own <<'PYTHON'
import sys, h5py, numpy as np
a, b, m = h5py.File(sys.argv[1]), h5py.File("one.h5"), h5py.File("merged.h5")
def precision(f, n):
    h = f["hessian/" + n]
    own = {**f.attrs, **h.attrs}
    return own["ess"] * (h[()].astype(float) + own["weight_decay"])
for n in a["hessian"]:
    assert np.abs(precision(m, n) / (precision(a, n) + precision(b, n)) - 1).max() < 1e-5, n
PYTHON
}

@test "groups that make no sense are refused" {
  form="expected GLOB:KEY=X,... with each of the keys lr, weight-decay, ess and h0 at most once"
  for group in '*' ':lr=1' 'a:' 'a:lr' 'a:rate=1' 'a:lr=1,lr=2' 'a:ess=1:lr'; do
    refused 64 "--param-group: '$group', $form" --param-group="$group"
  done
  refused 64 "--param-group: 'x', expected a finite number" --param-group='*:lr=x'
  refused 64 "--param-group: '0', expected a positive number" --param-group='*:ess=0'
  refused 64 "--param-group: 'h0=-1', expected a number that is not negative" --param-group='*:h0=-1'
  refused 64 "group 'fc3*' matches no parameter that is trained" --param-group='fc3*:lr=1'
  refused 64 "group 'fc1.bias' matches no parameter that is trained" --param-group='fc1.bias:lr=1' --freeze='*bias'
  refused 64 "group '*s': the groups before it have all parameters of such names, expected one that is left" \
    --param-group='*:lr=1' --param-group='*s:lr=2'
  mlp --steps=3 -o run
  refused 64 "tensor 'fc1.bias' has an ess of 7, expected that of all, 300, with a posterior as the prior" \
    --from=run/posterior-00000003.h5 --prior=posterior --param-group='*bias:ess=7'
  common=(-q --lr=0.1)
  refused 64 "--param-group: ess is not for --optimizer=sgd" --param-group='*:lr=1,ess=3' --optimizer=sgd
}

@test "the Hessian is estimated in every Nth step" {
  mlp --steps=21 --save-every=1 --hess-every=10 -o run
  mlp --steps=1 -o one
  cmp one/posterior-00000001.h5 run/posterior-00000001.h5
  $python - <<'PYTHON'
import h5py, numpy as np
h = [h5py.File(f"run/posterior-{step:08d}.h5")["hessian/fc1.weight"][()] for step in range(1, 22)]
changed = [i + 1 for i in range(1, 21) if (h[i] != h[i - 1]).any()]
assert changed == [11, 21] and (h[0] != np.float32(0.1)).any(), changed
PYTHON
  resumes --hess-every=7
  common+=(--optimizer=evon)
  rm -r whole
  resumes --hess-every=7 --mc-samples=2
  common=(-q --lr=0.02)
  for method in bbb adamw sgd soap; do
    refused 64 "--hess-every is not for --optimizer=$method" --hess-every=2 --optimizer=$method
  done
}

@test "a schedule restarts" {
  resumes --schedule=cosine --warmup=2 --restarts=3,2
  # 2 steps of warmup; cycles of 3, 6, 12 and 24 steps.
  awk -F, 'function near(x, y) { return x - y < 1e-8 && y - x < 1e-8 }
    BEGIN { start = 3; length_ = 3; pi = atan2(0, -1) }
    NR == 1 { next }
    $1 <= 2 { if (!near($4, 0.1 * $1)) exit 1; next }
    { if ($1 >= start + length_) { start += length_; length_ *= 2 }
      if (!near($4, 0.1 * (1 + cos(pi * ($1 - start) / length_)))) { print; exit 1 } }' whole/log.csv
  refused 64 "--restarts is for --schedule=cosine and linear" --restarts=3
  refused 64 "--restarts: '0', expected a number from 1 to 9223372036854775807" --restarts=0 --schedule=cosine
  refused 64 "--restarts: 'x', expected a number from 1 to 9223372036854775807" --restarts=3,x --schedule=linear
}

@test "the mean is an average of those after each step, and the training goes on from the last" {
  data=$BATS_FILE_TMPDIR/data.h5
  for method in ivon evon bbb adamw soap sgd; do
    common=(--no-provenance -q -f --lr=0.05 --optimizer=$method)
    mlp --steps=21 --save-every=1 -o plain
    mlp --steps=21 --save-every=1 --average=0.9 -o run --test="$data"
    # In float64; an average rounds to 2^-24 of it in each step, of which 1 / (1 - 0.9) remain.
    $python - <<'PYTHON'
import h5py, numpy as np
average, weight = {}, 0
for step in range(1, 22):
    plain, run = (h5py.File(f"{name}/posterior-{step:08d}.h5") for name in ("plain", "run"))
    weight = 0.9 * weight + 1
    for name, mean in plain["mean"].items():
        assert (run["momentum/unaveraged_mean/" + name][()] == mean[()]).all()
        average[name] = 0.9 * average.get(name, 0) + mean[()].astype(float)
        error = np.abs(average[name] / weight - run["mean/" + name][()]).max()
        assert error < 10 * 2**-24 * np.abs(mean[()]).max(), (step, name, error)
        if "hessian" in plain:
            assert (run["hessian/" + name][()] == plain["hessian/" + name][()]).all()
    assert (run["mean/fc1.weight"][()] != plain["mean/fc1.weight"][()]).any() or step == 1
PYTHON
    nll=$(ivon-predict -q run/posterior-00000021.h5 --data="$data" --mean --metrics | awk '$1 == "nll" { print $2 }')
    awk -F, -v nll="$nll" 'END { exit !($5 - nll < 1e-5 && nll - $5 < 1e-5) }' run/log.csv
    common=(--no-provenance -q --lr=0.05 --optimizer=$method)
    if [[ $method != [ai]* ]]; then
      rm -rf whole
      resumes --average=0.99
    fi
  done
  rm whole/done whole/posterior-00000031.h5
  run -65 mlp --steps=31 -o whole --resume
  [ "$output" = "ivon-train: whole/posterior-00000020.h5: its means are averages, expected those of a training without" ]
  rm plain/done
  run -65 mlp --steps=31 -o plain --resume --average=0.9
  [ "$output" = "ivon-train: plain/posterior-00000021.h5: has no momentum 'unaveraged_mean/fc1.weight' of shape 16x2, with which a training could go on" ]
  refused 64 "--average: 1, expected a number below 1" --average=1
  mlp --steps=3 --average=0 -o zero
  mlp --steps=3 -o none
  same zero none
}

@test "means of two bytes are read, and written so that the training goes on as without" {
  data=$BATS_FILE_TMPDIR/data.h5
  mlp --steps=5 --save-every=0 -o first
  for dtype in bf16 f16; do
    # What a training begins with is what it reads: the same numbers as f32 give the same bits.
    ivon-convert -q first/posterior-00000005.h5 --dtype=$dtype -o $dtype.h5
    ivon-convert -q first/posterior-00000005.h5 --dtype=$dtype -o $dtype.safetensors
    ivon-convert -q -f $dtype.h5 --dtype=f32 -o wide.h5
    for from in $dtype.h5 $dtype.safetensors wide.h5; do
      mlp --from=$from --steps=3 -f -o from-$from
    done
    same from-$dtype.h5 from-wide.h5
    same from-$dtype.safetensors from-wide.h5
    run ! same from-wide.h5 first
  done
  for options in --optimizer=ivon "--optimizer=evon --average=0.9" "--optimizer=soap --average=0.9"; do
    [[ $options == *soap* ]] && common=(--no-provenance -q --lr=0.02)
    rm -rf whole plain
    resumes $options --dtype=bf16
    mlp --steps=31 --save-every=20 -o plain $options
    $python - <<'PYTHON'
import h5py, numpy as np
for step in (20, 31):
    w, p = (h5py.File(f"{name}/posterior-{step:08d}.h5") for name in ("whole", "plain"))
    for name, mean in p["mean"].items():
        bits = mean[()].view("u4").astype("u8")  # to the nearest of the upper halves, ties to even
        rounded = ((bits + 0x7fff + (bits >> 16 & 1)) >> 16 << 16).astype("u4").view("f4")
        assert w["mean/" + name].id.get_type().get_size() == 2
        assert (w["mean/" + name][()] == rounded).all() and (rounded != mean[()]).any()
        assert (w["momentum/unrounded_mean/" + name][()] == mean[()]).all()
        assert "hessian" not in p or (w["hessian/" + name][()] == p["hessian/" + name][()]).all()
PYTHON
    # Predictions are by what is saved.
    ivon-convert -q whole/posterior-00000031.h5 --dtype=f32 -o wide.h5 -f
    cmp <(ivon-predict -q whole/posterior-00000031.h5 --data="$data" --mean) <(ivon-predict -q wide.h5 --data="$data" --mean)
  done
  rm whole/done whole/posterior-00000031.h5
  run -65 mlp --steps=31 --optimizer=soap --average=0.9 -o whole --resume
  [ "$output" = "ivon-train: whole/posterior-00000020.h5: its means are rounded, expected f32" ]
  common=(--no-provenance -q --lr=1e6 --optimizer=sgd --weight-decay=0)
  run -65 mlp --steps=1 --dtype=f16 -o large
  [[ $output == "ivon-train: tensor '"*"': element "*" of the mean is "*", more than f16 holds" ]]
}
