"""posterior_module.py DIRECTORY: saves posteriors by formats/python/ivon_posterior and checks what
h5py finds in them, what load() gives back, and what ivon-info and ivon-predict (on PATH) make
of them. Exit code 77 where torch is missing."""
import copy
import fcntl
import json
import os
import subprocess
import sys
from contextlib import contextmanager

import h5py
import numpy as np

try:
    import torch
    from torch import nn
except ImportError as error:
    print("skipped:", error)
    sys.exit(77)

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.environ.get("IVON_PYTHON", os.path.join(HERE, "../../formats/python")))
import ivon_posterior  # noqa: E402

EXAMPLES = 20


class Ivon(torch.optim.Optimizer):
    """Algorithm 1 of arXiv:2402.17641 with the state that IVON documents: flat `hess` and
    `momentum` in each group, `ess`, `weight_decay`, `hess_init`, `numel`; parameters are views of
    one storage after a step, and of their own inside sampled_params()."""

    def __init__(self, params, lr=0.1, ess=100.0, hess_init=0.5, weight_decay=1e-3, beta1=0.9,
                 beta2=0.99):
        super().__init__(params, dict(lr=lr, ess=ess, hess_init=hess_init, beta1=beta1, beta2=beta2,
                                      weight_decay=weight_decay))
        self.current_step = 0
        for group in self.param_groups:
            like = group["params"][0]
            group["numel"] = sum(p.numel() for p in group["params"])
            group["momentum"] = torch.zeros(group["numel"], dtype=like.dtype)
            group["hess"] = torch.full_like(group["momentum"], group["hess_init"])

    @contextmanager
    def sampled_params(self):
        means, self.noise = [], []
        for group in self.param_groups:
            precision = group["ess"] * (group["hess"] + group["weight_decay"])
            self.noise.append(torch.randn_like(precision) / precision.sqrt())
            at = 0
            for p in group["params"]:
                means.append(p.data.flatten())
                p.data = (means[-1] + self.noise[-1][at:at + p.numel()]).view(p.shape)
                at += p.numel()
        yield
        flat, at = torch.cat(means), 0
        for group in self.param_groups:
            for p in group["params"]:
                p.data = flat[at:at + p.numel()].view(p.shape)
                at += p.numel()

    def step(self):
        self.current_step += 1
        for group, noise in zip(self.param_groups, self.noise):
            g = torch.cat([p.grad.flatten() for p in group["params"]])
            m = torch.cat([p.data.flatten() for p in group["params"]])
            delta, b1, b2 = group["weight_decay"], group["beta1"], group["beta2"]
            h = group["hess"]
            h_hat = g * noise * group["ess"] * (h + delta)
            group["momentum"] = b1 * group["momentum"] + (1 - b1) * g
            group["hess"] = (b2 * h + (1 - b2) * h_hat +
                             0.5 * (1 - b2) ** 2 * (h - h_hat) ** 2 / (h + delta))
            m = m - group["lr"] * (group["momentum"] + delta * m) / (group["hess"] + delta)
            at = 0
            for p in group["params"]:
                p.data = m[at:at + p.numel()].view(p.shape)
                at += p.numel()


class ConvNet(nn.Module):
    """Convolution and batch norm; a parameter outside the optimizer, integer and boolean
    buffers."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4 * 16, 3)
        self.register_buffer("flags", torch.tensor([True, False]))

    def forward(self, images):
        return self.head(torch.relu(self.norm(self.conv(images))).flatten(1))


class Tied(nn.Module):
    """One tensor as embedding and head; two layer norms that are equal at the start; a buffer that
    no state dict has."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.norm_1, self.norm_2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("position", torch.randn(6, 8), persistent=False)

    def forward(self, tokens, mask):
        x = self.norm_2(torch.tanh(self.norm_1(self.embedding(tokens) + self.position)))
        return self.head((x * mask.unsqueeze(2)).sum(1))


def train(model, inputs, optimizer, steps=3):
    classes = model(*inputs).shape[1]
    for _ in range(steps):
        with optimizer.sampled_params():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(*inputs), torch.arange(EXAMPLES) % classes).backward()
        optimizer.step()


