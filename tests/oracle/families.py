"""The families of networks that people train, tiny, as their exporters write them, for tests/real/families.sh.

families.py make DIRECTORY     writes, for each family, DIRECTORY/FAMILY/
    GRAPH.onnx                 torch-11, -13, -17, …: PyTorch's TorchScript exporter, names kept;
                               torch-default: what it writes by default, with folded constants;
                               dynamo-18, -20, and others: see families_graphs.py
    {initial,trained}.h5       the weights of the graphs, and others: a posterior each
    data.h5, inputs.json       three examples with labels, for us and for ONNX Runtime
    references.npz             of each posterior, in double precision by PyTorch: outputs f, and for
                               Σ = 1 / (ess (h + weight_decay)) and an example's gradient g the
                               self-influence g'Σg and the tangent J Σ g
  and prints a line for each graph and posterior to be tried: family, graph, posterior, options, and
  whether the graph is of use (runs), or has lost its parameters (refused). The posterior `itself` is the
  graph, whose tensors are the mean: there are outputs alone
families.py compare DIRECTORY  reads these lines from DIRECTORY/list, and what the commands and ONNX
                               Runtime wrote beside the graphs; prints a line for each family
"""
import copy
import json
import os
import sys
import warnings

import h5py
import numpy as np

ESS, WEIGHT_DECAY = 20.0, 0.3
# Of the greatest entry. Outputs pass through up to a hundred sums of ten to a hundred products, each
# of which rounds by 2^-24; gradients through as many again, where differences cancel.
OUTPUTS, DERIVATIVES = 1e-5, 1e-4


def families(torch):
    """{family: (network, inputs)}."""
    import families_networks as n
    ids = torch.randint(2, n.VOCABULARY, (n.EXAMPLES, n.TOKENS))
    mask = torch.ones_like(ids)
    mask[1, 4:], mask[2, 5:] = 0, 0
    padded = torch.where(mask.bool(), ids, torch.ones_like(ids))
    kinds = (torch.arange(n.TOKENS) > 2).long().expand(n.EXAMPLES, -1)
    image = lambda side: [torch.randn(n.EXAMPLES, 3, side, side)]
    rows = [torch.randn(n.EXAMPLES, 6)]
    return {
        "bert": (n.Bert(), [ids, mask, kinds]), "roberta": (n.Roberta(), [padded, mask]),
        "gpt2": (n.Gpt2(), [ids]), "llama": (n.Llama(), [ids]), "t5": (n.T5(), [ids, mask, ids[:, 1:]]),
        "clip-text": (n.ClipText(), [ids]), "vit": (n.Vit(), image(8)), "swin": (n.Swin(), image(8)),
        "convnext": (n.ConvNext(), image(8)), "resnet": (n.ResNet(), image(16)),
        "mobilenet": (n.MobileNet(), image(8)), "efficientnet": (n.EfficientNet(), image(8)),
        "densenet": (n.DenseNet(), image(6)), "unet": (n.UNet(), image(8)), "lstm": (n.Lstm(), [ids]),
        "gru": (n.Gru(), [ids]), "mlp": (n.Mlp(), rows), "cnn": (n.Cnn(), image(8)),
        "keras": (n.KerasCnn(), [torch.randn(n.EXAMPLES, 6, 6, 2)]), "sklearn": (n.SklearnMlp(), rows)}


# Graphs.

def written_graphs(name, network):
    """{graph: (model, whether it is saved as PyTorch's exporter of today does, the only posterior)}, of those that
    families_graphs.py writes."""
    import families_graphs as g
    makers = {"mlp": g.dynamo_mlp, "cnn": g.dynamo_cnn, "bert": g.dynamo_bert, "llama": g.dynamo_llama}
    found = {}
    if name in makers:
        for opset in (18, 20):
            found[f"dynamo-{opset}"] = (makers[name](network, opset), True, None)
    if name == "bert":
        found["dynamo-folded"] = (g.dynamo_bert(network, 18, folded=True), True, "initial")
    if name == "keras":
        found.update({f"tf2onnx-{opset}": (g.keras(network, opset), False, None) for opset in (9, 13)})
    if name == "sklearn":
        found.update({f"skl2onnx-{opset}": (g.sklearn(network, opset), False, None) for opset in (9, 13, 17)})
    return found


def export(torch, network, inputs, path, opset=None):
    options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False, "opset_version": opset}
    names = list(network.names)
    torch.onnx.export(network, tuple(inputs), path, input_names=names, output_names=["logits"],
                      dynamic_axes={name: {0: "n"} for name in [*names, "logits"]}, **(options if opset else {}))


