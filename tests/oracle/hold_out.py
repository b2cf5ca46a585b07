"""Data with a part held out, by which scalings are chosen: hold_out.py FILE.h5 NEW.h5 [ROWS]

The last fifth of the rows of /train, or of the first ROWS of them, becomes /held, the others stay; /test is as it was.
"""
import sys

import h5py

with h5py.File(sys.argv[1], "r") as file, h5py.File(sys.argv[2], "w") as new:
    for name, rows in file["train"].items():
        rows = rows[:int(sys.argv[3]) if sys.argv[3:] else None]
        kept = len(rows) * 4 // 5
        new[f"train/{name}"], new[f"held/{name}"] = rows[:kept], rows[kept:]
        new[f"test/{name}"] = file[f"test/{name}"][()]