def predict(path, model, inputs, names):
    """ivon-predict's outputs at the mean, for more examples than the graph was exported with, are
    torch's. Both compute in f32, in another order: 1e-5 of the largest is 80 units of rounding."""
    with h5py.File("data.h5", "w") as file:
        for name, value in zip(names, inputs):
            file[name] = value.numpy()
    subprocess.run(["ivon-predict", path, "--mean", "--data=data.h5", "--logits", "-fo", "out.h5",
                    "--targets=", "--normalize=none",
                    "--inputs=" + ",".join(f"{name}={name}" for name in names)],
                   check=True)
    model.eval()
    with torch.no_grad():
        expected = model(*inputs).float().numpy()
    with h5py.File("out.h5") as file:
        error = np.abs(file["logits"][()] - expected).max() / np.abs(expected).max()
    assert expected.std() > 0.01 and error < 1e-5, (path, error)


def info(path):
    result = subprocess.run(["ivon-info", "--json", "--tensors", path], check=True,
                            stdout=subprocess.PIPE)
    return json.loads(result.stdout)


def load(path):
    """As torch has it, without a model."""
    return ivon_posterior.load(path, kind="torch")


def refused(part, action, kind=ivon_posterior.PosteriorError):
    try:
        action()
    except kind as error:
        assert part in str(error), error
    else:
        raise AssertionError("was not refused: " + part)


def check_conversion(path, model, optimizer):
    """ivon-convert makes the same of what torch.save() keeps."""
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "saved.pt")
    subprocess.run(["ivon-convert", "-qf", "saved.pt", "-o", "converted.h5"], check=True)
    saved, converted = load(path), load("converted.h5")
    for part in ("mean", "hessian", "momentum", "buffers"):
        a, b = getattr(saved, part), getattr(converted, part)
        assert a.keys() == b.keys() and all(same(a[name], b[name]) for name in a), part
    for key in ("ess", "weight_decay"):
        for name in saved.hessian:
            a, b = (getattr(p, "own_" + key).get(name, getattr(p, key)) for p in (saved, converted))
            assert a == b, (key, name, a, b)


def check_layout(path):
    """Contiguous, which a reader can map, and 64-byte aligned where it is worth it."""
    places = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: places.append((item.id.get_offset(), item.nbytes))
                        if isinstance(item, h5py.Dataset) and item.size else None)
    assert len(places) > 5, places
    assert all(o is not None and (o % 64 == 0 or size < 4096) for o, size in places), places


