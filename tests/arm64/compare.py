"""compare.py EXPECTED FOUND TOLERANCE SAME...: whether two folders have equal files.

Prints of each file whether it has the same bytes, or the largest difference in one of its arrays or
columns, relative to the largest number of that. Fails where this is above TOLERANCE, and where a file
that matches one of the patterns SAME has other bytes.
"""
import os
import sys
from fnmatch import fnmatch

import h5py
import numpy as np


def arrays(path):
    """By name: the data sets of HDF5 or the columns of CSV. An eigenvector's sign is open: no bases."""
    found = {}
    if path.endswith(".csv"):
        table = np.genfromtxt(path, delimiter=",", names=True)
        found = {name: np.atleast_1d(table[name]) for name in table.dtype.names}
    elif path.endswith(".h5"):
        with h5py.File(path) as file:
            file.visititems(lambda name, item: found.update({name: item[()]})
                            if isinstance(item, h5py.Dataset) and item.dtype.kind == "f" else None)
    return {name: values for name, values in found.items() if not name.startswith("basis_")}


def difference(expected, found):
    """The largest of all arrays', and of which; of files without arrays infinite."""
    if not expected or any(found[name].shape != expected[name].shape for name in expected.keys() & found):
        return np.inf, "shapes"
    if expected.keys() != found.keys():
        return np.inf, "names"
    return max((np.max(np.abs(values - found[name])) / np.max(np.abs(values), initial=1e-300), name)
               for name, values in expected.items() if values.size)


def main(before, after, tolerance, *same):
    bad = set(os.listdir(before)) ^ set(os.listdir(after))
    for name in sorted(bad):
        print(f"{name}: in one of the folders only")
    for name in sorted(set(os.listdir(before)) & set(os.listdir(after))):
        paths = [os.path.join(folder, name) for folder in (before, after)]
        first, second = (open(path, "rb").read() for path in paths)
        if first == second:
            print(f"{name}: the same bytes")
            continue
        apart, where = difference(*map(arrays, paths))
        print(f"{name}: {apart:.1e} at most, in {where}")
        if not apart <= float(tolerance) or any(fnmatch(name, pattern) for pattern in same):
            bad.add(name)
    return f"differ: {' '.join(sorted(bad))}" if bad else None


sys.exit(main(*sys.argv[1:]))
