# Which inputs ivon-merge refuses, and which names it takes for one tensor.
load common

# write SCRIPT: Python with put(NAME, ARRAYS), which writes NAME.safetensors and NAME.npz.
write() {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B - <<PYTHON
import numpy as np, safetensors_file as st
r = np.random.default_rng(0)
f = lambda *shape: r.standard_normal(shape).astype("f4")
i = lambda dtype, *shape: r.integers(0, 99, shape).astype(dtype)
def put(name, **arrays):
    arrays = {n.replace("__", "."): a for n, a in arrays.items()}
    st.write(name + ".safetensors", arrays)
    np.savez(name + ".npz", **arrays)
$1
PYTHON
}

refused() { # STATUS TEXT COMMAND...: one line, and no output
  run "${@:3}"
  [ "$status" -eq "$1" ] && [ "${#lines[@]}" -eq 1 ] && [[ $output == *"$2"* ]] && [ ! -e x.h5 ] ||
    { echo "status $status: $output"; return 1; }
}

@test "quantized weights are refused, by what stands beside them" {
  write '
for k, codes in enumerate([
    dict(l__qweight=i("i4", 4, 8), l__qzeros=i("i4", 1, 1), l__scales=f(1, 8).astype("f2"), l__g_idx=i("i4", 4)),
    dict(l__qweight=i("i4", 4, 8), l__qzeros=i("i4", 1, 8), l__scales=f(1, 8)),
    dict(l__weight=i("i1", 4, 4), l__SCB=f(4), l__weight_format=i("u1")),
    dict(l__weight=i("u1", 8, 1), l__weight__absmax=f(2), l__weight__quant_map=f(16)),
    dict(l__weight=i("u1", 8, 1), l__weight__absmax=i("u1", 2), l__weight__nested_absmax=f(1)),
    dict(l__weight_packed=i("i4", 4, 4), l__weight_scale=f(4), l__weight_shape=i("i8", 2)),
    dict(l__weight=i("i1", 4, 4), l__weight_scale=f(4)),
    dict(l__weight=i("u4", 4, 4), l__scales=f(4), l__biases=f(4)),
    dict(l__W_q=i("u1", 4, 4), l__scale=f(4), l__zero=f(4)),
    dict(l__up_proj_blocks=i("u1", 4, 4), l__up_proj_scales=f(4)),
    dict(w_quantized=i("i1", 4), w_scale=f(1)),
    dict(l__weight___data=i("i1", 4), l__weight___scale=f(1)),
]):
    for t in "ab":
        put(f"{k}{t}", norm__weight=f(8), **{n: a if a.dtype.kind != "f" else a + (t == "b") for n, a in codes.items()})
for t in "ab": # integers that are no codes
    put("fine" + t, attn__scale=f(1), attn__position_ids=i("i4", 4), attn__mask=np.ones(4, "?"),
        attn__index=i("i8", 4), weight_scale=f(3), w__weight=f(2, 2), w__logit_scale=f(1))'
  for k in 0 1 2 3 4 5 6 7 8 9 10 11; do
    for kind in safetensors npz; do
      refused 65 "holds quantized weights, codes with '" ivon-merge -m average ${k}a.$kind ${k}b.$kind -o x.h5
      refused 65 "see --exclude" ivon-merge -m task-arithmetic -b ${k}a.$kind ${k}b.$kind -o x.h5
    done
    ivon-merge -q -m average ${k}a.npz ${k}b.npz --exclude='[lw][._]*' -o $k.h5
    ivon-merge -q -m average ${k}a.npz ${k}b.npz --include='norm*' -o $k.npz
    $python -c "
import numpy as np
a, b, c = (dict(np.load(f)) for f in ('${k}a.npz', '${k}b.npz', '$k.npz'))
assert all(np.array_equal(a[n], c[n]) for n in a if n != 'norm.weight')
assert np.array_equal(c['norm.weight'], ((np.float64(a['norm.weight']) + b['norm.weight']) / 2).astype('f4'))"
    ivon-convert ${k}a.safetensors -o $k.safetensors # bits are carried
  done
  refused 65 "0a.npz: 'l.qweight' holds quantized weights, codes with 'l.scales'" ivon-merge -m average 0a.npz 0b.npz --exclude='*.scales' -o x.h5
  refused 65 "'l.scales'" ivon-merge -m average 0a.npz 0b.npz --exclude='*.qweight' -o x.h5
  ivon-merge -q -m average finea.npz fineb.npz -o fine.h5
}

