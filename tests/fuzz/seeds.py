"""Writes posteriors to mutate, and hostile-*.h5 that no reader may accept, into a directory."""
import os
import sys

import h5py
import numpy as np

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


for name, options in [("plain", {}), ("latest", dict(libver="latest", track_order=True)),
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
    f.attrs["provenance"] = '{"command": "test"}'
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

# Files that lead elsewhere.
with h5py.File(CANARY, "w") as f:
    f["data"] = np.ones(4, "f4")
with posterior("hostile-external-link.h5") as f:
    f["mean/a"] = h5py.ExternalLink(CANARY, "/data")
with posterior("hostile-external-group.h5") as f:
    f["mean"] = h5py.ExternalLink(CANARY, "/")
with posterior("hostile-soft-link.h5") as f:
    f["mean/a"] = h5py.SoftLink("/nowhere")
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
with posterior("hostile-rank.h5") as f:
    f["mean/a"] = np.ones((1,) * 12, "f4")
# Names that no terminal should see.
for kind, name in [("control", b"\x1b[31mred"), ("bytes", b"\xff\xfe"), ("dots", b"..")]:
    with posterior(f"hostile-name-{kind}.h5") as f:
        group = f.create_group("mean")
        h5py.h5d.create(group.id, name, h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)))
# Not what they should be.
with posterior("hostile-format.h5") as f:
    f.attrs["format"] = "something else"
with posterior("hostile-version.h5") as f:
    f.attrs["format_version"] = 99
with h5py.File("hostile-bare.h5", "w") as f:
    f["mean/a"] = np.ones(4, "f4")
whole = open("plain.h5", "rb").read()
open("hostile-cut.h5", "wb").write(whole[: len(whole) // 2])
open("hostile-empty.h5", "wb").close()
open("hostile-signature.h5", "wb").write(whole[:8])
open("hostile-text.h5", "w").write("no HDF5 file\n")
