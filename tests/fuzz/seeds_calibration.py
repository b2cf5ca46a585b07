"""Writes calibrations to mutate into a directory."""
import json
import os
import sys

os.chdir(sys.argv[1])


def seed(name, **members):
    start = {"format": "ivon-calibration", "format_version": 1, "likelihood": "categorical", "outputs": 3,
             "method": "none", "rows": 20}
    with open(name + ".json", "w", encoding="utf-8") as file:
        json.dump(start | members, file)


def conformal(score, **members):
    return {"score": score, "coverage": 0.9, "seed": "18446744073709551615", "rows": 11,
            "quantiles": [0.75]} | members


steps = {"x": [0, 0.25, 1], "y": [0.045, 0.5, 0.95]}
seed("temperature", method="temperature", temperature=1.5)
seed("vector", method="vector", weights=[1, 0.5, -2], biases=[0, 1e3, -1e-3])
seed("isotonic", method="isotonic", isotonic=[steps, steps, {"x": [0.5], "y": [0.3]}])
seed("events", method="temperature", likelihood="bernoulli", temperature=0.5)
seed("beta", method="vector", likelihood="bernoulli", outputs=1, weights=[1, 2], biases=[-0.5, 0.5])
seed("thr", conformal=conformal("thr", tie=0.5), creator="ivon-calibrate", provenance={"command": "x"})
seed("aps", method="temperature", temperature=0.1, conformal=conformal("aps", tie=1, quantiles=["Infinity"]))
seed("raps", conformal=conformal("raps", tie=0, penalty=0.01, free_ranks=5))
seed("absolute", likelihood="gaussian", outputs=2, conformal=conformal("absolute", quantiles=[1, "Infinity"]))
seed("normalised", likelihood="poisson", outputs=1, conformal=conformal("normalised"))
