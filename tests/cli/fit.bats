load common

# AdamW's checkpoints, means alone with their graph: an MLP, a small decoder, a regression; and data.
setup_file() {
  cd "$BATS_FILE_TMPDIR"
  PATH=$IVON_BIN:$PATH
  /usr/bin/python3 - <<'PYTHON'
import h5py, numpy as np
r = np.random.default_rng(3)
with h5py.File("data.h5", "w") as f:
    for group, n in (("train", 60), ("test", 20)):
        x = r.standard_normal((n, 4)).astype("f4")
        g = f.create_group(group)
        g["x"], g["y"] = x, (x @ r.standard_normal((4, 3)) + r.standard_normal((n, 3))).argmax(1)
        g["number"] = (x[:, :1] - 0.5 * x[:, 1:2] + 0.3 * r.standard_normal((n, 1))).astype("f4")
        g["event"] = (x[:, :2] + r.standard_normal((n, 2)) > 0).astype("i8")
        g["tokens"] = (np.arange(n * 6).reshape(n, 6) + r.integers(0, 2, (n, 6))) % 7
        g["next"] = np.where(r.random((n, 6)) < .2, -100, (np.arange(n * 6).reshape(n, 6) + 1) % 7)
        g["wrong"] = np.zeros((n, 2), "f4")
    bad = f.create_group("bad")
    bad["x"], bad["y"] = np.full((5, 4), np.nan, "f4"), np.zeros(5, "i8")
    bad["label"] = np.array([0, 1, 2, 3, 0])
    bad["ignored"] = np.full(5, -100)
    bad["good"] = np.ones((5, 4), "f4")
PYTHON
  train() { # NAME OPTION...
    ivon-train -q --no-provenance --optimizer=adamw --lr=.02 --epochs=6 --batch=20 --save-every=0 --data=data.h5:/train -o run "${@:2}"
    mv run/posterior-*.h5 "$1.h5"
    rm -r run
  }
  train mlp --arch=mlp:4,5,3,tanh
  train gpt --arch=gpt:7,6,8,1,2 --inputs=tokens --targets=next --ignore-label=-100
  train number --arch=mlp:4,5,1,tanh --targets=number --likelihood=gaussian --noise-std=0.3
  train event --arch=mlp:4,5,2,gelu --targets=event --likelihood=bernoulli
}

data() { echo "--data=$BATS_FILE_TMPDIR/data.h5:/${1:-train}"; }
fit() { ivon-fit -q --no-provenance "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" "$@"; }
gpt() { ivon-fit -q --no-provenance "$BATS_FILE_TMPDIR/gpt.h5" "$(data)" --inputs=tokens --targets=next "$@"; }
oracle() { PYTHONDONTWRITEBYTECODE=1 $python -W ignore "$BATS_TEST_DIRNAME/../oracle/fit.py" -; }
structures=("--structure=diagonal" "--structure=kronecker" "--structure=lowrank:diagonal --rank=6" "--structure=lowrank --rank=6" "--max-factor=4" "--max-factor=5 --structure=lowrank --rank=3")

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

# same A B: the means are the same to the bit, in whatever order.
same() {
  $python - "$@" <<'PYTHON'
import sys, h5py
def read(path):
    found = {}
    h5py.File(path)["mean"].visititems(
        lambda name, item: found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None)
    return found
a, b = read(sys.argv[1]), read(sys.argv[2])
assert a == b and len(a) == 4
PYTHON
}

@test "what is fitted is the curvature that PyTorch finds" {
  local count=0 data="$BATS_FILE_TMPDIR/data.h5:/train"
  compare() { echo compare $count.h5 "$data" "$@" >> lines; }
  for options in "" --structure=diagonal --moments=factors "--curvature=fisher --fisher-samples=3 --seed=4" \
    --curvature=empirical "--structure=lowrank --rank=8" --max-factor=4; do
    fit $options -o $((++count)).h5
    compare --likelihood=categorical
  done
  for options in "" --shared=reduce --structure=diagonal; do
    gpt $options -o $((++count)).h5
    compare --inputs=tokens=tokens --inputs=x=tokens --targets=next --signs=0
  done
  ivon-fit -q "$BATS_FILE_TMPDIR/number.h5" "$(data)" --targets=number --likelihood=gaussian --noise-std=0.3 -o $((++count)).h5
  compare --targets=number
  ivon-fit -q "$BATS_FILE_TMPDIR/event.h5" "$(data)" --targets=event --likelihood=bernoulli -o $((++count)).h5
  compare --targets=event
  oracle < lines
}

@test "the summary says what was fitted, in text and in JSON" {
  run --separate-stderr -0 ivon-fit "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --structure=lowrank --rank=4 -o o.h5
  [ -z "$stderr" ]
  [[ $output =~ ^"examples              60"$'\n'"n_train               60"$'\n'"parameters            43"$'\n'"blocks                2"$'\n' ]]
  [[ $output == *$'\n'"low rank              4, values "* ]]
  ivon-fit -f "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --structure=lowrank --rank=4 -o o.h5 --json > j.json
  $python - <<'PYTHON'
import h5py, json
j, f = json.load(open("j.json")), h5py.File("o.h5")
assert (j["examples"], j["n_train"], j["ess"], j["parameters"], j["blocks"], j["rank"]) == (60, 60, 60, 43, 2, 4)
# the weight decay of greatest evidence is where N δ |m|² = γ
assert abs(60 * j["weight_decay"] * j["squared_norm"] / j["effective_parameters"] - 1) < 1e-6
assert f.attrs["weight_decay"] == j["weight_decay"] and f.attrs["ess"] == f.attrs["n_train"] == 60
s = json.loads(f["structure.json"][()].tobytes())
assert s["low_rank"]["values"][3] == j["last_value"] and s["fit"]["curvature"] == "ggn"
PYTHON
  run -0 --separate-stderr ivon-fit -f -q "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" -o o.h5
  [ -z "$output$stderr" ]
  run -0 --separate-stderr ivon-fit -f -v "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --structure=lowrank --rank=4 -o o.h5
  [[ $stderr == *"43 parameters, 2 of their weights with a basis: "*" of memory for factors and moments"* ]]
  [[ $stderr == *"2 passes over 60 examples, with 3 backward passes for each"* ]]
  [[ $stderr == *"then 24 passes for products with the curvature"* ]]
}

