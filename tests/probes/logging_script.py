"""The start of a script whose loss no criterion shows, to be continued by a loop that logs or keeps numbers; what was recorded of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forgemon.chunk import Chunk
from tests.probes.watched import events

COMMON = """
import json, os, sys, weakref
import torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randn(96, 1)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
own = {"train": [], "val": [], "acc": []}
def squared(part):
    return ((model(x[part]) - y[part]) ** 2).mean()
def step():
    optimizer.zero_grad()
    loss = squared(slice(0, 64))
    loss.backward()
    optimizer.step()
    own["train"].append(loss.item())
    return loss.item()
def validate():
    model.eval()
    with torch.no_grad():
        result = squared(slice(64, 96)).item()
    model.train()
    own["val"].append(result)
    own["acc"].append(1 / (1 + result))
    return result
def save():
    json.dump(own, open("own.json", "w"))
"""


def own_numbers(folder: Path) -> dict[str, list[float]]:
    numbers: dict[str, list[float]] = json.loads((folder / "own.json").read_text())
    return numbers


def steps_of(chunk: Chunk, name: str) -> list[int]:
    return [int(row["step"]) for row in chunk.metrics[name]]


def values_of(chunk: Chunk, name: str) -> list[float]:
    return [float(row["value"]) for row in chunk.metrics[name]]


def metrics(chunk: Chunk) -> dict[str, dict[str, Any]]:
    said = events(chunk, "metric")
    assert len({event["name"] for event in said}) == len(said), "once for each name"
    return {event["name"]: event for event in said}
