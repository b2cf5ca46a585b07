"""model_directory.py DIRECTORY SHARDS MEGABYTES SEED: a model's directory as Hugging Face's libraries
write it, in bf16: shards and their index (one file of 1 shard), config.json, generation_config.json,
the files of a tokenizer, a card, and code. Of one SEED above zero the weights are those of seed 0,
finetuned a little."""
import json
import os
import sys

import numpy as np

import safetensors_file

CONFIG = """{
  "architectures": ["LlamaForCausalLM"],
  "rms_norm_eps": 1e-05,
  "rope_scaling": {"dtype": "none", "factor": 8.0},
  "torch_dtype": "bfloat16",
  "vocab_size": %d
}
"""


def bf16(values):
    """Cut off, which is as good as rounded here."""
    return (values.astype("f4").view("u4") >> 16).astype("u2")


def weights(megabytes, seed):
    """Layers of 256 columns between an embedding and a head; names with their bits."""
    rows = max(1, int(megabytes * 1e6 / 2 / 256 / 10))
    shapes = {"model.embed_tokens.weight": (rows, 256), "lm_head.weight": (rows, 256),
              "model.norm.weight": (256,)}
    for layer in range(4):
        shapes[f"model.layers.{layer}.self_attn.q_proj.weight"] = (rows, 256)
        shapes[f"model.layers.{layer}.mlp.up_proj.weight"] = (rows, 256)
    base, tuned = np.random.default_rng(0), np.random.default_rng(seed)
    found = {}
    for name, shape in sorted(shapes.items()):
        values = base.standard_normal(shape, "f4")
        if seed:
            values += np.float32(0.1) * tuned.standard_normal(shape, "f4")
        found[name] = bf16(values)
    return found


def write(directory, shards, megabytes, seed):
    os.makedirs(directory)
    arrays, metadata = weights(megabytes, seed), {"format": "pt"}
    names = sorted(arrays)
    if shards == 1:
        safetensors_file.write(f"{directory}/model.safetensors", arrays, metadata, bf16=names)
    else:
        parts = {f"model-{i + 1:05}-of-{shards:05}.safetensors":
                 {name: arrays[name] for name in names[i::shards]} for i in range(shards)}
        for name, part in parts.items():
            safetensors_file.write(f"{directory}/{name}", part, metadata, bf16=list(part))
        index = {"metadata": {"total_size": sum(a.nbytes for a in arrays.values())},
                 "weight_map": {tensor: name for name, part in parts.items() for tensor in part}}
        with open(f"{directory}/model.safetensors.index.json", "w") as file:
            file.write(json.dumps(index, indent=2, sort_keys=True) + "\n")
    texts = {"config.json": CONFIG % len(arrays["lm_head.weight"]),
             "generation_config.json": '{"do_sample": true}\n',
             "tokenizer.json": '{"model": {"vocab": {}}}\n', "tokenizer_config.json": "{}\n",
             "special_tokens_map.json": "{}\n", "vocab.json": "{}\n", "merges.txt": "#version\n",
             "chat_template.jinja": "{{ messages }}\n", "README.md": "# the base's card\n",
             "modeling_own.py": "class Own: pass\n", "LICENSE": "free\n"}
    for name, text in texts.items():
        with open(f"{directory}/{name}", "w") as file:
            file.write(text)
    with open(f"{directory}/tokenizer.model", "wb") as file:
        file.write(bytes(range(256)))


if __name__ == "__main__":
    write(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
