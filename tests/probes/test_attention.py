"""Between observed steps the loop runs as if we were not there, and nothing rare is missed all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.probes.watched import column, events, read, run_script

LOOP = """
import json, torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(640, 8), torch.randint(0, 3, (640,))
train_loader = DataLoader(TensorDataset(x[:512], y[:512]), batch_size=4, shuffle=True)
val_loader = DataLoader(TensorDataset(x[512:], y[512:]), batch_size=32)
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
measured = {"val": [], "saved": []}
def batches():
    while True:
        yield from train_loader
source = batches()
val_inputs, val_targets = x[512:], y[512:]
for step in range(1, 1501):
    inputs, targets = next(source)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        EVALUATION
    if step % 250 == 0:
        torch.save(model.state_dict(), f"step{step}.pt")
        measured["saved"].append(step)
json.dump(measured, open("measured.json", "w"))
"""

EVALUATIONS = {
    "eval() and a loader": """
        model.eval()
        with torch.no_grad():
            total = sum(F.cross_entropy(model(a), b).item() * len(b) for a, b in val_loader)
        model.train()
        measured["val"].append(total / 128)
""",
    "no_grad() alone": """
        with torch.no_grad():
            measured["val"].append(F.cross_entropy(model(val_inputs), val_targets).item())
""",
    "a loader alone": """
        total = sum(F.cross_entropy(model(a), b).item() * len(b) for a, b in val_loader)
        measured["val"].append(total / 128)
""",
    "inference_mode() and another criterion": """
        with torch.inference_mode():
            measured["val"].append(F.multi_margin_loss(model(val_inputs), val_targets).item())
""",
}


def run(folder: Path, evaluation: str, budget: float) -> tuple[Any, dict[str, Any]]:
    run_script(LOOP.replace("        EVALUATION\n", EVALUATIONS[evaluation].lstrip("\n")), folder, budget=budget)
    measured: dict[str, Any] = json.loads((folder / "measured.json").read_text())
    return read(folder), measured


@pytest.mark.parametrize("evaluation", EVALUATIONS)
def test_no_evaluation_between_observed_steps_is_missed(tmp_path: Path, evaluation: str) -> None:
    chunk, measured = run(tmp_path, evaluation, budget=0.02)
    observed = (column(chunk, "gradients") == 6).sum()
    assert 32 <= observed < 700
    found = events(chunk, "evaluation")
    assert [event["value"] for event in found] == pytest.approx(measured["val"], rel=1e-5)
    assert [event["step"] for event in found] == list(range(100, 1501, 100))


def test_steps_checkpoints_and_epochs_are_counted_while_asleep(tmp_path: Path) -> None:
    chunk, measured = run(tmp_path, "eval() and a loader", budget=0.02)
    assert [event["step"] for event in events(chunk, "checkpoint")] == measured["saved"]
    assert [event["epoch"] for event in events(chunk, "epoch")] == list(range(1, 12))
    steps = column(chunk, "step")
    assert (steps[1:] > steps[:-1]).all() and steps[-1] > 500


SEEN_FROM_INSIDE = """
import json, torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
kinds = set()
changes = 0
before = None
for step in range(1000):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    now = F.cross_entropy.__code__
    kinds.add(id(now)); changes += now is not before; before = now
json.dump({"kinds": len(kinds), "changes": changes}, open("measured.json", "w"))
"""


@pytest.mark.skipif("sys.version_info >= (3, 12)", reason="nothing in a function changes there")
def test_a_function_that_each_step_calls_is_left_alone_between_observed_steps(tmp_path: Path) -> None:
    run_script(SEEN_FROM_INSIDE, tmp_path, budget=0.02)
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["kinds"] == 2
    assert 2 < measured["changes"] < 900


OPTIMIZERS_ASLEEP = """
import json, sys, torch
session = sys.modules["_forgemon_probe"].session
taken, asleep = {}, 0
class Part:
    def __init__(self, name):
        self.name, self.model = name, torch.nn.Linear(64, 64)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
    def step(self):
        global asleep
        self.optimizer.zero_grad()
        self.model(torch.ones(64, 64)).square().mean().backward()
        self.optimizer.step()
        taken[self.name] = taken.get(self.name, 0) + 1
        asleep += session.guard.mode == 0
main, second = Part("main"), Part("second")
for number in range(1200):
    main.step()
    if number % 3 == 0:
        second.step()
    if number == 700:
        third = Part("third")
    if number >= 700 and number % 50 == 0:
        third.step()
while not (taken["second"] > 1000 and session.steps.step == taken["second"]):
    second.step()  # the main one rests
counted = {part.name: session.steps.know(part.optimizer).steps for part in (main, second, third)}
json.dump({"taken": taken, "counted": counted, "asleep": asleep, "step": session.steps.step}, open("measured.json", "w"))
"""


def test_each_optimizer_is_counted_while_asleep(tmp_path: Path) -> None:
    """One that comes late counts on from where the others are: so does `third`, from 700 on."""
    run_script(OPTIMIZERS_ASLEEP, tmp_path, budget=0.02)
    measured = json.loads((tmp_path / "measured.json").read_text())
    taken, counted = measured["taken"], measured["counted"]
    assert counted == {"main": taken["main"], "second": taken["second"], "third": 701 + taken["third"]}
    assert measured["asleep"] > 800
    rows = read(tmp_path).steps
    assert rows["step"][rows["optimizer"] == 1][-1] > 1000


AT_ONE_ADDRESS = """
import json, sys, torch
session = sys.modules["_forgemon_probe"].session
model = torch.nn.Linear(64, 64)
seen, unknown, reused, asleep = set(), 0, 0, 0
for generation in range(30):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    reused += id(optimizer) in seen
    seen.add(id(optimizer))
    for number in range(60):
        optimizer.zero_grad()
        model(torch.ones(64, 64)).square().mean().backward()
        optimizer.step()
        unknown += id(optimizer) not in session.optimizers.by_id
    asleep += session.guard.mode == 0
    del optimizer
json.dump({"reused": reused, "unknown": unknown, "asleep": asleep, "step": session.steps.step}, open("measured.json", "w"))
"""


def test_an_optimizer_at_the_address_of_one_that_is_gone_is_not_taken_for_it(tmp_path: Path) -> None:
    run_script(AT_ONE_ADDRESS, tmp_path, budget=0.02)
    measured = json.loads((tmp_path / "measured.json").read_text())
    assert measured["reused"] > 5 and measured["asleep"] > 5
    assert measured["unknown"] == 0
    assert measured["step"] == 30 * 60
