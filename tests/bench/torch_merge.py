"""The merge as it is done without these tools: everything loaded, tensor by tensor, saved."""
import sys

import torch

directory, output = sys.argv[1:]
ess, decay = 1e6, 1e-4
base, *models = (torch.load(f"{directory}/{n}.pt") for n in ("base", "first", "second"))
merged, hessian = {}, {}
for name, m0 in base["model"].items():
    s0 = ess * (base["hessian"][name] + decay)
    precision = s0 + sum(ess * m["hessian"][name] for m in models)
    merged[name] = m0 + sum((s0 + ess * m["hessian"][name]) / precision * (m["model"][name] - m0)
                            for m in models)
    hessian[name] = precision / ess - decay
torch.save({"model": merged, "hessian": hessian}, output)
