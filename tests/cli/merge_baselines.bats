# Methods that look at means alone: against numpy, and what they have to do with each other.
load common

@test "every method of other papers agrees with numpy" {
  $python "$BATS_TEST_DIRNAME/../oracle/merge_baselines.py" cases 1
}

@test "order, threads and memory change no byte" {
  for i in 0 1 2 3; do posterior $i.h5 $i; done
  $python - <<'PYTHON'
import h5py, numpy as np
for i in range(4): # two pieces of work, and few magnitudes
    with h5py.File(f"{i}.h5", "a") as f:
        r = np.random.default_rng(i)
        f["mean/large"] = (np.round(r.standard_normal(1100000) * 8) / 8).astype("f4")
        del f["hessian"]
PYTHON
  for method in ties dare dare-ties breadcrumbs model-stock; do
    weights=(:.5 :-.25 :.75)
    [ $method != model-stock ] || weights=("" "" "")
    ivon-merge --no-provenance -m $method -j1 -b 0.h5 1.h5${weights[0]} 2.h5${weights[1]} 3.h5${weights[2]} -o a.h5 -f
    ivon-merge --no-provenance -m $method -j2 -b 0.h5 3.h5${weights[2]} 2.h5${weights[1]} 1.h5${weights[0]} -o b.h5 -f \
      --memory=12M
    ivon-merge --no-provenance -m $method -j3 -b 0.h5 2.h5${weights[1]} 3.h5${weights[2]} 1.h5${weights[0]} -o c.h5 -f
    cmp a.h5 b.h5
    cmp a.h5 c.h5
  done
  ivon-merge --no-provenance -m slerp -j1 1.h5 2.h5:.5 -o a.h5 -f
  ivon-merge --no-provenance -m slerp -j2 2.h5:.5 1.h5 -o b.h5 -f --memory=2M
  cmp a.h5 b.h5
}

@test "a sweep and a scale write what single runs write" {
  for i in 0 1 2; do posterior $i.h5 $i; done
  for method in ties dare dare-ties breadcrumbs; do
    ivon-merge --no-provenance -m $method -b 0.h5 1.h5 2.h5 --sweep .25:.75:.25 -o 's-%g.h5' -f
    ivon-merge --no-provenance -m $method -b 0.h5 1.h5 2.h5 --scale .75 -o one.h5 -f
    cmp s-0.75.h5 one.h5
  done
  ivon-merge --no-provenance -m slerp -b 0.h5 1.h5 --sweep .25:.75:.25 -o 's-%g.h5' -f
  ivon-merge --no-provenance -m slerp -b 0.h5 1.h5:.75 -o one.h5 -f
  cmp s-0.75.h5 one.h5
  # Weights that scale a sum are its scale.
  ivon-merge --no-provenance -m dare -b 0.h5 1.h5:.75 2.h5:.75 -o two.h5 -f
  ivon-merge --no-provenance -m dare -b 0.h5 1.h5 2.h5 --scale=.75 -o one.h5 -f
  $python -c "
import h5py, numpy as np
a, b = h5py.File('one.h5'), h5py.File('two.h5')
for n in ('fc1.weight', 'fc1.bias', 'head.weight'):
    assert np.allclose(a['mean/' + n], b['mean/' + n], rtol=1e-6, atol=1e-7), n
assert 'hessian' not in a and 'ess' not in a.attrs"
  # Another seed drops others.
  ivon-merge --no-provenance -m dare -b 0.h5 1.h5 --seed=1 -o b.h5
  ivon-merge --no-provenance -m dare -b 0.h5 1.h5 --seed=0 -o a.h5
  run cmp a.h5 b.h5
  [ $status -eq 1 ]
}

