"""Adapters as PEFT stores them, upon small bases, and the models that they make, by numpy in double.

adapters.py make DIRECTORY          a base.safetensors, an adapter, and expected.npz for each case
adapters.py compare EXPECTED FOUND [TOLERANCE]           fails where an element is not as expected
adapters.py precisions EXPECTED FOUND ESS WEIGHT_DECAY   the same of precisions
adapters.py truncated EXPECTED BASE ADAPTER RANK JSON    an adapter that was extracted, and its errors
"""
import json
import os
import sys

import numpy as np

import safetensors_file

PREFIX = "base_model.model."
rng = np.random.default_rng(0)


def normal(*shape, dtype="f4"):
    return rng.standard_normal(shape).astype(dtype)


def double(array):
    return np.asarray(array, "f8")


def config_of(**members):
    return {"peft_type": "LORA", "r": 4, "lora_alpha": 16, "base_model_name_or_path": "base",
            "target_modules": ["q_proj"], "bias": "none", "fan_in_fan_out": False,
            "use_rslora": False, "use_dora": False, "init_lora_weights": True,
            "rank_pattern": {}, "alpha_pattern": {}, "modules_to_save": None, **members}


def write_adapter(folder, factors, config):
    os.makedirs(folder, exist_ok=True)
    safetensors_file.write(folder + "/adapter_model.safetensors", factors, {"format": "pt"})
    json.dump(config, open(folder + "/adapter_config.json", "w"))


def factors_of(module, outputs, inputs, rank, ending=".weight", dtype="f4"):
    return {f"{PREFIX}{module}.lora_A{ending}": normal(rank, inputs, dtype=dtype),
            f"{PREFIX}{module}.lora_B{ending}": normal(outputs, rank, dtype=dtype)}


def product(factors, module, ending=".weight", embedding=""):
    a = double(factors[f"{PREFIX}{module}.lora_{embedding}A{ending}"])
    b = double(factors[f"{PREFIX}{module}.lora_{embedding}B{ending}"])
    return np.einsum("or...,r...->o...", b.reshape(len(b), -1), a) if a.ndim == 2 else \
        np.einsum("or,ri...->oi...", b.reshape(len(b), -1), a)


def base_tensors():
    return {"model.embed_tokens.weight": normal(37, 12), "model.layers.0.q_proj.weight": normal(20, 12),
            "model.layers.0.q_proj.bias": normal(20), "model.layers.1.q_proj.weight": normal(700, 1100),
            "model.square.weight": normal(12, 12), "model.conv.weight": normal(6, 5, 3, 2),
            "model.norm.weight": normal(12), "lm_head.weight": normal(37, 12)}


def case(name, base, factors, config, changes):
    """`changes` are the expected tensors that differ from the base's, or are new."""
    os.makedirs(name, exist_ok=True)
    safetensors_file.write(name + "/base.safetensors", base)
    write_adapter(name + "/adapter", factors, config)
    expected = {key: double(value) for key, value in base.items()} | changes
    np.savez(name + "/expected.npz", **expected)


def dora(sum_, magnitude, axis=1):
    """The norm is that of each output."""
    norm = np.sqrt((sum_ ** 2).sum(axis, keepdims=True))
    shape = [1] * sum_.ndim
    shape[1 - axis if sum_.ndim == 2 else 0] = -1
    return double(magnitude).reshape(shape) * sum_ / norm