def check_replacing():
    """What a killed writer left is taken over; a link is replaced, and not what it leads to."""
    model = nn.Linear(40, 40)
    optimizer = Ivon(model.parameters())
    save = lambda path: ivon_posterior.save(path, model, optimizer)  # noqa: E731
    os.mkdir("links")
    with open("links/blob", "w") as blob, open("links/.link.h5.ivon-tmp", "w") as left:
        blob.write("old")
        left.write("half of it")
    os.symlink("blob", "links/link.h5")
    os.chdir("links")
    save("link.h5")
    assert not os.path.islink("link.h5") and open("blob").read() == "old"
    check_layout("link.h5")
    before = open("link.h5", "rb").read()
    with open(".link.h5.ivon-tmp", "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused("link.h5", lambda: save("link.h5"), BlockingIOError)
    assert open("link.h5", "rb").read() == before
    save("link.h5")
    for name in "bare", ".hidden", "run-0.5", "x.hdf5":
        save(name)
    for name in "x.pt", "x.H5", "x.":
        refused(f"{name}: no posterior is written as {name[1:]} here, expected a name in .h5, "
                ".hdf5, .safetensors or .npz", lambda: save(name))
    assert sorted(os.listdir(".")) == [".hidden", "bare", "blob", "link.h5", "run-0.5", "x.hdf5"]
    os.chdir("..")


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def check_mlp():
    """One group; a round trip into another model and optimizer goes on in the same way."""
    make = lambda: nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3))  # noqa: E731
    model, inputs = make(), (torch.randn(EXAMPLES, 5),)
    optimizer = Ivon(model.parameters())
    train(model, inputs, optimizer)
    ivon_posterior.save("mlp.h5", nn.DataParallel(model), optimizer, inputs[0][:2], n_train=20)
    check_layout("mlp.h5")
    group = optimizer.param_groups[0]
    with h5py.File("mlp.h5") as file:
        assert list(file["mean"]) == ["0.weight", "0.bias", "2.weight", "2.bias"]
        assert dict(file.attrs) == dict(
            format="ivon-posterior", format_version=1, ess=100.0, weight_decay=1e-3, step=3,
            n_train=20, creator="ivon_posterior"), dict(file.attrs)
        for part, flat in (("hessian", "hess"), ("momentum", "momentum")):
            stored = np.concatenate([file[part][name][()].ravel() for name in file["mean"]])
            assert stored.dtype == "f4" and np.array_equal(stored, group[flat].numpy())
        for name, parameter in model.named_parameters():
            assert np.array_equal(file["mean"][name][()], parameter.detach().numpy())
        assert not file["hessian/0.bias"].attrs and "buffers" not in file
    told = info("mlp.h5")
    assert told["ess"] == 100 and told["step"] == 3 and told["n_train"] == 20, told
    predict("mlp.h5", model, inputs, ["input"])
    check_conversion("mlp.h5", model, optimizer)
    other = make()
    resumed = Ivon(other.parameters(), ess=7)
    posterior = ivon_posterior.load("mlp.h5", model=other, optimizer=resumed)
    assert posterior.own_ess == {} and posterior.graph[:1] == b"\x08"
    assert posterior.ess == 100 and resumed.param_groups[0]["ess"] == 100
    assert resumed.current_step == 3
    for a, b in ((model, optimizer), (other, resumed)):
        torch.manual_seed(1)
        train(a, inputs, b, 1)
    assert all(same(a, b) for a, b in zip(model.parameters(), other.parameters()))
    for key in ("hess", "momentum"):
        assert same(optimizer.param_groups[0][key], resumed.param_groups[0][key])


def check_conv():
    """Two groups with their own ess; a frozen parameter; buffers; the training mode stays."""
    model, inputs = ConvNet(), (torch.randn(EXAMPLES, 2, 6, 6),)
    optimizer = Ivon([{"params": [model.head.weight, model.head.bias]},
                      {"params": [model.conv.weight, model.norm.weight, model.norm.bias],
                       "ess": 50, "weight_decay": 0.01}])
    train(model, inputs, optimizer)
    with h5py.File("conv.h5", "w") as file:
        file["old"] = 1
    os.chmod("conv.h5", 0o640)
    ivon_posterior.save("conv.h5", model, optimizer, inputs[0][:1], step=9)
    assert all(module.training for module in model.modules())
    check_layout("conv.h5")
    with h5py.File("conv.h5") as file:
        assert "conv.bias" in file["mean"] and "conv.bias" not in file["hessian"]
        assert file.attrs["ess"] == 100 and file.attrs["step"] == 9 and "n_train" not in file.attrs
        assert dict(file["hessian/norm.bias"].attrs) == {"ess": 50, "weight_decay": 0.01}
        assert not file["hessian/head.bias"].attrs
        assert file["buffers/norm.num_batches_tracked"][()] == 4
        assert file["buffers/norm.num_batches_tracked"].dtype == "i8"
        assert file["buffers/flags"].dtype == bool
        assert np.array_equal(file["buffers/norm.running_var"][()], model.norm.running_var.numpy())
    predict("conv.h5", model, inputs, ["images"])
    check_conversion("conv.h5", model, optimizer)
    other = ConvNet()
    resumed = Ivon([{"params": [other.norm.bias, other.conv.weight]}])
    posterior = ivon_posterior.load("conv.h5", model=other, optimizer=resumed)
    group = resumed.param_groups[0]
    assert posterior.step == 9 and posterior.own_ess["norm.bias"] == 50
    assert group["ess"] == 50 and group["weight_decay"] == 0.01
    hess = optimizer.param_groups[1]["hess"]
    assert same(group["hess"], torch.cat([hess[-4:], hess[:-8]]))
    assert all(same(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values()))
    mixed = Ivon(ConvNet().parameters())
    refused("not the model's", lambda: ivon_posterior.load("conv.h5", model=other, optimizer=mixed))
    refused("no Hessian of parameter 'conv.bias'", lambda: ivon_posterior.load(
        "conv.h5", model=other, optimizer=Ivon(other.parameters())))
    refused("more than one ess", lambda: ivon_posterior.load(
        "conv.h5", model=other, optimizer=Ivon([other.norm.bias, other.head.bias])))
    refused("lacks parameter '0.bias' and 1 others", lambda: ivon_posterior.load(
        "conv.h5", model=nn.Sequential(nn.Linear(1, 1))))


