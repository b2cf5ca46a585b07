"""Files as flax.serialization writes them, by msgpack's own library and the format's description."""
import msgpack
import numpy as np

ARRAY, COMPLEX, SCALAR = 1, 2, 3


def packed(array, dtype=None, elements=None, shape=None):
    """The shape, numpy's name of the type, and the elements in C's order; each may be another."""
    array = np.asarray(array)
    return msgpack.packb((array.shape if shape is None else shape, dtype or array.dtype.name,
                          array.tobytes("C") if elements is None else elements))


def bfloat16(array):
    """As ml_dtypes' bfloat16, which numpy does not know: the upper halves of its numbers."""
    bits = (np.asarray(array, "f4").view("u4") >> 16).astype("u2")
    return msgpack.ExtType(ARRAY, packed(bits, "bfloat16"))


def chunked(array, size):
    """As arrays of more than 1 GB are split, into pieces of `size` elements."""
    flat = array.reshape(-1)
    chunks = [flat[i:i + size] for i in range(0, flat.size, size)]
    return {"__msgpack_chunked_array__": True,
            "shape": {str(i): extent for i, extent in enumerate(array.shape)},
            "chunks": {str(i): chunk for i, chunk in enumerate(chunks)}}


def leaf(item):
    if isinstance(item, np.ndarray):
        return msgpack.ExtType(ARRAY, packed(item))
    if isinstance(item, np.generic):
        return msgpack.ExtType(SCALAR, packed(item))
    if isinstance(item, complex):
        return msgpack.ExtType(COMPLEX, msgpack.packb((item.real, item.imag)))
    raise TypeError(f"{item!r} has no form in msgpack")


def to_bytes(tree):
    return msgpack.packb(tree, default=leaf, strict_types=True)


def write(path, tree):
    with open(path, "wb") as file:
        file.write(to_bytes(tree))