@test "what is asked of the precision is in the file" {
  fit --ess=500 --weight-decay=0.25 -o o.h5
  $python -c "
import h5py
f = h5py.File('o.h5')
assert (f.attrs['ess'], f.attrs['weight_decay'], f.attrs['n_train']) == (500, 0.25, 60)"
  # A posterior's own weight decay stays, but where another is given.
  ivon-fit -q o.h5 "$(data)" -o again.h5 --structure=diagonal
  ivon-fit -q o.h5 "$(data)" -o other.h5 --weight-decay=0.5 --limit=20
  $python -c "
import h5py
f, g = h5py.File('again.h5'), h5py.File('other.h5')
assert (f.attrs['ess'], f.attrs['weight_decay'], f.attrs['format_version']) == (60, 0.25, 1)
assert (g.attrs['ess'], g.attrs['weight_decay'], g.attrs['n_train']) == (20, 0.5, 20)
a, b = h5py.File('o.h5'), g
assert all((a['mean/' + n][()] == b['mean/' + n][()]).all() for n in a['mean'])"
}

@test "the weight decay is that of greatest evidence, of one or of each, or of held-out data" {
  fit --weight-decay=0.25 -o own.h5
  tune() { ivon-fit -q -f own.h5 "$(data)" -o o.h5 "$@"; }
  for tuned in --tune=marginal --tune=marginal:per-tensor "--tune=validation --validation=$BATS_FILE_TMPDIR/data.h5:/test"; do
    tune $tuned
    tune $tuned --structure=lowrank --rank=4
    [ "$(ivon-info --check o.h5)" = "o.h5: no problems found" ]
    ivon-predict -q o.h5 "$(data test)" -n 4 -f -o p.csv
  done
  tune --tune=marginal:per-tensor
  $python -c "
import h5py, numpy as np
f, decays = h5py.File('o.h5'), []
def part(name, h):
    if isinstance(h, h5py.Dataset):
        n, d, h = 60, h.attrs['weight_decay'], np.float64(h[()])
        m = f['mean/' + name][()].ravel()
        bias = name.replace('weight', 'bias')
        m = np.concatenate([m, f['mean/' + bias][()]]) if h.size > m.size else m
        decays.append(d)
        assert abs(n * d * (np.float64(m)**2).sum() / (h / (h + d)).sum() - 1) < 1e-4
f['hessian'].visititems(part)
assert len(set(decays)) == 2, decays"
  run -0 --separate-stderr ivon-fit -f own.h5 "$(data)" -o o.h5 --tune=validation --validation="$BATS_FILE_TMPDIR/data.h5:/test"
  [[ $stderr == *"validation: weight decay "*", where the evidence had "*"; NLL "* ]]
  # The noise of a regression, too.
  ivon-fit -f "$BATS_FILE_TMPDIR/number.h5" "$(data)" --targets=number --likelihood=gaussian --json -o o.h5 > j.json
  jq -e '.noise_std > 0.05 and .noise_std < 2' j.json
  refused 64 "--tune=validation and --validation=DATA go together" fit --tune=validation -o o.h5
  refused 64 "--tune: 'x', expected one of" fit --tune=x -o o.h5
  refused 66 "none.h5: cannot open it" fit --tune=validation --validation=none.h5 -o o.h5
}

# retuned A B: B is A with another prior: what else there is, is equal to the bit, and its weight
# decay, one or one for each Hessian, is where N δ |m|² = γ.
retuned() {
  ivon-convert -q -f "$1" -o before.h5
  ivon-convert -q -f "$2" -o after.h5
  $python - <<'PYTHON'
import h5py, json, numpy as np
def read(path):
    f, found = h5py.File(path), {}
    f.visititems(lambda name, item: found.update({name: item}) if isinstance(item, h5py.Dataset) else None)
    return f, found
f, a = read("before.h5")
g, b = read("after.h5")
assert a.keys() == b.keys() and all(a[n][()].tobytes() == b[n][()].tobytes() for n in a)
assert f.attrs["ess"] == g.attrs["ess"] and f.attrs.get("n_train") == g.attrs.get("n_train")
n = f.attrs.get("n_train", f.attrs["ess"])
blocks = json.loads(b["structure.json"][()].tobytes()).get("blocks", {}) if "structure.json" in b else {}
found = []
for name in (key[len("hessian/"):] for key in b if key.startswith("hessian/")):
    h = np.maximum(np.float64(b["hessian/" + name][()]), 0)
    d = b["hessian/" + name].attrs.get("weight_decay", g.attrs.get("weight_decay"))
    block = blocks.get(name, {})
    means = [name] + ([block["bias"]] if "bias" in block else [])
    found.append((n * d * sum((np.float64(b["mean/" + m][()])**2).sum() for m in means), (h / (h + d)).sum(), d))
squares, gamma, d = np.transpose(found)
each = len(set(d)) > 1
assert np.allclose(squares if each else squares.sum(), gamma if each else gamma.sum(), rtol=1e-9), found
print("each" if each else "one")
PYTHON
}

