load train

# Three Gaussian clouds in the plane, and the same turned; a network that knows the first.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(1)
centres = np.array([[2, 0], [-1, 1.7], [-1, -1.7]])
for path, turn in (("data.h5", np.eye(2)), ("turned.h5", np.array([[0, -1], [1, 0]]))):
    with h5py.File(path, "w") as f:
        f["y"] = y = r.integers(0, 3, 120)
        f["x"] = (centres[y] @ turn + 0.7 * r.standard_normal((120, 2))).astype("f4")
PYTHON
  ivon-train --no-provenance -q --arch=mlp:2,16,8,3 --data=data.h5 --lr=0.2 --h0=0.1 --beta2=0.99 --epochs=20 \
    --batch=20 --save-every=0 -o run
  mv run/posterior-*.h5 base.h5
  ivon-convert -q base.h5 -o base.onnx
}

common=(--no-provenance -q -f --lora='fc*:2' --lora-alpha=3)
noisy=(--h0=1 --beta2=0.99)
run_train() { "${via[@]}" ivon-train "${common[@]}" --data="$BATS_FILE_TMPDIR/turned.h5" "$@"; }
tune() { run_train --lr=0.1 --from="$BATS_FILE_TMPDIR/base.h5" --batch=20 "$@"; }

@test "factors are trained beside a frozen base; merged into it, they predict the same" {
  base=$BATS_FILE_TMPDIR/base.h5 data=$BATS_FILE_TMPDIR/turned.h5
  for method in ivon evon adamw; do
    settings=("${noisy[@]}")
    [ $method != adamw ] || settings=(--lr=0.03)
    tune --optimizer=$method "${settings[@]}" --epochs=20 --save-every=60 -o $method
    awk -F, 'NR == 2 { first = $3 } END { exit !($3 < first / 4) }' $method/log.csv
    ivon-merge -q -f -m task-arithmetic --base="$base" $method -o $method.h5
    ivon-predict -q -f $method/posterior-00000120.h5 --data="$data" --mean -o beside.csv
    ivon-predict -q -f $method.h5 --data="$data" --mean -o merged.csv
    ivon-predict -q -f "$base" --data="$data" --mean -o before.csv
    $python - $method "$base" <<'PYTHON'
import json, sys, h5py, numpy as np
method, base = sys.argv[1:]
def safetensors(path):
    data = open(path, "rb").read()
    start = 8 + int.from_bytes(data[:8], "little")
    return {name: np.frombuffer(data[start:][slice(*entry["data_offsets"])], "<f4").reshape(entry["shape"])
            for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
adapter = safetensors(method + "/adapter_model.safetensors")
config = json.load(open(method + "/adapter_config.json"))
assert (config["peft_type"], config["r"], config["lora_alpha"], config["fan_in_fan_out"]) == ("LORA", 2, 3, False)
assert sorted(config["target_modules"]) == ["fc1", "fc2", "fc3"] and config["base_model_name_or_path"] == base
run, base, merged = (h5py.File(path) for path in (method + "/posterior-00000120.h5", base, method + ".h5"))
shapes = {"fc1": (16, 2), "fc2": (8, 16), "fc3": (3, 8)}
names = {f"base_model.model.{m}.lora_{k}.weight": (2, i) if k == "A" else (o, 2)
         for m, (o, i) in shapes.items() for k in "AB"}
assert {n: a.shape for n, a in adapter.items() if not n.startswith("hessian/")} == names == \
       {n: a.shape for n, a in run["mean"].items()}
assert ("hessian" in run) == any(n.startswith("hessian/") for n in adapter) == (method != "adamw")
assert all((a[()] == base["mean"][n][()]).all() for n, a in run["buffers"].items()) and len(run["buffers"]) == 6
for m in shapes:
    a, b = (adapter[f"base_model.model.{m}.lora_{k}.weight"].astype("f8") for k in "AB")
    w = base["mean"][m + ".weight"][()].astype("f8") + 1.5 * b @ a
    assert np.abs(merged["mean"][m + ".weight"][()] - w).max() <= 2.0**-24 * np.abs(w).max()
    assert (merged["mean"][m + ".bias"][()] == base["mean"][m + ".bias"][()]).all()
    if method == "evon":  # the adapter has the diagonal of the covariance
        for k in "AB":
            n = f"base_model.model.{m}.lora_{k}.weight"
            u, v = run["basis_output"][n][()].astype("f8"), run["basis_input"][n][()].astype("f8")
            variance = (u**2) @ (1 / (run["hessian"][n][()].astype("f8") + 1e-4)) @ (v**2).T
            assert np.abs(adapter["hessian/" + n] + 1e-4 - 1 / variance).max() < 1e-5 / variance.min()
beside, merged, before = (np.genfromtxt(p + ".csv", delimiter=",", skip_header=1) for p in ("beside", "merged", "before"))
assert np.abs(beside - merged).max() < 1e-5 and np.abs(beside - before).max() > 0.5
PYTHON
  done
}

@test "the other commands take what low-rank factors have of a posterior" {
  data=$BATS_FILE_TMPDIR/turned.h5
  tune "${noisy[@]}" --epochs=4 -o run
  last=run/posterior-00000024.h5
  [ "$(ivon-info $last | grep -c "106 in 6 tensors")" = 1 ]
  ivon-predict -q $last --data="$data" -n 4 --metrics > metrics
  ivon-sensitivity -q $last --data="$data" --top=3 > top
  ivon-influence -q $last --data="$data" --queries="$data" --rows=0 --top=1 > influence
  grep -q accuracy metrics
  [ "$(wc -l < top)" = 4 ]
  grep -q "^0,1,[0-9]*,[0-9]" influence
  ivon-predict-gen -q run/posterior-*.h5 --data="$data" > gen
  [ "$(wc -l < gen)" = 5 ]
  ivon-fit -q $last --data="$data" -o fitted.h5
  # Every checkpoint is the adapter of its step.
  for adapter in run $last; do
    ivon-merge -q --no-provenance -m task-arithmetic --base="$BATS_FILE_TMPDIR/base.h5" $adapter -o "${adapter##*/}.npz"
  done
  cmp run.npz posterior-00000024.h5.npz
  # Its graph has what the base's ONNX file has, which trains to the same bits.
  run_train --lr=0.1 --model="$BATS_FILE_TMPDIR/base.onnx" --batch=20 --epochs=4 "${noisy[@]}" -o graph
  cmp graph/adapter_model.safetensors run/adapter_model.safetensors
  run_train --lr=0.1 --arch=mlp:2,16,8,3 --from="$BATS_FILE_TMPDIR/base.h5" --batch=20 --epochs=4 "${noisy[@]}" -o built
  cmp built/adapter_model.safetensors run/adapter_model.safetensors
}

@test "steps of SGD and AdamW are those of numpy in double precision" {
  one="--batch=120 --save-every=0"
  tune --optimizer=sgd --beta1=0 --lr=0.003 --steps=1 $one -o first
  tune --optimizer=sgd --beta1=0.9 --weight-decay=0.01 --lr=0.003 --steps=20 $one -o sgd
  tune --optimizer=adamw --weight-decay=0.02 --lr=0.02 --steps=20 $one -o adamw
  # 20 steps of rates below 1 on gradients below 1, each off by some roundings of 2^-24: 1e-5 bounds them.
  $python - "$BATS_FILE_TMPDIR/base.h5" "$BATS_FILE_TMPDIR/turned.h5" <<'PYTHON'
import sys, h5py, numpy as np
w = {n: a[()].astype("f8") for n, a in h5py.File(sys.argv[1])["mean"].items()}
f = h5py.File(sys.argv[2])
x, target = f["x"][()].astype("f8"), np.eye(3)[f["y"][()]]
def means(path):
    return {n[17:]: a[()].astype("f8") for n, a in h5py.File(path)["mean"].items()}
begun = means("first/posterior-00000001.h5")  # B is zero in the first step, and A stays
for m in ("fc1", "fc2", "fc3"):
    a = begun[m + ".lora_A.weight"]
    assert 0.5 < np.abs(a).max() * np.sqrt(a.shape[1]) <= 1
    begun[m + ".lora_B.weight"] = np.zeros((len(w[m + ".weight"]), 2))
def gradient(p):
    h, inner, outer = x, [], []
    for m in ("fc1", "fc2", "fc3"):
        u = h @ p[m + ".lora_A.weight"].T
        inner.append((h, u))
        y = h @ w[m + ".weight"].T + w[m + ".bias"] + 1.5 * u @ p[m + ".lora_B.weight"].T
        outer.append(y)
        h = np.maximum(y, 0)
    e = np.exp(y - y.max(1, keepdims=True))
    d, g = (e / e.sum(1, keepdims=True) - target) / len(x), {}
    for m, (h, u), y in zip(("fc3", "fc2", "fc1"), inner[::-1], [None] + outer[1::-1]):
        d = d if y is None else d * (y > 0)
        b = p[m + ".lora_B.weight"]
        g[m + ".lora_B.weight"], g[m + ".lora_A.weight"] = 1.5 * d.T @ u, 1.5 * (d @ b).T @ h
        d = d @ w[m + ".weight"] + 1.5 * d @ b @ p[m + ".lora_A.weight"]
    return g
p, moved = dict(begun), {n: 0 for n in begun}
for step in range(20):
    for n, g in gradient(p).items():
        moved[n] = 0.9 * moved[n] + g + 0.01 * p[n] if step else g + 0.01 * p[n]
        p[n] = p[n] - 0.003 * moved[n]
found = means("sgd/posterior-00000020.h5")
assert max(np.abs(found[n] - p[n]).max() for n in p) < 1e-5 < max(np.abs(p[n] - begun[n]).max() for n in p) / 1e3
p, m, v = dict(begun), {n: 0 for n in begun}, {n: 0 for n in begun}
for t in range(1, 21):
    for n, g in gradient(p).items():
        m[n], v[n] = 0.9 * m[n] + 0.1 * g, 0.999 * v[n] + 0.001 * g * g
        p[n] = (1 - 0.02 * 0.02) * p[n] - 0.02 * m[n] / (1 - 0.9**t) / (np.sqrt(v[n] / (1 - 0.999**t)) + 1e-8)
found = means("adamw/posterior-00000020.h5")
assert max(np.abs(found[n] - p[n]).max() for n in p) < 1e-5
PYTHON
}

@test "the bits depend neither on threads nor on being killed" {
  for method in ivon evon; do
    options=(--optimizer=$method "${noisy[@]}" --steps=300 --clip-norm=1 --save-every=50)
    tune "${options[@]}" -o whole -j1
    tune "${options[@]}" -o three -j3
    same whole three
    in_its_place run_train --lr=0.1 --from="$BATS_FILE_TMPDIR/base.h5" --batch=20 "${options[@]}" -o killed -j2 &
    training=$!
    until [ -e killed/posterior-00000050.h5 ]; do sleep 0.01; done
    kill -9 $training
    wait $training || true
    common=(--no-provenance -q --lora='fc*:2' --lora-alpha=3)
    tune "${options[@]}" -o killed -j2 --resume
    same whole killed
    rm whole/done whole/adapter_*
    tune "${options[@]}" -o whole -j2 --resume # what the end lacks is written
    same whole killed
    common+=(-f)
    rm -r killed
  done
}

@test "factors go on in another training, which has to choose the same" {
  common=(-q -f --lora='fc*:2' --lora-alpha=3)
  tune "${noisy[@]}" --epochs=4 --save-every=0 -o run
  last=run/posterior-00000024.h5
  run_train --lr=0.1 --from=$last --prior=posterior --steps=3 -o next
  [ -e next/adapter_model.safetensors ]
  common=(--from="$BATS_FILE_TMPDIR/base.h5" --batch=20)
  run_train --lr=0.1 "${noisy[@]}" --steps=26 --resume -o run 2> said
  grep -qF -- '--lora was ["fc*:2"] and is none, --lora-alpha was 3.0 and is none' said
  common=(-q -f)
  again() { run -"$1" run_train --lr=0.1 --from=$last --steps=3 "${@:3}" -o other; [[ $output = *"$2" ]]; }
  again 65 "the factors of 'fc1.weight' have rank 2, expected 3" --lora=fc*:3 --lora-alpha=3
  again 65 "the product of the factors of 'fc1.weight' is scaled by 1.5, expected 1" --lora=fc*:2
  again 65 "6 tensors of factors, expected those of 1 weights" --lora=fc1*:2 --lora-alpha=3
}

@test "ranks of their own stand in the adapter's patterns; what makes no sense is refused" {
  base=$BATS_FILE_TMPDIR/base.h5
  common=(-f)
  run_train --lr=0.1 --from="$base" --lora='fc1.*:0' --lora='fc2.*:1' --lora='*:3' --lora=none:2 --steps=2 \
    --optimizer=sgd -o run 2> said
  [ "$(grep warning said)" = "ivon-train: warning: --lora: 'none:2' is the first to match no tensor" ]
  [ "$(jq -c '[.r, .lora_alpha, .rank_pattern, .alpha_pattern]' run/adapter_config.json)" = \
    '[1,1,{"fc2":1,"fc3":3},{"fc2":1,"fc3":3}]' ]
  common=(-q --lr=0.1 --steps=2)
  refused() { run -"$1" run_train "${@:3}" -o new; [[ $output = "ivon-train: "*"$2"* ]]; [ ! -e new ]; }
  refused 64 "--lora: 'fc1', expected GLOB:RANK" --from="$base" --lora=fc1
  refused 64 "--lora: 'x', expected a number from 0 to 65536" --from="$base" --lora=fc1:x
  refused 64 "--lora-alpha is for --lora" --from="$base" --lora-alpha=2
  refused 64 "--freeze does not go with it" --from="$base" --lora=*:2 --freeze=x
  refused 64 "name them by --from=POSTERIOR or --model=GRAPH.onnx" --arch=mlp:2,3 --lora=*:2
  refused 64 "'fc1.bias' is none, expected names that end in .weight" --from="$base" --lora=*bias:2
  refused 64 "has no factors of 'fc1.weight'" --from="$base" --lora=*:2 --prior=posterior
  $python - "$base" <<'PYTHON'
import sys, h5py, numpy as np
np.savez("headless.npz", **{n: a[()] for n, a in h5py.File(sys.argv[1])["mean"].items() if n != "fc3.weight"})
PYTHON
  refused 65 "lacks 1 tensors, 'fc3.weight' the first, which would stay" --arch=mlp:2,16,8,3 --from=headless.npz --lora=*:2
  common=(-q --lr=0.1 --steps=2 --lora=*:2 --from="$base")
  rm run/*.h5
  run -73 run_train -o run
  [ "$output" = "ivon-train: run: holds an adapter: replace it by --force" ]
}
