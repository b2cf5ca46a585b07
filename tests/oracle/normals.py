"""The random numbers of lib/core/random.h: Philox4x64-10 by numpy's own, Threefry4x32 written from the paper (Salmon et
al., SC 2011, section 4.2; rotations: its authors' Threefish with 32 bits), normals in double precision.

usage: normals.py > tests/unit/random_vectors.h
"""
import numpy as np

ROTATIONS = [(10, 26), (11, 21), (13, 27), (23, 5), (6, 20), (17, 11), (25, 10), (18, 20)]


def philox(seed, name, counter, count):
    """Blocks [counter, counter + count) of Philox4x64-10. numpy adds 1 to the counter before each."""
    key = 0xCBF29CE484222325
    for byte in name.encode():
        key = (key ^ byte) * 0x100000001B3 % 2**64
    return np.random.Philox(key=seed + (key << 64), counter=(counter - 1) % 2**256).random_raw(4 * count)


def words(seed, sample, name, block, count):
    return philox(seed, name, block + (sample << 64), count)


def threefry(key, counters, rounds=13):
    """Threefry4x32 of counters (n x 4) with a key of four words."""
    key = [int(k) for k in key]
    key.append(0x1BD11BDA ^ key[0] ^ key[1] ^ key[2] ^ key[3])
    x = [(counters[:, i] + key[i]) % 2**32 for i in range(4)]
    for r in range(rounds):
        # Words 0 and 2 each take one of the odd words, which are exchanged from round to round.
        for even, odd, by in zip((0, 2), (1, 3) if r % 2 == 0 else (3, 1), ROTATIONS[r % 8]):
            x[even] = (x[even] + x[odd]) % 2**32
            x[odd] = (x[odd] << by | x[odd] >> (32 - by)) % 2**32 ^ x[even]
        if r % 4 == 3:
            s = (r + 1) // 4
            x = [(x[i] + key[(s + i) % 5] + (s if i == 3 else 0)) % 2**32 for i in range(4)]
    return np.stack(x, 1)


def key_of_normals(seed, sample, name):
    """The first two words of a block of which `words` gives none."""
    return philox(seed, name, (sample << 64) + (1 << 128), 1)[:2].view("<u4")


def normal_words(seed, sample, name, block, count):
    counters = np.zeros((count, 4), dtype=np.int64)
    at = block + np.arange(count)
    counters[:, 0], counters[:, 1] = at % 2**32, at >> 32
    return threefry(key_of_normals(seed, sample, name), counters)


def pairs(first, second):
    radius = np.sqrt(-2 * np.log1p(-(first / 2**32)))
    angle = 2 * np.pi * (second / 2**32)
    return radius * np.cos(angle), radius * np.sin(angle)


def normals(seed, sample, name, count, group=0):
    """The first `count` normals of groups from `group` on, of 64 normals each: 16 blocks side by side."""
    w = normal_words(seed, sample, name, 16 * group, 16 * -(-count // 64))
    four = np.stack([*pairs(w[:, 0], w[:, 1]), *pairs(w[:, 2], w[:, 3])])
    return four.reshape(4, -1, 16).transpose(1, 0, 2).ravel()[:count]


def main():
    print("/* Made by tests/oracle/normals.py. */")
    for seed, sample, name, block in [(0, 0, "w", 0), (42, 3, "fc1.weight", 1),
                                      (2**64 - 1, 2**63, "größe/η", 2**40 + 5), (7, 1, "", 2**58 - 1)]:
        w = words(seed, sample, name, block, 1)
        x = normals(seed, sample, name, 64, block)
        print(f'{{{seed}u, {sample}u, "{name}", {block}u,\n {{{", ".join(f"{v:#x}" for v in w)}}},\n'
              f' {{{", ".join(f"{v:.17g}" for v in x)}}}}},')


if __name__ == "__main__":
    main()