@test "a posterior that there is gets the weight decay of greatest evidence without data" {
  ivon-train -q --arch=mlp:4,5,3,tanh "$(data)" --lr=.1 --h0=.1 --epochs=3 --batch=20 --save-every=0 -o run
  mv run/posterior-*.h5 ivon.h5
  fit -o kronecker.h5 --weight-decay=1
  fit -o diagonal.npz --weight-decay=1 --structure=diagonal
  ivon-convert -q kronecker.h5 -o kronecker.safetensors
  ivon-convert -q ivon.h5 -o ivon.npz
  while read -r posterior format other; do
    ivon-fit -q -f $posterior --tune=marginal -o o.$format
    [ "$(retuned $posterior o.$format)" = one ]
    ivon-fit -q -f $posterior --tune=marginal:per-tensor -o o.$other
    [ "$(retuned $posterior o.$other)" = each ]
    ivon-predict -q o.$other "$(data test)" -n 2 -f -o p.csv
  done << 'FORMATS'
ivon.h5 npz h5
ivon.npz safetensors npz
kronecker.h5 h5 safetensors
kronecker.safetensors npz h5
diagonal.npz h5 safetensors
FORMATS
  # It is what the fit itself would have chosen, and its evidence the same.
  fit -f -o tuned.h5 --tune=marginal
  ivon-fit -f kronecker.h5 --tune=marginal --json -o o.h5 > j.json
  ivon-fit -f -o one.h5 "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --weight-decay=1 --json > one.json
  ivon-fit -f -o best.h5 "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --tune=marginal --json > best.json
  $python - <<'PYTHON'
import json
j, one, best = (json.load(open(name + ".json")) for name in ("j", "one", "best"))
for name in ("ess", "n_train", "parameters", "weight_decay", "effective_parameters", "squared_norm"):
    assert abs(j[name] / best[name] - 1) < 1e-9, name
assert abs(j["evidence_gain"] - best["log_evidence"] + one["log_evidence"]) < 1e-9
PYTHON
  run --separate-stderr -0 ivon-fit -f kronecker.h5 --tune=marginal -o o.h5
  [ -z "$stderr" ]
  [[ $output =~ ^"n_train               60"$'\n'"parameters            43"$'\n'"ess                   60"$'\n'"weight_decay          " ]]
  [[ $output =~ $'\n'"evidence gain / N     "[0-9.]+$ ]]
}

@test "without a weight decay there is one to be found, and what cannot be tuned is refused" {
  fit -o a.h5 --structure=diagonal
  $python -c "
import h5py
with h5py.File('a.h5', 'r+') as f:
    del f.attrs['weight_decay']"
  run -0 ivon-fit a.h5 --tune=marginal -o o.h5
  [[ $output == *"weight_decay  "* && $output != *gain* ]]
  [ "$(retuned a.h5 o.h5)" = one ]
  ivon-fit -q -f a.h5 --tune=validation --validation="$BATS_FILE_TMPDIR/data.h5:/test" -o o.h5
  fit -o low.h5 --structure=lowrank:diagonal --rank=3
  refused 65 "low.h5: has a low-rank correction, which holds for its weight decay alone: it has to be fitted anew, from the data" \
    ivon-fit low.h5 --tune=marginal -o o.h5
  $python -c "
import h5py
with h5py.File('a.h5', 'r+') as f:
    f.attrs['weight_decay'] = 1.0
    f['hessian/fc1.weight'][0, 0] = -0.9"
  refused 65 "a.h5: Hessian of 'fc1.weight' is -0.9 at its least, and the weight decay " ivon-fit a.h5 --tune=marginal -o o.h5
  ivon-fit -q a.h5 --tune=validation --validation="$BATS_FILE_TMPDIR/data.h5:/test" -o o.h5
  ivon-sample -q o.h5 -o s.h5
  tune() { ivon-fit a.h5 --tune=marginal -o o.h5 "$@"; }
  refused 65 "mlp.h5: holds no Hessian to tune by: a fit to --data=FILE gives it one" ivon-fit "$BATS_FILE_TMPDIR/mlp.h5" --tune=marginal -o o.h5
  refused 64 "--structure is for a fit, which needs --data=FILE" tune --structure=diagonal
  refused 64 "--ess is for a fit, which needs --data=FILE" tune --ess=3
  refused 64 "--include is for a fit, which needs --data=FILE" tune --include='*'
  refused 64 "--resume is for a fit, which needs --data=FILE" tune --resume
  refused 64 "--weight-decay and --tune do not go together" tune --weight-decay=3
  refused 64 "runs no network: --model and what is said of a graph do not go with it" tune --model=a.onnx
  refused 64 "--limit is for --data" tune --limit=3
  refused 64 "--tune=validation and --validation=DATA go together" tune --validation=a.h5
  refused 64 "--likelihood=gaussian needs --noise-std" ivon-fit a.h5 --tune=validation --validation=a.h5 --likelihood=gaussian -o o.h5
  refused 65 "data.h5:/bad: no target counts, or the NLL is not finite" ivon-fit a.h5 --tune=validation --validation="$BATS_FILE_TMPDIR/data.h5:/bad" --inputs=good --targets=ignored -o o.h5
  refused 73 "cannot create it" ivon-fit a.h5 --tune=marginal -o nowhere/o.h5
  refused 64 "an ONNX file holds no Hessian" ivon-fit a.h5 --tune=marginal -o o.onnx
}

