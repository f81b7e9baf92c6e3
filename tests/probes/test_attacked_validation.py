"""Validation on inputs that are moved to mislead the model: the gradient of the inputs is taken, and no step follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, events, line_of, read, run_script

START = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
measured.update(before=[])
by_tensors = [(x[64 + i : 76 + i], y[64 + i : 76 + i]) for i in (0, 12, 24)]
def slope_by_grad(inputs, targets):
    inputs = inputs.clone().requires_grad_()
    loss = cross_entropy(model(inputs), targets)
    return torch.autograd.grad(loss, inputs)[0], loss.item()
def slope_by_backward(inputs, targets):
    inputs = inputs.clone().requires_grad_()
    loss = cross_entropy(model(inputs), targets)
    loss.backward()
    return inputs.grad, loss.item()
def attacked(inputs, targets, slope, times):
    moved, sum_of_losses = inputs, 0.0
    for _ in range(times):
        found, loss = slope(moved, targets)
        moved, sum_of_losses = moved + 0.1 * found.sign(), sum_of_losses + loss / times
    return moved, sum_of_losses
def train(inputs, targets):
    optimizer.zero_grad()
    loss = cross_entropy(model(inputs), targets)
    loss.backward()
    measured["loss"].append(loss.item())
    optimizer.step()
"""
)
LOOP = """
for epoch in range(3):
    model.train()
    TRAIN
    model.eval()
    total = before = 0.0
    for inputs, targets in DATA:
        moved, loss = attacked(inputs, targets, SLOPE, TIMES)
        with torch.no_grad():
            total += cross_entropy(model(moved), targets).item() * len(targets) / 32  # the result
        before += loss * len(targets) / 32
    measured["val"].append(total)
    measured["before"].append(before)
    torch.save(model.state_dict(), "last.pt")
save()
"""
BY_LOADER = "for inputs, targets in train_loader: train(inputs, targets)"
BY_TENSORS = "for i in (0, 16, 32, 48): train(x[i : i + 16], y[i : i + 16])"


def script(train: str, data: str, slope: str, times: int) -> str:
    loop = LOOP.replace("TRAIN", train).replace("DATA", data).replace("SLOPE", slope).replace("TIMES", str(times))
    return START + loop


def by_metric(found: list[dict[str, Any]]) -> dict[str, list[float]]:
    names = dict.fromkeys(event["metric"] for event in found)
    return {name: [event["value"] for event in found if event["metric"] == name] for name in names}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("slope", ["slope_by_grad", "slope_by_backward"])
@pytest.mark.parametrize("train", [BY_LOADER, BY_TENSORS])
def test_a_pass_over_a_loader_stays_one(tmp_path: Path, train: str, slope: str, times: int) -> None:
    source = script(train, "val_loader", slope, times)
    run_script(source, tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    found = events(chunk, "evaluation")
    line = f"cross_entropy (train.py:{line_of(source, 'moved, loss = ')})"
    expected = {"cross_entropy": own["val"].tolist(), line: own["before"].tolist()}
    values = by_metric(found)
    assert {name: pytest.approx(numbers, rel=1e-6) for name, numbers in expected.items()} == values
    assert [(e["step"], e["batches"], e["grad_enabled"]) for e in found if e["metric"] == "cross_entropy"] == [
        (step, 3, False) for step in (4, 8, 12)
    ]
    assert [(e["metric"], e["evaluation_step"]) for e in events(chunk, "checkpoint")] == [
        ("cross_entropy", step) for step in (4, 8, 12)
    ]
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    assert {e["role"] for e in events(chunk, "loader")} == (
        {"training", "validation"} if train == BY_LOADER else {"validation"}
    )
    assert {fact["fact"] for fact in events(chunk, "fact")} <= {"checkpoint-incomplete"}


@pytest.mark.parametrize("slope", ["slope_by_grad", "slope_by_backward"])
def test_a_pass_over_tensors_stays_one(tmp_path: Path, slope: str) -> None:
    run_script(script(BY_TENSORS, "by_tensors", slope, 2), tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    assert by_metric(events(chunk, "evaluation")) == {"cross_entropy": pytest.approx(own["val"], rel=1e-6)}
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)


@pytest.mark.parametrize("train", [BY_LOADER, BY_TENSORS])
def test_training_in_evaluation_mode_is_still_training(tmp_path: Path, train: str) -> None:
    """train() is forgotten after the first epoch."""
    source = script(train, "val_loader", "slope_by_grad", 1).replace("    model.train()\n", "")
    run_script(source, tmp_path)
    own, chunk = measured(tmp_path), read(tmp_path)
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    assert column(chunk, "training").tolist() == [1.0] * 4 + [0.0] * 8
    assert by_metric(events(chunk, "evaluation"))["cross_entropy"] == pytest.approx(own["val"], rel=1e-6)
