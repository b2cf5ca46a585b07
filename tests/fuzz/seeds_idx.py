"""Writes arrays to mutate, of those of seeds_dataset.py, into a directory."""
import fnmatch
import os
import runpy
import sys

runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds_dataset.py"))
for name in os.listdir():  # it changed to the directory
    if not any(fnmatch.fnmatch(name, kind) for kind in ("*.npy", "*.idx", "*.gz")):
        os.remove(name)