def write_graphs(torch, name, network, inputs, directory):
    """Writes them; returns rows of graph, posterior and what is expected."""
    rows = []
    add = lambda graph, posteriors, expected="runs": rows.extend((graph, p, expected) for p in posteriors)
    both = ("initial", "trained")
    import families_graphs
    for graph, (model, dynamo, only) in written_graphs(name, network).items():
        path = f"{directory}/{graph}.onnx"
        if dynamo:
            families_graphs.save_dynamo(model, path)
        else:
            with open(path, "wb") as f:
                f.write(model.SerializeToString())
        add(graph, [only] if only else both)
        if dynamo:
            add(graph, ["itself"])
    if name in ("keras", "sklearn"):
        return rows
    # Old exports of what the opset can say; integers have Min from 12 on.
    older = {"mlp": (7, 9), "resnet": (7, 9), "densenet": (9,), "t5": (12,)}.get(name, ())
    for opset in older + ((13, 17) if name == "t5" else (11, 13, 17)):
        export(torch, network, inputs, f"{directory}/torch-{opset}.onnx", opset)
        add(f"torch-{opset}", both)
    add("torch-17", ["itself"])
    if name in ("bert", "vit", "resnet"):
        export(torch, network, inputs, f"{directory}/torch-default.onnx")
        # Convolutions have taken batch norm's parameters in; transposed weights can be told.
        add("torch-default", ["initial"], "refused" if name == "resnet" else "runs")
        add("torch-default", ["itself"])
    return rows


# Posteriors and references.

def train(torch, network):
    """Other weights and statistics, as after a training."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.3 * torch.randn_like(buffer)
            elif name.endswith("running_var"):
                buffer *= 0.5 + torch.rand_like(buffer)


def write_posterior(network, hessians, path):
    with h5py.File(path, "w") as f:
        f.attrs.update(format="ivon-posterior", format_version=1, ess=ESS, weight_decay=WEIGHT_DECAY)
        for name, parameter in network.named_parameters():
            f["mean/" + name] = parameter.detach().numpy()
            f["hessian/" + name] = hessians[name].numpy()
        kept = network.state_dict()
        for name, buffer in network.named_buffers():
            if buffer.ndim and name in kept:
                f["buffers/" + name] = buffer.numpy()


def push(torch, f, parameters, moved):
    """J v, row by row; where there are many outputs, as the derivative of J'u by u, which not all functions have."""
    total = lambda rows: sum((row * m).sum() for row, m in zip(rows, moved))
    if f.numel() <= 8:
        rows = [torch.autograd.grad(output, parameters, retain_graph=True) for output in f.flatten()]
        return torch.stack([total(row) for row in rows]).reshape(f.shape)
    seed = torch.zeros_like(f, requires_grad=True)
    return torch.autograd.grad(total(torch.autograd.grad(f, parameters, seed, create_graph=True)), seed)[0]


def reference(torch, network, hessians, inputs, labels):
    """Outputs, self-influences and tangents, example by example."""
    network = copy.deepcopy(network).double()
    inputs = [x.double() if x.is_floating_point() else x for x in inputs]
    parameters = [p for _, p in network.named_parameters()]
    variances = [1 / (ESS * (hessians[name].double() + WEIGHT_DECAY)) for name, _ in network.named_parameters()]
    found = {"logits": [], "self_influence": [], "deviation_vector": []}
    for i in range(labels.shape[0]):
        f = network(*(x[i:i + 1] for x in inputs))
        residual = f.softmax(-1) - torch.nn.functional.one_hot(labels[i:i + 1], f.shape[-1])
        gradient = torch.autograd.grad(f, parameters, residual.detach(), retain_graph=True)
        moved = [v * g for v, g in zip(variances, gradient)]
        found["logits"].append(f[0].detach().numpy())
        found["self_influence"].append(float(sum((m * g).sum() for m, g in zip(moved, gradient))))
        found["deviation_vector"].append(push(torch, f, parameters, moved)[0].detach().numpy())
    return {key: np.array(value) for key, value in found.items()}


def make_family(torch, name, network, inputs, directory):
    os.makedirs(directory)
    network.eval()
    labels = torch.randint(0, 4, network(*inputs).shape[:-1])
    hessians = {key: 0.2 + torch.rand(p.shape) for key, p in network.named_parameters()}
    rows = write_graphs(torch, name, network, inputs, directory)
    references = {}
    for posterior in ("initial", "trained"):
        if posterior == "trained":
            train(torch, network)
        write_posterior(network, hessians, f"{directory}/{posterior}.h5")
        for key, value in reference(torch, network, hessians, inputs, labels).items():
            references[f"{posterior}/{key}"] = value
    np.savez(f"{directory}/references.npz", **references)
    given = dict(zip(network.names, inputs))
    with h5py.File(f"{directory}/data.h5", "w") as f:
        for key, value in [*given.items(), ("y", labels)]:
            f[key] = value.numpy()
    with open(f"{directory}/inputs.json", "w", encoding="utf-8") as f:
        json.dump({key: {"type": "float32" if x.is_floating_point() else "int64", "dims": list(x.shape),
                         "data": x.flatten().tolist()} for key, x in given.items()}, f)
    feeds = ",".join(f"{key}={key}" for key in given)
    for graph, posterior, expected in rows:
        print(name, graph, posterior, f"--inputs={feeds}", expected, sep="\t")