@test "held-out data choose weight decay and temperature of a posterior that there is" {
  fit -o a.h5 --weight-decay=1e-4 --ess=6
  fit -o low.h5 --structure=lowrank:diagonal --rank=3
  nll() { ivon-predict -q "$1" "$(data test)" -n 32 --metrics --json | jq .metrics.nll.value; }
  held="--validation=$BATS_FILE_TMPDIR/data.h5:/test"
  for posterior in a.h5 low.h5; do
    ivon-fit -f $posterior --tune=validation $held -o o.h5 --json > j.json 2> err
    jq -e --argjson before "$(nll $posterior)" --argjson after "$(nll o.h5)" '.nll == $after and $after <= $before' j.json
  done
  [ "$(cat err)" = "ivon-fit: low.h5: a low-rank correction holds for its weight decay alone, which stays: the temperature is tuned" ]
  $python -c "
import h5py
a, b = h5py.File('low.h5'), h5py.File('o.h5')
assert a.attrs['weight_decay'] == b.attrs['weight_decay'] and b.attrs['ess'] != a.attrs['ess']
assert all((a['mean/' + n][()] == b['mean/' + n][()]).all() for n in a['mean'])"
  # Nothing that was tried is better, and of what is as good, nothing nearer to what was there.
  ivon-fit -f -v a.h5 --tune=validation $held -o o.h5 --json > j.json 2> err
  $python - <<'PYTHON'
import json, re
from math import log10
j = json.load(open("j.json"))
tried = [tuple(map(float, found)) for found in re.findall(r"decay (\S+), temperature (\S+), NLL (\S+) on", open("err").read())]
assert len(tried) > 25 and len(set(tried)) == len(tried)
least = min(nll for _, _, nll in tried)
far = lambda decay, temperature: abs(log10(decay / 1e-4)) + abs(log10(temperature))
chosen = far(j["weight_decay"], 6 / j["ess"])
assert j["nll"] <= least + 1e-3 + 1e-5
assert all(far(d, t) > chosen - 1e-4 for d, t, nll in tried if nll < least + 1e-3 - 1e-5)
PYTHON
  # The mean need not be a minimum of the prior that held-out data chose, and the check says so.
  ivon-fit -f -q "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --tune=validation $held -o tuned.h5
  $python -c "
import h5py
with h5py.File('tuned.h5', 'r+') as f: f.attrs['newton_decrement'] = 1e6"
  run -1 ivon-info --check tuned.h5
  [[ $output == *"the mean is far from a minimum"*"the held-out data chose another weight decay than the training's: average with this"* ]]
  ivon-fit -f -j1 -q --no-provenance a.h5 --tune=validation $held -o one.h5
  ivon-fit -f -j3 -q --no-provenance a.h5 --tune=validation $held -o three.h5
  cmp one.h5 three.h5
}

@test "how far the mean is from a minimum is said, kept and checked" {
  run -0 --separate-stderr ivon-fit "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" -o o.h5 --json
  [[ $stderr != *"far from a minimum"* ]]
  ivon-convert -q o.h5 -o o.npz
  ivon-convert -q o.npz -o o.safetensors
  ivon-convert -q o.safetensors -o back.h5
  ivon-convert -q o.h5 -o changed.h5 --weight-decay=1
  ivon-sample -q o.h5 -o sample.h5
  $python -c "
import h5py, json, sys
decrement = json.loads(sys.argv[1])['newton_decrement']
attributes = lambda path: h5py.File(path).attrs
assert attributes('o.h5')['newton_decrement'] == attributes('back.h5')['newton_decrement'] == decrement > 0
assert all('newton_decrement' not in attributes(path) for path in ('changed.h5', 'sample.h5'))" "$output"
  ivon-fit -q "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --gram -o gram.h5
  # Weights that were never trained to where they are.
  $python -c "
import h5py, shutil
shutil.copy('$BATS_FILE_TMPDIR/mlp.h5', 'far.h5')
with h5py.File('far.h5', 'r+') as f: f['mean/fc2.weight'][()] = -20 * f['mean/fc2.weight'][()]"
  for structure in "${structures[@]}"; do
    run -0 --separate-stderr ivon-fit far.h5 "$(data)" --weight-decay=.01 -f -o p.h5 $structure
    [[ $stderr == *"warning: the mean is far from a minimum of loss and weight decay: its Newton decrement is "*"to be expected at most: train on"*"or see whether the data have the scale and the numbers of classes of its training" ]]
    run -1 ivon-info --check p.h5
    [[ $output == *"p.h5: the mean is far from a minimum: its Newton decrement is "* ]]
  done
}

@test "few examples for a factor are found by the check" {
  fit --limit=3 -o o.h5
  run -1 ivon-info --check o.h5
  [[ $output == *"tensor 'fc1.weight': its input factor has 5 rows, and is from 3: 2 have no data: fit with more examples, or a diagonal"* ]]
  gpt --limit=1 -o g.h5
  [ "$(ivon-info --json g.h5 | jq -c '[.structure.factors[].input_rows] | unique')" = "[6]" ]
  gpt --limit=2 --shared=reduce -f -o g.h5
  [ "$(ivon-info --json g.h5 | jq -c '[.structure.factors[].input_rows] | unique')" != "[12]" ]
}

