# What ivon-merge writes, against the formulas in numpy's float64.
load common

@test "every method, type, sign of weights and factor of a sweep agrees with numpy" {
  $python "$BATS_TEST_DIRNAME/../oracle/merge_cases.py" cases 1
}

# put FILE ESS WEIGHT_DECAY MEAN HESSIAN: a posterior of one tensor; what is "-" is left out.
put() {
  $python - "$@" <<'PYTHON'
import sys, h5py, numpy as np
path, ess, decay, mean, hessian = sys.argv[1:]
with h5py.File(path, "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1)
    f.attrs.update({k: float(v) for k, v in (("ess", ess), ("weight_decay", decay)) if v != "-"})
    f["mean/w"] = np.array([float(x) for x in mean.split(",")])
    if hessian != "-":
        f["hessian/w"] = np.array([float(x) for x in hessian.split(",")], "f4")
PYTHON
}

# shows FILE EXPECTED: its ess, weight decay, mean and Hessian.
shows() {
  found=$($python -c "
import h5py
f = h5py.File('$1')
print(*(f.attrs.get(k, '-') for k in ('ess', 'weight_decay')), f['mean/w'].dtype, f['mean/w'][()].tolist(),
      f['hessian/w'][()].tolist() if 'hessian' in f else '-')")
  [ "$found" = "$2" ] || { echo "$found"; return 1; }
}

@test "a precision of exactly zero is none" {
  put base.h5 1 0 1,5 3,3
  put m.h5 1 0 2,6 1,3
  run ivon-merge -b base.h5 m.h5:-1 -o x.h5
  [ $status -eq 65 ]
  [[ $output == *"the merged precision is not positive for 1 of 2 elements, the worst 0 at element 1"* ]]
  run ivon-merge -b base.h5 m.h5:-1 --sweep=.5:1:.5 -o x-%g.h5
  [ $status -eq 65 ]
  [[ $output == *"the merged precision at scale 1 is not positive for 1 of 2 elements, the worst 0 at element 1"* ]]
  ivon-merge -b base.h5 m.h5:-1 --on-nonpositive=base -o x.h5
  # 1 - (3 + 1) / (3 - 1) (2 - 1) = -1, and what the base has
  shows x.h5 "1.0 0.0 float64 [-1.0, 5.0] [2.0, 3.0]"
}

@test "numbers too large for a type are refused, of either sign" {
  for sign in "" -; do
    put base.h5 1 0 0,0 1,1
    for value in 70000 65520; do
      put m.h5 1 0 1,$sign$value 1,1
      run ivon-merge -m task-arithmetic -b base.h5 m.h5 --dtype=f16 -o x.h5
      [ $status -eq 65 ]
      [[ $output == *"the merged value at element 1, mean $sign$value, precision 2, does not fit into f16" ]]
    done
    # Half a unit in the last place above the largest is what no longer rounds to it.
    put m.h5 1 0 1,${sign}65519 1,1
    ivon-merge -m task-arithmetic -b base.h5 m.h5 --dtype=f16 -o fits.h5 -f
    shows fits.h5 "1.0 0.0 float16 [1.0, ${sign}65504.0] [2.0, 2.0]"
  done
}

@test "what is not known is left out where it is not needed" {
  put flat.h5 - - 1,1 -
  put bare.h5 2 - 3,5 1,2
  put full.h5 2 0.5 3,5 1,2
  # A base that is scaled to nothing needs no precision, and gives no prior.
  ivon-merge -b flat.h5 full.h5:.5 full.h5:.5 --base-scale=0 -o x.h5 -f
  shows x.h5 "2.0 0.0 float64 [3.0, 5.0] [1.0, 2.0]"
  run ivon-merge -b flat.h5 full.h5 -o y.h5
  [ $status -eq 65 ]
  [[ $output == *"has no Hessian; give its precision by --delta0"* ]]
  run ivon-merge -b flat.h5 full.h5 --base-scale=0 --on-nonpositive=base -o y.h5
  [ $status -eq 65 ]
  # An average's precision takes the weight decays; task arithmetic's the base's alone.
  ivon-merge -m average full.h5 bare.h5 -o x.h5 -f
  shows x.h5 "- - float64 [3.0, 5.0] -"
  ivon-merge -m average full.h5 full.h5 -o x.h5 -f
  shows x.h5 "4.0 0.5 float64 [3.0, 5.0] [1.0, 2.0]"
  ivon-merge -m task-arithmetic -b full.h5 bare.h5 -o x.h5 -f
  shows x.h5 "2.0 0.5 float64 [3.0, 5.0] [2.0, 4.0]"
  ivon-merge -m task-arithmetic -b bare.h5 full.h5 -o x.h5 -f
  shows x.h5 "- - float64 [3.0, 5.0] -"
  ivon-merge -m task-arithmetic -b flat.h5 full.h5 -o x.h5 -f
  shows x.h5 "- - float64 [3.0, 5.0] -"
  # Priors that add up to less than nothing are none: 2 * 2 * 0.5 - 1 * 2 * 5 = -8 of 30, which is 6 * 5.
  put less.h5 2 5 3,5 1,1
  put more.h5 2 0.5 4,6 10,10
  ivon-merge -m average more.h5:2 less.h5:-1 -o x.h5 -f
  shows x.h5 "6.0 0.0 float64 [5.0, 7.0] [5.0, 5.0]"
  ivon-merge -m task-arithmetic -b flat.h5 full.h5 --delta0=1 -o x.h5 -f # 1 + 2 h, of which 1 is prior
  shows x.h5 "2.0 0.5 float64 [3.0, 5.0] [1.0, 2.0]"
}

@test "numbers that make no merge are refused" {
  put p.h5 2 0.5 3,5 1,2
  bad() { # TEXT OPTION...
    run ivon-merge -o 'x%g.h5' "${@:2}"
    [ $status -eq 64 ] && [[ $output == *"$1"* ]] && ! ls x*.h5 2> /dev/null || { echo "$status $output"; return 1; }
  }
  bad "the base's scale must be zero or more" -b p.h5 p.h5 --base-scale=-1
  bad "the Hessians' scale must be zero or more" -b p.h5 p.h5 --hessian-scale=-1
  bad "delta0 must be zero or more" -b p.h5 p.h5 --delta0=-1
  bad "--ess" -b p.h5 p.h5 --ess=0
  bad "scaling the weights does not change an average" -m average p.h5 p.h5 --sweep=1:2:1
  bad "the weights add up to zero" -m hessian p.h5 p.h5:-1
  ivon-merge -b p.h5 p.h5 --hessian-scale=0 --base-scale=1 -o x.h5
  shows x.h5 "2.0 0.5 float64 [3.0, 5.0] [1.0, 2.0]"
}

@test "types, kept tensors, graphs and companions are the keeper's" {
  $python - <<'PYTHON'
import h5py, numpy as np
kinds = {"f16": "f2", "f32": "f4", "f64": "f8"}
for t, (name, kind) in enumerate(kinds.items()):
    with h5py.File(name + ".h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=10.0, weight_decay=0.25)
        for tensor in "ab":
            f["mean/" + tensor] = np.full(3, 1.5 + t, kind)
            f["hessian/" + tensor] = np.full(3, 1 + t, "f4")
        f["hessian/b"].attrs["ess"] = 25.0
        f["buffers/steps"] = np.int64(t)
        f["model.onnx"] = np.full(5, t, "u1")
PYTHON
  ivon-convert --dtype=bf16 f32.h5 -o bf16.h5
  for case in "f16 f32 f32" "f32 f64 f64" "f64 f16 f64" "f16 bf16 f32" "bf16 f16 f32" "f16 f16 f16"; do
    read -r one two kind <<< "$case"
    ivon-merge -q -f -m average $one.h5 $two.h5 -o x.h5
    $python -c "
import h5py
assert str(h5py.File('x.h5')['mean/a'].dtype) == {'f16': 'float16', 'f32': 'float32', 'f64': 'float64'}['$kind']"
  done
  # Not the first by name, but the first that is given, or the base.
  keeps() { # FILE VALUE DTYPE
    $python -c "
import h5py, numpy as np
f = h5py.File('$1')
t = $2
assert f['mean/b'].dtype == '$3' and np.all(f['mean/b'][()] == 1.5 + t)
assert np.all(f['hessian/b'][()] == 1 + t) and f['hessian/b'].attrs['ess'] == 25
assert f['buffers/steps'][()] == t and np.all(f['model.onnx'][()] == t)"
  }
  ivon-merge -q -f -m average f64.h5 f16.h5 --exclude=b -o x.h5
  keeps x.h5 2 f8
  ivon-merge -q -f -m average f64.h5 f16.h5 --exclude=b --dtype=f32 -o x.h5
  keeps x.h5 2 f4
  ivon-merge -q -f -b f16.h5 f64.h5 f32.h5 --include=a -o x.h5
  keeps x.h5 0 f2
}

@test "the element that is not positive is told by its place in the whole tensor" {
  $python - <<'PYTHON'
import h5py, numpy as np
for name, hessian in (("base", 3.0), ("m", 1.0)):
    with h5py.File(name + ".h5", "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=1.0, weight_decay=0.0)
        f["mean/w"] = np.zeros(2500000, "f4")
        h = np.full(2500000, hessian, "f4")
        h[2400001] = 3.5 if name == "m" else 3
        f["hessian/w"] = h
PYTHON
  for more in "" -j1; do
    run ivon-merge -b base.h5 m.h5:-1 -o x.h5 $more
    echo "$output"
    [ $status -eq 65 ]
    [[ $output == *"is not positive for 1 of 2500000 elements, the worst -0.5 at element 2400001"* ]]
  done
}
