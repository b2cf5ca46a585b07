"""Writes data sets of every format to mutate, some hostile as they are, into a directory."""
import gzip
import io
import os
import struct
import sys
import zipfile

try:
    import h5py
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}", file=sys.stderr)
    sys.exit(77)

os.chdir(sys.argv[1])
rng = np.random.default_rng(0)
X = rng.standard_normal((20, 3, 2)).astype("f4")
Y = rng.integers(0, 10, 20)

# Texts and tokens.
with open("text.txt", "w") as f:
    f.write("to be or not to be, äΩ€😀\n")
np.save("tokens.npy", Y)

# HDF5. What any HDF5 file may be is for seeds_checkpoint.py.
packed = dict(chunks=True, compression="gzip", shuffle=True)
for name, options in [("plain", {}), ("chunked", packed)]:
    with h5py.File(name + ".h5", "w") as f:
        f.create_dataset("x", data=X, **options)
        f.create_dataset("y", data=Y, **options)
with h5py.File("bytes.h5", "w") as f:
    f["x"], f["group/x"] = np.arange(60, dtype="u1").reshape(20, 3), X
with h5py.File("strings.h5", "w") as f:
    f["x"], f["y"] = X, np.array([b"ab"[i % 2:][:1] for i in Y], dtype="S5")
    f.create_dataset("z", data=["ab"[i % 2] for i in Y], dtype=h5py.string_dtype())
with h5py.File("no-rows.h5", "w") as f:
    f["x"] = np.zeros((0, 3))
with h5py.File("no-columns.h5", "w") as f:
    f["x"] = np.zeros((3, 0))
with h5py.File("rows-differ.h5", "w") as f:
    f["x"], f["y"] = X, Y[:-1]

# npy, of each type and version.
for dtype in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1", ">f4", ">i8"):
    np.save(dtype.replace(">", "big-") + ".npy", X.astype(dtype))
for version in ((2, 0), (3, 0)):
    with open(f"version-{version[0]}.npy", "wb") as f:
        np.lib.format.write_array(f, X, version)
np.save("fortran.npy", np.asfortranarray(X[:, :, 0]))
np.save("scalar.npy", np.float32(1))
np.save("text.npy", np.array(["a", "b"]))
names = np.array(["ab1"[i % 3] for i in Y])
for kind in ("U1", ">U3", "S1", "S4"):
    np.savez(f"names-{kind.strip('>')}.npz", x=X, y=names.astype(kind))
np.savez_compressed("names-deflated.npz", x=X, y=names)
np.savez("names-odd.npz", x=X, y=np.array([["\udc80", "\U0010ffff"][i % 2] for i in Y]))
np.save("record.npy", np.zeros(3, [("a", "f4"), ("b", "i4")]))
np.save("objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)


def npy(header, length=None, version=1, data=b"\0" * 16):
    length = len(header) if length is None else length
    return (b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", length)
            + header.encode() + data)


def shaped(shape):
    return "{'descr': '<f4', 'fortran_order': False, 'shape': %s, }" % (shape,)


for name, content in [
    ("long", npy(shaped((4,)), 65535)), ("longest", npy(shaped((4,)), 2**32 - 1, 2)),
    ("large", npy(shaped((2**40, 2**30)))), ("zero-large", npy(shaped((0, 2**62, 4)))),
    ("many-empty", npy(shaped((2**60, 0)))), ("negative", npy(shaped((-4,)))),
    ("digits", npy(shaped("(" + "9" * 5000 + ",)"))), ("ranks", npy(shaped((1,) * 1000)))]:
    open(f"hostile-{name}.npy", "wb").write(content)

# npz, stored and deflated.
np.savez("stored.npz", x=X, y=Y)
np.savez_compressed("deflated.npz", x=X, y=Y)
with zipfile.ZipFile("zip64.npz", "w") as f:
    for name, array in [("x.npy", X), ("y.npy", Y)]:
        with f.open(name, "w", force_zip64=True) as member:
            np.save(member, array)
bomb = io.BytesIO()
np.save(bomb, np.zeros((1 << 19, 100), "f4"))
with zipfile.ZipFile("hostile-bomb.npz", "w", zipfile.ZIP_DEFLATED) as f:
    f.writestr("x.npy", bomb.getvalue())
whole = open("deflated.npz", "rb").read()
size = struct.pack("<I", X.nbytes + 128)
open("hostile-size.npz", "wb").write(whole.replace(size, struct.pack("<I", 2**31)))
open("hostile-size-1.npz", "wb").write(whole.replace(size, struct.pack("<I", X.nbytes + 127)))
open("hostile-cut.npz", "wb").write(whole[:-30])
with zipfile.ZipFile("hostile-methods.npz", "w") as f:
    for name, method in [("x.npy", zipfile.ZIP_BZIP2), ("y.npy", zipfile.ZIP_LZMA)]:
        f.writestr(name, b"data" * 100, method)

# IDX.
for code, dtype in [(8, ">u1"), (9, ">i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]:
    data = struct.pack(">BBBB3I", 0, 0, code, 3, *X.shape) + X.astype(dtype).tobytes()
    open(f"type-{code}.idx", "wb").write(data)
    gzip.open(f"type-{code}.idx.gz", "wb").write(data)
open("two-members.idx.gz", "wb").write(gzip.compress(data[:100]) + gzip.compress(data[100:]))
for name, data in [("overflow", struct.pack(">BBBB3I", 0, 0, 14, 3, 2**31, 2**31, 2**31)),
                   ("large", struct.pack(">BBBBI", 0, 0, 8, 1, 2**32 - 1)),
                   ("rank", struct.pack(">BBBB", 0, 0, 8, 255))]:
    open(f"hostile-{name}.idx", "wb").write(data)
    open(f"hostile-{name}.idx.gz", "wb").write(gzip.compress(data))
packed = gzip.compress(struct.pack(">BBBB2I", 0, 0, 8, 2, 2**14, 2**12) + bytes(2**26))
open("hostile-bomb.idx.gz", "wb").write(packed)
open("hostile-cut.idx.gz", "wb").write(packed[: len(packed) // 2])
open("hostile-text.gz", "wb").write(gzip.compress(b"text"))
open("hostile-empty-members.gz", "wb").write(gzip.compress(b"") * 1000)

# CSV.
lines = ["p0,p1,class,p10"] + [f"{a:.6g},{b:.3e},{c},-{c}" for (a, b), c in zip(X[:, 0], Y)]
open("header.csv", "w").write("\n".join(lines))
open("windows.csv", "w", newline="").write("\ufeff" + "\r\n".join(lines) + "\r\n")
open("no-header.csv", "w").write("\n".join(lines[1:]) + "\n\n")
open("quoted.csv", "w").write('"a ""b""",c\n"1",2\n"3" ,nan\n4,inf\n')
open("one.csv", "w").write("1\n2\n3\n")
for name, text in [("cell", "a,b\n1,x\n"), ("row", "1,2\n3\n"), ("quote", '1,2\n"3,4\n'),
                   ("null", "1,2\n" * 2000 + "3,\0\n"), ("commas", "," * 100000),
                   ("digits", "1" * 100000), ("quotes", '"' * 99999), ("newlines", "\n" * 100000),
                   ("semicolons", "1;2\n3;4\n"), ("blank", ""), ("prose", "not a table\n")]:
    open(f"hostile-{name}.csv", "w").write(text)
