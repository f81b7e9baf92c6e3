"""The start of a script that many tests continue: data, loaders, a model, and notes of what the loop itself measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

COMMON = """
import json, sys, torch
import torch.nn.functional as F
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
train_loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=12)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
measured = {"loss": [], "norms": [], "total": [], "val": []}
def note(loss):
    norms = [p.grad.norm().item() for p in model.parameters()]
    measured["loss"].append(loss); measured["norms"].append(norms)
    measured["total"].append(sum(n * n for n in norms) ** 0.5)
def save():
    json.dump(measured, open("measured.json", "w"))
"""

TRAIN = """
def train(steps):
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
"Goes on for so many steps, all on one batch."

ADVERSARIAL = (
    COMMON
    + """
critic = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
maker = torch.nn.Linear(4, 8)
for_critic = torch.optim.Adam(critic.parameters(), lr=0.01)
for_maker = torch.optim.Adam(maker.parameters(), lr=0.01)
for step in range(10):
    fake = maker(torch.randn(16, 4))
    for_critic.zero_grad()
    loss = F.binary_cross_entropy_with_logits(critic(x[:16]), torch.ones(16, 1))
    (loss + F.binary_cross_entropy_with_logits(critic(fake.detach()), torch.zeros(16, 1))).backward()
    for_critic.step()
    for_maker.zero_grad()
    F.binary_cross_entropy_with_logits(critic(fake), torch.ones(16, 1)).backward()
    for_maker.step()
"""
)


def measured(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {key: np.array(value) for key, value in json.loads((folder / "measured.json").read_text()).items()}
