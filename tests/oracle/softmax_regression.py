"""A softmax regression f = W x + b whose Jacobians are written down, as an oracle in float64.

softmax_regression.py make DIRECTORY: posterior.h5 with its graph, train.h5 (x, y, half), test.h5, and
checkpoints step-N.h5. As a module, what removing examples does.
"""

import sys

import h5py
import numpy as np

CLASSES, FEATURES, EXAMPLES = 4, 5, 150


def graph():
    import onnx
    from onnx import TensorProto, helper

    info, tensor = helper.make_tensor_value_info, TensorProto.FLOAT
    nodes = [helper.make_node("Gemm", ["x", "weight", "bias"], ["f"], transB=1)]
    inputs = [info("x", tensor, ["n", FEATURES]), info("weight", tensor, [CLASSES, FEATURES]),
              info("bias", tensor, [CLASSES])]
    made = helper.make_graph(nodes, "softmax", inputs, [info("f", tensor, ["n", CLASSES])])
    return onnx.helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 13)]).SerializeToString()


def write(path, weight, bias, hessian, step, graph_bytes):
    with h5py.File(path, "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=300.0, weight_decay=0.01,
                       step=np.int64(step))
        for name, value, own in (("weight", weight, hessian[:, :-1]), ("bias", bias, hessian[:, -1])):
            f["mean/" + name] = value.astype("f4")
            f["hessian/" + name] = own.astype("f4")
        f["model.onnx"] = np.frombuffer(graph_bytes, "u1")


def make(directory):
    random = np.random.default_rng(5)
    weight, bias = random.standard_normal((CLASSES, FEATURES)), random.standard_normal(CLASSES)
    bytes_ = graph()
    for step in (0, 3, 10, 20):
        scale = 1.5 - step / 40
        hessian = (np.full((CLASSES, FEATURES + 1), 0.2) if step == 0 else
                   random.gamma(2.0, 0.05, (CLASSES, FEATURES + 1)))
        name = "posterior" if step == 20 else f"step-{step}"
        write(f"{directory}/{name}.h5", weight * scale, bias, hessian, step, bytes_)
    for name in ("train", "test"):
        x = random.standard_normal((EXAMPLES, FEATURES)).astype("f4")
        y = (x @ weight.T + bias + 2 * random.gumbel(size=(EXAMPLES, CLASSES))).argmax(1)
        with h5py.File(f"{directory}/{name}.h5", "w") as f:
            f["x"], f["y"], f["half"] = x, y, np.arange(EXAMPLES) % 2
            f["with_hole"] = np.where(np.arange(EXAMPLES) == 7, -100, y)


class Problem:
    """Everything of one posterior and one set of examples, n of them, K outputs, P parameters."""

    def __init__(self, posterior, data, rho=None):
        with h5py.File(posterior) as f:
            ess, decay = f.attrs["ess"], f.attrs["weight_decay"]
            parts = [(np.float64(f["mean/" + n][()]), np.float64(f["hessian/" + n][()]))
                     for n in ("weight", "bias")]
        with h5py.File(data) as f:
            x, self.y = np.float64(f["x"][()]), f["y"][()]
        self.n = len(x)
        self.rho = ess / self.n if rho is None else rho
        (weight, h_weight), (bias, h_bias) = parts
        h = np.concatenate([h_weight.ravel(), h_bias.ravel()])
        self.sigma = 1 / (ess * (h + decay))
        self.f = x @ weight.T + bias
        eye = np.eye(CLASSES)
        by_weight = np.einsum("kj,np->nkjp", eye, x).reshape(self.n, CLASSES, -1)
        self.jacobian = np.concatenate(
            [by_weight, np.broadcast_to(eye, (self.n, CLASSES, CLASSES))], 2)
        self.residual = self.softmax(self.f) - eye[self.y]
        self.gradient = np.einsum("nkp,nk->np", self.jacobian, self.residual)
        self.covariance = np.einsum("nkp,p,njp->nkj", self.jacobian, self.sigma, self.jacobian)
        self.variance = np.einsum("nkk->nk", self.covariance)

    @staticmethod
    def softmax(f):
        e = np.exp(f - f.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def loss(self, f):
        return -np.log(self.softmax(f)[np.arange(self.n), self.y])

    def moved(self, full=True):
        if full:
            return self.rho * np.einsum("nkj,nj->nk", self.covariance, self.residual)
        return self.rho * self.variance * self.residual

    def scores(self, full=True):
        moved, p = self.moved(full), self.softmax(self.f)
        return {
            "loss": self.loss(self.f),
            "residual": np.abs(self.residual).sum(1),
            "deviation": np.abs(self.softmax(self.f + moved) - p).sum(1),
            "mpe": np.abs((p - p * p) * self.moved(False)).sum(1),
            "self_influence": self.rho * np.einsum("np,p,np->n", self.gradient, self.sigma,
                                                   self.gradient),
            "loo_loss": self.loss(self.f + moved),
        }

    def without(self, members):
        """The outputs once a group was removed."""
        direction = self.rho * self.sigma * self.gradient[members].sum(0)
        return self.f + self.jacobian @ direction


if __name__ == "__main__":
    make(sys.argv[2])
