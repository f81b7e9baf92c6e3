"""A loop whose validation loss is known, for tests of what it saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.probes.watched import events, read, run_script

COMMON = """
import copy, os, shutil, torch
import torch.nn.functional as F
one, held_out, far = torch.ones(4, 2), torch.ones(4, 2), torch.full((4, 1), 100.0)
model = torch.nn.Linear(2, 1, bias=False)
torch.nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=1 / 6, momentum=0.0)
def train():
    for _ in range(3):  # the output rises by 1 in all
        optimizer.zero_grad()
        F.l1_loss(model(one), far).backward()
        optimizer.step()
def validate():
    model.eval()
    with torch.no_grad():
        loss = F.mse_loss(model(held_out), torch.full((4, 1), 3.2)).item()
    model.train()
    return loss
best = float("inf")
"""
"""Validation losses at steps 3, 6, 9, ...: 4.84, 1.44, 0.04, 0.64, 3.24, 7.84."""


def checkpoint_facts(folder: Path, body: str, **more: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Runs a loop; its checkpoint events, and its facts about checkpoints."""
    run_script(COMMON + body, folder, **more)
    chunk = read(folder)
    return events(chunk, "checkpoint"), [e for e in events(chunk, "fact") if "checkpoint" in e["fact"]]