@test "factors of adapters are refused, with a base and without" {
  write '
p = "base_model.model.layers.0.q_proj."
put("base", **{"model.layers.0.q_proj.weight": f(6, 4)})
for k, names in enumerate([["lora_A.weight", "lora_B.weight"], ["lora_A.default.weight"],
                           ["lora_embedding_A"], ["lora_magnitude_vector"], ["lora_E"],
                           ["hada_w1_a"], ["lokr_w1"], ["lora_down.weight"], ["to_q_lora.up.weight"],
                           ["vera_lambda_b"]]):
    for t in "ab":
        put(f"{k}{t}", **{p + n: f(2, 4) for n in names})
        put(f"{k}{t}-slashes", **{(p + n).replace(".", "/"): f(2, 4) for n in names})
        put(f"{k}{t}-whole", **{p + "base_layer.weight": f(6, 4)}, **{p + n: f(2, 4) for n in names})
for t in "ab":
    put(f"other{t}", explora_tion=f(3), lora=f(3))'
  for k in 0 1 2 3 4 5 6 7 8 9; do
    for end in .safetensors .npz -slashes.npz -whole.npz; do
      refused 65 "is a factor of a low-rank adapter" ivon-merge -m average ${k}a$end ${k}b$end -o x.h5
      refused 65 "is a factor of a low-rank adapter" ivon-merge --on-mismatch=base -b base.npz ${k}a$end ${k}b$end -o x.h5
    done
    ivon-merge -q -m average ${k}a-whole.npz ${k}b-whole.npz --include='*base_layer*' -o $k.h5
  done
  ivon-merge -m average othera.npz otherb.npz -o other.h5
}

@test "an adapter's directory is refused by the name of its weights" {
  mkdir -p d
  touch d/adapter_model.safetensors d/config.json
  refused 66 "d: is a directory: name d/adapter_model.safetensors" ivon-merge -m average d d -o x.h5
}

@test "a merge of nothing is an error, whatever was to be done with mismatches" {
  write '
put("base", l__w=f(3), n=f(2))
put("t", model__l__w=f(3), model__n=f(2))
put("u", l__w=f(3), n=f(2))
put("reshaped", l__w=f(4), n=f(3))
put("half", l__w=f(3))
put("other", n=f(2))
put("integers", k=i("i8", 3))'
  for choice in error base skip; do
    for kind in safetensors npz; do
      refused 65 "t.$kind: none of its tensors is in base.$kind: the nearest names are 'model.l.w' and 'l.w' there" \
        ivon-merge -m task-arithmetic -b base.$kind u.$kind t.$kind --on-mismatch=$choice -o x.h5
    done
  done
  for choice in error skip; do
    refused 65 "t.npz: none of its tensors is in u.npz" ivon-merge -m average u.npz t.npz --on-mismatch=$choice -o x.h5
  done
  refused 65 "nothing to merge: of no tensor have all inputs what it takes ('l.w': other shape in reshaped.npz)" \
    ivon-merge -m task-arithmetic -b base.npz reshaped.npz --on-mismatch=base -o x.h5
  refused 65 "nothing to merge" ivon-merge -m task-arithmetic -b base.npz half.npz other.npz --on-mismatch=skip -o x.h5
  refused 65 "nothing to merge: no tensor of the models is selected; see --include and --exclude" \
    ivon-merge -m task-arithmetic -b base.npz u.npz --include='x*' -o x.h5
  refused 65 "no tensor of the models is selected" ivon-merge -m average u.npz u.npz --exclude='*' -o x.h5
  refused 65 "nothing to merge: the models have no means" ivon-merge -m average integers.npz integers.npz -o x.h5
  refused 65 "none of its tensors is in base.npz" ivon-merge --dry-run -m task-arithmetic -b base.npz t.npz
  ivon-merge -q -m task-arithmetic -b base.npz half.npz --on-mismatch=base -o some.h5
}

