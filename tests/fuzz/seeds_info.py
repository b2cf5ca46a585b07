"""Writes checkpoints with JSON in them to mutate, and all safetensors that there are, into a directory."""
import json
import os
import runpy
import sys

runpy.run_path(os.path.join(os.path.dirname(os.path.abspath(__file__)), "seeds_safetensors.py"))
import numpy as np
import safetensors_file  # beside what was run

PROVENANCE = {"command": ["ivon-merge", "a.h5", "ä"], "version": "0.1.0", "inputs": [{"path": "a.h5", "sha256": "0" * 64}],
              "training": {"seed": 7, "rate": 1e-3, "name": None}, "nested": [[[{}]]]}
weights = {"mean/w": np.ones((2, 3), "f4"), "hessian/w": np.ones((2, 3), "f4")}
header = {"ivon-posterior": "1", "ess": "1e3", "weight_decay": "0.01", "step": "7", "creator": "us"}
for name, text in [("whole", json.dumps(PROVENANCE)), ("text", "no JSON"), ("list", "[1, 2]"), ("empty", ""),
                   ("twice", '{"command": 1, "command": 2}'), ("surrogate", '"\\ud800"'), ("large", "[1e999]")]:
    safetensors_file.write(f"provenance-{name}.safetensors", weights, header | {"provenance": text})
