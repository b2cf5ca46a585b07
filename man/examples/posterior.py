"""A network trained with PyTorch, and what its posterior knows: which labels are wrong, how sure
predictions are, and what two networks know together. Runs in seconds, and writes posterior.h5."""
import copy

import numpy as np
import torch
from torch import nn

import ivon_posterior

rng = np.random.default_rng(0)
x = rng.normal(size=(900, 2)).astype("f4")
y = (x[:, 0] * x[:, 1] > 0).astype("i8")
wrong = rng.choice(600, 30, replace=False)  # of the training labels, the first 600
y[wrong] = 1 - y[wrong]
train, test = (x[:600], y[:600]), (x[600:], y[600:])


def trained(model, inputs, labels, steps):
    model = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.01)
    inputs, labels = torch.from_numpy(inputs), torch.from_numpy(labels)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    return model


torch.manual_seed(0)
start = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
model = trained(start, *train, 300)
posterior = ivon_posterior.fit(ivon_posterior.from_model(model, torch.zeros(1, 2)), train)
posterior.save("posterior.h5")  # for the commands, as: ivon info posterior.h5

scores = ivon_posterior.sensitivity(posterior, train, scores="loo_loss")["loo_loss"]
found = np.argsort(-scores)[:30]
print(f"wrong labels among the 30 of greatest leave-one-out loss: {len(set(found) & set(wrong))}")
print(f"mean leave-one-out loss: {scores.mean():.3f}")

predicted = ivon_posterior.predict(posterior, test, samples=64)
errors = set(np.flatnonzero(predicted["prediction"] != test[1]))
unsure = set(np.argsort(-predicted["entropy"])[:30])
print(f"accuracy on 300 test rows: {predicted['metrics']['accuracy']:.3f}")
print(f"of {len(errors)} errors, among the 30 predictions of greatest entropy: "
      f"{len(errors & unsure)}")

left = x[:600, 0] < 0  # two networks, each of which saw one half of the plane
halves = [trained(model, x[:600][part], y[:600][part], 100) for part in (left, ~left)]
fits = [ivon_posterior.fit(ivon_posterior.from_model(half, torch.zeros(1, 2)),
                           (x[:600][part], y[:600][part]))
        for half, part in zip(halves, (left, ~left))]
merged = ivon_posterior.merge(fits)
for name, one in ("the left", fits[0]), ("the right", fits[1]), ("both, merged", merged):
    accuracy = ivon_posterior.predict(one, test, samples=0)["metrics"]["accuracy"]
    print(f"accuracy of what saw {name}: {accuracy:.3f}")

model.load_state_dict(merged.sample(seed=1))  # one of the networks that the posterior holds likely