def check_tied(dtype, path):
    """Tied parameters once, equal ones apart, a buffer beside the state dict, 16-bit parameters."""
    model = Tied().to(dtype)
    inputs = (torch.randint(11, (EXAMPLES, 6)), (torch.rand(EXAMPLES, 6) > 0.3).to(dtype))
    optimizer = Ivon(model.parameters())
    if dtype == torch.float32:
        train(model, inputs, optimizer)
        ivon_posterior.save(path, model, optimizer)
        check_conversion(path, model, optimizer)
    ivon_posterior.save(path, model, optimizer, tuple(x[:3] for x in inputs))
    check_layout(path)
    with h5py.File(path) as file:
        assert list(file["mean"]) == ["embedding.weight", "norm_1.weight", "norm_1.bias",
                                      "norm_2.weight", "norm_2.bias"]
        assert "buffers" not in file
        assert file["hessian/norm_1.bias"].dtype == "f4"
        assert len(file["model.onnx"]) < 10000
    names = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
    assert {t["dtype"] for t in info(path)["tensors"]} == {names[dtype]}
    posterior = ivon_posterior.load(path, model=model)
    assert same(posterior.mean["embedding.weight"], model.embedding.weight.detach())
    predict(path, model.float(), (inputs[0], inputs[1].float()), ["tokens", "mask"])


class Layers(nn.Module):
    """Blocks of every kind: a convolution, a layer with a bias, a transposed table."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(6, 3)
        self.conv = nn.Conv2d(1, 2, 2)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 4)

    def forward(self, tokens, images):
        x = self.norm(self.table(tokens).mean(1)) + self.conv(images).mean((2, 3)).sum(1, True)
        return self.head(x)


def factor(size, rows=50):
    """A factor of that many rows of inputs, or of outputs."""
    x = torch.randn(rows, size)
    return x.T @ x / rows


def make_structured(model, inputs, low_rank):
    posterior = ivon_posterior.from_model(model, inputs, ess=300, weight_decay=0.05, n_train=300)
    posterior.add_factors("conv.weight", factor(5), factor(2), bias="conv.bias", input_rows=300)
    u_b = torch.linalg.qr(torch.randn(4, 4))[0]
    posterior.add_factors("head.weight", factor(4), factor(4), bias="head.bias")
    posterior.add_block("head.weight", torch.rand(4, 4), bias="head.bias", basis_output=u_b)
    posterior.add_block("table.weight", torch.rand(3, 6), transposed=True,
                        basis_output=torch.linalg.qr(torch.randn(3, 3))[0])
    for name in "norm.weight", "norm.bias":
        posterior.hessian[name] = torch.rand(3)
    posterior.own_weight_decay["norm.weight"] = 0.5
    if low_rank:
        shapes = {name: h.numel() for name, h in posterior.hessian.items()}
        vectors = torch.linalg.qr(torch.randn(sum(shapes.values()), 3))[0].T
        posterior.add_low_rank([6.0, 0.5, -0.75], dict(zip(
            shapes, vectors.split(list(shapes.values()), 1))))
    return posterior


def root(posterior):
    """What a draw makes of unit vectors in place of its noise: a column for each, by the module
    itself, so that columns' products are its covariance."""
    shapes = [torch.Size(h.shape) for h in posterior.hessian.values()]
    total, columns = sum(shape.numel() for shape in shapes), []
    real = torch.randn
    for column in range(total):
        unit = torch.zeros(total, dtype=torch.float64)
        unit[column] = 1
        parts = iter(unit.split([shape.numel() for shape in shapes]))
        torch.randn = lambda shape, generator=None, dtype=None: next(parts).reshape(shape).to(dtype)
        try:
            drawn = posterior.sample()
        finally:
            torch.randn = real
        columns.append(torch.cat([(drawn[name].double() - mean.double()).flatten()
                                  for name, mean in posterior.mean.items()]))
    return torch.stack(columns, 1)


