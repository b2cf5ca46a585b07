load common

# Three models of six layers, of which a vocabulary may have more rows.
models() {
  $python - <<'PYTHON'
import h5py, numpy as np
def posterior(path, seed, rows=9):
    r = np.random.default_rng(seed)
    tensors = [("embed.weight", (rows, 4)), ("lm_head.bias", (rows,)), ("norm.weight", (4,))]
    for i in range(6):
        tensors += [(f"model.layers.{i}.self_attn.w", (4, 4)), (f"model.layers.{i}.mlp.w", (3, 4))]
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1000.0 + seed, weight_decay=1e-3)
        for name, shape in tensors:
            f["mean/" + name] = r.standard_normal(shape).astype("f4")
            f["hessian/" + name] = r.gamma(1.0, 0.1, shape).astype("f4")
for i in range(3):
    posterior(f"{i}.h5", i)
posterior("long.h5", 3, 12)
posterior("short.h5", 4, 7)
PYTHON
}

merge() { ivon-merge -q --no-provenance "$@"; }

# weights SCRIPT ARGUMENT...: the plan of a merge as the dict w, a list for each tensor; SCRIPT is Python.
weights() {
  ivon-merge -q --dry-run --json "${@:2}" > plan.json
  $python - "$1" <<'PYTHON'
import json, sys
import numpy as np
lines = [json.loads(line) for line in open("plan.json")]
w = {line["tensor"]: line["weights"] for line in lines[:-1]}
assert lines[-1]["merged"]["tensors"] == len(w) == 15
exec(sys.argv[1])
PYTHON
}

# refused STATUS TEXT RECIPE ARGUMENT...: one line, from file:line:column on.
refused() {
  printf '%b' "$3" > bad.yml
  run ivon-merge --recipe=bad.yml "${@:4}" -o bad.h5
  [ "$status" -eq "$1" ] && [ "${#lines[@]}" -eq 1 ] && [ ! -e bad.h5 ] && [[ $output == "ivon-merge: $2"* ]] ||
    { echo "status $status: $output, expected: $2"; return 1; }
}

@test "mergekit's task arithmetic with filters has the bytes of the command line" {
  models
  cat > recipe.yml <<'YAML'
# As mergekit-yaml takes it.
merge_method: task_arithmetic
base_model: 0.h5
models:
  - model: 0.h5
  - model: 1.h5
    parameters:
      weight:
        - filter: self_attn
          value: 0.7
        - filter: "layers.2."
          value: 0.2
        - value: 0.5
  - model: 2.h5
    parameters:
      weight: 0.25
dtype: float32
tokenizer_source: base
YAML
  merge --recipe=recipe.yml -o recipe.h5
  merge -m task-arithmetic -b 0.h5 '1.h5:0.5,*self_attn*=0.7,*layers.2.*=0.2' 2.h5:.25 -f -o line.h5
  cmp recipe.h5 line.h5
  merge -m task-arithmetic -b 0.h5 2.h5:.25 '1.h5,*self_attn*=.7,*layers.2.*=.2,*=.5' -o other.h5
  $python - <<'PYTHON'
import h5py, numpy as np
files = [h5py.File(name) for name in ("0.h5", "1.h5", "2.h5", "line.h5", "other.h5")]
means = []
for f in files:
    found = {}
    f["mean"].visititems(lambda n, d: found.update({n: d[()]}) if isinstance(d, h5py.Dataset) else None)
    means.append(found)
for name, base in means[0].items():
    weight = 0.7 if "self_attn" in name else 0.2 if "layers.2." in name else 0.5
    b = base.astype("f8")
    expected = b + weight * (means[1][name].astype("f8") - b) + 0.25 * (means[2][name].astype("f8") - b)
    assert np.allclose(means[3][name], expected, rtol=1e-6, atol=1e-7), name
    assert (means[4][name] == means[3][name]).all(), name
PYTHON
}

