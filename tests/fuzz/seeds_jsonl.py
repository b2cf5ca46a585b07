"""Writes tables of text to mutate, of those of seeds_columns.py, into a directory."""
import os
import runpy
import sys

runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds_columns.py"))
for name in os.listdir():  # it changed to the directory
    if name.endswith(".h5"):
        os.remove(name)
