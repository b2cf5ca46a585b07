load common

# The checkpoints of a training by SGD, run/posterior-*, with their graph; the same, but for a first layer that
# stays, frozen/posterior-*; and data.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("data.h5", "w") as f:
    x = r.standard_normal((60, 4)).astype("f4")
    f["x"], f["y"] = x, (x @ r.standard_normal((4, 3)) + r.standard_normal((60, 3))).argmax(1)
PYTHON
  ivon-train -q --no-provenance --optimizer=sgd --lr=.3 --epochs=4 --batch=20 --save-every=1 --data=data.h5 \
    --arch=mlp:4,5,3,tanh -o run
  cp -r run frozen
  /usr/bin/python3 - frozen/posterior-*.h5 <<'PYTHON'
import sys, h5py
with h5py.File(sys.argv[1]) as first:
    for path in sys.argv[2:]:
        with h5py.File(path, "r+") as f:
            for name in ("fc1.weight", "fc1.bias"):
                f["mean/" + name][()] = first["mean/" + name][()]
PYTHON
}

data() { echo "--data=$BATS_FILE_TMPDIR/data.h5"; }
swag() { ivon-fit -q -f --no-provenance --structure=swag "$@"; }
dense() { PYTHONDONTWRITEBYTECODE=1 $python -W ignore "$BATS_TEST_DIRNAME/../oracle/fit_dense.py" "$@"; }

# refused STATUS TEXT COMMAND...: one line with TEXT on stderr, none on stdout, and no file.
refused() {
  local want=$1 text=$2
  shift 2
  rm -f o.h5
  set +e
  "$@" > out 2> err
  local got=$?
  set -e
  [ $got -eq $want ] && [ ! -s out ] && [ "$(wc -l < err)" -eq 1 ] && grep -qF -- "$text" err && [ ! -e o.h5 ] ||
    { echo "status $got, expected $want, $text: $(cat out err)"; return 1; }
}