@test "the same recipe in JSON, on one line or with tabs, has the same bytes" {
  models
  printf 'merge_method: linear\nmodels: [{model: 1.h5, parameters: {weight: 2}}, {model: 2.h5, parameters: {weight: [1, 3]}}]\n' > a.yml
  echo '{"merge_method":"linear","models":[{"model":"1.h5","parameters":{"weight":2}},{"model":"2.h5","parameters":{"weight":[1,3]}}]}' > b.json
  $python -c "import json; print(json.dumps(json.load(open('b.json')), indent='\t'))" > c.json
  for recipe in a.yml b.json c.json; do merge --recipe=$recipe -o $recipe.h5; done
  cmp a.yml.h5 b.json.h5
  cmp a.yml.h5 c.json.h5
}

@test "gradients over the layers are those of numpy" {
  models
  cat > recipe.yml <<'YAML'
merge_method: task_arithmetic
base_model: 0.h5
models:
  - model: 1.h5
    parameters:
      weight:
        - filter: mlp
          value: [0, 1, 0.25, -2]
        - value: [0.5, 0.125]
  - model: 2.h5
parameters:
  weight: [1, 2, 4]
YAML
  weights '
for name, (first, second) in w.items():
    layer = int(name.split(".")[2]) if "layers" in name else 0 if "emb" in name else 5
    v = [0, 1, .25, -2] if "mlp" in name else [.5, .125]
    for weight, values in (first, v), (second, [1, 2, 4]):
        expected = np.interp(layer / 5, np.linspace(0, 1, len(values)), values)
        assert abs(weight - expected) < 1e-14, (name, weight, expected)
' --recipe=recipe.yml
}

@test "normalize divides by the sum of the weights of each tensor" {
  models
  cat > recipe.yml <<'YAML'
merge_method: task_arithmetic
base_model: 0.h5
models: [{model: 1.h5, parameters: {weight: {filter: mlp, value: 3}}}, {model: 2.h5}]
parameters: {weight: [1, 1], normalize: true}
YAML
  for method in task_arithmetic dare_linear dare breadcrumbs gradient_matching; do
    sed -i "s/^merge_method: .*/merge_method: $method/" recipe.yml
    weights '
for name, (first, second) in w.items():
    a = 3 if "mlp" in name else 1
    assert np.allclose([first, second], [a / (a + 1), 1 / (a + 1)], rtol=1e-15), name
' --recipe=recipe.yml || { echo $method; return 1; }
  done
  # What divides by the sum in its formula is given the weights as they are, and cannot leave that out.
  for method in ties dare_ties hessian regmean; do
    sed -i "s/^merge_method: .*/merge_method: $method/; s/normalize: .*}/normalize: true}/" recipe.yml
    if [ $method != regmean ]; then # which asks for Gram matrices
      weights 'assert all(second == 1 and first == (3 if "mlp" in n else 1) for n, (first, second) in w.items())' \
        --recipe=recipe.yml || { echo $method; return 1; }
    fi
    sed -i 's/normalize: .*}/normalize: false}/' recipe.yml
    run ivon-merge --recipe=recipe.yml --dry-run
    [ $status -eq 65 ]
    [[ $output == *"normalize: merge_method ${method//_/-} never does without" ]]
  done
  echo '{merge_method: linear, parameters: {normalize: false, weight: .5}, models: [{model: 1.h5}, {model: 2.h5}]}' > half.yml
  merge --recipe=half.yml -o half.h5
  merge -m average 1.h5:.5 2.h5:.5 -f -o line.h5
  cmp half.h5 line.h5
  sed -i 's/: .5}/: .75}/' half.yml
  run ivon-merge --recipe=half.yml --dry-run
  [ $status -eq 65 ]
  [[ $output == *"half.yml: normalize: false, and the weights of tensor 'embed.weight' add up to 1.5, expected 1" ]]
}