@test "a posterior's own Hessian is the base of a correction" {
  ivon-train -q --arch=mlp:4,5,3,tanh "$(data)" --lr=.1 --h0=.1 --epochs=3 --batch=20 --save-every=0 -o run
  mv run/posterior-*.h5 ivon.h5
  ivon-fit -q ivon.h5 "$(data)" --structure=lowrank:posterior --rank=43 -o o.h5
  $python -c "
import h5py
a, b = h5py.File('ivon.h5'), h5py.File('o.h5')
for part in ('mean', 'hessian'):
    for n in ('fc1.weight', 'fc1.bias', 'fc2.weight', 'fc2.bias'):
        assert (a[f'{part}/{n}'][()] == b[f'{part}/{n}'][()]).all()
assert (a.attrs['ess'], a.attrs['weight_decay']) == (b.attrs['ess'], b.attrs['weight_decay'])
assert b.attrs['format_version'] == 2 and len(b['lowrank_vectors']) == 4"
  ivon-sensitivity -q o.h5 "$(data)" --score=loo-loss > corrected.csv
  ivon-sensitivity -q ivon.h5 "$(data)" --score=loo-loss > plain.csv
  run -1 cmp corrected.csv plain.csv
  refused 64 "keeps ess and weight decay" fit --structure=lowrank:posterior --ess=3 -o o2.h5
  refused 65 "mlp.h5: " fit --structure=lowrank:posterior -o o2.h5
}

@test "parameters that are left out have no Hessian, and do not move" {
  # mlp's weights are fc1.weight, fc1.bias, fc2.weight, fc2.bias.
  fit --include='fc2*' --exclude='*.bias' -o o.h5
  [ "$(ivon-info --json o.h5 | jq .summary.hessian_elements)" = 15 ]
  ivon-sample -q o.h5 -o s.h5
  $python -c "
import h5py
a, b = h5py.File('o.h5')['mean'], h5py.File('s.h5')['mean']
changed = []
a.visititems(lambda k, d: changed.append(k) if isinstance(d, h5py.Dataset) and (d[()] != b[k][()]).any() else None)
assert changed == ['fc2.weight'], changed"
  refused 65 "nothing to fit: no mean of the network is selected; see --include and --exclude" fit --include=nothing -o o.h5
  run --separate-stderr -0 ivon-fit -f "$BATS_FILE_TMPDIR/mlp.h5" "$(data)" --exclude=nothing -o o.h5
  [[ $stderr == *nothing* ]]
}

@test "a mask among the weights is told of" {
  $python - <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import helper as h, numpy_helper as n
r = np.random.default_rng(0)
w, mask = r.standard_normal((3, 4)).astype("f4"), np.float32([1, 1, 0, 1])
nodes = [h.make_node("Greater", ["mask", "zero"], ["on"]), h.make_node("Cast", ["on"], ["kept"], to=1),
         h.make_node("Mul", ["x", "kept"], ["left"]), h.make_node("Gemm", ["left", "w"], ["out"], transB=1)]
value = lambda name, k: h.make_tensor_value_info(name, 1, ["n", k])
graph = h.make_graph(nodes, "masked", [value("x", 4)], [value("out", 3)],
                     [n.from_array(w, "w"), n.from_array(mask, "mask"), n.from_array(np.float32(0), "zero")])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid("", 13)]), "masked.onnx")
np.savez("weights.npz", w=w, mask=mask)
PYTHON
  masked() { ivon-fit weights.npz --model=masked.onnx --keep-graph-weights "$(data)" -o o.h5 -f "$@" 2> err > out; }
  for structure in diagonal kronecker lowrank; do
    masked --structure=$structure
    grep "no output has a derivative by 'mask', of which the prior alone is known: a buffer, such as a mask, is to be named by --buffers" err
  done
  masked --buffers=mask
  grep 'parameters *12$' out
  run -1 grep derivative err
}

@test "a Gram matrix is the mean of the products of inputs, and nothing else" {
  fit --gram -o o.h5
  $python - "$BATS_FILE_TMPDIR/data.h5" <<'PYTHON'
import h5py, json, sys, numpy as np
x = np.float64(h5py.File(sys.argv[1])["train/x"][()])
f = h5py.File("o.h5")
assert "basis_input" not in f and "hessian" not in f and "ess" not in f.attrs
grams = {}
f["gram"].visititems(lambda k, d: grams.update({k: d[()]}) if isinstance(d, h5py.Dataset) else None)
first = next(v for v in grams.values() if v.shape == (4, 4))
assert len(grams) == 2 and np.abs(first - x.T @ x / 60).max() < 1e-6
assert all((g == g.T).all() for g in grams.values())
PYTHON
  # A posterior keeps its Hessians.
  fit -f --structure=diagonal -o p.h5
  ivon-fit -q p.h5 "$(data)" --gram -o g.h5
  $python -c "
import h5py
a, b = h5py.File('p.h5'), h5py.File('g.h5')
n = []
a['hessian'].visititems(lambda k, d: n.append(k) if isinstance(d, h5py.Dataset) else None)
assert len(n) == 4 and all((a['hessian/' + k][()] == b['hessian/' + k][()]).all() for k in n)
assert (a.attrs['ess'], a.attrs['weight_decay']) == (b.attrs['ess'], b.attrs['weight_decay'])"
  ivon-predict -q g.h5 "$(data test)" --metrics > /dev/null
}

