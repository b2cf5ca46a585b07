"""Writes files of records to mutate, as formats/ivon/records.h has them, into a directory."""
import hashlib
import os
import struct
import sys
import zlib

os.chdir(sys.argv[1])
SIZE = 16


def header(run=b"run", size=SIZE, version=1):
    digest = hashlib.sha256(run).hexdigest()[:16]
    return f"ivon-records {version}\nrun {digest}\nsize {size:020}\n".encode()


def record(number, content, head=header()):
    crc = zlib.crc32(head + struct.pack("<Q", number) + content)
    return content + struct.pack("<I", crc)


def records(count):
    return b"".join(record(i, bytes([i]) * SIZE) for i in range(count))


for name, data in [
    ("empty", b""), ("none", header()), ("one", header() + records(1)),
    ("many", header() + records(20)), ("torn", header() + records(3)[:-7]),
    ("torn-header", header()[:40]), ("zeros", header() + bytes(1000)),
    ("swapped", header() + record(1, bytes(SIZE)) + record(0, bytes(SIZE))),
    ("other-run", header(b"other") + records(2)), ("other-size", header(size=17) + records(2)),
    ("other-version", header(version=2) + records(2)), ("foreign", b"index,waic\n0,1.5\n")]:
    open(name, "wb").write(data)
