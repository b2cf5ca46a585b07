load common

# A network with a BatchNormalization after a product, whose statistics belong to other data.
model() {
  $python -c 'import onnx' 2> /dev/null || skip "no onnx for python3"
  $python - <<'PYTHON'
import h5py, numpy as np, onnx
from onnx import TensorProto as T, helper as o
r = np.random.default_rng(0)
w, shift = r.standard_normal((5, 3)).astype("f4"), r.standard_normal(3).astype("f4")
graph = o.make_graph(
    [o.make_node("MatMul", ["x", "w"], ["a"]),
     o.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["f"])], "g",
    [o.make_tensor_value_info("x", T.FLOAT, ["n", 5])],
    [o.make_tensor_value_info("f", T.FLOAT, ["n", 3])],
    [o.make_tensor(n, T.FLOAT, s, np.ones(s)) for n, s in
     (("w", (5, 3)), ("scale", (3,)), ("shift", (3,)), ("mean", (3,)), ("var", (3,)))])
onnx.save(o.make_model(graph, opset_imports=[o.make_opsetid("", 15)]), "bn.onnx")
with h5py.File("bn.h5", "w") as f:
    f.attrs.update(format="ivon-posterior", format_version=1, ess=50.0, weight_decay=1e-3)
    for name, value in (("w", w), ("scale", np.ones(3, "f4")), ("shift", shift)):
        f["mean/" + name], f["hessian/" + name] = value, np.full_like(value, .2)
    f["buffers/mean"], f["buffers/var"] = np.full(3, 9, "f4"), np.full(3, 4, "f4")
with h5py.File("data.h5", "w") as f:
    f["x"] = r.standard_normal((40, 5)).astype("f4")
    f["train/x"] = (3 * r.standard_normal((210, 5)) + 1).astype("f4")
PYTHON
}

@test "statistics are the average over whole batches, of the weights in use" {
  model
  predict() { ivon-predict -q --model=bn.onnx bn.h5 --data=data.h5 --logits --batch=100 "$@"; }
  predict --mean -o before.h5
  predict --mean --recalibrate=data.h5:/train -o after.h5
  predict -n 2 --recalibrate=data.h5:/train -o sampled.h5
  ivon-sample -q bn.h5 -n 2 -o 's%d.h5'
  for s in 0 1; do
    ivon-predict -q --model=bn.onnx s$s.h5 --data=data.h5 --batch=100 --mean \
      --recalibrate=data.h5:/train -o own$s.h5
  done
  $python -c '
import h5py, numpy as np
read = lambda path, name: np.float64(h5py.File(path)[name][()])
w, shift, x = read("bn.h5", "mean/w"), read("bn.h5", "mean/shift"), read("data.h5", "x")
batches = (read("data.h5", "train/x")[:200] @ w).reshape(2, 100, 3)  # the last 10 make no batch
mean, var = batches.mean(1).mean(0), batches.var(1, ddof=1).mean(0)
f = (x @ w - mean) / np.sqrt(var + 1e-5) + shift
# binary32: some 2^-24 of values up to 40, divided by deviations above 1
assert np.abs(read("after.h5", "logits") - f).max() < 2e-5
f = (x @ w - 9) / np.sqrt(4 + 1e-5) + shift
assert np.abs(read("before.h5", "logits") - f).max() < 2e-5
# every sample has statistics of its own
p = (read("own0.h5", "probabilities") + read("own1.h5", "probabilities")) / 2
assert np.abs(read("sampled.h5", "probabilities") - p).max() < 1e-6
assert np.abs(read("own0.h5", "probabilities") - read("own1.h5", "probabilities")).max() > 1e-2'
}

@test "a network without batch norm cannot be recalibrated" {
  model
  $python -c '
import onnx
m = onnx.load("bn.onnx")
del m.graph.node[1]
m.graph.output[0].name = "a"
onnx.save(m, "plain.onnx")'
  run ivon-predict --model=plain.onnx bn.h5 --data=data.h5 --recalibrate=data.h5:/train
  [ $status -eq 64 ]
  [[ $output == *"no batch-norm statistics to recalibrate" ]]
}

@test "a network that normalizes by each batch is refused" {
  model
  $python -c '
import onnx
m = onnx.load("bn.onnx")
m.graph.node[1].attribute.append(onnx.helper.make_attribute("training_mode", 1))
onnx.save(m, "training.onnx")'
  for options in "" "--recalibrate=data.h5:/train"; do
    run ivon-predict --model=training.onnx bn.h5 --data=data.h5 $options
    [ $status -eq 65 ]
    [[ $output == *"(BatchNormalization): normalizes by the statistics of each batch; export"* ]]
  done
}