@test "rows of another vocabulary are refused" {
  write '
put("a", embed__weight=f(6, 4), w=f(3))
put("b", embed__weight=f(7, 4), w=f(3))'
  refused 65 "b.npz: tensor 'embed.weight': shape 7x4, a.npz has 6x4" ivon-merge -m average a.npz b.npz -o x.h5
  refused 65 "b.npz: tensor 'embed.weight': shape 7x4, a.npz has 6x4" ivon-merge -m task-arithmetic -b a.npz b.npz -o x.h5
}

@test "tied names are one tensor, wherever both are told" {
  write '
def model(name, tied, head=None, **more):
    e = f(6, 4)
    put(name, embed__weight=e, l__weight=f(4, 4), **({"lm_head__weight": e if head is None else head} if tied else {}), **more)
model("plain0", False); model("plain1", False); model("both0", True); model("both1", True)
model("untied", True, head=f(6, 4))
model("almost", True)
a = dict(np.load("almost.npz"))
a["lm_head.weight"] = a["lm_head.weight"].copy()
a["lm_head.weight"][5, 3] += 1
put("almost", **a)
put("zeros", embed__weight=np.zeros((6, 4), "f4"), l__weight=f(4, 4), lm_head__weight=np.zeros((6, 4), "f4"))'
  cat > check.py <<'PYTHON'
import sys, numpy as np
out, base, *models = (dict(np.load(p)) for p in sys.argv[2:])
names = {"embed.weight", "l.weight"} | ({"lm_head.weight"} if sys.argv[1] == "both" else set())
assert {n for n in out if "weight" in n} == names, list(out)
for name in names:
    value = lambda m: np.float64(m.get(name, m["embed.weight"]))
    expected = value(base) + sum(value(m) - value(base) for m in models)
    assert np.allclose(out[name], expected, rtol=2.0 ** -24, atol=0), name
PYTHON
  # With a base its names are the result's.
  for pair in "plain0 both0 plain1 plain" "plain0 both0 both1 plain" "both0 plain0 both1 both" "both0 both1 plain1 both"; do
    read -r base one two names <<< "$pair"
    for kind in npz safetensors; do
      ivon-merge -m task-arithmetic -b $base.$kind $one.$kind $two.$kind -o $names-$kind.npz -f 2> err
      $python check.py $names $names-$kind.npz $base.npz $one.npz $two.npz
      grep -q "1 name that an input lacks was taken for a second name: 'lm_head.weight' is 'embed.weight' bit by bit in both" err
      [ "$(wc -l < err)" -eq 1 ]
    done
  done
  # Without one it has all names, in any order of the models.
  ivon-merge --no-provenance -q -m average plain0.npz both0.npz -o mean0.npz
  ivon-merge --no-provenance -q -m average both0.npz plain0.npz -o mean1.npz
  $python -c "
import numpy as np
a, b, p, q = (np.load(f) for f in ('mean0.npz', 'mean1.npz', 'plain0.npz', 'both0.npz'))
for n, m in [('embed.weight',) * 2, ('lm_head.weight', 'embed.weight'), ('l.weight',) * 2]:
    x = ((np.float64(p[m]) + q[m]) / 2).astype('f4')
    assert np.array_equal(a[n], x) and np.array_equal(b[n], x), n"
  # What is not the same bits, or of one value throughout, is not tied.
  for head in untied almost zeros; do
    refused 65 "plain0.npz: tensor 'lm_head.weight' is missing" ivon-merge -m task-arithmetic -b plain0.npz $head.npz -o x.h5
    refused 65 "is missing" ivon-merge -m average plain0.npz $head.npz -o x.h5
  done
  for head in untied almost; do # nor tied in one model and not in another
    refused 65 "is missing" ivon-merge -m task-arithmetic -b plain0.npz both0.npz $head.npz -o x.h5
  done
}

