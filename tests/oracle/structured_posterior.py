"""structured_posterior.py FILE [diagonal]: writes a small posterior with a structure, as ivon-posterior(5) describes
it: blocks with and without a bias, one of them transposed, one with a basis on one side only, a low-rank
correction upon all, a Gram matrix of inputs; and parameters outside of blocks. With "diagonal" the correction alone."""
import json
import sys

import h5py
import numpy as np

RANK = 3
# weight: its shape, the outputs and inputs, the bias, and whether it is stored with a row for each input
BLOCKS = {"conv.weight": ((4, 2, 3, 3), 4, 18, "conv.bias", False), "fc/kernel": ((6, 5), 5, 6, "fc/bias", True),
          "head.weight": ((3, 5), 3, 5, None, False), "embedding": ((7, 4), 4, 7, None, True)}


def main(path, diagonal=False):
    random = np.random.default_rng(17)
    blocks = {} if diagonal else BLOCKS
    floats = lambda *shape: random.standard_normal(shape).astype("f4")
    basis = lambda n: np.linalg.qr(random.standard_normal((n, n)))[0].astype("f4")
    with h5py.File(path, "w", track_order=True) as f:
        f.attrs.update(format="ivon-posterior", format_version=2, ess=400.0, weight_decay=0.01, n_train=400)
        for name, (shape, o, _, bias, _) in BLOCKS.items():
            f["mean/" + name] = floats(*shape)
            if bias:
                f["mean/" + bias] = floats(o)
        f["mean/norm.scale"] = floats(5)
        f["hessian/norm.scale"] = floats(5) ** 2
        for name, (_, o, i, bias, _) in blocks.items():
            n = i + (bias is not None)
            f["hessian/" + name] = floats(o, n) ** 2
            f["basis_output/" + name] = basis(o)
            f["spectrum_output/" + name] = np.sort(random.random(o).astype("f4"))
            if name != "embedding":
                f["basis_input/" + name] = basis(n)
                f["spectrum_input/" + name] = np.sort(random.random(n))
        if diagonal:
            for name in list(f["mean"]):
                if "norm" not in name and isinstance(f["mean/" + name], h5py.Dataset):
                    f["hessian/" + name] = floats(*f["mean/" + name].shape) ** 2
        a = floats(50, 5)
        f["gram/head.weight"] = a.T @ a / 50
        names = []
        f["hessian"].visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        counts = [f["hessian/" + name].size for name in names]
        vectors = np.linalg.qr(random.standard_normal((sum(counts), RANK)))[0].T.astype("f4")
        for name, part in zip(names, np.split(vectors, np.cumsum(counts)[:-1], axis=1)):
            f["lowrank_vectors/" + name] = part
        described = {name: {k: v for k, v in (("bias", bias), ("transposed", transposed)) if v}
                     for name, (_, _, _, bias, transposed) in blocks.items()}
        text = json.dumps({"blocks": described, "low_rank": {"values": [9.5, 1 / 3, -0.25]},
                           "fit": {"curvature": "ggn", "examples": 400}, "own": [None]})
        f["structure.json"] = np.frombuffer(text.encode(), "u1")


main(sys.argv[1], "diagonal" in sys.argv[2:])