@test "bytes are the same for any number of threads" {
  for options in "${structures[@]}" "--curvature=fisher --fisher-samples=2" --gram; do
    fit -f $options -j1 -o a.h5
    fit -f $options -j2 -o b.h5
    fit -f $options -j5 -o c.h5
    cmp a.h5 b.h5
    cmp a.h5 c.h5
  done
  for options in "" "--structure=lowrank --rank=3" --shared=reduce; do
    gpt -f $options -j1 --batch=2 -o a.h5
    gpt -f $options -j3 --batch=2 -o b.h5
    cmp a.h5 b.h5
  done
}

@test "the batch changes rounding alone" {
  fit -o a.h5
  fit --batch=1 -o b.h5
  fit --batch=7 --weight-decay=1e-3 -o c.h5
  $python -c "
import h5py, numpy as np
def precision(path):
    f, found = h5py.File(path), {}
    for name in f['basis_input']:
        for part in f['basis_input'][name]:
            n = name + '/' + part if isinstance(f['basis_input'][name], h5py.Group) else name
            break
        else:
            n = name
        u, s = f['basis_input'][n][()], f['spectrum_input'][n][()]
        found[n] = (u * s) @ u.T
    return found
a, b, c = map(precision, ('a.h5', 'b.h5', 'c.h5'))
assert a.keys() == b.keys()
for n in a:
    assert np.abs(a[n] - b[n]).max() < 1e-5 * np.abs(a[n]).max() and np.abs(a[n] - c[n]).max() < 1e-5 * np.abs(a[n]).max()"
}

@test "every structure goes through the other commands and formats" {
  for options in "${structures[@]}"; do
    rm -f -- *.npz *.safetensors o*.h5
    fit $options -o o.h5
    [ "$(ivon-info --check o.h5)" = "o.h5: no problems found" ]
    ivon-sample -q --no-provenance o.h5 -n 2 -o o-%d.h5
    ivon-predict -q o.h5 "$(data test)" -n 4 -o p.csv -f
    ivon-sensitivity -q o.h5 "$(data)" --score=deviation,mpe,self-influence,loo-loss --vectors -f -o s.h5
    ivon-sensitivity -q o.h5 "$(data)" --groups=y > /dev/null
    ivon-predict-gen -q o.h5 "$(data)" --test="$BATS_FILE_TMPDIR/data.h5:/test" > g.csv
    [ "$(wc -l < g.csv)" = 2 ]
    ivon-convert -q --no-provenance o.h5 -o o.npz
    ivon-convert -q --no-provenance o.npz -o o.safetensors
    ivon-convert -q --no-provenance o.safetensors -o back.h5 -f
    for format in npz safetensors; do
      ivon-sample -q --no-provenance o.$format -n 2 -o x-%d.h5 -f
      same x-0.h5 o-0.h5
    done
    ivon-sample -q --no-provenance back.h5 -n 2 -o b-%d.h5 -f
    same b-1.h5 o-1.h5
    fit -f $options -o o2.npz
    ivon-convert -q o2.npz --no-provenance -o back2.h5 -f
    ivon-sample -q --no-provenance back2.h5 -n 2 -o b-%d.h5 -f
    same b-1.h5 o-1.h5
    if [ "$options" != --structure=diagonal ]; then
      cp o.h5 m.h5
      ivon-merge -q --method=hessian m.h5 back.h5 -o o.h5 -f # of one with itself
      $python -c "
import h5py
a, b = h5py.File('m.h5')['mean'], h5py.File('o.h5')['mean']
assert all(abs(a[name][()] - b[name][()]).max() <= 1e-6 for name in a)"
    fi
  done
  ivon-sensitivity -q m.h5 "$(data)" --leverage=newton --score=loo-loss > newton.csv
  ivon-sensitivity -q m.h5 "$(data)" --leverage=none --score=loo-loss > none.csv
  run -1 cmp newton.csv none.csv
}

@test "leverage is applied where the correction holds the curvature, and said where it does not" {
  fit --structure=lowrank --rank=43 --weight-decay=0.05 -o all.h5
  fit --structure=lowrank:diagonal --rank=1 --weight-decay=0.001 -o one.h5
  fit --weight-decay=0.05 -o none.h5
  score() { ivon-sensitivity "$@" "$(data)" --score=loo-loss; }
  score all.h5 > auto.csv 2> err
  score all.h5 --leverage=newton 2> /dev/null | cmp - auto.csv
  score all.h5 --leverage=none 2> /dev/null > without.csv
  run -1 cmp -s without.csv auto.csv
  run -1 grep leverage err
  score none.h5 2> err > plain.csv
  score none.h5 --leverage=none 2> /dev/null | cmp - plain.csv
  run -1 grep leverage err
  score one.h5 > one.csv 2> err
  grep -q "no leverage: the least value of the low-rank correction is .*, not below .9: fit more pairs than 1 to have it" err
  refused 64 "leverage is of the whole covariance of the outputs, not of its diagonal" \
    ivon-sensitivity all.h5 "$(data)" --covariance=diag --leverage=newton
  refused 64 "--leverage: 'x', expected one of auto, none, newton" ivon-sensitivity all.h5 "$(data)" --leverage=x
  ivon-predict-gen all.h5 "$(data)" --leverage=none 2> /dev/null > a.csv
  ivon-predict-gen all.h5 "$(data)" 2> /dev/null > b.csv
  run -1 cmp a.csv b.csv
}

