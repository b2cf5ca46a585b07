"""The parts of a small posterior with a structure, under the names that npz and safetensors give them: what begins
searches for defects of readers."""
import json

import numpy as np

TEXT = {"blocks": {"conv": {"bias": "conv.b"}, "fc": {"transposed": True}},
        "low_rank": {"values": [2.5, -0.5]}, "fit": {"curvature": "ggn", "nested": [[{}]]}}


def parts(text=TEXT):
    """`text`: an object, or the bytes of structure.json."""
    ones = lambda *shape: np.ones(shape, "f4")
    text = text if isinstance(text, bytes) else json.dumps(text).encode()
    return {"mean/conv": ones(2, 1, 2, 1), "mean/conv.b": ones(2), "mean/fc": ones(3, 2), "mean/norm": ones(2),
            "hessian/conv": ones(2, 3), "hessian/fc": ones(2, 3), "hessian/norm": ones(2),
            "basis_input/conv": ones(3, 3), "basis_output/conv": ones(2, 2), "basis_output/fc": ones(2, 2),
            "spectrum_input/conv": ones(3), "spectrum_output/conv": ones(2), "gram/fc": ones(3, 3),
            "lowrank_vectors/conv": ones(2, 6), "lowrank_vectors/norm": ones(2, 2),
            "structure.json": np.frombuffer(text, "u1")}


def texts():
    """Texts by name, most of them none that a reader takes."""
    changed = lambda **members: json.dumps(TEXT | members).encode()
    return {"whole": changed(), "none": b"{}", "twice": b'{"blocks": {}, "blocks": {}}', "cut": changed()[:-9],
            "list": b"[]", "deep": b'{"x": ' + b"[" * 500 + b"]" * 500 + b"}", "infinite": b'{"low_rank": {"values": [1e999]}}',
            "negative": changed(low_rank={"values": [2, -1]}), "strings": changed(low_rank={"values": ["2", 1]}),
            "unknown": changed(blocks={"none": {}}), "same": changed(blocks={"conv": {"bias": "conv"}}),
            "vector": changed(blocks={"norm": {}}), "turned": changed(blocks={"conv": {"transposed": True}})}