def make_cases():
    q0, q1, square = ("model.layers.0.q_proj", "model.layers.1.q_proj", "model.square")
    embed, conv = "model.embed_tokens", "model.conv"
    base = base_tensors()
    w = {key: double(value) for key, value in base.items()}

    factors = factors_of(q0, 20, 12, 4) | factors_of(q1, 700, 1100, 4)
    changed = {f"{m}.weight": w[f"{m}.weight"] + 4 * product(factors, m) for m in (q0, q1)}
    case("plain", base, factors, config_of(), changed)
    named = {key.replace(".weight", ".default.weight"): value for key, value in factors.items()}
    case("default", base, named, config_of(), changed)
    half = {key: value.astype("f2") for key, value in factors.items()}
    case("half", base, half, config_of(),
         {f"{m}.weight": w[f"{m}.weight"] + 4 * product(half, m) for m in (q0, q1)})
    case("rslora", base, factors, config_of(use_rslora=True),
         {f"{m}.weight": w[f"{m}.weight"] + 8 * product(factors, m) for m in (q0, q1)})
    case("without-first", {k.removeprefix("model."): v for k, v in base.items()}, factors, config_of(),
         {k.removeprefix("model."): v for k, v in changed.items()})
    case("prefix", {"more." + k: v for k, v in base.items()}, factors, config_of(),
         {"more." + k: v for k, v in changed.items()})

    factors = factors_of(q0, 20, 12, 4) | factors_of(q1, 700, 1100, 70)
    case("patterns", base, factors,
         config_of(rank_pattern={"layers.1.q_proj": 70}, alpha_pattern={r"^model\.layers\.0\.q_proj": 6, "j": 1}),
         {f"{q0}.weight": w[f"{q0}.weight"] + 6 / 4 * product(factors, q0),
          f"{q1}.weight": w[f"{q1}.weight"] + 16 / 70 * product(factors, q1)})

    factors = {f"{PREFIX}{embed}.lora_embedding_A": normal(4, 37), f"{PREFIX}{embed}.lora_embedding_B": normal(12, 4)}
    change = 4 * product(factors, embed, "", "embedding_").T
    case("embedding", base, factors, config_of(), {embed + ".weight": w[embed + ".weight"] + change})
    magnitude = np.abs(normal(12))
    case("dora-embedding", base, factors | {f"{PREFIX}{embed}.lora_magnitude_vector.default.weight": magnitude},
         config_of(use_dora=True),
         {embed + ".weight": dora(w[embed + ".weight"] + change, magnitude, 0)})

    factors = factors_of(square, 12, 12, 4)
    case("square", base, factors, config_of(),
         {square + ".weight": w[square + ".weight"] + 4 * product(factors, square)})
    factors |= factors_of("lm_head", 12, 37, 4)
    turned = {m + ".weight": w[m + ".weight"] + 4 * product(factors, m).T for m in (square, "lm_head")}
    case("fan-in-fan-out", base, factors, config_of(fan_in_fan_out=True), turned)
    magnitudes = {m: np.abs(normal(12)) for m in (square, "lm_head")}
    case("dora-turned", base, factors | {f"{PREFIX}{m}.lora_magnitude_vector": v for m, v in magnitudes.items()},
         config_of(fan_in_fan_out=True, use_dora=True),
         {m + ".weight": dora(turned[m + ".weight"], magnitudes[m], 0) for m in magnitudes})

    factors = {f"{PREFIX}{conv}.lora_A.weight": normal(4, 5, 3, 2), f"{PREFIX}{conv}.lora_B.weight": normal(6, 4, 1, 1)}
    case("convolution", base, factors, config_of(),
         {conv + ".weight": w[conv + ".weight"] + 4 * product(factors, conv)})

    factors = factors_of(q0, 20, 12, 4) | factors_of(q1, 700, 1100, 4)
    magnitudes = {m: np.abs(normal(n)) for m, n in ((q0, 20), (q1, 700))}
    case("dora", base, factors | {f"{PREFIX}{m}.lora_magnitude_vector": v for m, v in magnitudes.items()},
         config_of(use_dora=True),
         {f"{m}.weight": dora(w[f"{m}.weight"] + 4 * product(factors, m), magnitudes[m]) for m in (q0, q1)})

    factors = factors_of(q0, 20, 12, 4) | {f"{PREFIX}{q0}.lora_B.bias": normal(20)}
    case("lora-bias", base, factors, config_of(lora_bias=True),
         {q0 + ".weight": w[q0 + ".weight"] + 4 * product(factors, q0),
          q0 + ".bias": w[q0 + ".bias"] + 4 * double(factors[f"{PREFIX}{q0}.lora_B.bias"])})

    whole = {f"{q0}.base_layer.bias": normal(20), "model.norm.weight": normal(12),
             "lm_head.modules_to_save.default.weight": normal(37, 12), f"{embed}.base_layer.weight": normal(37, 12)}
    factors = factors_of(q0, 20, 12, 4) | {PREFIX + k: v for k, v in whole.items()} | {
        f"{PREFIX}{embed}.lora_embedding_A": normal(4, 37), f"{PREFIX}{embed}.lora_embedding_B": normal(12, 4)}
    case("whole", base, factors, config_of(bias="all", modules_to_save=["lm_head"]),
         {q0 + ".weight": w[q0 + ".weight"] + 4 * product(factors, q0),
          q0 + ".bias": double(whole[f"{q0}.base_layer.bias"]),
          "model.norm.weight": double(whole["model.norm.weight"]),
          "lm_head.weight": double(whole["lm_head.modules_to_save.default.weight"]),
          embed + ".weight": double(whole[f"{embed}.base_layer.weight"]) +
          4 * product(factors, embed, "", "embedding_").T})
    make_several(base, w)
    make_random(base, w)


