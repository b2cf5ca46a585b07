"""A reader and a writer of safetensors, from the format's description alone: u64 little-endian
length, JSON header, data. The reader holds a file to what that asks for, and to what our files
promise."""
import json
import sys

import numpy as np

DTYPES = {"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "F16": "<f2",
          "BF16": "<u2", "U32": "<u4", "I32": "<i4", "F32": "<f4", "U64": "<u8", "I64": "<i8",
          "F64": "<f8"}  # bf16 as its bits


def unique(pairs):
    assert len(pairs) == len(dict(pairs)), "a name occurs twice"
    return dict(pairs)


def read(path, ordered=True):
    """(arrays by name in the data's order, metadata); if `ordered`, larger elements come first."""
    data = open(path, "rb").read()
    length = int.from_bytes(data[:8], "little")
    assert length <= 100_000_000 and data[8:9] == b"{" and length % 8 == 0
    header = json.loads(data[8:8 + length], object_pairs_hook=unique)
    metadata = header.pop("__metadata__", {})
    assert all(isinstance(value, str) for value in metadata.values())
    body, arrays, at, keys = data[8 + length:], {}, 0, []
    for name, entry in header.items():
        dtype, (begin, end) = np.dtype(DTYPES[entry["dtype"]]), entry["data_offsets"]
        assert begin == at, f"{name} begins at {begin}, not {at}"
        assert not ordered or (8 + length + begin) % dtype.itemsize == 0, f"{name} is not aligned"
        arrays[name] = np.frombuffer(body[begin:end], dtype).reshape(entry["shape"])
        keys.append((-dtype.itemsize, name.encode()))
        at = end
    assert at == len(body), f"{len(body) - at} bytes are nobody's"
    assert not ordered or keys == sorted(keys)
    return arrays, metadata


def read_index(path, ordered=True):
    """(arrays by name, the index's metadata, each shard's arrays and metadata by name)."""
    index = json.load(open(path), object_pairs_hook=unique)
    directory = path[:path.rindex("/") + 1] if "/" in path else ""
    shards = {name: read(directory + name, ordered) for name in set(index["weight_map"].values())}
    arrays = {name: shards[shard][0][name] for name, shard in index["weight_map"].items()}
    assert len(arrays) == sum(len(shard) for shard, _ in shards.values())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays.values())
    return arrays, index["metadata"], shards


def write(path, arrays, metadata=None, bf16=()):
    """In the given order; arrays named in `bf16` are the bits of such numbers."""
    names = {np.dtype(text): name for name, text in DTYPES.items() if name != "BF16"}
    header, at = {"__metadata__": metadata} if metadata else {}, 0
    for name, array in arrays.items():
        dtype = "BF16" if name in bf16 else names[array.dtype]
        header[name] = {"dtype": dtype, "shape": list(array.shape),
                        "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            f.write(np.ascontiguousarray(array).tobytes())


def write_index(path, shards, metadata=None):
    """Shards by name, each arrays by name, beside an index as Hugging Face's libraries write it."""
    directory = path[:path.rindex("/") + 1] if "/" in path else ""
    for name, arrays in shards.items():
        write(directory + name, arrays, metadata)
    total = sum(array.nbytes for arrays in shards.values() for array in arrays.values())
    index = {"metadata": {"total_size": total},
             "weight_map": {tensor: name for name, arrays in shards.items() for tensor in arrays}}
    with open(path, "w") as f:
        f.write(json.dumps(index, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        (read_index if argument.endswith(".index.json") else read)(argument)
