"""Validation whose loss is written by hand: its passes show by what they read and by the number that the loop keeps of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgemon.chunk import Chunk
from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, line_of, read, run_script

START = (
    COMMON
    + """
nn = torch.nn
x, y = torch.randn(400, 8), torch.randn(400, 1)
train_set, val_set = TensorDataset(x[:200], y[:200]), TensorDataset(x[200:], y[200:])
train_loader = DataLoader(train_set, batch_size=50, shuffle=True)  # for training
val_loader = DataLoader(val_set, batch_size=50)  # for validation
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def squared(inputs, targets):
    return ((model(inputs) - targets) ** 2).mean()
def train():
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        squared(inputs, targets).backward()
        optimizer.step()
def total_of(batches):
    total = 0.0
    for inputs, targets in batches:
        total += squared(inputs, targets).item()  # evaluated here
    return total / 4
"""
)
LOOP = (
    START
    + """
for epoch in range(3):
    model.train()
    train()
    EVAL
    with torch.no_grad():
        val_loss = total_of(val_loader)
model.train()
train()
"""
)


def without_loaders(source: str) -> str:
    source = source.replace("in train_loader:", "in zip(x[:200].split(40), y[:200].split(40)):")
    return source.replace("total_of(val_loader)", "total_of(zip(x[200:].split(50), y[200:].split(50)))")


def recorded(source: str, folder: Path) -> Chunk:
    run_script(source, folder)
    return read(folder)


def facts(chunk: Chunk, name: str) -> list[dict[str, Any]]:
    return [fact for fact in events(chunk, "fact") if fact["fact"] == name]


def names(chunk: Chunk) -> set[str]:
    return {fact["fact"] for fact in events(chunk, "fact")}


def test_what_is_said_of_the_pass(tmp_path: Path) -> None:
    chunk = recorded(LOOP.replace("EVAL", "model.eval()"), tmp_path)
    found = [e for e in events(chunk, "evaluation") if e["batches"] is not None]
    assert [(e["metric"], e["step"], e["batches"], e["samples"]) for e in found] == [
        ("val_loss", n, 4, 200) for n in (4, 8, 12)
    ]
    assert {(e["training"], e["grad_enabled"]) for e in found} == {(False, False)}
    assert all(e["duration_s"] > 0 for e in found)
    roles = {event["role"]: event["where"]["line"] for event in events(chunk, "loader")}
    source = LOOP.replace("EVAL", "model.eval()")
    assert roles == {"training": line_of(source, "# for training"), "validation": line_of(source, "# for validation")}
    assert names(chunk) == set()
    signals = events(chunk, "signals")[-1]["signals"]
    assert signals["validation modes"] == signals["validation graphs"] == signals["sample overlap"] == "seen"


def test_a_forgotten_eval(tmp_path: Path) -> None:
    source = LOOP.replace("EVAL", "pass")
    found = facts(recorded(source, tmp_path), "eval-in-train-mode")
    assert [(fact["step"], fact["batches"], fact["metric"]) for fact in found] == [(4, 4, "val_loss"), (8, 4, "val_loss")]
    assert found[0]["where"]["line"] == line_of(source, "return ((model(inputs)")
    assert found[0]["batch_norms"] == 1 and found[0]["num_batches_tracked_advanced"] is True


def test_a_forgotten_eval_where_no_loader_is_used(tmp_path: Path) -> None:
    found = facts(recorded(without_loaders(LOOP.replace("EVAL", "pass")), tmp_path), "eval-in-train-mode")
    assert [(fact["step"], fact["batches"], fact["metric"]) for fact in found] == [(5, 4, "val_loss"), (10, 4, "val_loss")]


@pytest.mark.parametrize("loaders", [True, False])
def test_a_forgotten_no_grad(tmp_path: Path, loaders: bool) -> None:
    source = LOOP.replace("EVAL", "model.eval()").replace("with torch.no_grad():", "if True:")
    source = source if loaders else without_loaders(source)
    chunk, epoch = recorded(source, tmp_path), 4 if loaders else 5
    (found, second) = facts(chunk, "eval-with-grad")
    assert (found["step"], found["batches"], found["samples"], found["metric"]) == (epoch, 4, 200, "val_loss")
    assert second["step"] == 2 * epoch and found["where"]["line"] == line_of(source, "return ((model(inputs)")
    assert names(chunk) == {"eval-with-grad"}
    assert set(column(chunk, "batch_size")[1:].tolist()) == {50.0 if loaders else 40.0}  # of what trains, not of the validation


def test_a_shuffled_loader_and_samples_of_the_training(tmp_path: Path) -> None:
    source = LOOP.replace("EVAL", "model.eval()").replace(
        "(val_set, batch_size=50)", "(train_set, batch_size=32, shuffle=True)"
    )
    chunk = recorded(source, tmp_path)
    assert names(chunk) == {"val-loader-shuffled", "val-uses-train-data"}
    assert {fact["where"]["line"] for fact in events(chunk, "fact")} == {line_of(source, "# for validation")}


def test_the_number_comes_from_a_logger(tmp_path: Path) -> None:
    logged = "    SummaryWriter('board').add_scalar('val/loss', validated, epoch)"
    source = "from torch.utils.tensorboard import SummaryWriter\n" + LOOP.replace("EVAL", "pass").replace(
        "val_loss = total_of(val_loader)", "validated = total_of(val_loader)\n" + logged
    )
    found = facts(recorded(source, tmp_path), "eval-in-train-mode")
    assert [(fact["step"], fact["metric"]) for fact in found] == [(4, "val/loss"), (8, "val/loss")]


VAL = """
    model.eval()
    with torch.no_grad(): val_loss = total_of(zip(x[200:].split(50), y[200:].split(50)))
