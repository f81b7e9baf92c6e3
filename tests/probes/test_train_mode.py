"""train-in-eval-mode: training that goes on in evaluation mode, and what looks like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import events, line_of, read, run_script

LOOP = (
    COMMON
    + """
nn = torch.nn
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 3))
SETUP
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    EACH_EPOCH
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for inputs, targets in val_loader:
            cross_entropy(model(inputs), targets)
    AFTER
"""
)


def script(setup: str = "pass", each_epoch: str = "pass", after: str = "pass") -> str:
    return LOOP.replace("SETUP", setup).replace("EACH_EPOCH", each_epoch).replace("AFTER", after)


def facts(source: str, folder: Path) -> list[dict[str, Any]]:
    run_script(source, folder)
    return [fact for fact in events(read(folder), "fact") if fact["fact"] == "train-in-eval-mode"]


def test_a_forgotten_train(tmp_path: Path) -> None:
    found = facts(script(), tmp_path)
    assert [(fact["times"], fact["step"]) for fact in found] == [(1, 6), (2, 7), (4, 9)]
    first = found[0]
    assert first["from_the_start"] is False and first["first_step"] == 5
    assert (first["eval_called_at_step"], first["since_evaluation"], first["metric"]) == (4, 4, "cross_entropy")
    assert first["mode_dependent_modules"] == 2 and first["model"] == "Sequential"
    assert first["where"]["line"] == line_of(script(), "    model.eval()")


def test_from_the_start_it_may_be_on_purpose(tmp_path: Path) -> None:
    source = script(setup="model.eval()")
    found = facts(source, tmp_path)
    assert found and all(fact["from_the_start"] is True for fact in found)
    assert found[0]["step"] == 2 and found[0]["where"] is None  # it was called before the model was known
    assert found[0]["since_evaluation"] is None


NEAR_MISSES = {
    "train() each epoch": script(each_epoch="model.train()"),
    "frozen batch norm under a model in training mode": script(each_epoch="model.train(); model[1].eval()"),
    "all that depends on it is frozen": script(each_epoch="model.train(); model[1].eval(); model[2].eval()"),
    "parts put into training mode one by one": script(each_epoch="model[2].train()"),
    "nothing depends on the mode": script(setup="model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 3))"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_looks_like_it(tmp_path: Path, name: str) -> None:
    assert facts(NEAR_MISSES[name], tmp_path) == []
