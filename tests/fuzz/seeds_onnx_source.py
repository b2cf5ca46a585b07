"""Writes ONNX files with weights to mutate, and hostile-*.onnx that no reader may accept, into a
directory."""
import os
import sys

try:
    import numpy as np
    import onnx
except ImportError:
    print("skipped: no onnx to write the seeds with", file=sys.stderr)
    sys.exit(77)
from onnx import TensorProto as T
from onnx import helper, numpy_helper

os.chdir(sys.argv[1])
node = helper.make_node
x = helper.make_tensor_value_info("x", T.FLOAT, ("batch", 4))


def model(nodes, constants=(), inputs=(x,), outputs=("y",), **more):
    results = [helper.make_tensor_value_info(n, T.FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, results, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], **more)


def save(name, made, change=None):
    copy = onnx.ModelProto()
    copy.CopyFrom(made)
    if change:
        change(copy)
    with open(name + ".onnx", "wb") as f:
        f.write(copy.SerializeToString())


def array(name, *shape, dtype="f4"):
    return numpy_helper.from_array(np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype),
                                   name)


def external(tensor, **places):
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    for key, value in places.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


types = [("f4", T.FLOAT), ("f8", T.DOUBLE), ("f2", T.FLOAT16)]
raw = [array("raw." + d, 2, 3, dtype=d) for d, _ in types]
typed = [helper.make_tensor("typed." + d, t, (2, 3), np.arange(6).astype(d)) for d, t in types]
typed += [helper.make_tensor("brain", T.BFLOAT16, (2, 3), np.arange(6).astype("f4")),
          helper.make_tensor("complex", T.COMPLEX64, (2,), [1j, 2]),
          helper.make_tensor("scalar", T.FLOAT, (), [0.5]), array("counts", 5, dtype="i8")]
save("types", model([node("Identity", ["x"], ["y"])], raw + typed))
mlp = model([node("Gemm", ["x", "fc.weight", "fc.bias"], ["h"], transB=1), node("Relu", ["h"], ["r"]),
             node("Constant", [], ["head"], value=array("", 3, 2)), node("MatMul", ["r", "head"], ["m"]),
             node("Constant", [], ["eps"], value=numpy_helper.from_array(np.float32(1e-5))),
             node("Add", ["m", "eps"], ["y"])], [array("fc.weight", 3, 4), array("fc.bias", 3)],
            producer_name="pytorch", producer_version="2.9")
save("mlp", mlp)
save("old-inputs", mlp, lambda m: (setattr(m, "ir_version", 3), m.graph.input.extend(
    helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in m.graph.initializer)))
save("settings", model([
    node("Identity", ["mean"], ["m2"]), node("Identity", ["m2"], ["m3"]),
    node("BatchNormalization", ["x", "scale", "shift", "m3", "var"], ["b"]),
    node("Clip", ["b", "least", ""], ["c"]), node("Resize", ["c", "roi", "scales"], ["y"])],
    [array("scale", 4), array("shift", 4), array("mean", 4), array("var", 4), array("least", 1),
     array("roi", 0), array("scales", 2)]))
outer = model([node("Concat", ["a", "b", "c"], ["y"], axis=0)], [
    external(array("a", 4, 4), location="weights.bin"),
    external(array("b", 2, 4), location="weights.bin", offset=64, length=32),
    external(array("c", 2, dtype="i8"), location="weights.bin", offset=1)])
save("external", outer)
save("odd-names", mlp, lambda m: (setattr(m.graph.initializer[0], "name", "/fc/weight"),
                                  m.metadata_props.add(key="provenance", value="{}"),
                                  m.metadata_props.add(key="creator", value="us")))

first = lambda m: m.graph.initializer[0]
save("hostile-twice", mlp, lambda m: m.graph.initializer.append(m.graph.initializer[0]))
save("hostile-short", mlp, lambda m: setattr(first(m), "raw_data", b"\0" * 47))
save("hostile-dims", mlp, lambda m: first(m).dims.__setitem__(0, 2**62))
save("hostile-negative", mlp, lambda m: first(m).dims.__setitem__(0, -3))
save("hostile-segment", mlp, lambda m: first(m).segment.SetInParent())
save("hostile-graphless", mlp, lambda m: m.ClearField("graph"))
for name, place in [("parent", "../weights.bin"), ("absolute", "/etc/passwd"), ("missing", "none.bin"),
                    ("newline", "weights.bin\n")]:
    save("hostile-external-" + name, outer,
         lambda m: setattr(first(m).external_data[0], "value", place))
save("hostile-external-many", outer, lambda m: m.graph.initializer.extend(
    external(array(f"d{i}", 8, 8), location="weights.bin") for i in range(100)))
whole = open("mlp.onnx", "rb").read()
open("hostile-two-graphs.onnx", "wb").write(whole + whole)
open("hostile-cut.onnx", "wb").write(whole[:-40])
open("hostile-text.onnx", "w").write("no ONNX file\n")
parts, size = [], 0
for tag in b"\x32\x2a\x0a" * 10000 + b"\x3a":  # inside out: graph, attribute, node … model
    parts.append(bytes([tag] + [size >> s & 127 | 128 for s in (0, 7, 14)] + [size >> 21]))
    size += len(parts[-1])
open("hostile-nested.onnx", "wb").write(b"".join(reversed(parts)))
