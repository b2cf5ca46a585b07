"""Writes HDF5 files to mutate, all of those that other targets have, into a directory."""
import os
import runpy
import sys

for name in ("columns", "dataset", "checkpoint"):
    here = os.path.dirname(os.path.abspath(__file__))
    sys.argv[1] = os.path.abspath(sys.argv[1])
    runpy.run_path(os.path.join(here, f"seeds_{name}.py"))
    for name in os.listdir():  # it changed to the directory
        if not name.endswith(".h5"):
            os.remove(name)