@test "mistakes are told of before the work" {
  refused 64 "no checkpoint given" ivon-fit
  refused 64 "no data given: name them by --data=FILE" ivon-fit a.h5 -o o.h5
  refused 64 "no output given: name one by -o" ivon-fit a.h5 "$(data)"
  refused 64 "'b.h5': one checkpoint only; data are named by --data=FILE" ivon-fit a.h5 b.h5 -o o.h5
  refused 64 "'b.h5': one checkpoint only" ivon-fit a.h5 b.h5 "$(data)" -o o.h5
  refused 64 "--rank is for --structure=lowrank" fit --rank=3 -o o.h5
  refused 64 "--structure: 'x', expected one of" fit --structure=x -o o.h5
  refused 64 "--curvature: 'x', expected one of" fit --curvature=x -o o.h5
  refused 64 "--fisher-samples is for --curvature=fisher" fit --fisher-samples=3 -o o.h5
  refused 64 "--shared and --moments=factors are for --structure=kronecker" fit --structure=diagonal --shared=reduce -o o.h5
  refused 64 "--gram keeps input factors instead of a fit: --structure does not go with it" \
    fit --gram --structure=kronecker -o o.h5
  refused 64 "--gram has no curvature" fit --gram --moments=factors -o o.h5
  refused 64 "--gram has no precision" fit --gram --ess=5 -o o.h5
  refused 64 "--ess: '0', expected a positive number" fit --ess=0 -o o.h5
  refused 64 "--weight-decay: '-1', expected zero or more" fit --weight-decay=-1 -o o.h5
  refused 64 "--weight-decay and --tune do not go together" fit --weight-decay=1 --tune=marginal -o o.h5
  refused 64 "--max-factor: '0', expected a number" fit --max-factor=0 -o o.h5
  refused 64 "o.foo: no checkpoint is written as .foo" fit -o o.foo
  refused 64 "an ONNX file holds no Hessian" fit -o o.onnx
  refused 64 "standard output cannot take" fit -o -
  refused 73 "cannot create it" fit -o nowhere/o.h5
  refused 66 "none.h5: cannot open it" ivon-fit none.h5 "$(data)" -o o.h5
  refused 66 "none.h5: cannot open it" ivon-fit "$BATS_FILE_TMPDIR/mlp.h5" --data=none.h5 -o o.h5
  refused 71 "raise --memory" fit --memory=1 -o o.h5
  echo old > old.h5
  refused 73 "old.h5: file exists; --force replaces it" fit -o old.h5
  [ "$(cat old.h5)" = old ]
  fit -f -o old.h5
  ivon-info old.h5 > /dev/null
  [ -z "$(find . -name '*.ivon-tmp')" ]
}

@test "data that do not suit are refused" {
  bad() { ivon-fit "$BATS_FILE_TMPDIR/mlp.h5" -o o.h5 "$@"; }
  echo words > words.h5
  refused 65 "words.h5" bad --data=words.h5
  refused 65 "has no array 'z'" bad "$(data)" --targets=z
  $python -c "
import h5py, shutil, numpy as np
shutil.copy('$BATS_FILE_TMPDIR/number.h5', 'huge.h5')
with h5py.File('huge.h5', 'r+') as f:
    f['mean/fc2.weight'][()] = np.full((1, 5), 1e25, 'f4')"
  for structure in diagonal kronecker; do
    refused 65 "huge.h5: the curvature at 'fc1.weight' is not a finite number: weights or inputs are too large" \
      ivon-fit huge.h5 "$(data)" --targets=number --likelihood=gaussian --noise-std=1 --structure=$structure -o o.h5
  done
  refused 65 "has no targets" bad "$(data)" --targets=
  refused 65 "'wrong'" bad "$(data)" --inputs=wrong
  refused 65 "expected a whole number; --likelihood=gaussian takes any numbers" bad "$(data)" --targets=number
  refused 65 "row 0 holds nan, expected a finite number" bad "$(data bad)"
  refused 65 "target 3, expected a class from 0 to 2" bad "$(data bad)" --inputs=good --targets=label
  refused 65 "all targets are the ignored label -100" bad "$(data bad)" --inputs=good --targets=ignored
}

# large: data and a network that a fit takes about a second for.
large() {
  [ -e large.h5 ] || $python -c "
import h5py, numpy as np
r = np.random.default_rng(0)
with h5py.File('d.h5', 'w') as f:
    f['x'], f['y'] = r.standard_normal((3000, 64)).astype('f4'), r.integers(0, 10, 3000)
    f['z'] = f['y'][()]
    f['z'][0] = (f['y'][0] + 1) % 10
with h5py.File('held.h5', 'w') as f:
    f['x'], f['y'] = r.standard_normal((50, 64)).astype('f4'), r.integers(0, 10, 50)"
  [ -e large.h5 ] || ivon-train -q --arch=mlp:64,128,128,10 --data=d.h5 --lr=.1 --steps=30 --batch=10 --save-every=0 -o run
  [ -e large.h5 ] || mv run/posterior-*.h5 large.h5
}
fit_large() { ivon-fit -q --no-provenance large.h5 --data=d.h5 --structure=lowrank --rank=50 "$@"; }

