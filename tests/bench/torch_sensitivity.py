"""PyTorch's side of sensitivity.sh, and the files that it needs.

torch_sensitivity.py make SHARED DIRECTORY    data and networks
torch_sensitivity.py full|diag cifar-lenet|digits-mlp SHARED [CHUNK]    seconds of the computation
    alone, with the Jacobians of CHUNK examples in memory at once (default all, which is fastest)
"""
import sys
import time

import h5py
import numpy as np

ROWS = {"cifar-lenet": 500, "digits-mlp": 1400}
DATA = {"cifar-lenet": "cifar10", "digits-mlp": "digits"}


def named(group):
    found = []
    group.visititems(lambda k, v: found.append((k, v[()])) if isinstance(v, h5py.Dataset) else None)
    return found


def make(shared, directory):
    """Many digits, images as they are in memory, LeNet-5 with 10, 100 and 1,000 outputs, its last layer
    alone with as many."""
    with h5py.File(f"{shared}/data/cifar10.h5") as f, h5py.File(f"{directory}/cifar10.h5", "w") as g:
        g["x"], g["y"] = f["train/x"][()], f["train/y"][()]
    with h5py.File(f"{shared}/data/digits.h5") as f, h5py.File(f"{directory}/digits.h5", "w") as g:
        g["x"], g["y"] = np.tile(f["train/x"][()], (100, 1)), np.tile(f["train/y"][()], 100)
    random = np.random.default_rng(0)
    with h5py.File(f"{directory}/features.h5", "w") as f:
        f["x"] = np.tanh(random.standard_normal((10000, 84), "f4"))
        f["y"] = random.integers(0, 10, 10000)
    for classes in 10, 100, 1000:
        widen(shared, directory, classes, random)


def widen(shared, directory, classes, random):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    source = f"{shared}/reference/cifar-lenet"
    last = {"fc2.weight": random.standard_normal((classes, 84), "f4") / 84**0.5,
            "fc2.bias": np.zeros(classes, "f4")}
    model = onnx.load(f"{source}/model.onnx")
    for tensor in model.graph.initializer:
        if tensor.name in last:
            tensor.CopyFrom(numpy_helper.from_array(last[tensor.name], tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = classes
    onnx.save(model, f"{directory}/lenet-{classes}.onnx")
    info = helper.make_tensor_value_info
    inputs = [info("x", TensorProto.FLOAT, ["n", 84])]
    inputs += [info(name, TensorProto.FLOAT, value.shape) for name, value in last.items()]
    graph = helper.make_graph([helper.make_node("Gemm", ["x", *last], ["f"], transB=1)], "last",
                              inputs, [info("f", TensorProto.FLOAT, ["n", classes])])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]),
              f"{directory}/last-{classes}.onnx")
    with h5py.File(f"{source}/posterior.h5") as f, \
            h5py.File(f"{directory}/lenet-{classes}.h5", "w") as whole, \
            h5py.File(f"{directory}/last-{classes}.h5", "w") as alone:
        for g in whole, alone:
            g.attrs.update(f.attrs)
        for name, mean in named(f["mean"]):
            hessian = f["hessian/" + name][()]
            if name in last:
                mean = last[name]
                hessian = np.full(mean.shape, np.median(hessian), "f4")
                alone["mean/" + name], alone["hessian/" + name] = mean, hessian
            whole["mean/" + name], whole["hessian/" + name] = mean, hessian


def measure(covariance, network, shared, chunk=0):
    import functorch
    import torch
    from torch.nn import functional as F
    torch.set_num_threads(2)
    with h5py.File(f"{shared}/reference/{network}/posterior.h5") as f:
        mean = {k: torch.from_numpy(v) for k, v in named(f["mean"])}
        ess, weight_decay = f.attrs["ess"], f.attrs["weight_decay"]
        variance = torch.cat([1 / (ess * (torch.from_numpy(f["hessian/" + k][()]) + weight_decay))
                              .flatten() for k in mean]).float()
    with h5py.File(f"{shared}/data/{DATA[network]}.h5") as f:
        x, y = f["train/x"][:ROWS[network]], f["train/y"][:ROWS[network]].astype("i8")
    x = torch.from_numpy(x.astype("f4") / 255 if x.dtype == np.uint8 else x)
    y = torch.from_numpy(y)
    weights = [k for k in mean if k.endswith("weight")]

    def forward(parameters, x):
        x = x[None]
        for i, name in enumerate(weights):
            w, b = parameters[name], parameters[name[:-6] + "bias"]
            if w.ndim == 4:
                x = torch.tanh(F.conv2d(x, w, b))
                x = F.avg_pool2d(x, 2) if i < 2 else x.flatten(1)
            else:
                x = F.linear(x, w, b)
                x = torch.tanh(x) if i + 1 < len(weights) else x
        return x[0], x[0]

    jacobian = functorch.vmap(functorch.jacrev(forward, has_aux=True), in_dims=(None, 0))

    def deviations(x, y):
        parts, f = jacobian(mean, x)
        j = torch.cat([parts[k].flatten(2) for k in mean], 2)
        e = f.softmax(1) - F.one_hot(y, f.shape[1])
        if covariance == "full":
            return torch.einsum("nkl,nl->nk", torch.einsum("nkp,nlp->nkl", j * variance, j), e)
        return torch.einsum("nkp,p->nk", j * j, variance) * e

    chunk = int(chunk) or len(x)
    deviations(x[:chunk], y[:chunk])
    start = time.time()
    torch.cat([deviations(a, b) for a, b in zip(x.split(chunk), y.split(chunk))])
    print(time.time() - start)


if sys.argv[1] == "make":
    make(*sys.argv[2:])
else:
    measure(*sys.argv[1:])
