"""Writes recipes of merges to mutate, in YAML and JSON, into a directory."""
import json
import os
import sys

os.chdir(sys.argv[1])
SEEDS = {
    "filters.yml": """merge_method: task_arithmetic
base_model: "base.h5"
models:
  - model: base.h5
  - model: a.h5
    hessian: 'fisher.npz'
    parameters:
      weight:
        - filter: self_attn
          value: [0, 1, 0.5]
        - value: 0.3
  - {model: b.h5, parameters: {weight: 5.e-1}}
parameters: {lambda: 0.5, normalize: true, delta0: 1, ess: 1e3}
dtype: float32
out_dtype: bfloat16
tokenizer_source: base
""",
    "slices.yml": """slices:
- sources:
  - model: a.h5
    layer_range: [0, 4]
  - model: b.h5
    layer_range: [0, 4]
    parameters: {weight: [1, 2]}
- sources: [{model: b.h5, layer_range: [4, 8]}]
  parameters:
    weight: {filter: "*", value: 2}
merge_method: linear
parameters: {normalize: false, weight: ~}
""",
    "passthrough.json": json.dumps({"merge_method": "passthrough", "slices": [
        {"sources": [{"model": f"{i}.h5", "layer_range": [i, i + 1]}]} for i in range(8)]}),
    "block.yml": "%YAML 1.1\n---\nmodels:\n- model: >-\n    a.h5\n- model: |\n    \"b\"\n? merge_method\n: gradient-matching\n...\n",
    "aliases.yml": "a: &a [x, *a]\nb: !!map {<<: *a}\n",
    "wide.yml": "\ufeffmerge_method: hessian\nmodels: [{model: \"\\u00e4\\x41\\n\"}]\n",
}
for name, text in SEEDS.items():
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
with open("utf16.yml", "wb") as file:
    file.write(SEEDS["slices.yml"].encode("utf-16"))