# stopped SIGNAL OPTION...: stopped again and again, until it is done.
stopped() {
  local signal=$1 delay=200 states=0 status
  shift
  rm -f o.h5*
  until [ -e o.h5 ]; do
    status=0
    timeout -s "$signal" "$((delay / 1000)).$(printf %03d $((delay % 1000)))" \
      "$IVON_BIN/ivon-fit" -q --no-provenance large.h5 --data=d.h5 "$@" -j1 -o o.h5 --resume 2> err || status=$?
    [ $status -eq 0 ] || [ $status -eq 124 ] || [ $status -eq 137 ] || { cat err; return 1; }
    [ ! -e o.h5.part ] || states=$((states + 1))
    delay=$((delay * 4 / 3))
  done
  [ ! -e o.h5.part ] && { [ $states -gt 0 ] || [ "$signal" = KILL ]; }
}

# state OPTION...: leaves one of a fit that is stopped.
state() {
  local delay
  rm -f o.h5*
  for delay in .2 .4 .8 1.6 3 6; do
    timeout -s TERM $delay "$IVON_BIN/ivon-fit" -q --no-provenance large.h5 --data=d.h5 --structure=lowrank -j1 -o o.h5 "$@" 2> err || [ $? -eq 124 ]
    [ ! -e o.h5.part ] || return 0
  done
  return 1
}

# resumed SIGNAL: the long fit goes on from its state, and is stopped as soon as it says so, in `err`.
resumed() {
  env --default-signal=INT,TERM "$IVON_BIN/ivon-fit" --no-provenance large.h5 --data=d.h5 --structure=lowrank --rank=500 -j1 -o o.h5 --resume 2> err &
  until grep -qE '^ivon-fit: o.h5.part: going on in pass [0-9]+ of [0-9]+, after [0-9]+ of 3000 examples$' err; do
    kill -0 $! || { cat err; return 1; }
    sleep .02
  done
  sleep .2
  kill -"$1" $!
  if wait $!; then return 1; fi
}

@test "a fit that is stopped goes on to the same bits" {
  large
  while read -r options; do
    ivon-fit -q --no-provenance large.h5 --data=d.h5 $options -f -o whole.h5
    stopped TERM $options
    cmp whole.h5 o.h5
  done << 'OPTIONS'
--structure=lowrank --rank=8 --memory=4M
--structure=lowrank:posterior --rank=8
--structure=lowrank:diagonal --rank=8 --tune=marginal:per-tensor
--structure=lowrank:diagonal --rank=4 --tune=validation --validation=held.h5
OPTIONS
  state --rank=50 # which a fit without --resume replaces, and removes
  fit_large -o o.h5
  [ ! -e o.h5.part ]
}

@test "a fit that is killed goes on from the state that there is" {
  large
  fit_large -o whole.h5
  state --rank=50
  cp o.h5.part state
  state --rank=500
  cp o.h5.part before
  resumed KILL
  cmp before o.h5.part
  mv state o.h5.part
  fit_large -o o.h5 --resume
  cmp whole.h5 o.h5
  [ -z "$(find . -name '*.part' -o -name '*.ivon-tmp')" ]
}

@test "a fit that is stopped says how to go on, and where it does" {
  large
  state --rank=500
  resumed INT
  grep -qx 'ivon-fit: o.h5.part keeps what was done: go on by --resume' err
}

@test "a state that is none of this fit's is refused" {
  large
  state --rank=50
  cp o.h5.part kept
  resume() { ivon-fit -q --no-provenance large.h5 --data=d.h5 --structure=lowrank --rank=50 -o o.h5 --resume "$@"; }
  refused 65 "o.h5.part: is of a fit with 'seed 0', expected 'seed 1'; remove it or leave --resume out" resume --seed=1
  refused 65 "o.h5.part: is of a fit with 'rank 50', expected 'rank 49'" resume --rank=49
  refused 65 "o.h5.part: is of a fit with '3000 examples', expected '2999 examples'" resume --limit=2999
  refused 65 "o.h5.part: is of a fit with 'parameters " resume --exclude='*.bias'
  refused 65 "o.h5.part: is of a fit with other examples than the first " resume --targets=z
  refused 65 "o.h5.part: is of a fit with other examples than the first " resume --normalize=0,2
  head -c 3000 kept > o.h5.part
  refused 65 "remove it or leave --resume out" resume
  cp whole.h5 o.h5.part 2> /dev/null || cp large.h5 o.h5.part
  refused 65 "o.h5.part: is no state of a fit" resume
  echo mine > o.h5.part
  refused 65 "o.h5.part: is in the way, and not the state of an interrupted fit" resume
  refused 65 "o.h5.part: is in the way, and not the state of an interrupted fit" fit_large -o o.h5
  [ "$(cat o.h5.part)" = mine ]
}

@test "a disk that is full leaves the state that there was" {
  large
  state --rank=500
  cp o.h5.part before
  (
    trap '' XFSZ
    ulimit -f 150
    resumed TERM
  )
  grep -qF "what was done is not saved: o.h5.part: cannot write it" err
  cmp before o.h5.part
  [ -z "$(find . -name '*.ivon-tmp')" ]
}

@test "a run that is killed leaves no output" {
  large
  for signal in TERM INT KILL; do
    env --default-signal=INT ivon-fit -q large.h5 --data=d.h5 --structure=lowrank --rank=500 -o o.h5 &
    pid=$!
    sleep 0.6
    kill -$signal $pid
    status=0
    wait $pid || status=$?
    [ $status -gt 128 ] || { echo "$signal: $status"; return 1; }
    [ ! -e o.h5 ]
  done
  [ -z "$(find . -name '*.ivon-tmp')" ]
}
