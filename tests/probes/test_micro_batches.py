"""How many backward passes a step is said to have had, also where only the loss was looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.probes.watched import column, events, read, run_script

TWO_A_STEP = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(3000):
    F.cross_entropy(model(x), y).backward()
    moved = [0.01 * p.grad for p in model.parameters()]
    with torch.no_grad():
        for p, by in zip(model.parameters(), moved): p += by
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p, by in zip(model.parameters(), moved): p -= by
    optimizer.step()
    optimizer.zero_grad()
"""


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_what_was_cleared_again_is_no_part_of_the_step(tmp_path: Path, budget: float) -> None:
    source = TWO_A_STEP if budget else TWO_A_STEP.replace("3000", "30")
    run_script(source, tmp_path, budget=budget)
    assert set(column(read(tmp_path), "micro_batches")) == {1.0}


SUMS = """
import json, torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(40, 8, 6), torch.randint(0, 3, (40, 6))
for row in range(40): y[row, 2 + row % 4:] = -100
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
own = {"loss": [], "val": []}
for step in range(STEPS):
    optimizer.zero_grad()
    parts = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 16 if step % 5 == 4 else 32, 8)]
    items = sum((part != -100).sum() for _, part in parts)
    values = []
    for inputs, targets in parts:
        loss = F.cross_entropy(model(inputs.transpose(1, 2)).transpose(1, 2), targets, reduction="sum") / DIVISOR
        loss.backward()
        values.append(loss.item())
    optimizer.step()
    own["loss"].append(TOGETHER)
    if step % 5 == 4:
        with torch.no_grad():
            total = F.cross_entropy(model(x[32:].transpose(1, 2)).transpose(1, 2), y[32:], reduction="sum").item()
        own["val"].append(total / (y[32:] != -100).sum().item())
json.dump(own, open("own.json", "w"))
"""
MEAN = "sum(values) / len(values)"


@pytest.mark.parametrize("budget", [0.0, 0.01])
@pytest.mark.parametrize(
    ("divisor", "together"),
    [
        ("items", "sum(values)"),  # shares in the mean over all items of the step
        ("(targets != -100).sum()", MEAN),
        ("len(targets)", MEAN),
        ("targets.numel()", MEAN),
        ("(len(targets) * len(parts))", MEAN),  # which part of a divisor is for the accumulation is not guessed
    ],
)
def test_the_loss_of_sums_is_theirs_together_where_each_is_a_share(
    tmp_path: Path, divisor: str, together: str, budget: float
) -> None:
    steps = "1000" if budget else "20"
    run_script(SUMS.replace("DIVISOR", divisor).replace("TOGETHER", together).replace("STEPS", steps), tmp_path, budget=budget)
    chunk, own = read(tmp_path), json.loads((tmp_path / "own.json").read_text())
    expected = [own["loss"][step - 1] for step in chunk.steps["step"].tolist()]
    assert len(expected) >= 20 and column(chunk, "loss") == pytest.approx(expected, rel=1e-5)


def test_padding_counts_in_no_sum_of_a_validation(tmp_path: Path) -> None:
    run_script(SUMS.replace("DIVISOR", "items").replace("TOGETHER", "0").replace("STEPS", "20"), tmp_path)
    found = [event["value"] for event in events(read(tmp_path), "evaluation")]
    assert found == pytest.approx(json.loads((tmp_path / "own.json").read_text())["val"], rel=1e-5)