def check_covariance(posterior, path):
    """Draws have the variances that the commands find, and a covariance that is the inverse of what
    these find for the precision; both in f32, with bases that turn in f32."""
    wide = copy.deepcopy(posterior)
    wide.mean = {name: mean.double() for name, mean in wide.mean.items()}
    covariance = root(wide)
    covariance = covariance @ covariance.T
    random = covariance.diagonal() > 0
    precision = torch.linalg.inv(covariance[random][:, random])
    for of, expected in (("covariance", 1 / covariance.diagonal()[random]),
                         ("precision", precision.diagonal())):
        subprocess.run(["ivon-convert", "-qf", path, f"--structure=diagonal:{of}", "-o",
                        "diagonal.h5"], check=True)
        plain = load("diagonal.h5")
        assert plain.structure == {} and not plain.basis_output
        found = torch.cat([torch.from_numpy(plain._precision(name)).flatten() if name in plain.hessian
                           else torch.full((mean.numel(),), np.nan, dtype=torch.float64)
                           for name, mean in posterior.mean.items()])
        assert torch.equal(~found.isnan(), random), of
        error = (found[random] / expected - 1).abs().max()
        assert error < 1e-5, (of, error)


def check_draws(posterior):
    """4,000 draws: squares of normal numbers over their variances are 1 on average, within 5
    standard errors of sums over all elements, which depend on each other."""
    generator, again = (torch.Generator().manual_seed(3) for _ in range(2))
    variance = (root(posterior) ** 2).sum(1)
    draws = torch.stack([torch.cat([(w - m).flatten() for w, m in zip(
        posterior.sample(generator).values(), posterior.mean.values())]) for _ in range(4000)])
    random = variance > 0
    assert (draws[:, ~random] == 0).all()
    share = draws[:, random] ** 2 / variance[random]
    error = share.mean(1).std() / 4000 ** 0.5
    assert abs(share.mean() - 1) < 5 * error and error < 0.02, (share.mean(), error)
    first, second = posterior.sample(again), posterior.sample(again)
    assert not same(first["head.bias"], second["head.bias"])
    assert same(posterior.sample(seed=3)["head.bias"], first["head.bias"])
    cold = posterior.sample(seed=3, posterior_temperature=0.25)
    for name, mean in posterior.mean.items():
        move = (first[name] - mean) / 2
        assert torch.allclose(cold[name] - mean, move, atol=1e-6), name


def check_same(one, other):
    for part in ("mean", "hessian", "buffers", *ivon_posterior.STRUCTURAL):
        a, b = getattr(one, part), getattr(other, part)
        assert a.keys() == b.keys() and all(same(a[name], b[name]) for name in a), part
    for key in ("structure", "ess", "weight_decay", "own_weight_decay", "n_train", "graph"):
        assert getattr(one, key) == getattr(other, key), key


def check_structured():
    """Every structure: written, read by the commands, read again, drawn from; by network, too."""
    model = Layers()
    inputs = (torch.randint(6, (EXAMPLES, 5)), torch.randn(EXAMPLES, 1, 4, 4))
    for low_rank in False, True:
        posterior = make_structured(model, tuple(x[:2] for x in inputs), low_rank)
        posterior.save("structured.h5")
        check_layout("structured.h5")
        subprocess.run(["ivon-info", "--check", "structured.h5"], check=True)
        told = info("structured.h5")["structure"]
        assert (told["blocks"], told["rank"]) == (3, 3 * low_rank), told
        assert told["factors"][0]["input_rows"] == 300
        predict("structured.h5", model, inputs, ["tokens", "images"])
        subprocess.run(["ivon-sample", "-qf", "structured.h5", "-o", "drawn.h5"], check=True)
        again = ivon_posterior.load("structured.h5", model=Layers())
        check_same(posterior, again)
        check_covariance(again, "structured.h5")
        check_draws(again)
        again.save("again.h5")
        check_same(posterior, load("again.h5"))
    weights = again.sample(seed=1)
    model.load_state_dict(weights, strict=False)
    assert all(same(p.detach(), weights[name]) for name, p in model.named_parameters())
    for kind in [], ["diagonal"]:  # other means, of names with slashes, and a correction alone
        subprocess.run([sys.executable, os.path.join(HERE, "structured_posterior.py"), "other.h5",
                        *kind], check=True)
        check_covariance(load("other.h5"), "other.h5")
    refused("an optimizer takes a diagonal", lambda: ivon_posterior.load(
        "structured.h5", model=model, optimizer=Ivon(model.parameters())))