@test "tied names are compared to their last element, and by what varies between any two" {
  # 76,800 elements: more than are compared at once, which are of one value in "steps".
  write '
def pair(name, e, head):
    put(name + "-one", embed__weight=e, l__weight=f(2))
    put(name + "-two", embed__weight=e, lm_head__weight=head, l__weight=f(2))
e = f(300, 256)
pair("equal", e, e)
late = e.copy()
late[299, 255] += 1
pair("late", e, late)
steps = np.zeros((300, 256), "f4")
steps[256:] = 1
pair("steps", steps, steps)
flat = np.ones((300, 256), "f4")
pair("flat", flat, flat)
pair("single", f(1, 1), f(1, 1))
one = np.ones((1, 1), "f4")
pair("same-single", one, one)'
  for tied in equal steps; do
    ivon-merge -q -m average $tied-one.npz $tied-two.npz -o $tied.npz
    $python -c "
import numpy as np
out, model = np.load('$tied.npz'), np.load('$tied-one.npz')
assert np.array_equal(out['lm_head.weight'], model['embed.weight'])"
  done
  for untied in late flat single same-single; do
    refused 65 "tensor 'lm_head.weight' is missing" ivon-merge -m average $untied-one.npz $untied-two.npz -o x.h5
  done
}

@test "the nearest names have the most in common, at either end, for their length" {
  nearest() { # MODEL'S EXPECTED OTHERS: of the reference's names
    write "
put('m', **{'$1': f(2)})
put('base', **{n: f(2) for n in '${*:2}'.split()})"
    refused 65 "the nearest names are '$1' and '$2' there" ivon-merge -m task-arithmetic -b base.npz m.npz -o x.h5
  }
  # a.proj.weight has 13 characters: 12 in common are more than 10 or 7, 8 at the front more than 7 at the end, and
  # 7 of 13 more than 8 of 25; what both ends have in common is counted once.
  nearest a.proj.weight b.proj.weight a.p.weight a.proj.bias
  nearest a.proj.weight a.proj.wide z.qqqq.weight
  nearest a.proj.weight z.qqqq.weight a.proj.w_of_another_layer
  nearest aaaa aaaab aa
}

@test "names of one storage are one tensor" {
  $python - <<'PYTHON' || skip "no torch"
import torch
torch.manual_seed(0)
for name, order in [("a", ["embed", "head"]), ("b", ["head", "embed"])]:
    weight = torch.randn(6, 4)
    torch.save({n: weight for n in order} | {"l": torch.randn(3)}, name + ".pt")
weight = torch.randn(6, 4)
torch.save({"embed": weight, "head": torch.randn(6, 4), "l": torch.randn(3)}, "untied.pt")
PYTHON
  ivon-convert -q a.pt -o a.npz
  ivon-merge -q -m task-arithmetic -b a.pt b.pt untied.pt -o out.npz
  $python -c "
import numpy as np, torch
a, b, u = (torch.load(n + '.pt') for n in ('a', 'b', 'untied'))
out = np.load('out.npz')
for n in a:
    x, y, z = (np.float64(m[n].numpy()) for m in (a, b, u))
    assert np.allclose(out[n], x + (y - x) + (z - x), rtol=2.0 ** -24, atol=0), n"
  refused 65 "a.npz: tensor 'head' is missing" ivon-merge -m task-arithmetic -b a.npz untied.pt -o x.h5
  # a.npz has lost what the others know of its names.
  ivon-merge -m task-arithmetic -b a.npz a.pt b.pt -o back.npz 2> err
  grep -q "'head' is 'embed' bit by bit in a.pt" err
  $python -c "
import numpy as np, torch
b, back = torch.load('b.pt'), np.load('back.npz')
assert sorted(n for n in back if n in b) == ['embed', 'l']
for n in ('embed', 'l'):
    assert np.allclose(back[n], b[n].numpy(), rtol=2.0 ** -24, atol=0)"
}