@test "what is passed through is taken bit by bit, with its Hessian" {
  for i in 0 1; do posterior $i.h5 $i "f.attrs['ess'] = 100.0 * (1 + seed)"; done
  ivon-merge --no-provenance -m passthrough -b 0.h5 1.h5 --include='fc1.*' -o x.h5
  $python -c "
import h5py, numpy as np
x, files = h5py.File('x.h5'), [h5py.File(f'{i}.h5') for i in (0, 1)]
for n, i in (('fc1.weight', 1), ('fc1.bias', 1), ('head.weight', 0)):
    assert np.array_equal(x['mean/' + n], files[i]['mean/' + n]), n
    assert np.array_equal(x['hessian/' + n], files[i]['hessian/' + n]), n
    assert x['hessian/' + n].attrs.get('ess', x.attrs['ess']) == 100 * (1 + i), n"
  ivon-merge --no-provenance -m passthrough 0.h5:0 1.h5 -o y.h5
  ivon-merge --no-provenance -m passthrough 1.h5 0.h5:0 -o z.h5
  ivon-convert --no-provenance 1.h5 -o w.h5
  $python -c "
import h5py, numpy as np
w = h5py.File('w.h5')
for path in 'yz':
    x = h5py.File(path + '.h5')
    for p in ('mean/', 'hessian/'):
        for n in ('fc1.weight', 'fc1.bias', 'head.weight'):
            assert np.array_equal(x[p + n], w[p + n])
            assert p == 'mean/' or x[p + n].attrs.get('ess', x.attrs['ess']) == 200"
  run ivon-merge -m passthrough 0.h5 1.h5 -o v.h5
  [ $status -eq 64 ]
  [[ $output == "ivon-merge: tensor 'fc1.weight': 0.h5 and 1.h5 both have a weight, expected one model to take it from" ]]
  run ivon-merge -m passthrough 0.h5:0 1.h5:0 -o v.h5
  [ $status -eq 64 ]
  [[ $output == "ivon-merge: tensor 'fc1.weight': no model has a weight, expected one to take it from" ]]
  [ ! -e v.h5 ]
}

@test "mistakes with these methods get one line" {
  for i in 0 1 2; do posterior $i.h5 $i; done
  expect() { # TEXT COMMAND...
    run ivon-merge -o 'x%g.h5' "${@:2}"
    [ $status -eq 64 ] && [ "$output" = "ivon-merge: $1" ] && ! ls x*.h5 2> /dev/null || { echo "$status $output"; return 1; }
  }
  expect "TIES merging needs a base; see --base" -m ties 1.h5 2.h5
  expect "the density must be above 0 and at most 1" -m ties -b 0.h5 1.h5 --density=0
  expect "this method keeps all elements, whatever the density" -m average 1.h5 2.h5 --density=.5
  expect "this method drops no outliers" -m ties -b 0.h5 1.h5 --outliers=.5
  expect "the share of outliers must be 0 or more, and below 1" -m breadcrumbs -b 0.h5 1.h5 --outliers=1
  expect "--seed is for --method=dare and dare-ties, and for --samples" -m ties -b 0.h5 1.h5 --seed=1
  expect "--scale and --sweep exclude each other" -m ties -b 0.h5 1.h5 --scale=1 --sweep=1:2:1
  expect "model stock needs two models or more" -m model-stock -b 0.h5 1.h5
  expect "model stock finds its own weights: all must be 1" -m model-stock -b 0.h5 1.h5 2.h5:.5
  expect "model stock finds its own scale" -m model-stock -b 0.h5 1.h5 2.h5 --scale=.5
  expect "spherical interpolation is between two models, or a base and one" -m slerp -b 0.h5 1.h5 2.h5
  expect "scaling the weights does not change an average" -m slerp 1.h5 2.h5 --scale=.5
  expect "tensors that are passed through are not scaled" -m passthrough 1.h5 --scale=.5
  expect "this method writes means alone, which have no effective sample size" -m dare -b 0.h5 1.h5 --ess=5
}

@test "sums of squares that overflow are told, not a wrong angle" {
  for i in 1 2; do
    posterior $i.h5 $i "del f['mean/fc1.bias']; f['mean/fc1.bias'] = np.full(30, 1e200 * seed)"
  done
  run ivon-merge -m slerp 1.h5 2.h5 -o x.h5
  [ $status -eq 65 ]
  [[ $output == "ivon-merge: tensor 'fc1.bias': the squares of its elements have no finite sum, and no angle" ]]
}