def check_factors():
    """Of K-FAC's factors the covariance is that of Kronecker: B (x) A in the bases, plus the
    prior."""
    model = nn.Linear(3, 2).double()
    a, b = factor(4).double(), factor(2).double()
    posterior = ivon_posterior.from_model(model, ess=10, weight_decay=0.25)
    posterior.add_factors("weight", a, b, bias="bias")
    precision = torch.linalg.inv((lambda r: r @ r.T)(root(posterior)))
    order = [0, 1, 2, 6, 3, 4, 5, 7]  # [W | b], row by row, among W and b
    expected = 10 * (torch.kron(b, a) + 0.25 * torch.eye(8, dtype=torch.float64))
    error = (precision[order][:, order] - expected).abs().max() / expected.abs().max()
    assert error < 1e-5, error  # bases and h are stored in f32
    add = lambda *args, **more: (lambda: posterior.add_factors(*args, **more))  # noqa: E731
    refused("there is no mean 'x'", add("x", a, b))
    refused("basis_input of 'weight' has shape (4, 4), expected (3, 3)",
            lambda: posterior.add_block("weight", torch.ones(2, 3), basis_input=torch.eye(4)))
    refused("hessian of 'weight' has shape (2, 4), expected (2, 3)", add("weight", a, b))
    refused("not positive", add("weight", a - 5 * torch.eye(4), b, bias="bias"))
    refused("not symmetric", add("weight", a, torch.tensor([[1., 2.], [0., 1.]]), bias="bias"))
    refused("expected a square", add("weight", a[:2], b, bias="bias"))
    refused("the bias 'weight' has 6 elements", add("weight", a, b, bias="weight"))
    refused("basis_output of 'weight' is not orthonormal: U^T U - I has 3",
            lambda: posterior.add_block("weight", torch.ones(2, 3), basis_output=2 * torch.eye(2)))
    low = lambda values, vectors: (lambda: posterior.add_low_rank(values, vectors))  # noqa: E731
    refused("expected 2 x 8", low([1, 2], {"weight": torch.eye(3, 8)}))
    refused("not above -1", low([1, -1], {"weight": torch.eye(2, 8)}))
    refused("not orthonormal", low([1, 2], {"weight": torch.ones(2, 8)}))
    refused("'none', which has no Hessian", low([1], {"none": torch.eye(1, 8)}))
    posterior.hessian["weight"][0, 0] = -1
    refused("the precision of 'weight' is not positive", posterior.sample)
    refused("the precision of 'weight' is not positive", lambda: posterior.save("bad.h5"))
    posterior.ess = None
    refused("no ess holds for the Hessian of 'weight'", posterior.sample)
    assert not os.path.exists("bad.h5")


