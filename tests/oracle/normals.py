"""The random numbers of lib/core/random.h, by numpy's own Philox and in double precision.

usage: normals.py > tests/unit/random_vectors.h
"""
import numpy as np


def words(seed, sample, name, block, count):
    """Philox4x64-10 of blocks [block, block + count). numpy adds 1 to the counter before each."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    counter = (block + (sample << 64) - 1) % 2**256
    return np.random.Philox(key=seed + (key << 64), counter=counter).random_raw(4 * count)


def normals(seed, sample, name, count):
    halves = words(seed, sample, name, 0, -(-count // 8)).view("<u4").reshape(-1, 2)
    return from_halves(halves)[:count]


def from_halves(halves):
    radius = np.sqrt(-2 * np.log1p(-(halves[:, 0] / 2**32)))
    angle = 2 * np.pi * (halves[:, 1] / 2**32)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()


def main():
    print("/* Made by tests/oracle/normals.py. */")
    for seed, sample, name, block in [(0, 0, "w", 0), (42, 3, "fc1.weight", 1),
                                      (2**64 - 1, 2**63, "größe/η", 2**40 + 5), (7, 1, "", 2**61 - 1)]:
        w = words(seed, sample, name, block, 1)
        x = from_halves(w.view("<u4").reshape(-1, 2))
        print(f'{{{seed}u, {sample}u, "{name}", {block}u,\n {{{", ".join(f"{v:#x}" for v in w)}}},\n'
              f' {{{", ".join(f"{v:.17g}" for v in x)}}}}},')


if __name__ == "__main__":
    main()
