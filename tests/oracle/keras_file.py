"""Weights as Keras writes them, by h5py and the description of its formats."""
import io
import json
import zipfile

import h5py
import numpy as np


def write_weights(file, layers):
    """Version 3: `layers` are {path: weights} or {path: (name of the layer, weights)}."""
    with h5py.File(file, "w") as f:
        for path, weights in layers.items():
            group = f.create_group(path + "/vars" if path else "vars")
            if isinstance(weights, tuple):
                group.attrs["name"], weights = weights
            for i, weight in enumerate(weights):
                group[str(i)] = weight


def write_shards(base, layers, size, lists=True):
    """Version 3 in files of at most `size` bytes of weights, and BASE.weights.json: a layer whose weights do not all fit
    goes on in the next file, where its group has no name; it is listed with both files, or with its first one alone."""
    index, shards, total = {"metadata": {}, "weight_map": {}}, [], 0
    room = 0
    for path, weights in layers.items():
        group = path + "/vars" if path else "vars"
        name = None
        if isinstance(weights, tuple):
            name, weights = weights
        for i, weight in enumerate(weights):
            weight = np.asarray(weight)
            total += weight.nbytes
            if not shards or weight.nbytes > room:
                shards.append(f"{base}_{len(shards):05}.weights.h5")
                h5py.File(shards[-1], "w").close()
                room = size
            room -= weight.nbytes
            with h5py.File(shards[-1], "a") as f:
                f.require_group(group)[str(i)] = weight
                if name and not i:
                    f[group].attrs["name"] = name
            files = index["weight_map"].setdefault("/" + group, [])
            if shards[-1] not in files and (lists or not files):
                files.append(shards[-1])
    for path, files in index["weight_map"].items():
        index["weight_map"][path] = files if len(files) > 1 else files[0]
    index["metadata"]["total_size"] = float(total)
    with open(base + ".weights.json", "w") as f:
        json.dump(index, f, indent=4)
    return shards


def write_archive(path, layers, compression=zipfile.ZIP_STORED):
    """NAME.keras: the weights in a zip archive."""
    image = io.BytesIO()
    write_weights(image, layers)
    with zipfile.ZipFile(path, "w", compression) as z:
        z.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        z.writestr("config.json", "{}")
        z.writestr("model.weights.h5", image.getvalue())


def write_legacy(path, layers, whole=True):
    """Versions before 3: `layers` are {layer: {weight: array}}; of a whole model, or weights alone."""
    with h5py.File(path, "w") as f:
        root = f.create_group("model_weights") if whole else f
        if whole:
            f.attrs.update(keras_version="2.11.0", backend="tensorflow", model_config="{}")
        root.attrs.update(keras_version="2.11.0", backend="tensorflow")
        root.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, weights in layers.items():
            group = root.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in weights]
            for name, weight in weights.items():
                group[name] = weight
        root.create_group("top_level_model_weights").attrs["weight_names"] = np.zeros(0)
        if whole:
            f["optimizer_weights/Adam/iter:0"] = np.int64(3)
