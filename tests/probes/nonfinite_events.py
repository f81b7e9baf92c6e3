"""A loop in which something becomes not finite, and what the probes said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.probes.watched import events, read

COMMON = """
import copy, sys, torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
class Odd(torch.nn.Module):
    def forward(self, *, values):
        return values / (values - values)
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = torch.nn.Linear(8, 16), torch.nn.Linear(16, 16), torch.nn.Linear(16, 3)
        self.odd = Odd()
    def forward(self, inputs, strange=None):
        hidden = self.second(self.first(inputs).relu())
        if strange is not None:
            hidden = strange(self, hidden)
        return self.third(hidden)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
"""


def found(folder: Path) -> list[dict[str, Any]]:
    return events(read(folder), "nonfinite")


def stages(event: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(entry["stage"], entry["finite"]) for entry in event["order"]]


def entry(event: dict[str, Any], stage: str, finite: bool = False) -> dict[str, Any]:
    entries: list[dict[str, Any]] = event["order"]
    return next(e for e in entries if e["stage"] == stage and e["finite"] is finite)