def check_formats():
    """Safetensors and npz hold what HDF5 does, as ivon-convert reads them: groups of their own, a
    frozen parameter, integer and boolean buffers, the graph, a structure."""
    model = ConvNet()
    optimizer = Ivon([{"params": [model.head.weight, model.head.bias]},
                      {"params": [model.conv.weight, model.norm.weight, model.norm.bias],
                       "ess": 50, "weight_decay": 0.01}])
    images = torch.randn(EXAMPLES, 2, 6, 6)
    train(model, (images,), optimizer)
    layers = make_structured(Layers(), None, True)
    for suffix in "safetensors", "npz":
        ivon_posterior.save("first." + suffix, model, optimizer, images[:1], n_train=20)
        layers.save("second." + suffix)
        for name in "first", "second":
            subprocess.run(["ivon-convert", "-qf", f"{name}.{suffix}", "-o", f"{name}.h5"],
                           check=True)
        check_same(layers, load("second.h5"))
        ivon_posterior.save("direct.h5", model, optimizer, images[:1], n_train=20)
        direct, found = load("direct.h5"), load("first.h5")
        check_same(direct, found)
        assert len(direct.buffers) == 4 and len(direct.hessian) == 5 and found.graph
        for key in ("own_ess", "own_weight_decay", "step"):
            assert getattr(found, key) == getattr(direct, key), key
        assert found.own_ess["norm.bias"] == 50
    tied = Tied().to(torch.bfloat16)
    narrow = Ivon(tied.parameters())
    refused("bfloat16, which npz does not have",
            lambda: ivon_posterior.save("narrow.npz", tied, narrow))
    ivon_posterior.save("narrow.safetensors", tied, narrow)
    subprocess.run(["ivon-convert", "-qf", "narrow.safetensors", "-o", "narrow.h5"], check=True)
    weight = load("narrow.h5").mean["embedding.weight"]
    assert same(weight, tied.embedding.weight.detach())
    widened = ivon_posterior.load("narrow.h5").mean["embedding.weight"]
    assert isinstance(widened, np.ndarray) and np.array_equal(widened, weight.float().numpy())


def check_refusals():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = (torch.randn(EXAMPLES, 3),)
    optimizer = Ivon(model.parameters())
    train(model, inputs, optimizer)
    save = lambda **changes: ivon_posterior.save(**{  # noqa: E731
        "path": "none.h5", "model": model, "optimizer": optimizer, **changes})
    with optimizer.sampled_params():
        refused("they are a sample", save)
    save()
    os.unlink("none.h5")
    model.half()
    save()  # moved since: nothing can be told
    os.unlink("none.h5")
    model.float()
    refused("lay", save)
    with optimizer.sampled_params():
        pass
    save()
    os.unlink("none.h5")
    refused("group 0 has no 'hess'", lambda: save(optimizer=torch.optim.SGD(model.parameters(), 1)))
    refused("is not the model's", lambda: save(model=nn.Linear(2, 2)))
    model.add_module("unused", nn.Linear(2, 2))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    refused("no parameter 'unused.bias' and 1 others", lambda: save(example_input=inputs[0]))
    with h5py.File("other.h5", "w") as file:
        file.attrs["format"] = "other"
    with open("text.h5", "w") as file:
        file.write("text")
    refused("n_train is -1, expected zero or more", lambda: save(n_train=-1))
    refused("text.h5: ", lambda: ivon_posterior.load("text.h5"))
    with open("broken.h5", "wb") as file:
        file.write(open("other.h5", "rb").read()[:200])
    refused("broken.h5: a damaged HDF5 file", lambda: ivon_posterior.load("broken.h5"))
    refused("saved with the optimizer IVON", lambda: save(optimizer=None), TypeError)
    refused("ess is for arrays", lambda: save(ess=3), TypeError)
    refused("the model is of type dict, expected a torch.nn.Module",
            lambda: save(model={}), TypeError)
    refused("'/nowhere/x.h5'", lambda: ivon_posterior.save("/nowhere/x.h5", model, optimizer),
            FileNotFoundError)
    refused("expected ('ivon-posterior', 1)", lambda: ivon_posterior.load("other.h5"))
    try:
        save(step="seven")
    except ValueError:
        pass
    left = [name for name in os.listdir(".") if "none" in name]
    assert left == [], left  # neither the file nor a part of it


def main(directory):
    os.chdir(directory)
    torch.manual_seed(0)
    check_mlp()
    check_conv()
    check_tied(torch.float32, "tied.h5")
    check_tied(torch.bfloat16, "bf16.h5")
    check_tied(torch.float16, "f16.h5")
    check_structured()
    check_factors()
    check_formats()
    check_refusals()
    check_replacing()
    print("saved, loaded and predicted")


if __name__ == "__main__":
    main(sys.argv[1])
