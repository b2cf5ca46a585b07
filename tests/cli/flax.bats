load common

# flax SCRIPT: Python with msgpack's own library and `r`, random numbers.
flax() {
  PYTHONPATH=$BATS_TEST_DIRNAME/../oracle $python -B -c "
import numpy as np, flax_file
r = np.random.default_rng(0)
$1"
}

@test "a state of Flax is read bit by bit: parameters and running statistics, in every type" {
  flax '
types = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split()
half, table = r.integers(-9, 9, 7), r.standard_normal((7, 5)).astype("f4")
params = {"Dense_0": {"kernel": r.standard_normal((4, 3)).astype("f4"), "bias": r.standard_normal(3)},
          "types": {t: r.integers(0, 2, (2, 5)).astype(t) for t in types},
          "half": flax_file.bfloat16(half), "scale": np.float32(2), "none": None,
          "table": flax_file.chunked(table, 9),
          "list": [np.ones((0, 2), "f4"), np.arange(3.)]}
stats = {"BatchNorm_0": {"mean": r.standard_normal(3).astype("f4")}}
state = {"step": 3, "batch_stats": stats, "params": params,
         "opt_state": {"0": {"count": np.int32(3), "mu": params}}}
flax_file.write("state.msgpack", state)
flax_file.write("nested.msgpack", {"model": state, "config": {"rate": .1}})
flax_file.write("model.msgpack", {"params": params["Dense_0"]})
flax_file.write("fisher.msgpack", {"params": {n: np.ones(a.shape, "f4") for n, a in params["Dense_0"].items()}})
want = {"params/half": half.astype("f4"), "params/table": table,
        **{f"params/types/{t}": a for t, a in params["types"].items()},
        "params/Dense_0/kernel": params["Dense_0"]["kernel"], "params/Dense_0/bias": params["Dense_0"]["bias"],
        "params/scale": np.asarray(params["scale"]), "params/list/0": params["list"][0],
        "params/list/1": params["list"][1], "batch_stats/BatchNorm_0/mean": stats["BatchNorm_0"]["mean"]}
np.savez("want.npz", **want)'
  ivon-convert state.msgpack -o state.h5 --no-provenance 2> err
  grep -q "^ivon-convert: state.msgpack: 'params' and 'batch_stats' alone, without 'step', 'opt_state'$" err
  $python -c '
import h5py, numpy as np
want = dict(np.load("want.npz"))
with h5py.File("state.h5") as f:
    for name, array in want.items():
        part = "mean" if array.dtype.kind == "f" and "batch_stats" not in name else "buffers"
        found = f[f"{part}/{name}"]
        assert name == "params/half" or found.dtype == array.dtype, name
        assert np.array_equal(found[()], array), name
    names = []
    f.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    assert len(names) == len(want), names'
  ivon-convert -q nested.msgpack -o nested.h5 --no-provenance
  cmp nested.h5 state.h5
  mkdir hub
  cp nested.msgpack hub/flax_model.msgpack # as hubs call it
  ivon-convert -q hub -o hub.h5 --no-provenance
  cmp hub.h5 state.h5
  ivon-convert -q --key=params.Dense_0 --include=kernel state.msgpack -o k.npz
  [ "$(ivon-info --tensors k.npz | tail -n 1 | awk '{print $1}')" = kernel ]
  ivon-convert -q model.msgpack --hessian=fisher.msgpack --ess=10 --weight-decay=1 -o p.h5
  ivon-info p.h5 | grep -q "^  hessian "
  ivon-merge -q --method=average state.msgpack nested.msgpack -o m.safetensors
}

@test "files of msgpack that are none of Flax's are refused in a line" {
  flax '
flax_file.write("two.msgpack", {"a": {"params": {"w": np.ones(2)}}, "b": {"params": {"w": np.ones(2)}}})
flax_file.write("none.msgpack", {"epoch": None})
open("cut.msgpack", "wb").write(flax_file.to_bytes({"w": np.ones(9)})[:-1])'
  run ivon-info two.msgpack
  [ $status -eq 65 ]
  [ "$output" = "ivon-info: two.msgpack: holds 2 states that have 'params'; --key=NAME chooses one" ]
  run ivon-info none.msgpack
  [ $status -eq 65 ]
  [ "$output" = "ivon-info: none.msgpack: is msgpack, but holds no arrays" ]
  run ivon-info cut.msgpack
  [ $status -eq 65 ]
  [[ $output == "ivon-info: cut.msgpack: damaged msgpack at byte "* ]]
}