def make_several(base, w):
    """Three adapters of different ranks, scales and modules, added with weights 0.5, 1 and -0.3."""
    q0, q1, square = ("model.layers.0.q_proj", "model.layers.1.q_proj", "model.square")
    os.makedirs("several", exist_ok=True)
    safetensors_file.write("several/base.safetensors", base)
    first = factors_of(q0, 20, 12, 2) | factors_of(q1, 700, 1100, 2)
    second = factors_of(q0, 20, 12, 3) | factors_of(square, 12, 12, 3)
    third = factors_of(q0, 20, 12, 5) | factors_of(q1, 700, 1100, 5) | {PREFIX + "model.norm.weight": normal(12)}
    write_adapter("several/a", first, config_of(r=2, lora_alpha=3))
    write_adapter("several/b", second, config_of(r=3, lora_alpha=7, use_rslora=True))
    write_adapter("several/c", third, config_of(r=5, lora_alpha=10))
    expected = dict(w)
    for weight, factors, scale in ((0.5, first, 1.5), (1, second, 7 / np.sqrt(3)), (-0.3, third, 2)):
        for m in (q0, q1, square):
            if f"{PREFIX}{m}.lora_A.weight" in factors:
                expected[m + ".weight"] = expected[m + ".weight"] + weight * scale * product(factors, m)
    norm = "model.norm.weight"
    expected[norm] = w[norm] - 0.3 * (double(third[PREFIX + norm]) - w[norm])
    np.savez("several/expected.npz", **expected)


def make_random(base, w):
    """An adapter with Hessians, also of a bias that is added; of q1 the factor A is not random."""
    q0, q1 = "model.layers.0.q_proj", "model.layers.1.q_proj"
    factors = factors_of(q0, 20, 12, 4) | factors_of(q1, 700, 1100, 4) | {f"{PREFIX}{q0}.lora_B.bias": normal(20)}
    hessians = {"hessian/" + key: rng.random(value.shape).astype("f4") for key, value in factors.items()
                if key != f"{PREFIX}{q1}.lora_A.weight"}
    os.makedirs("random/adapter", exist_ok=True)
    safetensors_file.write("random/base.safetensors", base)
    ess, decay = 50.0, 0.25
    safetensors_file.write("random/adapter/adapter_model.safetensors", factors | hessians,
                           {"ivon-posterior": "1", "ess": str(ess), "weight_decay": str(decay)})
    json.dump(config_of(), open("random/adapter/adapter_config.json", "w"))

    def variance(key):
        hessian = hessians.get("hessian/" + key)
        return np.zeros(factors[key].shape) if hessian is None else 1 / (ess * (double(hessian) + decay))

    expected = {f"precision {name}": np.full(value.shape, ess * decay) for name, value in w.items()}
    for m in (q0, q1):
        a, b = f"{PREFIX}{m}.lora_A.weight", f"{PREFIX}{m}.lora_B.weight"
        total = 16 * (double(factors[b]) ** 2 @ variance(a) + variance(b) @ double(factors[a]) ** 2)
        expected[f"precision {m}.weight"] = 1 / total
    expected[f"precision {q0}.bias"] = 1 / (16 * variance(f"{PREFIX}{q0}.lora_B.bias"))
    np.savez("random/expected.npz", **expected)


