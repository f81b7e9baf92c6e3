"""Which step the first value that is not finite is told of: inside a closure, between observed steps, at the very first batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.probes.nonfinite_events import COMMON, entry, found
from tests.probes.watched import read, run_script

CLOSURE = (
    COMMON
    + """
kept = copy.deepcopy(model.state_dict())
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y) * (float("nan") if step % 3 == 2 else 1)
    loss.backward()
    return loss
for step in range(60):
    optimizer.step(closure)
    if step % 3 == 2:
        model.load_state_dict(kept)
"""
)


def test_a_closure_that_goes_backward_inside_the_step_is_looked_into_a_few_times_in_a_run(tmp_path: Path) -> None:
    run_script(CLOSURE, tmp_path)
    told = found(tmp_path)
    assert [event["first_seen_step"] for event in told] == [3, 6, 9, 12, 15, 18, 21, 24]
    assert (told[0]["last_finite_step"], told[0]["first"]["stage"]) == (2, "loss")
    assert entry(told[0], "weight")["after_step"] is True


RARELY = (
    COMMON
    + """
for step in range(2000):
    optimizer.zero_grad()
    (F.cross_entropy(model(x), y) * (float("nan") if step > 500 else 1)).backward()
    optimizer.step()
"""
)


def test_between_observed_steps_it_begins_with_the_first_row_that_shows_it(tmp_path: Path) -> None:
    run_script(RARELY, tmp_path, budget=0.02)
    rows = read(tmp_path).steps
    bad = ~np.isfinite(rows["loss"])
    assert 0 < bad.sum() < 1400
    (event,) = found(tmp_path)
    assert event["first_seen_step"] == rows["step"][bad][0] and event["last_finite_step"] == rows["step"][~bad][-1]
    assert event["looked_at_step"] == rows["step"][bad & (rows["gradients"] == 6)][0]
    if event["looked_at_step"] > event["first_seen_step"]:
        assert event["first"] is None and entry(event, "weight")["after_step"] is True
    elif event["first_seen_step"] > 501:
        assert event["first"]["stage"] == "weight"


FIRST = (
    COMMON
    + """
from torch.utils.data import DataLoader, TensorDataset
x[11] = float("nan")
values = torch.randn(64, 3)
def train():
    for inputs, targets in DataLoader(TensorDataset(x, values), batch_size=64):
        optimizer.zero_grad()
        F.mse_loss(model(inputs), targets).backward()
        optimizer.step()
train()
"""
)


@pytest.mark.parametrize(("before", "name"), [("", "inputs"), ("torch.compile(print)\n", "batch[0]")])
def test_the_very_first_batch_is_seen_by_the_forward_or_as_the_loader_gave_it(tmp_path: Path, before: str, name: str) -> None:
    """Once something is compiled, the first forward is not seen."""
    run_script(FIRST.replace("optimizer = ", before + "optimizer = "), tmp_path)
    event = found(tmp_path)[0]
    assert event["first_seen_step"] == 1 and event["first"]["stage"] == "input"
    assert event["order"][0] | {"dtype": ""} == {
        "stage": "input", "name": name, "finite": False, "dtype": "", "sample": 11, "batch": 1, "micro_batch": 0,
    }  # fmt: skip


SHORT_TRAININGS = (
    COMMON
    + """
kept = copy.deepcopy(model.state_dict())
for step in range(1, 241):
    model.train()
    optimizer.zero_grad()
    (F.cross_entropy(model(x), y) * (float("nan") if step == 141 else 1)).backward()
    optimizer.step()
    if step % 8 == 0:
        model.eval()
        with torch.no_grad():
            for part in range(3):
                F.cross_entropy(model(x + part), y)
    if step == 160:
        model.load_state_dict(kept)
"""
)


def test_a_validation_that_is_not_finite_has_the_training_looked_at_whatever_the_budget(tmp_path: Path) -> None:
    run_script(SHORT_TRAININGS, tmp_path, budget=1e-6)
    rows = read(tmp_path).steps
    assert len(rows) < 80
    bad = rows["step"][~np.isfinite(rows["loss"])]
    assert len(bad) and bad[0] == 146  # the pass after step 144 shows it, and the step after that is the first to be seen whole
    assert [event["first_seen_step"] for event in found(tmp_path)] == [146]