def make(directory):
    warnings.filterwarnings("ignore")
    import torch
    torch.set_num_threads(1)
    torch.manual_seed(1)
    for name, (network, inputs) in families(torch).items():
        make_family(torch, name, network, inputs, f"{directory}/{name}")


# Comparing.

class Different(Exception):
    pass


def distance(what, found, expected, tolerance):
    found = np.asarray(found, np.float64)
    if found.shape != expected.shape:
        raise Different(f"{what} of shape {found.shape}, expected {expected.shape}")
    error = np.abs(found - expected).max() / np.abs(expected).max()
    if not error <= tolerance:
        raise Different(f"{what} differ by {error:.1e} of the largest, expected {tolerance}")
    return error


def centred(logits):
    """What graphs that end in probabilities still have of logits: all but a number for each row."""
    return logits - logits.mean(-1, keepdims=True)


def softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def message(path):
    with open(path, encoding="utf-8") as f:
        return f.read().strip()


def references_of(directory, graph, posterior):
    """What is expected, and what graphs of this kind have of it."""
    stored = np.load(f"{directory}/references.npz")
    posterior = "initial" if posterior == "itself" else posterior
    ends = centred if graph.startswith(("tf2onnx", "skl2onnx")) else np.asarray
    return {key: ends(stored[f"{posterior}/{key}"]) if key != "self_influence" else stored[f"{posterior}/{key}"]
            for key in ("logits", "self_influence", "deviation_vector")}, ends


def compare_theirs(directory, graph, posterior):
    """The distance of ONNX Runtime's outputs, where there are some."""
    path = f"{directory}/{graph}.onnxruntime"
    if posterior != "initial" or not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as f:
        result = json.load(f)
    if "error" in result:
        raise Different(f"ONNX Runtime: {result['error']}")
    expected, ends = references_of(directory, graph, posterior)
    values = np.array(result["data"]).reshape(expected["logits"].shape)
    values = values if ends is np.asarray else ends(np.log(values))
    return [distance("logits of ONNX Runtime", values, expected["logits"], OUTPUTS)]


def compare_row(directory, graph, posterior, wanted):
    """The distances of outputs, self-influences, tangents, and outputs of ONNX Runtime where there are some."""
    stem = f"{directory}/{graph}-{posterior}"
    theirs = compare_theirs(directory, graph, posterior)
    errors = [message(f"{stem}.{command}") for command in ("predict", "sensitivity")
              if posterior != "itself" or command == "predict"]
    if wanted == "refused":
        if not all("export it" in error for error in errors):
            raise Different(f"was not refused with advice on the export: {errors[0] or 'no message'}")
        return None
    if any(errors):
        raise Different(next(filter(None, errors)))
    expected, ends = references_of(directory, graph, posterior)
    logits = expected["logits"]
    with h5py.File(f"{stem}-predict.h5") as f:
        found = [distance("logits", ends(f["logits"][()].reshape(logits.shape)), logits, OUTPUTS)]
        distance("probabilities", f["probabilities"][()].reshape(logits.shape), softmax(logits), OUTPUTS)
    if posterior == "itself":
        return found
    with h5py.File(f"{stem}-sensitivity.h5") as f:
        found.append(distance("self-influences", f["self_influence"][()], expected["self_influence"], DERIVATIVES))
        tangent = ends(f["deviation_vector"][()].reshape(logits.shape))
        found.append(distance("tangents", tangent, expected["deviation_vector"], DERIVATIVES))
    return found + theirs


def compare(directory):
    with open(f"{directory}/list", encoding="utf-8") as f:
        rows = [line.rstrip("\n").split("\t") for line in f]
    failed = 0
    for family in dict.fromkeys(row[0] for row in rows):
        worst, refused, fine, faults = {}, 0, 0, []
        for _, graph, posterior, _, expected in (row for row in rows if row[0] == family):
            try:
                found = compare_row(f"{directory}/{family}", graph, posterior, expected)
                refused, fine = refused + (found is None), fine + 1
                for i, error in enumerate(found or []):
                    worst[i] = max(worst.get(i, 0), error)
            except (Different, OSError, KeyError, ValueError) as error:
                faults.append(f"  {graph}, {posterior}: {error}")
        names = ("logits", "self-influence", "J v", "ONNX Runtime")
        print(f"{family:13} {fine:2} of {fine + len(faults):2} " +
              ", ".join(f"{names[i]} {error:.0e}" for i, error in sorted(worst.items())) +
              (f"; {refused} refused, as it ought to be" if refused else ""))
        if faults:
            print("\n".join(faults))
        failed += len(faults)
    print(f"{len(rows) - failed} of {len(rows)} graphs with a posterior")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit({"make": make, "compare": compare}[sys.argv[1]](sys.argv[2]))
