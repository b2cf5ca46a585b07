"""make_torch_checkpoint.py FILE.pt PARAMETERS: what torch.save writes of a model trained by IVON, mean,
Hessian and momentum of so many parameters in tensors of 16 million; 12 bytes each."""
import sys
from collections import OrderedDict

import torch

path, count = sys.argv[1], int(float(sys.argv[2]))
torch.manual_seed(0)
size = 1 << 24
flat = torch.randn(count)
state = OrderedDict((f"layers.{i}.weight", flat[i * size:(i + 1) * size])
                    for i in range(-(-count // size)))
group = {"params": list(range(len(state))), "ess": 1e6, "weight_decay": 1e-4, "hess_init": 1.0,
         "numel": count, "hess": torch.rand(count), "momentum": torch.zeros(count)}
torch.save({"model": state, "optimizer": {"state": {}, "param_groups": [group]}}, path)
