"""seeds_derivative.py DIRECTORY [COUNT [SEED]]: writes COUNT random graphs (random_graph.py) to
mutate into a directory, every third as it is, the others disturbed once or twice; and a graph of each
operator (operator_seeds.py)."""
import os
import sys

try:
    import numpy as np
    from onnx import numpy_helper
except ImportError:
    print("skipped: no onnx to write the seeds with", file=sys.stderr)
    sys.exit(77)
sys.dont_write_bytecode = True  # beside the script
import operator_seeds
from random_graph import EXAMPLES, UNARY, Graph

STEPS = [Graph.unary, Graph.broadcast, Graph.broadcast, Graph.product, Graph.product,
         Graph.convolution, Graph.convolution, Graph.pool, Graph.normalize, Graph.normalize,
         Graph.softmax, Graph.reduce, Graph.move, Graph.move, Graph.join, Graph.index,
         Graph.choose, Graph.alone, Graph.make]


def random_model(seed):
    g = Graph(seed)
    g.first = [EXAMPLES] + [g.extent() for _ in range(g.pick([0, 1, 1, 2, 2, 3, 3, 3, 4]))]
    g.shapes["x"] = list(g.first)
    if g.chance(0.3):
        g.index_shape = [EXAMPLES] + g.extents(2)
        g.shapes["i"] = g.index_shape
    x, length = "x", 1 + g.below(6)
    while length:
        kept = len(g.nodes), len(g.constants), dict(g.shapes)
        try:
            y = g.pick(STEPS)(g, x, g.shapes[x])
        except ValueError:  # a shape that there is not
            y = None
        if y and np.prod(g.shapes[y]) < 20000 and min(g.shapes[y] + [0]) == 0:
            x, length = y, length - 1
        else:
            g.nodes, g.constants, g.shapes = g.nodes[:kept[0]], g.constants[:kept[1]], kept[2]
    x = g.unary(x, g.shapes[x], UNARY[seed % len(UNARY)])  # each has its turn
    if not any(c.name[0] == "w" for c in g.constants):
        x = g.add("Mul", [x, g.parameter([], -1, "w")], g.shapes[x])
    outputs = [x]
    if g.chance(0.2):  # what was given is an output too; or is the first one
        outputs.insert(not g.chance(0.1), g.pick(["x"] + [c.name for c in g.constants]))
    return g, g.model(outputs)


def disturb(g, model):
    """Changes that leave a file well formed, but seldom a graph legal."""
    edges = [0, 1, -1, 2, 3, 5, -2, 7, 64, 1000, 2**31, 2**62, -2**63, 2**63 - 1]
    graph = model.graph
    node = g.pick(graph.node)
    names = list(g.shapes) + [c.name for c in g.constants] + [""]
    kind = g.below(7)
    if kind == 0 and node.input:
        node.input[g.below(len(node.input))] = g.pick(names)
    elif kind == 1:
        node.output[-1] = "" if len(node.output) > 1 else node.output[-1]
        node.input.append(g.pick(names))
    elif kind == 2 and node.attribute:
        attribute = g.pick(node.attribute)
        attribute.i, attribute.f = g.pick(edges), g.pick([0.0, -1.0, 1e30, float("nan")])
        if attribute.ints:
            attribute.ints[g.below(len(attribute.ints))] = g.pick(edges)
    elif kind == 3 and node.attribute:
        node.attribute.pop(g.below(len(node.attribute)))
    elif kind == 4:
        constant = g.pick(graph.initializer)
        values = numpy_helper.to_array(constant).copy().ravel()
        if values.size:
            values[g.below(values.size)] = g.pick(edges)
        shape = g.pick([constant.dims, values.shape, [1] + list(constant.dims)])
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(values.reshape(shape), name))
    elif kind == 5:
        constant = g.pick(graph.initializer)
        values = numpy_helper.to_array(constant)
        values = np.resize(values, g.extents(4))
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(values, name))
    else:
        dims = graph.input[0].type.tensor_type.shape.dim
        g.pick(dims).dim_value = g.pick([1, 2, 3, 0])


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    operator_seeds.write(True)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 150
    for i in range(count):
        seed = (int(sys.argv[3]) if len(sys.argv) > 3 else 1) * 1000003 + i
        g, model = random_model(seed)
        for _ in range(i % 3):
            disturb(g, model)
        with open(f"{i}.onnx", "wb") as file:
            file.write(model.SerializeToString())
