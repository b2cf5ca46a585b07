"""A multi-layer perceptron with tanh, trained by IVON's update as published (Shen et al., ICML
2024, Algorithm 1), in numpy; its checkpoints and its graph. What it gives depends on its seeds."""
import h5py
import numpy as np
import onnx
from onnx import TensorProto, helper


def softmax(f):
    e = np.exp(f - f.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def residual(f, y):
    e = softmax(f)
    e[np.arange(len(y)), y] -= 1
    return e


class Network:
    """A classifier. Its parameters are one vector: each layer's weight (outputs x inputs), bias."""

    def __init__(self, widths):
        self.widths, self.layers, at = widths, [], 0
        for inputs, outputs in zip(widths[:-1], widths[1:]):
            self.layers.append((slice(at, at + inputs * outputs), (outputs, inputs),
                                slice(at + inputs * outputs, at + (inputs + 1) * outputs)))
            at += (inputs + 1) * outputs
        self.size = at

    def start(self, random):
        theta = np.zeros(self.size)
        for weight, shape, _ in self.layers:
            theta[weight] = random.standard_normal(shape).ravel() / shape[1]**0.5
        return theta

    def forward(self, theta, x):
        """Inputs of every layer, and the outputs."""
        kept = []
        for i, (weight, shape, bias) in enumerate(self.layers):
            kept.append(x)
            x = x @ theta[weight].reshape(shape).T + theta[bias]
            if i + 1 < len(self.layers):
                x = np.tanh(x)
        return kept, x

    def gradient(self, theta, x, y):
        """Of the mean loss."""
        kept, f = self.forward(theta, x)
        back, gradient = residual(f, y) / len(x), np.empty(self.size)
        for i in reversed(range(len(self.layers))):
            weight, shape, bias = self.layers[i]
            gradient[weight], gradient[bias] = (back.T @ kept[i]).ravel(), back.sum(0)
            if i:
                back = (back @ theta[weight].reshape(shape)) * (1 - kept[i]**2)
        return gradient

    def names(self):
        for i, (weight, shape, bias) in enumerate(self.layers, 1):
            yield f"fc{i}.weight", weight, shape
            yield f"fc{i}.bias", bias, shape[:1]

    def write_graph(self, path):
        info, tensor, nodes = helper.make_tensor_value_info, TensorProto.FLOAT, []
        inputs, last = [info("x", tensor, ["n", self.widths[0]])], len(self.layers)
        inputs += [info(name, tensor, shape) for name, _, shape in self.names()]
        for i in range(1, last + 1):
            nodes.append(helper.make_node("Gemm", ["x" if i == 1 else f"a{i - 1}", f"fc{i}.weight",
                                                   f"fc{i}.bias"],
                                          ["f" if i == last else f"z{i}"], transB=1))
            if i < last:
                nodes.append(helper.make_node("Tanh", [f"z{i}"], [f"a{i}"]))
        graph = helper.make_graph(nodes, "mlp", inputs,
                                  [info("f", tensor, ["n", self.widths[-1]])])
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)


class Ivon:
    """One training: its state, and one step at a time."""

    def __init__(self, network, theta, lr, ess, weight_decay, hess_init=1.0, beta1=0.9,
                 beta2=0.99999):
        self.network, self.mean = network, theta.copy()
        self.lr, self.ess, self.weight_decay = lr, ess, weight_decay
        self.hess_init, self.beta1, self.beta2 = hess_init, beta1, beta2
        self.hessian = np.full(network.size, float(hess_init))
        self.momentum, self.steps = np.zeros(network.size), 0
        self.random = np.random.default_rng(0)

    def step(self, x, y):
        self.steps += 1
        precision = self.ess * (self.hessian + self.weight_decay)
        noise = self.random.standard_normal(self.network.size) / np.sqrt(precision)
        gradient = self.network.gradient(self.mean + noise, x, y)
        curvature = gradient * noise * precision
        self.momentum += (1 - self.beta1) * (gradient - self.momentum)
        change = self.hessian - curvature
        correction = 0.5 * (1 - self.beta2)**2 * change**2 / (self.hessian + self.weight_decay)
        self.hessian += correction - (1 - self.beta2) * change
        direction = self.momentum / (1 - self.beta1**self.steps) + self.weight_decay * self.mean
        rate = self.lr * (self.hess_init + self.weight_decay)
        self.mean -= rate * direction / (self.hessian + self.weight_decay)

    def train(self, x, y, batch, epochs):
        """At a constant rate. Yields the number of each epoch at its end."""
        for epoch in range(1, epochs + 1):
            order = self.random.permutation(len(x))
            for at in range(0, len(x) - batch + 1, batch):
                rows = order[at:at + batch]
                self.step(x[rows], y[rows])
            yield epoch

    def loss(self, x, y):
        """Mean over examples, at the mean of the weights."""
        p = softmax(self.network.forward(self.mean, x)[1])
        return -np.log(p[np.arange(len(y)), y]).mean()

    def write(self, path, examples):
        with h5py.File(path, "w") as f:
            f.attrs.update(format="ivon-posterior", format_version=1, ess=float(self.ess),
                           weight_decay=float(self.weight_decay), step=self.steps,
                           n_train=examples)
            for name, place, shape in self.network.names():
                f["mean/" + name] = self.mean[place].reshape(shape).astype("f4")
                f["hessian/" + name] = self.hessian[place].reshape(shape).astype("f4")
