"""Writes posteriors to mutate, and hostile-*.h5 that no reader may accept, into a directory."""
import os
import sys

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "oracle"))
import structured_parts

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)
CANARY = os.path.abspath("canary.h5")  # what hostile files try to make a reader open


def posterior(name, **options):
    f = h5py.File(name, "w", **options)
    f.attrs.update(format="ivon-posterior", format_version=1, ess=100.0, weight_decay=1e-2, step=3)
    return f


def fill(f, dtype="f4", hessian="f4", names=("a.weight", "nested/b.bias"), **storage):
    for name in names:
        shape = (6, 5) if "weight" in name else (7,)
        f.create_dataset("mean/" + name, data=rng.standard_normal(shape).astype(dtype), **storage)
        f.create_dataset("hessian/" + name, data=rng.random(shape).astype(hessian), **storage)


def raw(f, path, dtype, shape, set_up=lambda plist: None):
    """A data set of which nothing is written, with properties that h5py has no words for."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    set_up(plist)
    group, name = path.rsplit("/", 1)
    h5py.h5d.create(f.require_group(group).id, name.encode(), dtype, h5py.h5s.create_simple(shape),
                    plist)


for name, options in [("plain", {}), ("latest", dict(libver="latest", track_order=True)),
                      ("earliest", dict(libver="earliest")), ("ordered", dict(track_order=True)),
                      ("userblock", dict(userblock_size=512))]:
    with posterior(name + ".h5", **options) as f:
        fill(f)
for dtype in ("f2", "f8", ">f4"):
    with posterior("dtype-" + dtype.replace(">", "big-") + ".h5") as f:
        fill(f, dtype, ">f4" if ">" in dtype else "f4")
with posterior("chunked.h5") as f:
    fill(f, chunks=True, compression="gzip", shuffle=True, fletcher32=True)
with posterior("companions.h5") as f:
    fill(f)
    f["buffers/count"] = np.int64(5)
    f["buffers/mask"] = np.ones((3, 3), bool)
    f["momentum/a.weight"] = np.zeros((6, 5), "f4")
    f["mean/empty"] = np.zeros((0, 4), "f4")
    f["hessian/empty"] = np.zeros((0, 4), "f4")
    f["model.onnx"] = np.frombuffer(b"not a graph", "u1")
    f["buffers/unwritten"] = np.zeros(3, "f4")
    f["notes"] = ["not a tensor", "and not ours to judge"]
    f["type"] = np.dtype("f4")
    f.attrs["provenance"] = '{"command": "test"}'
    f.attrs["creator"] = np.bytes_("of a fixed length")
    f.attrs["list"] = [1, 2, 3]
    f["hessian/a.weight"].attrs["ess"] = 50.0
with posterior("bf16.h5") as f:
    bf16 = h5py.h5t.IEEE_F32LE.copy()
    bf16.set_fields(15, 7, 8, 0, 7)
    bf16.set_size(2)
    bf16.set_ebias(127)
    space = h5py.h5s.create_simple((4,))
    group = f.create_group("mean")
    data = h5py.h5d.create(group.id, b"a", bf16, space)
    data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(4, "f4"))
with posterior("compact.h5") as f:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_layout(h5py.h5d.COMPACT)
    group = f.create_group("mean")
    data = h5py.h5d.create(group.id, b"a", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), plist)
    data.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(4, "f4"))

with posterior("numbers.h5") as f:
    for dtype in ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">u8", "?"):
        f["buffers/" + dtype.replace(">", "big-")] = np.ones((2, 3), dtype)
    f["mean/scalar"] = np.float32(1)
    f["mean/\u03bb.\u03c3"] = np.zeros(2, "f4")
with posterior("many.h5", libver="latest") as f:  # a group and attributes of the dense kind
    fill(f, names=[f"layer.{i}/{kind}" for i in range(12) for kind in ("weight", "bias")])
    f.attrs.update({f"note{i}": "x" for i in range(12)})
with posterior("chunks.h5", libver="latest") as f:  # one index of each kind, sparse, with a rest
    for name, limit in [("fixed", (50, 7)), ("extensible", (None, 7)), ("tree", (None, None))]:
        f.create_dataset("mean/" + name, (50, 7), "f4", chunks=(8, 4), maxshape=limit)[20:30] = 1
    f.create_dataset("mean/single", (5, 5), "f8", chunks=(5, 5), compression="gzip")[:] = 2
with posterior("chunks-tree.h5") as f:
    f.create_dataset("mean/a", (50, 7), "f4", chunks=(8, 4), fillvalue=3)[20:30] = 1
with posterior("tied.h5") as f:
    fill(f)
    f["mean/tied"], f["hessian/tied"] = f["mean/a.weight"], f["hessian/a.weight"]
with posterior("shapes-differ.h5") as f:  # each of them is a tensor; what they mean is not asked here
    f["mean/a"], f["hessian/a"] = np.ones(4, "f4"), np.ones((2, 3), "f4")

for kind, text in structured_parts.texts().items():
    with posterior(("" if kind == "whole" else "hostile-") + f"structure-{kind}.h5") as f:
        f.attrs["format_version"] = 2
        for name, array in structured_parts.parts(text).items():
            f[name] = array
with posterior("hostile-structure.h5") as f:
    f.attrs["format_version"] = 2
    f["structure.json"] = np.ones(3, "f4")
with posterior("hostile-basis.h5") as f:
    f.attrs["format_version"] = 2
    f["basis_input/w"] = np.ones((3, 3), "i4")

# Files that lead elsewhere.
with h5py.File(CANARY, "w") as f:
    f["data"] = np.ones(4, "f4")
with posterior("hostile-external-link.h5") as f:
    f["mean/a"] = h5py.ExternalLink(CANARY, "/data")
with posterior("hostile-external-group.h5") as f:
    f["mean"] = h5py.ExternalLink(CANARY, "/")
with posterior("hostile-soft-link.h5") as f:
    f["mean/a"] = h5py.SoftLink("/nowhere")
with posterior("hostile-soft-circle.h5") as f:
    f["mean/a"] = h5py.SoftLink("/mean/a")
with posterior("hostile-external-storage.h5") as f:
    f.create_dataset("mean/a", (4,), "f4", external=[(CANARY, 0, 16)])
with posterior("hostile-virtual.h5") as f:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(CANARY, "data", (4,))
    f.create_virtual_dataset("mean/a", layout)
# Files that never end, or do not fit.
with posterior("hostile-circle.h5") as f:
    group = f.create_group("mean/a")
    group["up"] = f["mean"]
with posterior("hostile-deep.h5") as f:
    f["mean/" + "/".join("d" * 100) + "/a"] = np.ones(4, "f4")
with posterior("hostile-huge.h5") as f:
    f.create_dataset("mean/a", (2**40, 2**20), "f4", chunks=(1, 1024))
with posterior("hostile-chunk.h5") as f:
    f.create_dataset("mean/a", (2**28,), "f4", chunks=(2**28,), compression="gzip")
with posterior("hostile-circle-root.h5") as f:
    f["mean"] = f["/"]
with posterior("hostile-groups.h5") as f:
    f.create_group("mean/a")
    f["mean/b"] = f["mean/a"]
with posterior("hostile-2-62.h5") as f:
    raw(f, "mean/a", h5py.h5t.IEEE_F32LE, (2**31, 2**31), lambda p: p.set_chunk((1, 1024)))
with posterior("hostile-product.h5") as f:  # 2^64 elements, 0 in a product that wraps around
    raw(f, "mean/a", h5py.h5t.IEEE_F32LE, (2**22, 2**21, 2**21), lambda p: p.set_chunk((1, 1, 1024)))
with posterior("hostile-contiguous.h5") as f:
    raw(f, "mean/a", h5py.h5t.IEEE_F32LE, (2**40,))
with posterior("hostile-bomb.h5") as f:  # 8 MB of zeros in one chunk, claimed a million times
    f.create_dataset("mean/a", (2**20, 2**21), "f4", chunks=(1, 2**21), compression=9)[0] = 0
with posterior("hostile-chunk-memory.h5") as f:  # honest, but for the memory that it asks for
    f.create_dataset("mean/a", data=np.zeros(2**23, "f4"), chunks=(2**23,), compression=9)
with posterior("hostile-attributes.h5", libver="latest") as f:
    f["mean/a"] = np.ones(4, "f4")
    for i in range(2000):
        f.attrs[f"x{i}"] = i
# Elements and filters that are none of ours.
with posterior("hostile-strings.h5") as f:
    f["mean/a"] = ["text"] * 3
with posterior("hostile-compound.h5") as f:
    f["mean/a"] = np.zeros(3, [("x", "f4"), ("y", "i4")])
with posterior("hostile-integer-mean.h5") as f:
    f["mean/a"] = np.zeros(3, "i4")
with posterior("hostile-references.h5") as f:
    f.create_dataset("mean/a", data=np.array([f.ref] * 2, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)
with posterior("hostile-lzf.h5") as f:
    f.create_dataset("mean/a", data=np.ones(100, "f4"), chunks=True, compression="lzf")
with posterior("hostile-scaleoffset.h5") as f:
    f.create_dataset("mean/a", data=np.ones(100, "i4"), chunks=True, scaleoffset=4)
with posterior("hostile-vlen.h5") as f:
    f.create_dataset("mean/a", (3,), h5py.vlen_dtype("f4"))[0] = [1, 2]
with posterior("hostile-array.h5") as f:
    raw(f, "mean/a", h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (3,)), (2,))
with posterior("hostile-opaque.h5") as f:
    f["mean/a"] = np.zeros(3, "V5")
with posterior("hostile-float.h5") as f:
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_fields(30, 24, 6, 0, 24)
    raw(f, "mean/a", odd, (4,))
with posterior("hostile-nothing.h5") as f:
    f["mean/a"] = h5py.Empty("f4")
nbit = lambda p: (p.set_chunk((4,)), p.set_filter(h5py.h5z.FILTER_NBIT))
szip = lambda p: (p.set_chunk((64,)), p.set_filter(h5py.h5z.FILTER_SZIP, 1, (4, 8)))
foreign = lambda p: (p.set_chunk((4,)), p.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,)))
for kind, set_up in [("nbit", nbit), ("szip", szip), ("foreign", foreign)]:
    with posterior(f"hostile-filter-{kind}.h5") as f:
        raw(f, "mean/a", h5py.h5t.IEEE_F32LE, (64,), set_up)
with posterior("hostile-rank.h5") as f:
    f["mean/a"] = np.ones((1,) * 12, "f4")
# Names that no terminal should see.
for kind, name in [("control", b"\x1b[31mred"), ("bytes", b"\xff\xfe"), ("dots", b".."),
                   ("control-2", "\u009b31m".encode()), ("newline", b"a\nivon-info: fine"),
                   ("surrogate", b"\xed\xa0\x80"), ("long", b"\xff" * 60000)]:
    with posterior(f"hostile-name-{kind}.h5") as f:
        group = f.create_group("mean")
        h5py.h5d.create(group.id, name, h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)))
# Not what they should be.
with posterior("hostile-format.h5") as f:
    f.attrs["format"] = "something else"
with posterior("hostile-format-number.h5") as f:
    f.attrs["format"] = 1
with posterior("hostile-format-text.h5") as f:
    f.attrs["format"] = "\x1b]0;title\x07\n" * 1000
with posterior("hostile-version.h5") as f:
    f.attrs["format_version"] = 99
with posterior("hostile-version-text.h5") as f:
    f.attrs["format_version"] = "1"
with posterior("hostile-mean.h5") as f:
    f["mean"] = np.ones(4, "f4")
with posterior("hostile-graph.h5") as f:
    fill(f)
    f["model.onnx"] = np.ones((2, 2), "u1")
with h5py.File("hostile-bare.h5", "w") as f:
    f["mean/a"] = np.ones(4, "f4")
whole = open("plain.h5", "rb").read()
open("hostile-cut.h5", "wb").write(whole[: len(whole) // 2])
open("hostile-cut-end.h5", "wb").write(whole[:-1])
open("hostile-empty.h5", "wb").close()
open("hostile-signature.h5", "wb").write(whole[:8])
open("hostile-text.h5", "w").write("no HDF5 file\n")