def compare(expected, found, tolerance=2e-13):
    """Sums of 16 products in another order differ by 16 2^-53 of their largest; a hundred times that."""
    expected, found = np.load(expected), np.load(found)
    names = {name.removeprefix("mean/") for name in found.files if not name.startswith("hessian/")}
    names -= {"ivon-posterior", "creator", "provenance"}
    assert names == set(expected.files), names ^ set(expected.files)
    for name in expected.files:
        one, other = expected[name], found["mean/" + name if "mean/" + name in found.files else name]
        assert one.shape == other.shape, name
        error = np.abs(one - other).max() / np.abs(one).max()
        assert error <= float(tolerance), f"{name}: differs by {error} of the largest"


def compare_precisions(expected, found, ess, decay):
    """Hessians of results are f32: 2^-24 of h + δ, and of δ."""
    expected, found = np.load(expected), np.load(found)
    for name in expected.files:
        hessian = double(found["hessian/" + name.removeprefix("precision ")])
        precision = float(ess) * (hessian + float(decay))
        error = np.abs(precision - expected[name]) / (np.abs(expected[name]) + float(ess) * float(decay))
        assert error.max() <= 2e-7, f"{name}: {error.max()}"


def read_adapter(folder):
    """The change of each base's tensor, and the tensors that stand whole, of an adapter that was extracted."""
    factors = safetensors_file.read(folder + "/adapter_model.safetensors")[0]
    config = json.load(open(folder + "/adapter_config.json"))
    changes, whole, modules = {}, {}, []
    for key, value in factors.items():
        assert key.startswith(PREFIX), key
        name = key.removeprefix(PREFIX)
        if ".lora_" not in name:
            whole[name.replace(".base_layer", "")] = double(value)
        if ".lora_A.weight" not in name and ".lora_embedding_A" not in name:
            continue
        module, table = name[:name.index(".lora_")], "embedding" in name
        modules.append(module)
        b = double(factors[key.replace("_A", "_B")])
        rank = config["rank_pattern"].get(module, config["r"])
        assert value.shape[0] == b.shape[1] == rank and config["alpha_pattern"].get(module, config["lora_alpha"]) == rank
        changes[module + ".weight"] = (b @ double(value)).T if table else b @ double(value)
    assert sorted(modules) == sorted(config["target_modules"])
    return changes, whole, config


def truncated(expected, base, folder, rank, summary):
    """Errors are those of numpy's singular values, 1e-10 of the norm for such matrices; the factors' product has
    that error but for the rounding of both to floats, 2^-23 of each product's terms, whose sizes are bounded by
    the norm: 1e-6 of it."""
    expected, base = np.load(expected), safetensors_file.read(base, False)[0]
    changes, whole, config = read_adapter(folder)
    report = json.load(open(summary))["results"][0]["adapter"]
    layers = {layer["name"]: layer for layer in report["layers"]}
    assert set(layers) == set(changes) and set(report["whole"]) == set(whole)
    lost = total = 0
    for name in expected.files:
        change = expected[name] - double(base[name]) if name in base else None
        if change is None or not change.any():
            assert name not in changes and name not in whole, name
            continue
        if name in whole:
            assert np.abs(whole[name] - expected[name]).max() <= 2.0**-23 * np.abs(expected[name]).max(), name
            continue
        values = np.linalg.svd(change, compute_uv=False)
        norm, error = np.sqrt((values**2).sum()), np.sqrt((values[int(rank):]**2).sum() / (values**2).sum())
        assert abs(layers[name]["norm"] - norm) <= 1e-10 * norm and abs(layers[name]["error"] - error) <= 1e-10, name
        product = changes[name]
        if config["fan_in_fan_out"] and (product.shape != change.shape or change.shape[0] == change.shape[1]) and \
                "embed" not in name:
            product = product.T
        assert abs(np.linalg.norm(change - product) / norm - error) <= 1e-6, name
        lost, total = lost + (error * norm)**2, total + norm**2
    assert abs(report["error"] - (np.sqrt(lost / total) if total else 0)) <= 1e-10


if __name__ == "__main__":
    if sys.argv[1] == "make":
        os.chdir(sys.argv[2])
        make_cases()
    elif sys.argv[1] == "compare":
        compare(*sys.argv[2:])
    elif sys.argv[1] == "precisions":
        compare_precisions(*sys.argv[2:])
    elif sys.argv[1] == "truncated":
        truncated(*sys.argv[2:])
