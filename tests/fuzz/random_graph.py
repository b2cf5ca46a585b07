"""Random graphs of unusual but mostly legal shapes: chains of operators that parameters and
examples meet in. Initializers whose names begin with "running" are to be buffers, with "kept" to stay
constants, with "w" to be parameters."""
import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

EXAMPLES = 3  # that shapes are worked out for
UNARY = ("Neg Abs Sign Reciprocal Sqrt Exp Log Round Floor Ceil Erf Tanh Sigmoid Softplus Relu "
         "HardSwish LeakyRelu Elu HardSigmoid Identity Dropout Clip PRelu").split()
BROADCAST = "Add Sub Mul Div Max Min Sum Mean Pow Add Mul".split()
COMPARE = "Equal Less LessOrEqual Greater GreaterOrEqual".split()
REDUCE = "ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum".split()


class Graph:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.constants, self.shapes = [], [], {}
        self.wide = [16, 31, 33, 49, 64, 100] if self.chance(0.2) else []

    def below(self, bound):
        return int(self.rng.integers(bound))

    def chance(self, probability):
        return self.rng.random() < probability

    def pick(self, items):
        return items[self.below(len(items))]

    def extent(self):
        return self.pick([0, 1, 2, 5, 7, 17] + self.wide if self.chance(0.2) else [1, 2, 3, 4])

    def extents(self, most):
        return [self.extent() for _ in range(self.below(most + 1))]

    def axis(self, rank):
        return self.below(rank) - (rank if self.chance(0.5) else 0)

    def constant(self, array, prefix):
        name = f"{prefix}{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def ints(self, *values):
        return self.constant(np.array(values, "i8"), "list")

    def parameter(self, shape, low=-1.0, prefix=None):
        """A tensor of floats: new, or one of that shape that something else takes too."""
        again = [c.name for c in self.constants
                 if c.name[0] == "w" and list(c.dims) == list(shape)]
        if again and not prefix and low < 0 and self.chance(0.3):
            return self.pick(again)
        prefix = prefix or ("kept" if self.chance(0.1) else "w")
        return self.constant(self.rng.uniform(low, 1, shape).astype("f4"), prefix)

    def add(self, operator, inputs, shape, outputs=None, **attributes):
        name = f"v{len(self.nodes)}"
        outputs = outputs or [name]
        self.nodes.append(helper.make_node(operator, inputs, [o and name + o * (o != name)
                                                              for o in outputs], **attributes))
        name = next(o for o in self.nodes[-1].output if o)
        self.shapes[name] = list(shape)
        return name

    def operand(self, shape):
        """What broadcasts with a shape, or that it broadcasts with: a parameter, or computed."""
        computed = [n for n, s in self.shapes.items() if s == shape]
        if computed and self.chance(0.3):
            return self.pick(computed), shape
        other = [1 if self.chance(0.3) else e for e in shape[self.below(len(shape) + 1):]]
        if shape and shape[0] == EXAMPLES and len(other) == len(shape):
            other[0] = 1
        for k in range(len(other)):
            if shape[k - len(other)] == 1 and self.chance(0.2) and k > 0:
                other[k] = self.extent()
        if self.chance(0.1) and len(shape) < 5 and len(other) == len(shape):
            other = [self.extent()] + other
        return self.parameter(other, -1), other

    def unary(self, x, shape, operator=None):
        attributes, inputs, outputs = {}, [x], None
        operator = operator or self.pick(UNARY)
        if operator in ("LeakyRelu", "Elu", "HardSigmoid") and self.chance(0.5):
            attributes = {"alpha": self.pick([0.0, 0.5, -1.0])}
        if operator == "Clip":
            bounds = [self.parameter([], -1, self.pick(["kept", "w"])) for _ in range(2)]
            inputs += [b if self.chance(0.7) else "" for b in bounds]
        if operator == "PRelu":
            slope = [1 if self.chance(0.3) else e for e in shape[self.below(len(shape) + 1):]]
            if slope and len(slope) == len(shape):
                slope[0] = 1  # shared by examples
            inputs.append(self.parameter(slope))
        if operator == "Dropout" and self.chance(0.5):
            outputs = ["a", "b"]
        if operator in ("Sqrt", "Log", "Reciprocal") and self.chance(0.7):
            inputs = [self.add("Exp", [x], shape)]
        return self.add(operator, inputs, shape, outputs, **attributes)

    def broadcast(self, x, shape):
        operator = self.pick(BROADCAST)
        other, extents = self.operand(shape)
        inputs = [x, other] if self.chance(0.6) else [other, x]
        out = np.broadcast_shapes(shape, extents)
        if operator in ("Max", "Min", "Sum", "Mean"):
            if self.chance(0.2):
                inputs.append(self.pick(inputs))
            if self.chance(0.1):
                inputs, out = [x], shape
        return self.add(operator, inputs, out)

    def choose(self, x, shape):
        other, extents = self.operand(shape)
        out = np.broadcast_shapes(shape, extents)
        test = self.add(self.pick(COMPARE), [x, other], out)
        if self.chance(0.3):
            test = self.add("Not", [test], out)
        if self.chance(0.6):
            test = self.add(self.pick(["And", "Or", "Xor"]),
                            [test, self.add("IsNaN", [x], shape)], out)
        if self.chance(0.3):
            return self.add("Cast", [test], out, to=T.FLOAT)
        return self.add("Where", [test] + self.pick([[x, other], [other, x], [x, x]]), out)

    def product(self, x, shape):
        if not shape:
            return None
        k, n = shape[-1], self.extent()
        if len(shape) == 2 and self.chance(0.5):
            swap = self.chance(0.3)
            turned = self.add("Transpose", [x], shape[::-1], perm=[1, 0]) if swap else x
            trans = self.chance(0.5)
            inputs = [turned, self.parameter([n, k] if trans else [k, n])]
            if self.chance(0.6):
                inputs.append(self.parameter(self.pick([[n], [1, n], [], [1], [1, 1]])))
            return self.add("Gemm", inputs, [shape[0], n], transB=int(trans), transA=int(swap),
                            **({"alpha": 0.5, "beta": -2.0} if self.chance(0.3) else {}))
        batch = shape[1:-2] if len(shape) > 3 and self.chance(0.3) else []
        batch = [1 if self.chance(0.3) else e for e in batch]
        if self.chance(0.2):
            return self.add("MatMul", [x, self.parameter([k])], shape[:-1])
        if len(shape) > 1 and self.chance(0.3):  # from the left
            return self.add("MatMul", [self.parameter(batch + [n, shape[-2]]), x],
                            shape[:-2] + [n, k])
        if len(shape) > 2 and self.chance(0.3):  # with itself
            order = list(range(len(shape) - 2)) + [len(shape) - 1, len(shape) - 2]
            turned = self.add("Transpose", [x], [shape[i] for i in order], perm=order)
            return self.add("MatMul", [x, turned], shape[:-1] + [shape[-2]])
        if self.chance(0.2):
            turned = self.add("Transpose", [self.parameter([n, k])], [k, n], perm=[1, 0])
            return self.add("MatMul", [x, turned], shape[:-1] + [n])
        return self.add("MatMul", [x, self.parameter(batch + [k, n])], shape[:-1] + [n])

    def window(self, spatial, whole=False):
        """Attributes of a window that moves over the last axes, and the extents that it leaves."""
        kernel = [e if whole else 1 + self.below(min(e + 1, 4)) for e in spatial]
        stride = [1 + self.below(3) * self.chance(0.5) for _ in spatial]
        dilation = [1 + self.below(3) * self.chance(0.3) * (2 * k < e)
                    for k, e in zip(kernel, spatial)]
        pads = [self.below(k) * (not whole) for k in kernel + kernel]
        if self.chance(0.1):
            pads[0] += 3
        ceil = self.chance(0.3)
        out = []
        for i, e in enumerate(spatial):
            room = e + pads[i] + pads[i + len(spatial)] - dilation[i] * (kernel[i] - 1) - 1
            steps = -(-room // stride[i]) if ceil else room // stride[i]
            if ceil and steps * stride[i] >= e + pads[i]:
                steps -= 1
            out.append(steps + 1)
        return kernel, {"strides": stride, "dilations": dilation, "pads": pads}, ceil, out

    def convolution(self, x, shape):
        if len(shape) not in (3, 4):
            return None
        channels = shape[1]
        group = self.pick([g for g in (1, 2, 3, 4) if channels % g == 0])
        out = group * self.extent()
        kernel, attributes, _, extents = self.window(shape[2:], self.chance(0.2))
        if self.chance(0.2):
            attributes.pop("pads")
            attributes["auto_pad"] = self.pick(["VALID", "SAME_UPPER", "SAME_LOWER", "NOTSET"])
            extents = None
        inputs = [x, self.parameter([out, channels // group] + kernel)]
        if self.chance(0.6):
            inputs.append(self.parameter([out]))
        attributes = {k: v for k, v in attributes.items() if k == "auto_pad" or self.chance(0.9)}
        name = self.add("Conv", inputs, [0], group=group, **attributes)
        return self.unknown(name, x)

    def pool(self, x, shape):
        if len(shape) not in (3, 4):
            return None
        if self.chance(0.4):
            return self.add(self.pick(["GlobalAveragePool", "GlobalMaxPool"]), [x],
                            shape[:2] + [1] * (len(shape) - 2))
        kernel, attributes, ceil, _ = self.window(shape[2:])
        if self.chance(0.2):
            attributes.pop("pads")
            attributes["auto_pad"] = self.pick(["VALID", "SAME_UPPER", "SAME_LOWER"])
        if self.chance(0.5):
            attributes.pop("dilations")
            attributes["count_include_pad"] = self.below(2)
            name = self.add("AveragePool", [x], [0], kernel_shape=kernel, ceil_mode=int(ceil),
                            **attributes)
        else:
            name = self.add("MaxPool", [x], [0], self.pick([None, None, ["", "b"][::-1]]),
                            kernel_shape=kernel, ceil_mode=int(ceil), **attributes)
        return self.unknown(name, x)

    def unknown(self, name, x):
        """Shapes that onnx works out; nothing where it cannot."""
        try:
            model = self.model([name])
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
            dims = inferred.graph.output[0].type.tensor_type.shape.dim
            shape = [EXAMPLES if d.dim_param == "n" else d.dim_value for d in dims]
        except Exception:
            shape = []
        self.shapes[name] = shape
        if len(shape) < 3:  # refused, most likely: a few are kept
            if self.chance(0.9):
                self.nodes.pop()
                del self.shapes[name]
                return x
        return name

    def normalize(self, x, shape):
        if len(shape) >= 2 and self.chance(0.5):
            c = shape[1]
            if self.chance(0.3) and len(shape) > 2:
                return self.add("InstanceNormalization",
                                [x, self.parameter([c]), self.parameter([c])], shape)
            prefix = "running" if self.chance(0.7) else None
            inputs = [self.parameter([c]), self.parameter([c]),
                      self.parameter([c], -1, prefix), self.parameter([c], 0.2, prefix)]
            if self.chance(0.2):
                inputs[0] = self.add("Identity", [inputs[0]], [c])
            if self.chance(0.2):
                inputs[2] = self.add("Identity", [inputs[2]], [c])
            return self.add("BatchNormalization", [x] + inputs, shape,
                            **({"epsilon": 1e-3} if self.chance(0.5) else {}))
        if not shape:
            return None
        axis = self.axis(len(shape))
        at = axis % len(shape)
        inputs = [x, self.parameter(shape[at:])]
        if self.chance(0.6):
            inputs.append(self.parameter(shape[at:]))
        reduced = shape[:at] + [1] * (len(shape) - at)
        name = self.add("LayerNormalization", inputs, shape,
                        self.pick([None, ["a", "b", "c"], ["a", "", "c"], ["a", "b"]]),
                        axis=axis)
        for o in self.nodes[-1].output:
            if o and o != name:
                self.shapes[o] = reduced
                if self.chance(0.7):
                    name = self.add("Add", [name, o], shape)
        return name

    def softmax(self, x, shape):
        return self.add(self.pick(["Softmax", "LogSoftmax"]), [x], shape,
                        **({"axis": self.axis(len(shape))} if self.chance(0.7) else {})
                        ) if shape else None

    def reduce(self, x, shape):
        operator, keep = self.pick(REDUCE), self.below(2)
        axes = [k for k in range(len(shape)) if self.chance(0.4) and (k or self.chance(0.1))]
        given = [k - (len(shape) if self.chance(0.5) else 0) for k in axes]
        out = [1 if k in axes else e for k, e in enumerate(shape) if keep or k not in axes]
        if operator != "ReduceSum":
            if not axes:
                axes, out = None, [1] * len(shape) if keep else []
            return self.add(operator, [x], out, keepdims=keep, **({"axes": given} if axes else {}))
        none = not axes and self.chance(0.5)
        return self.add(operator, [x, self.ints(*given)], shape if not axes else out,
                        keepdims=keep, noop_with_empty_axes=1) if axes or none else None

    def move(self, x, shape):
        rank = len(shape)
        kind = self.pick("Transpose Slice Expand Tile Reshape Flatten Squeeze Unsqueeze".split())
        if kind == "Transpose":
            order = [int(i) for i in self.rng.permutation(rank)]
            if self.chance(0.7) and rank:
                order.remove(0)
                order = [0] + order
            return self.add(kind, [x], [shape[i] for i in order], perm=order) if rank else None
        if kind == "Unsqueeze" and rank < 5:
            at = self.below(rank + 1)
            given = at - (rank + 1 if self.chance(0.5) else 0)
            return self.add(kind, [x, self.ints(given)], shape[:at] + [1] + shape[at:])
        if kind == "Squeeze":
            ones = [k for k, e in enumerate(shape) if e == 1 and k]
            return self.add(kind, [x, self.ints(*ones)],
                            [e for k, e in enumerate(shape) if k not in ones]) if ones else None
        if kind == "Flatten" and rank:
            axis = self.pick([1, 1, self.below(rank + 1)])
            return self.add(kind, [x], [int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))],
                            axis=axis)
        if kind == "Reshape" and rank:
            rest = int(np.prod(shape[1:]))
            parts = self.pick([[rest], [rest, 1], [1, rest], [2, rest // 2] if rest % 2 == 0
                               else [rest], [1, 1, rest, 1]])
            first = self.pick([0, -1]) if rest else 0
            if self.chance(0.2):
                first = EXAMPLES
            return self.add(kind, [x, self.ints(first, *parts)], [shape[0]] + parts)
        if kind == "Slice" and rank:
            at, step = self.below(rank), self.pick([1, 1, 2, -1, -2])
            start, end = self.below(5) - 2, self.pick([2, 3, -1, 2**63 - 1, -2**63, 1])
            out = list(shape)
            out[at] = len(range(*slice(start, end, step).indices(shape[at])))
            return self.add(kind, [x, self.ints(start), self.ints(end), self.ints(at),
                                   self.ints(step)], out)
        if kind == "Expand" and rank:
            out = [self.extent() if e == 1 and k else e for k, e in enumerate(shape)]
            given = [1 if k == 0 or self.chance(0.3) and out[k] == shape[k] else e
                     for k, e in enumerate(out)]
            return self.add(kind, [x, self.ints(*given)], out)
        if kind == "Tile" and rank:
            times = [1] + [self.pick([1, 2, 3, 0 if self.chance(0.1) else 1])
                           for _ in range(rank - 1)]
            return self.add(kind, [x, self.ints(*times)], [e * t for e, t in zip(shape, times)])
        return None

    def join(self, x, shape):
        if not shape:
            return None
        at = self.below(len(shape))
        given = at - (len(shape) if self.chance(0.5) else 0)
        if self.chance(0.5):
            other = list(shape)
            other[at] = self.extent()
            inputs = [x, self.parameter(other)] if at and self.chance(0.5) else [x, x]
            if inputs[1] == x:
                other = shape
            if self.chance(0.5):
                inputs = inputs[::-1]
            out = list(shape)
            out[at] += other[at]
            if at and shape[0] == EXAMPLES and inputs != [x, x]:
                inputs = [self.add("Expand", [i, self.like(x, other)], other) if i != x else i
                          for i in [x, self.parameter([1] + other[1:])][:2]]
            return self.add("Concat", inputs, out, axis=given)
        if shape[at] < 1:
            return None
        first = self.below(shape[at] + 1)
        name = self.add("Split", [x, self.ints(first, shape[at] - first)], [0],
                        self.pick([["a", "b"], ["a", ""], ["", "b"]]), axis=given)
        parts = {}
        for i, o in enumerate(self.nodes[-1].output):
            if o:
                parts[o] = list(shape)
                parts[o][at] = first if i == 0 else shape[at] - first
        self.shapes.update(parts)
        return self.pick(list(parts))

    def like(self, x, shape):
        """A shape whose first extent is that of x."""
        first = self.add("Slice", [self.add("Shape", [x], [1]), self.ints(0), self.ints(1)], [1])
        both = self.add("Concat", [first, self.ints(*shape[1:])], [len(shape)], axis=0)
        for name in (first, both, self.nodes[-3].output[0]):
            self.shapes.pop(name, None)
        return both

    def index(self, x, shape):
        if not shape:
            return None
        kind, at = self.pick(["Gather", "GatherElements", "Pad", "Embed"]), self.below(len(shape))
        given = at - (len(shape) if self.chance(0.5) else 0)
        if kind == "Pad":
            pads = [self.below(3) - (1 if self.chance(0.2) else 0) if i % len(shape) else 0
                    for i in range(2 * len(shape))]
            mode = self.pick(["constant", "reflect", "edge"])
            inputs = [x, self.ints(*pads)]
            if mode == "constant" and self.chance(0.5):
                inputs.append(self.parameter([]))
            return self.add(kind, inputs, [max(0, e + pads[k] + pads[k + len(shape)])
                                           for k, e in enumerate(shape)], mode=mode)
        if kind == "Embed" and "i" in self.shapes:  # a table and the examples' own indices
            table = [3] + self.extents(2)
            return self.add("Gather", [self.parameter(table), "i"],
                            self.shapes["i"] + table[1:], axis=0)
        if shape[at] < 1:
            return None
        low = self.pick([0, -1])
        if kind == "Gather":
            indices = self.rng.integers(low * shape[at], shape[at], self.extents(2))
            return self.add(kind, [x, self.constant(np.asarray(indices, "i8"), "list")],
                            shape[:at] + list(np.shape(indices)) + shape[at + 1:], axis=given)
        if kind == "GatherElements" and np.prod(shape) < 500:
            indices = self.rng.integers(low * shape[at], shape[at], shape)
            return self.add(kind, [x, self.constant(np.asarray(indices, "i8"), "list")], shape,
                            axis=given)
        return None

    def make(self, x, shape):
        """Constants that nodes make, of the shape of what there is."""
        like = self.add("Shape", [x], [len(shape)])
        zeros = self.add("ConstantOfShape", [like], shape,
                         value=helper.make_tensor("v", T.FLOAT, (1,), [0.5]))
        del self.shapes[like]
        if self.chance(0.3):
            size = self.add("Cast", [self.add("Size", [x], [])], [], to=T.FLOAT)
            del self.shapes[self.nodes[-2].output[0]]
            zeros = self.add("Div", [zeros, size], shape)
        if self.chance(0.3) and shape:
            number = self.add("Constant", [], [1], value_floats=[-0.5])
            zeros = self.add("Sub", [zeros, number], shape)
        if self.chance(0.3) and shape:
            bounds = [self.constant(np.float32(v), "kept") for v in (0, shape[-1], 1)]
            zeros = self.add("Mul", [zeros, self.add("Range", bounds, [shape[-1]])], shape)
        return self.add("Add", [zeros, x], shape)

    def alone(self, x, shape):
        """Parameters that meet each other, then the examples."""
        out = shape[-1:]
        a = self.parameter(out)
        kinds = [lambda: self.add(self.pick(UNARY[:20]), [a], out),
                 lambda: self.add("Mul", [a, self.parameter(out)], out),
                 lambda: self.add("Add", [a, a], out),
                 lambda: self.add("ReduceMean", [a], [1] * len(out), keepdims=1)]
        other = self.pick(kinds)()
        return self.add("Mul", [x, other] if self.chance(0.5) else [other, x], shape)

    def model(self, outputs):
        def info(name, kind, shape):
            return helper.make_tensor_value_info(name, kind, ["n"] + shape[1:])
        inputs = [info("x", T.FLOAT, self.first)]
        if "i" in self.shapes:
            inputs.append(info("i", T.INT64, self.index_shape))
        results = [helper.make_tensor_value_info(n, T.FLOAT, None) for n in outputs]
        graph = helper.make_graph(self.nodes, "graph", inputs, results, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
