"""Writes catalogues to mutate, as formats/hdf5/child.h has them, into a directory."""
import os
import struct
import sys

os.chdir(sys.argv[1])
F32, RANK_MAX = 1, 8


def text(value):
    return struct.pack("<I", len(value)) + value


def attributes(**values):
    data = b""
    for name, value in values.items():
        kind = {bytes: b"t", int: b"i", float: b"f"}[type(value)]
        data += text(name.encode()) + kind
        data += text(value) if kind == b"t" else struct.pack("<q" if kind == b"i" else "<d", value)
    return data + text(b"")


def group(path, **values):
    return text(path) + b"\0" + attributes(**values)


def dataset(path, shape, dtype=F32, offset=0, **values):
    return (text(path) + b"\1" + attributes(**values) + text(b"") + struct.pack("<Iq", dtype, offset) +
            struct.pack(f"<I{len(shape)}q", len(shape), *shape))


def refused(path, why, stored_as=b"", shape=(), string_size=0):
    return (text(path) + b"\1" + attributes() + text(why) + text(stored_as) +
            struct.pack(f"<II{len(shape)}q", string_size, len(shape), *shape))


root = group(b"", format=b"ivon-posterior", format_version=1, ess=100.0)
for name, data in [
        ("empty", b""), ("root", b"\0" + root), ("refused", b"\1it is no HDF5 file"),
        ("plain", b"\0" + root + group(b"mean") + dataset(b"mean/a", (6, 5)) +
         dataset(b"hessian/a", (6, 5), offset=120)),
        ("types", b"\0" + root + b"".join(dataset(b"mean/%d" % t, (3,), t, 16 * t) for t in range(12))),
        ("read", b"\0" + root + dataset(b"x", (3, 2), offset=-1, note=b"chunked")),
        ("scalar", b"\0" + root + dataset(b"x", ())), ("none", b"\0" + root + dataset(b"x", (0, 4))),
        ("strange", b"\0" + root + refused(b"x", b"is compressed", b"a string", (3,)) +
         refused(b"y", b"is damaged")),
        ("strings", b"\0" + root + refused(b"x", b"no numbers", b"strings", (3,), 257) +
         refused(b"y", b"no numbers", b"strings", (2, 3), 6)),
        ("beyond", b"\0" + root + dataset(b"x", (2,), offset=4092)),
        ("large", b"\0" + root + dataset(b"x", (2**62, 2**62))),
        ("ranks", b"\0" + root + dataset(b"x", (1,) * (RANK_MAX + 1)))]:
    open(name, "wb").write(data)
