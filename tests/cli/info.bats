load common

@test "the summary agrees with numpy" {
  posterior a.h5 1
  ivon-info --json --tensors a.h5 > a.json
  $python -c "
import h5py, json, numpy as np
j, f = json.load(open('a.json')), h5py.File('a.h5')
for t in j['tensors']:
    m, h = (np.float64(f[p + '/' + t['name']][()]) for p in ('mean', 'hessian'))
    s = np.float32(np.abs(m) * np.sqrt(f.attrs['ess'] * (h + f.attrs['weight_decay'])))
    assert abs(t['mean_norm'] - np.linalg.norm(m)) < 1e-12 * t['mean_norm']
    assert t['hessian_min'] == h.min() and t['hessian_max'] == h.max()
    for q, v in t['hessian_quantiles'].items():
        assert abs(np.quantile(h, float(q)) - v) <= 1e-12, (q, v)
    for q, v in t['signal_to_noise_quantiles'].items():
        assert abs(np.quantile(np.float64(s), float(q)) - v) <= 1e-6 * v, (q, v)
assert j['parameters'] == 30 * 40 + 30 + 90 and j['ess'] == 1000"
}

@test "quantiles of large tensors are numpy's, by any number of threads" {
  posterior p.h5 5 'f["mean/big"] = r.standard_normal(2500001).astype("f4"); f["hessian/big"] = r.gamma(1.0, .1, 2500001).astype("f4")'
  for threads in 1 2; do ivon-info --json --tensors -j$threads p.h5 > $threads.json; done
  cmp 1.json 2.json
  $python -c "
import h5py, json, numpy as np
f, found = h5py.File('p.h5'), {t['name']: t for t in json.load(open('2.json'))['tensors']}
for name in 'big', 'fc1.weight':
    h = np.float64(f['hessian/' + name][()].ravel())
    for q, v in found[name]['hessian_quantiles'].items():
        assert abs(np.quantile(h, float(q)) - v) <= 1e-12, (name, q, v)"
}

@test "the check names every defect, and says so by its exit code" {
  posterior good.h5 1
  run ivon-info --check good.h5
  [ $status -eq 0 ]
  [ "$output" = "good.h5: no problems found" ]
  defect() { # TEXT SCRIPT
    posterior bad.h5 1 "$2"
    run ivon-info --check bad.h5
    echo "$output"
    [ $status -eq 1 ]
    [[ "$output" == *"$1"* ]]
  }
  defect "2 values of the mean are not finite" 'f["mean/fc1.bias"][3:5] = np.inf'
  defect "1 values of the Hessian are not finite" 'f["hessian/fc1.bias"][3] = np.nan'
  defect "h + weight_decay <= 0 for 4 values" 'f["hessian/fc1.bias"][:4] = -1'
  defect "never left its start, 0.5" 'f["hessian/fc1.weight"][:] = .5'
  defect "has no Hessian" 'del f["hessian/fc1.bias"]'
  defect "a Hessian without a mean" 'del f["mean/fc1.bias"]'
  defect "differ in shape" 'del f["mean/fc1.bias"]; f["mean/fc1.bias"] = np.zeros(3, "f4")'
  defect "no positive ess" 'f.attrs["ess"] = 0.0'
  defect "no weight_decay" 'del f.attrs["weight_decay"]'
  defect "there is no Hessian" 'del f["hessian"]'
}

@test "one bad file does not hide the others" {
  posterior a.h5 1
  run ivon-info --header a.h5 nowhere.h5 a.h5
  [ $status -eq 66 ]
  [ "$(grep -c '^a.h5' <<< "$output")" -eq 2 ]
}

@test "control characters of a file reach no terminal" {
  posterior a.h5 1 'f.attrs["creator"] = "a\x1b[31m\u009b31m b\u00e9"'
  ivon-info --header a.h5 > out
  grep -q 'creator *a?\[31m??31m bé' out
  run -66 ivon-info $'no\xc2\x9b31m.h5' # as bytes: the locale may not have the character
  echo "$output"
  [[ $output == *'no??31m.h5'* ]]
}

@test "what is no number has no sign, and JSON tells it from infinity" {
  posterior a.h5 1 '
f["mean/fc1.bias"][:3] = np.array([-np.nan, np.inf, -np.inf], "f4")
f["mean/fc1.weight"][...] = np.copysign(np.nan, -1)
f.attrs.update(ess=np.inf, weight_decay=-np.inf)'
  for options in "" --tensors --check; do
    ivon-info $options a.h5 > out 2>&1 || [ $? -eq 1 ]
    if grep -e -nan out; then return 1; fi
  done
  ivon-info --json --tensors a.h5 | $python -c '
import json, sys
def refuse(text): raise ValueError(text)
found = json.load(sys.stdin, parse_constant=refuse)
tensors = {t["name"]: t for t in found["tensors"]}
assert found["ess"] == "Infinity" and found["weight_decay"] == "-Infinity", found
assert tensors["fc1.weight"]["signal_to_noise_quantiles"]["0.5"] is None, tensors["fc1.weight"]'
  posterior b.h5 2
  posterior n.h5 1 'f["mean/fc1.weight"][...] = np.copysign(np.nan, -1)'
  run ivon-merge --base b.h5 n.h5 -o c.h5
  [ $status -eq 65 ]
  [[ $output == *" is nan at element 0, expected a finite number"* ]]
}