"""
NONE = {
    "labels made by the model, in turn with the training": """
other = iter(DataLoader(val_set, batch_size=10, shuffle=True))
for epoch in range(3):
    model.train()
    for inputs, targets in train_loader:
        unlabelled, _ = next(other)
        with torch.no_grad(): labels = model(unlabelled)
        more, _ = inputs, targets
        optimizer.zero_grad()
        (squared(more, targets) + squared(unlabelled, labels)).backward()
        optimizer.step()
"""
    + VAL,
    "labels made by the model, before the other batch is fetched": """
other = iter(DataLoader(val_set, batch_size=10, shuffle=True))
for epoch in range(3):
    model.train()
    batches = iter(train_loader)
    for _ in range(4):
        unlabelled, _ = next(other)
        with torch.no_grad(): labels = model(unlabelled)
        inputs, targets = next(batches)
        optimizer.zero_grad()
        (squared(inputs, targets) + squared(unlabelled, labels)).backward()
        optimizer.step()
"""
    + VAL,
    "statistics taken anew": """
for epoch in range(3):
    model.train()
    train()
    with torch.no_grad():
        for inputs, _ in train_loader: model(inputs)
"""
    + VAL,
    "predictions on a pool, in training mode": """
for epoch in range(3):
    model.train()
    train()
    with torch.no_grad():
        spread = sum(model(inputs).var().item() for inputs, _ in DataLoader(val_set, batch_size=50, shuffle=True))
""",
    "a rollout before each update": """
for epoch in range(3):
    for _ in range(4):
        with torch.no_grad():
            for _ in range(20): model(torch.randn(8, 8))
        optimizer.zero_grad()
        squared(x[:50], y[:50]).backward()
        optimizer.step()
""",
    "actions taken with gradients enabled, and not learned from": """
for epoch in range(3):
    model.train()
    for _ in range(4):
        actions = [model(torch.randn(8, 8)).argmax() for _ in range(20)]
        optimizer.zero_grad()
        squared(x[:50], y[:50]).backward()
        optimizer.step()
""",
    "several forwards to a loss, with gradients": """
for epoch in range(3):
    model.train()
    for _ in range(4):
        total = sum(squared(a, b) for a, b in zip(x[:200].split(50), y[:200].split(50)))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
"""
    + VAL,
    "batches that are left out": """
for epoch in range(3):
    model.train()
    for count, (inputs, targets) in enumerate(train_loader):
        loss = squared(inputs, targets)
        if count == 2: continue
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
    + VAL,
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_validation(tmp_path: Path, name: str) -> None:
    chunk = recorded(START + NONE[name] + "\nmodel.train()\ntrain()", tmp_path)
    assert names(chunk) == set()
    assert not [event for event in events(chunk, "loader") if event["role"] == "validation"]
    assert [event["where_in_probe"] for event in events(chunk, "probe_error")] == []