@test "each model has a Hessian of its own, and none is another's" {
  write '
for k in range(3):
    put(f"m{k}", a=f(3), b=f(2))
    h = {"hessian/a": r.random(3).astype("f4"), "hessian/b": r.random(2).astype("f4")}
    st.write(f"f{k}.safetensors", h, {"ivon-posterior": "1", "ess": str(100 * (k + 1)), "weight_decay": "1e-3"})'
  cat > check.py <<'PYTHON'
import sys, numpy as np, h5py, safetensors_file as st
weights = [float(w) for w in sys.argv[2:]]
with h5py.File(sys.argv[1]) as out:
    for name in "ab":
        means = [np.float64(np.load(f"m{k}.npz")[name]) for k in (0, 1)]
        precisions = [w * 100 * (k + 1) * (np.float64(st.read(f"f{k}.safetensors", False)[0]["hessian/" + name]) + 1e-3)
                      for k, w in enumerate(weights)]
        expected = sum(p * m for p, m in zip(precisions, means)) / sum(precisions)
        assert np.allclose(out["mean/" + name], expected, rtol=2.0 ** -23, atol=0), name
        found = out.attrs["ess"] * (np.float64(out["hessian/" + name]) + out.attrs["weight_decay"])
        assert np.allclose(found, sum(precisions), rtol=2.0 ** -22, atol=0), name
PYTHON
  check() { PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B check.py "$@"; }
  for kind in npz safetensors; do
    ivon-merge -f m0.$kind,hessian=f0.safetensors m1.$kind,hessian=f1.safetensors -o out.h5
    check out.h5 1 1
    ivon-merge -f m1.$kind:.5,hessian=f1.safetensors m0.$kind,hessian=f0.safetensors:2 --hash -o out.h5
    check out.h5 2 .5
    $python -c "
import h5py, json
inputs = [(i['path'], i.get('weight')) for i in json.loads(h5py.File('out.h5').attrs['provenance'])['inputs']]
assert inputs == [('m1.$kind', .5), ('f1.safetensors', None), ('m0.$kind', 2), ('f0.safetensors', None)], inputs"
  done
  # What a model and its file make is what ivon-convert puts together.
  for k in 0 1 2; do ivon-convert m$k.npz --hessian=f$k.safetensors -o p$k.h5; done
  ivon-merge --no-provenance -b p2.h5 p0.h5 p1.h5 -o one.h5
  ivon-merge --no-provenance --base=m2.npz,hessian=f2.safetensors p0.h5 m1.npz,hessian=p1.h5 -o two.h5
  cmp one.h5 two.h5
  ivon-merge --no-provenance -m hessian m0.npz --hessian=f0.safetensors -o one.npz
  ivon-merge --no-provenance -m hessian m0.npz,hessian=f0.safetensors -o two.npz
  cmp one.npz two.npz
  refused 64 "--hessian=f0.safetensors: is for one model, and there are 2: give each its own as MODEL,hessian=FILE" \
    ivon-merge m0.npz m1.npz --hessian=f0.safetensors -o x.h5
  refused 64 "is for one model" ivon-merge -b p2.h5 m0.npz m1.npz --hessian=f0.safetensors -o x.h5
  refused 64 "'m0.npz' already has 'f1.safetensors'" ivon-merge m0.npz,hessian=f1.safetensors --hessian=f0.safetensors -o x.h5
  refused 64 "expected MODEL,hessian=FILE" ivon-merge m0.npz,hessian= m1.npz -o x.h5
  refused 64 "expected a finite number" ivon-merge m0.npz:inf,hessian=f0.safetensors m1.npz -o x.h5
  refused 65 "m1.npz: tensor 'a' has no Hessian" ivon-merge m0.npz,hessian=f0.safetensors m1.npz -o x.h5
  refused 65 "p0.h5: has Hessians of its own, and 'f0.safetensors' is to have them" \
    ivon-merge p0.h5,hessian=f0.safetensors p1.h5 -o x.h5
  refused 66 "nowhere: cannot open it" ivon-merge m0.npz,hessian=nowhere p1.h5 -o x.h5
  refused 71 "needs 0.24576 MB for its sums with 1 threads, and has 0.000256 MB" ivon-merge --memory=512 -j1 p0.h5 p1.h5 -o x.h5
  # A base does not take the model's.
  refused 65 "m2.npz: tensor 'a' has no Hessian" ivon-merge -b m2.npz m0.npz --hessian=f0.safetensors -o x.h5
  # Nor do other commands give one to several.
  refused 64 "--hessian=f0.safetensors: is for one checkpoint, and there are several" ivon-info m0.npz m1.npz --hessian=f0.safetensors
  refused 64 "is for one checkpoint" ivon-predict m0.npz m1.npz --hessian=f0.safetensors --data=m0.npz
  refused 64 "is for one checkpoint" ivon-predict-gen m0.npz m1.npz --hessian=f0.safetensors --data=m0.npz
  refused 64 "is for one checkpoint" ivon-predict-gen --follow=. --hessian=f0.safetensors --data=m0.npz
}