@test "mean and covariance are what numpy makes of the checkpoints" {
  run=("$BATS_FILE_TMPDIR"/run/posterior-*.h5)
  [ ${#run[@]} = 12 ]
  for rank in 20 12 5 2 0; do
    swag "${run[@]}" --rank=$rank -o $rank.h5
    echo swag $rank.h5 $rank "${run[@]}"
    echo identities $rank.h5
  done > lines
  swag "${run[@]:4:3}" -o o.h5
  echo swag o.h5 20 "${run[@]:4:3}" >> lines
  dense - < lines
  # In whatever formats.
  swag "${run[@]}" -o a.h5
  ivon-convert -q "${run[2]}" -o 2.npz
  ivon-convert -q "${run[3]}" -o 3.safetensors
  swag "${run[@]:0:2}" 2.npz 3.safetensors "${run[@]:4}" -o b.h5
  cmp a.h5 b.h5
}

@test "it is a posterior as any, in every format" {
  swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 --rank=6 --ess=60 -o o.h5
  [ "$(ivon-info --check o.h5)" = "o.h5: no problems found" ]
  ivon-info o.h5 | grep -qx '  structure       diagonal, low rank 6'
  ivon-sample -q o.h5 --seed=5 -n 2 -o s-%d.h5
  ivon-predict -q o.h5 "$(data)" --metrics > /dev/null
  ivon-predict -q o.h5 "$(data)" --method=linear -o p.h5
  ivon-sensitivity -q o.h5 "$(data)" --leverage=none --score=loo-loss,self-influence --vectors=covariance -o sensitivity.h5
  dense - << LINES
draws o.h5 5 1 0=s-0.h5 1=s-1.h5
linear o.h5 $BATS_FILE_TMPDIR/data.h5 p.h5
removal o.h5 $BATS_FILE_TMPDIR/data.h5 sensitivity.h5
LINES
  ivon-sensitivity -q o.h5 "$(data)" --remove=3 -o without.h5
  ivon-predict-gen -q o.h5 "$(data)" > /dev/null
  for format in npz safetensors; do
    swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 --rank=6 --ess=60 -o o.$format
    ivon-sample -q o.$format --seed=5 -o x.h5 -f
    $python -c "
import h5py
a, b = h5py.File('x.h5')['mean/fc1.weight'][()], h5py.File('s-0.h5')['mean/fc1.weight'][()]
assert (a == b).all()"
  done
}

@test "the graph is the last checkpoint's, or --model's, or none" {
  run=("$BATS_FILE_TMPDIR"/run/posterior-*.h5)
  for i in 0 1 2; do
    $python - "${run[i]}" $i <<'PYTHON'
import sys, h5py, numpy as np
with h5py.File(sys.argv[1]) as f:
    arrays = {n: f["mean/" + n][()] for n in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")}
    open("model.onnx", "wb").write(f["model.onnx"][()].tobytes())
np.savez(sys.argv[2] + ".npz", **arrays)
PYTHON
  done
  swag 0.npz 1.npz 2.npz -o bare.h5
  refused 65 "bare.h5: holds no graph" ivon-predict -q bare.h5 "$(data)"
  ivon-predict -q bare.h5 --model=model.onnx "$(data)" --metrics > /dev/null
  swag 0.npz 1.npz 2.npz --model=model.onnx -o with.h5
  ivon-predict -q with.h5 "$(data)" --metrics > /dev/null
  refused 66 "none.onnx: cannot open it" swag 0.npz 1.npz --model=none.onnx -o o.h5
  $python -c "
import h5py
f = h5py.File('bare.h5')
assert f.attrs['ess'] == 1 and f.attrs['weight_decay'] == 0 and 'n_train' not in f.attrs"
}

@test "what does not move, or is not selected, has no Hessian" {
  swag "$BATS_FILE_TMPDIR"/frozen/posterior-*.h5 -o o.h5
  dense swag o.h5 20 "$BATS_FILE_TMPDIR"/frozen/posterior-*.h5
  swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 --include='fc2*' --exclude='*.bias' -o part.h5
  $python - "$BATS_FILE_TMPDIR" <<'PYTHON'
import sys, h5py
a, b, f = h5py.File("o.h5"), h5py.File("part.h5"), h5py.File(sys.argv[1] + "/frozen/posterior-00000012.h5")
assert set(a["hessian"]) == {"fc2.weight", "fc2.bias"} == set(a["lowrank_vectors"]), set(a["hessian"])
assert set(b["hessian"]) == {"fc2.weight"} and set(b["mean"]) == {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}
assert (a["mean/fc1.weight"][()] == f["mean/fc1.weight"][()]).all()
assert a.attrs["step"] == f.attrs["step"] == 12 and a.attrs["n_train"] == 60 == a.attrs["ess"]
PYTHON
}

@test "the summary says what was found, and threads change no byte" {
  run -0 --separate-stderr ivon-fit --structure=swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 --rank=3 -o o.h5
  [ -z "$stderr" ]
  [[ $output =~ ^"checkpoints           12"$'\n'"parameters            43"$'\n'"still                 0"$'\n'"ess                   60"$'\n'"low rank              3, values -0."[0-9]+" to -0."[0-9]+$ ]]
  ivon-fit -f --structure=swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 --rank=3 --json -o o.h5 > j.json
  jq -e '.checkpoints == 12 and .parameters == 43 and .rank == 3 and .first_value < .last_value and .last_value < 0' j.json
  $python -c "
import h5py, json
f = h5py.File('o.h5')
j, s = json.loads(f.attrs['provenance']), json.loads(f['structure.json'][()].tobytes())
assert len(j['inputs']) == 12 and s['fit'] == {'checkpoints': 12, 'columns': 3, 'method': 'swag'}"
  swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 -j1 -o a.h5
  swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 -j4 -o b.h5
  cmp a.h5 b.h5
  [ -z "$(swag "$BATS_FILE_TMPDIR"/run/posterior-*.h5 -o a.h5)" ]
}

@test "mistakes are told of before the work" {
  run=("$BATS_FILE_TMPDIR"/run/posterior-*.h5)
  refused 64 "--structure=swag needs two checkpoints of a training at least" swag "${run[0]}" -o o.h5
  refused 64 "no checkpoint given" swag -o o.h5
  refused 64 "no output given: name one by -o" swag "${run[@]}"
  for option in "$(data)" --limit=3 --inputs=x --targets=y --target-column=y --normalize=none --normalize=0,1 --resize=3 --context=3 \
    --batch=3 --memory=1M --likelihood=bernoulli --noise-std=1 --ignore-label=3; do
    refused 64 "--structure=swag needs no data: " swag "${run[@]}" $option -o o.h5
  done
  for option in --curvature=ggn --fisher-samples=3 --shared=reduce --moments=factors --gram --max-factor=9 --seed=3 \
    --weight-decay=1 --tune=marginal --validation=d.h5; do
    refused 64 "--structure=swag has no curvature: " swag "${run[@]}" $option -o o.h5
  done
  refused 64 "--rank: '1', expected 0 or at least 2" swag "${run[@]}" --rank=1 -o o.h5
  refused 64 "the options of graphs are for --model" swag "${run[@]}" --graph-output=f -o o.h5
  refused 64 "--hessian=f.npz: is for one checkpoint" swag "${run[@]}" --hessian=f.npz -o o.h5
  refused 64 "'${run[1]}': one checkpoint only" ivon-fit "${run[@]:0:2}" "$(data)" -o o.h5
  refused 66 "none.h5: cannot open it" swag none.h5 "${run[@]}" -o o.h5
  refused 65 "nothing to fit: no mean is selected; see --include and --exclude" swag "${run[@]}" --include=nothing -o o.h5
  refused 65 "${run[0]}: all selected weights are those of the checkpoints before it" swag "${run[0]}" "${run[0]}" -o o.h5
  refused 64 "o.foo: no checkpoint is written as .foo" swag "${run[@]}" -o o.foo
  posterior other.h5 1
  refused 65 "first checkpoint" swag other.h5 "${run[@]}" -o o.h5
  echo old > old.h5
  refused 73 "old.h5: file exists; --force replaces it" ivon-fit --structure=swag "${run[@]}" -o old.h5
  [ "$(cat old.h5)" = old ]
  [ -z "$(find . -name '*.ivon-tmp')" ]
}