@test "methods by means alone, lambda, and parameters that are options" {
  models
  for method in ties dare_linear dare_ties breadcrumbs; do
    [ $method = breadcrumbs ] && gamma=', gamma: 0.1' outliers=--outliers=.1 || gamma= outliers=
    cat > recipe.yml <<YAML
merge_method: $method
base_model: 0.h5
models:
  - {model: 0.h5}
  - {model: 1.h5, parameters: {density: 0.6, weight: 0.5}}
  - {model: 2.h5, parameters: {density: 0.6, weight: 2}}
parameters: {lambda: 0.75, int8_mask: true$gamma}
YAML
    merge --recipe=recipe.yml -o $method.h5
    name=${method%_linear}
    merge -m ${name//_/-} -b 0.h5 1.h5:.5 2.h5:2 --density=.6 $outliers --scale=.75 -f -o line.h5
    cmp $method.h5 line.h5
  done
  echo '{merge_method: slerp, base_model: 0.h5, models: [{model: 0.h5}, {model: 1.h5}], parameters: {t: 0.3}}' > slerp.yml
  merge --recipe=slerp.yml -o slerp.h5
  merge -m slerp -b 0.h5 1.h5:.3 -f -o line.h5
  cmp slerp.h5 line.h5
  echo '{merge_method: model_stock, base_model: 0.h5, models: [{model: 1.h5}, {model: 2.h5}]}' > stock.yml
  merge --recipe=stock.yml -o stock.h5
  merge -m model-stock -b 0.h5 1.h5 2.h5 -f -o line.h5
  cmp stock.h5 line.h5
  echo '{merge_method: ties, base_model: 0.h5, models: [{model: 1.h5}, {model: 2.h5}]}' > ties.yml
  merge --recipe=ties.yml -f -o ties.h5 # where mergekit trims nothing
  merge -m ties -b 0.h5 1.h5 2.h5 --density=1 -f -o line.h5
  cmp ties.h5 line.h5
  refused 64 "bad.yml:1:78: the recipe has 'lambda', and the command line --scale" \
    '{merge_method: ties, base_model: 0.h5, models: [{model: 1.h5}], parameters: {lambda: 2}}' --scale=1
  refused 65 "bad.yml:1:110: density 0.5 after 0.4: models of different densities are not" \
    '{merge_method: ties, models: [{model: 1.h5, parameters: {density: 0.4}}, {model: 2.h5, parameters: {density: 0.5}}]}'
}

@test "slices have models and weights of their own, and layers stay where they are" {
  models
  cat > recipe.yml <<'YAML'
merge_method: task_arithmetic
base_model: 0.h5
slices:
  - sources:
      - {model: 1.h5, layer_range: [0, 4], parameters: {weight: [0, 3]}}
      - {model: 2.h5, layer_range: [0, 4]}
  - sources: [{model: 2.h5, layer_range: [4, 6]}]
    parameters: {weight: 7}
parameters: {weight: 5}
YAML
  weights '
for name, pair in w.items():
    layer = int(name.split(".")[2]) if "layers" in name else -1 if "emb" in name else 6
    assert pair == ([max(layer, 0), 5] if layer < 4 else [0, 7]), (name, pair)
' --recipe=recipe.yml
  cat > pass.yml <<'YAML'
{slices: [{sources: [{model: 2.h5, layer_range: [0, 2]}]}, {sources: [{model: 1.h5, layer_range: [2, 6]}]}],
 merge_method: passthrough}
YAML
  merge --recipe=pass.yml -o pass.h5
  $python - <<'PYTHON'
import h5py
f, one, two = (h5py.File(name) for name in ("pass.h5", "1.h5", "2.h5"))
for i in range(6):
    for part in "self_attn.w", "mlp.w":
        name = f"mean/model.layers.{i}.{part}"
        assert (f[name][()] == (two if i < 2 else one)[name][()]).all(), name
assert (f["mean/embed.weight"][()] == two["mean/embed.weight"][()]).all()
assert (f["mean/norm.weight"][()] == one["mean/norm.weight"][()]).all()
PYTHON
}

@test "weights of layers by globs: the first that matches, numbers in braces" {
  models
  weights '
for name, (first, second) in w.items():
    layer = int(name.split(".")[2]) if "layers" in name else -1
    assert first == (.2 if 1 <= layer <= 3 else .7 if "attn" in name else 2), name
    assert second == (-1 if name == "norm.weight" else 1), name
' -b 0.h5 '1.h5:2,*.layers.{1..3}.*=.2,*attn*=.7' '2.h5,norm.weight=-1'
  $python - <<'PYTHON'
import h5py, numpy as np
with h5py.File("1.h5") as f, h5py.File("bare.h5", "w") as g:
    g.attrs.update(f.attrs)
    f.copy("mean", g)
    found = {}
    f["hessian"].visititems(lambda n, d: found.update({n: d[()]}) if isinstance(d, h5py.Dataset) else None)
    np.savez("fisher.npz", **found)
PYTHON
  cp 1.h5 '1,a=b.h5'
  weights 'assert w["norm.weight"] == [3], w' -b 0.h5 '1,a=b.h5,norm*=3'
  weights 'assert w["norm.weight"] == [3] and w["embed.weight"] == [.5], w' -b 0.h5 'bare.h5:.5,norm*=3,hessian=fisher.npz'
  weights 'assert w["norm.weight"] == [3] and w["embed.weight"] == [.5], w' -b 0.h5 'bare.h5,hessian=fisher.npz:.5,norm*=3'
  run ivon-merge -b 0.h5 '1.h5,nor=3' -o a.h5
  [ $status -eq 0 ]
  [ "$output" = "ivon-merge: warning: pattern 'nor' of the weights of 1.h5 matches no tensor that is merged" ]
  run ivon-merge -b 0.h5 '1.h5,norm*=nan' -o b.h5
  [ $status -eq 64 ]
  [[ $output == *"weight 'nan', expected a finite number" ]]
  run ivon-merge -b 0.h5 '1.h5,{0..999}.{0..999}=1' -o b.h5
  [ $status -eq 64 ]
  [[ $output == *"stands for more than 10000 patterns" ]]
  run ivon-merge -m average 1.h5 '2.h5,norm*=-1' -o b.h5
  [ $status -eq 64 ]
  [[ $output == *"tensor 'norm.weight': the weights add up to zero"* ]]
}

@test "a dry run prints the plan" {
  models
  ivon-merge -q --dry-run -b 0.h5 1.h5:.5 2.h5 --exclude='*.layers.[1-5].*' --exclude='norm*' > plan
  [ "$(wc -l < plan)" -eq 16 ]
  grep -v 'layers.[1-5]' plan > shown
  diff shown - <<'PLAN'
tensor                      shape  fate    how                1.h5  2.h5
embed.weight                9x4    merged  gradient-matching  0.5   1
lm_head.bias                9      merged  gradient-matching  0.5   1
norm.weight                 4      kept    not selected       -     -
model.layers.0.self_attn.w  4x4    merged  gradient-matching  0.5   1
model.layers.0.mlp.w        3x4    merged  gradient-matching  0.5   1
PLAN
}

@test "vocabularies of different size: common rows are merged, the others are one input's" {
  models
  run ivon-merge -b 0.h5 1.h5 long.h5 -o none.h5
  [ $status -eq 65 ]
  [ "$output" = "ivon-merge: long.h5: tensor 'embed.weight': shape 12x4, 0.h5 has 9x4; see --on-mismatch, or --vocabulary if the rows are tokens" ]
  run ivon-merge --no-provenance --vocabulary=longest -b 0.h5 1.h5 long.h5 short.h5 -o longest.h5
  [ $status -eq 0 ]
  [ "$output" = "ivon-merge: warning: vocabularies differ: of 2 tensors, 'embed.weight' the first, the first 7 rows are merged, and the other 5 are those of long.h5" ]
  merge --vocabulary=base -b 0.h5 1.h5 long.h5 short.h5 -o base.h5
  merge --vocabulary=base -b 0.h5 short.h5 long.h5 1.h5 -j1 -o order.h5
  cmp base.h5 order.h5
  merge --vocabulary=base -b short.h5 1.h5 long.h5 -o short-base.h5
  merge --vocabulary=longest -m average long.h5 1.h5 -o average.h5
  merge -b 0.h5 1.h5 2.h5 -o a.h5
  merge --vocabulary=longest -b 0.h5 1.h5 2.h5 -o b.h5
  cmp a.h5 b.h5
  $python - <<'PYTHON'
import h5py, numpy as np
def read(path):
    f = h5py.File(path)
    s = float(f.attrs["ess"]), float(f.attrs["weight_decay"])
    return {n: (f["mean/" + n][()].astype("f8"), s[0] * (f["hessian/" + n][()].astype("f8") + s[1]),
                s[0] * f["hessian/" + n][()].astype("f8")) for n in ("embed.weight", "lm_head.bias")}
base, one, long, short = (read(n) for n in ("0.h5", "1.h5", "long.h5", "short.h5"))
def check(path, based, models, common, rest, rows):
    result = read(path)
    for n, (mean, precision, _) in result.items():
        assert len(mean) == rows, (path, mean.shape)
        m0, s0 = (x[:common] for x in based[n][:2])
        p = s0 + sum(m[n][2][:common] for m in models)
        m = m0 + sum((s0 + m[n][2][:common]) / p * (m[n][0][:common] - m0) for m in models)
        assert np.allclose(mean[:common], m, rtol=1e-6, atol=1e-6), (path, n)
        assert np.allclose(precision[:common], p, rtol=1e-6), (path, n)
        assert (mean[common:] == rest[n][0][common:rows]).all(), (path, n)
        assert np.allclose(precision[common:], rest[n][1][common:rows], rtol=1e-6), (path, n)
check("longest.h5", base, [one, long, short], 7, long, 12)
check("base.h5", base, [one, long, short], 7, base, 9)
check("short-base.h5", short, [one, long], 7, short, 7)
average = read("average.h5")["embed.weight"]
assert np.allclose(average[0][:9], (one["embed.weight"][0] + long["embed.weight"][0][:9]) / 2, rtol=1e-6, atol=1e-7)
assert (average[0][9:] == long["embed.weight"][0][9:]).all()
PYTHON
  ivon-info --check longest.h5 -q
  merge --vocabulary=longest -b 0.h5 long.h5 1.h5 --dtype=bf16 --sweep=0.5:1:0.5 --json -o 's-%g.safetensors' > sums
}

@test "what is not of one vocabulary is refused" {
  posterior 0.h5 0
  posterior 1.h5 1 '
for n, shape in ("head.weight", (5, 30)), ("fc1.bias", (31,)):
    for part in "mean/", "hessian/":
        del f[part + n]; f[part + n] = np.ones(shape, "f4")'
  run ivon-merge --vocabulary=base -b 0.h5 1.h5 -o x.h5
  [ $status -eq 65 ]
  [ "$output" = "ivon-merge: 0.h5: tensor 'head.weight' has 3 rows and 'fc1.bias' 30: they are not those of one vocabulary; see --exclude" ]
  merge --vocabulary=base -b 0.h5 1.h5 --exclude=fc1.bias -o x.h5
  posterior 2.h5 2 'del f["mean/head.weight"]; f["mean/head.weight"] = np.ones((3, 31), "f4")'
  run ivon-merge --vocabulary=base -b 0.h5 2.h5 -o y.h5
  [ $status -eq 65 ]
  [[ $output == *"2.h5: tensor 'head.weight': shape 3x31, 0.h5 has 3x30; see --on-mismatch" ]]
}

@test "mistakes in recipes get one line with the place" {
  models
  local head='merge_method: task_arithmetic\nbase_model: 0.h5\n'
  local list="${head}models:\n - model: 1.h5\n"
  refused 65 "bad.yml:1:1: an empty recipe" ''
  refused 65 "bad.yml:1:1: expected a recipe with keys and values" 'text'
  refused 65 "bad.yml:2:1: did not find expected ',' or '}'" '{merge_method: linear\n'
  refused 65 "bad.yml:1:1: a recipe without merge_method" 'models: [{model: 1.h5}]'
  refused 65 "bad.yml:1:1: a recipe with neither models and slices" 'merge_method: linear'
  refused 65 "bad.yml:1:15: merge_method 'ties_and_more' is not supported, expected one of linear" 'merge_method: ties_and_more\nmodels: []'
  refused 65 "bad.yml:3:1: key 'modules' is not supported, expected one of models, slices" "${head}modules: {}\n"
  refused 65 "bad.yml:5:4: key 'wait' is not supported, expected one of model, hessian, parameters" "${list}   wait: 1\n"
  for value in '{a: b}' '[1.h5]' '""'; do
    refused 65 "bad.yml:4:11: model: expected a text" "${head}models:\n - model: $value\n"
  done
  refused 65 "bad.yml:3:14: a source without 'layer_range'" "merge_method: linear\nslices:\n - sources: [{model: 1.h5}]\n"
  refused 65 "bad.yml:3:14: a source without 'model'" "merge_method: linear\nslices:\n - sources: [{layer_range: [0, 6]}]\n"
  refused 65 "bad.yml:5:17: key 'rescale' is not supported, expected one of weight, t, density" "${list}   parameters: {rescale: 1}\n"
  refused 65 "bad.yml:5:25: weight: expected a number" "${list}   parameters: {weight: \"1\"}\n"
  refused 65 "bad.yml:5:25: weight: expected a number" "${list}   parameters: {weight: .inf}\n"
  refused 65 "bad.yml:5:25: weight: expected a number" "${list}   parameters: {weight: 1e999}\n"
  refused 65 "bad.yml:5:25: weight: expected a number or a list" "${list}   parameters: {weight: []}\n"
  refused 65 "bad.yml:5:25: weight: no value for names that no filter is in" "${list}   parameters: {weight: [{filter: a, value: 1}]}\n"
  refused 65 "bad.yml:5:38: a value behind one for all" "${list}   parameters: {weight: [{value: 1}, {value: 2}]}\n"
  refused 65 "bad.yml:5:1: key 'base_model' a second time, after line 2" "${list}base_model: 1.h5\n"
  refused 65 "bad.yml:4:11: anchors and aliases" "${head}models:\n - model: &a 1.h5\n - model: *a\n"
  refused 65 "bad.yml:4:11: tags are not supported" "${head}models:\n - model: !!python/name:os.system 1.h5\n"
  refused 65 "bad.yml:5:19: tokenizer_source 'union' is not supported, expected base" "${list}tokenizer_source: union\n"
  refused 65 "bad.yml:5:8: dtype 'int8' is not supported, expected float32" "${list}dtype: int8\n"
  refused 65 "bad.yml:3:9: models: there is none" "${head}models: [{model: 0.h5}]\n"
  refused 65 "bad.yml:2:1: a second document" 'a: 1\n---\nb: 1\n'
  refused 65 "bad.yml:1:4: a text with a NUL" 'a: "\\0"\n'
  refused 65 "bad.yml: no text at byte 3" 'a: \xff\n'
  refused 65 "bad.yml:5:25: normalize: expected true or false" "${list}parameters: {normalize: 2}\n"
  refused 64 "bad.yml:2:1: the recipe has 'base_model', and the command line --base" "$list" -b 1.h5
  refused 64 "bad.yml:1:1: the recipe has 'merge_method', and the command line --method" "$list" -m average
  refused 64 "bad.yml:5:1: the recipe has 'dtype', and the command line --dtype" "${list}dtype: float32\n" --dtype=keep
  refused 64 "'2.h5': with --recipe the models are those of the recipe" "$list" 2.h5
  refused 66 "nowhere.h5: cannot open it" "${head}models: [{model: nowhere.h5}]\n"
  run ivon-merge --recipe=nowhere.yml -o bad.h5
  [ $status -eq 66 ]
  [ "$output" = "ivon-merge: nowhere.yml: cannot open it: No such file or directory" ]
  run ivon-merge --recipe=. -o bad.h5
  [ $status -eq 66 ]
}

@test "slices that would move layers are refused" {
  models
  local head='merge_method: passthrough\nslices:\n'
  source() { echo " - sources: [{model: $1.h5, layer_range: [$2, $3]}]\n"; }
  refused 65 "bad.yml:4:4: slices: begins with layer 2, expected 4" "$head$(source 1 0 4)$(source 2 2 6)"
  refused 65 "bad.yml:3:4: slices: begins with layer 1, expected 0" "$head$(source 1 1 6)"
  refused 65 "bad.yml: slices have layers 0 to 3, the models have 6 layers" "$head$(source 1 0 4)"
  refused 65 "bad.yml:3:41: layer_range: expected [FIRST, END]" "$head$(source 1 4 4)"
  refused 65 "bad.yml:3:41: layer_range: expected [FIRST, END]" "$head$(source 1 0 1.5)"
  refused 65 "bad.yml:3:50: slices: passthrough takes one source" "$head - sources: [{model: 1.h5, layer_range: [0, 6]}, {model: 2.h5, layer_range: [0, 6]}]\n"
  refused 65 "bad.yml:3:50: slices: layers 1 to 6 beside 0 to 5" "merge_method: linear\nslices:\n - sources: [{model: 1.h5, layer_range: [0, 6]}, {model: 2.h5, layer_range: [1, 7]}]\n"
  refused 65 "bad.yml:3:50: slices: model '1.h5' a second time" "merge_method: linear\nslices:\n - sources: [{model: 1.h5, layer_range: [0, 6]}, {model: 1.h5, layer_range: [0, 6]}]\n"
}

@test "recipes that grow are refused at once" {
  models
  $python - <<'PYTHON'
open("deep.yml", "w").write("[" * 100000)
open("deep-map.yml", "w").write("{a: " * 1000)
open("large.yml", "w").write("a" * (1 << 20) + "b")
open("many.yml", "w").write("models: [" + "a, " * 100000 + "]")
open("keys.yml", "w").write("".join(f"k{i}: 1\n" for i in range(100)))
open("models.yml", "w").write("merge_method: linear\nmodels:\n" + " - model: 1.h5\n" * 1100)
filters = ", ".join(f"{{filter: a{i}, value: 1}}" for i in range(900))
open("rules.yml", "w").write("merge_method: linear\nparameters: {weight: [" + filters + ", {value: 1}]}\nmodels:\n" +
                             " - model: 1.h5\n" * 900)
bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
for a, b in zip("abcdefgh", "bcdefghi"):
    bomb += f"{b}: &{b} [" + ", ".join([f"*{a}"] * 9) + "]\n"
open("bomb.yml", "w").write(bomb)
PYTHON
  for pair in "deep:1:17: values nested too deeply" "deep-map:1:65: values nested too deeply" "large: a recipe of more than" \
    "many:1:196612: too many values" "keys:65:1: too many keys" "models:1003:4: more than 1000 models" \
    "bomb:1:4: anchors and aliases" "rules:2:17177: more than 65536 weights in all"; do
    run timeout 5 ivon-merge --recipe="${pair%%:*}.yml" --dry-run
    [ $status -eq 65 ]
    [[ $output == "ivon-merge: ${pair%%:*}.yml:${pair#*:}"* ]] || { echo "$output"; return 1; }
  done
}

@test "a recipe is among the inputs of the provenance, and its models are read in the sandbox" {
  models
  mkdir elsewhere
  mv 1.h5 elsewhere
  echo '{merge_method: hessian, models: [{model: elsewhere/1.h5}, {model: 2.h5, parameters: {weight: 0.5}}]}' > recipe.json
  ivon-merge -q --hash --recipe=recipe.json -o a.h5
  sum=$(sha256sum recipe.json | cut -d' ' -f1)
  $python -c "
import h5py, json
inputs = json.loads(h5py.File('a.h5').attrs['provenance'])['inputs']
assert [i['path'] for i in inputs] == ['recipe.json', 'elsewhere/1.h5', '2.h5'], inputs
assert inputs[0]['sha256'] == '$sum' and inputs[2]['weight'] == .5, inputs"
}
