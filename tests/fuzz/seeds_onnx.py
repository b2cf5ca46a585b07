"""Writes ONNX files to mutate, and hostile-*.onnx that no reader may accept, into a directory."""
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

sys.dont_write_bytecode = True  # beside the script
import operator_seeds

os.chdir(sys.argv[1])
operator_seeds.write(False)


def save(name, nodes, inputs=(), outputs=("y",), constants=(), opset=13, **model):
    infos = [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs]
    results = [helper.make_tensor_value_info(n, T.FLOAT, None) for n in outputs]
    graph = helper.make_graph(nodes, "graph", infos, results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], **model)
    with open(name + ".onnx", "wb") as f:
        f.write(model.SerializeToString())
    return model


def rewrite(name, model, change):
    """A copy in which something is changed that the helpers would not make."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    change(copy)
    with open(name + ".onnx", "wb") as f:
        f.write(copy.SerializeToString())


def ints(name, *values):
    return numpy_helper.from_array(np.array(values, "i8"), name)


def external(tensor, **places):
    tensor.ClearField("raw_data")
    tensor.data_location = T.EXTERNAL
    for key, value in places.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


node = helper.make_node
x = ("x", T.FLOAT, ("batch", 2, None, 4))
numbers = np.arange(6).reshape(2, 3)

# Elements of every type, as bytes and as numbers.
kinds = {T.FLOAT: "f4", T.DOUBLE: "f8", T.FLOAT16: "f2", T.INT8: "i1", T.INT16: "i2", T.INT32: "i4",
         T.INT64: "i8", T.UINT8: "u1", T.UINT16: "u2", T.UINT32: "u4", T.BOOL: "?"}
raw = [numpy_helper.from_array(numbers.astype(d), f"raw{k}") for k, d in kinds.items()]
typed = [helper.make_tensor(f"typed{k}", k, (2, 3), numbers.astype(d).ravel())
         for k, d in kinds.items()]
typed.append(helper.make_tensor("brain", T.BFLOAT16, (2, 3), numbers.astype("f4").ravel()))
for name, tensors in [("raw", raw), ("typed", typed)]:
    save(name, [node("Flatten", [t.name], [t.name + "y"], axis=0) for t in tensors],
         outputs=[t.name + "y" for t in tensors], constants=tensors)
# Every operator that moves elements, and shapes that are worked out.
plain = save("shapes", [
    node("Shape", ["x"], ["s"]), node("Gather", ["s", "two"], ["t"], axis=0),
    node("Unsqueeze", ["t", "zero"], ["u"]), node("Concat", ["u", "minus"], ["list"], axis=0),
    node("Reshape", ["x", "list"], ["r"]), node("Transpose", ["r"], ["y"], perm=[1, 0])],
    [x], constants=[numpy_helper.from_array(np.int64(2), "two"), ints("zero", 0), ints("minus", -1)])
save("moves", [
    node("Slice", ["x", "minus", "least", "one", "minus"], ["a"]),
    node("Pad", ["a", "pads"], ["b"], mode="reflect"), node("Split", ["b"], ["c", ""], axis=-1),
    node("Expand", ["c", "shape"], ["d"]), node("Tile", ["d", "repeats"], ["e"]),
    node("Transpose", ["e"], ["f"], perm=[0, 2, 3, 1]), node("Squeeze", ["f"], ["y"])],
    [x], constants=[ints("one", 1), ints("least", -2**63), ints("minus", -1),
                    ints("pads", 0, 0, 1, 0, 0, 1, 0, 2), ints("shape", 1, 1, 1, 1),
                    ints("repeats", 1, 2, 1, 1)])
save("makers", [
    node("Constant", [], ["a"], value=numpy_helper.from_array(np.int64(0))),
    node("Constant", [], ["b"], value_int=7), node("Constant", [], ["c"], value_ints=[2, 3]),
    node("Constant", [], ["d"], value_float=0.5), node("Constant", [], ["e"], value_floats=[1., 2.]),
    node("Constant", [], ["one"], value_int=1), node("Range", ["a", "b", "one"], ["r"]),
    node("ConstantOfShape", ["c"], ["f"], value=helper.make_tensor("v", T.FLOAT, (1,), [3.0])),
    node("GatherElements", ["e", "i"], ["g"]), node("Size", ["f"], ["y"])],
    outputs=("y", "r", "f", "g", "d"), constants=[ints("i", 0, -1)])
save("scalars", [node("Reshape", ["x", "empty"], ["y"])], [("x", T.INT32, ())],
     constants=[ints("empty")], opset=17)
outer = save("external", [node("Concat", ["a", "b"], ["y"], axis=0)], constants=[
    external(numpy_helper.from_array(np.zeros((4, 4), "f4"), "a"), location="weights.bin"),
    external(numpy_helper.from_array(np.zeros((2, 4), "f4"), "b"), location="weights.bin", offset=1,
             length=32)])
initializer = lambda model: model.graph.initializer[0]
rewrite("old-inputs", plain, lambda m: m.graph.input.extend(
    helper.make_tensor_value_info(t.name, T.INT64, t.dims) for t in m.graph.initializer))
rewrite("other-parts", plain, lambda m: (
    m.metadata_props.add(), m.functions.add(), m.training_info.add(), m.graph.value_info.add(),
    m.opset_import.append(helper.make_opsetid("com.example", 1))))

# Not ours to run.
body = helper.make_graph([node("Identity", ["z"], ["w"])], "body", [], [])
for name in ("Loop", "If", "Scan"):
    save("hostile-" + name, [node(name, ["x"], ["y"], body=body)], [x])
save("hostile-domain", [node("Gelu", ["x"], ["y"], domain="com.microsoft")], [x])
save("hostile-operator", [node("Nothing", ["x"], ["y"], words=["a", "b"])], [x])
for opset in (1, 12, 18):
    save(f"hostile-opset-{opset}", [node("Flatten", ["x"], ["y"])], [x], opset=opset)
save("hostile-strings", [node("Flatten", ["a"], ["y"])],
     constants=[helper.make_tensor("a", T.STRING, (2,), [b"a", b"b"])])
save("uint64", [node("Flatten", ["a"], ["y"])],
     constants=[helper.make_tensor("a", T.UINT64, (2,), [1, 2])])
rewrite("hostile-sequence", plain, lambda m: m.graph.input[0].type.sequence_type.elem_type.CopyFrom(
    helper.make_tensor_type_proto(T.FLOAT, (1,))))
rewrite("hostile-sparse", plain, lambda m: m.graph.sparse_initializer.add())
rewrite("hostile-quantized", plain, lambda m: m.graph.quantization_annotation.add())
rewrite("hostile-shapeless", plain, lambda m: m.graph.input[0].type.tensor_type.ClearField("shape"))
rewrite("hostile-cycle", plain, lambda m: m.graph.node[0].input.__setitem__(0, "r"))
rewrite("hostile-twice", plain, lambda m: m.graph.node.append(m.graph.node[0]))
rewrite("hostile-undefined", plain, lambda m: m.graph.ClearField("input"))
# Not what they say.
rewrite("hostile-dims", outer, lambda m: initializer(m).dims.__setitem__(0, 2**62))
rewrite("hostile-negative", outer, lambda m: initializer(m).dims.__setitem__(0, -4))
rewrite("hostile-rank", outer, lambda m: initializer(m).dims.extend([1] * 7))
for name, place in [("parent", "../weights.bin"), ("absolute", "/etc/passwd"), ("dot", "./weights.bin"),
                    ("missing", "nothing.bin"), ("directory", ""), ("newline", "weights.bin\n")]:
    rewrite("hostile-external-" + name, outer,
            lambda m: setattr(initializer(m).external_data[0], "value", place))
rewrite("hostile-external-many", outer, lambda m: m.graph.initializer.extend(
    external(numpy_helper.from_array(np.zeros((8, 8), "f4"), f"c{i}"), location="weights.bin")
    for i in range(100)))
# Bombs.
parts, size = [], 0
for tag in b"\x32\x2a\x0a" * 10000 + b"\x3a":  # inside out: graph, attribute, node … model
    parts.append(bytes([tag] + [size >> s & 127 | 128 for s in (0, 7, 14)] + [size >> 21]))
    size += len(parts[-1])
open("hostile-nested.onnx", "wb").write(b"".join(reversed(parts)))
open("hostile-nodes.onnx", "wb").write(b"\x3a\x80\x80\x20" + b"\x0a\x00" * (1 << 18))
whole = open("moves.onnx", "rb").read()
open("hostile-cut.onnx", "wb").write(whole[:len(whole) // 2])
open("hostile-empty.onnx", "wb").close()
open("hostile-text.onnx", "w").write("no ONNX file\n")
