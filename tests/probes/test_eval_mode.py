"""eval-in-train-mode: a validation pass with Dropout or BatchNorm in training mode, and what looks like it."""

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
MODEL
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def train():
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        EACH_STEP
for epoch in range(3):
    train()
    BEFORE
    with GRAD_MODE:
        for inputs, targets in EVALUATED:
            outputs = model(inputs)  # evaluated here
            cross_entropy(outputs, targets)
"""
)
BATCH_NORM = "model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.1), nn.Linear(16, 3))"
PLAIN = "model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.0), nn.LayerNorm(16), nn.Linear(16, 3))"


def script(
    model: str = BATCH_NORM,
    before: str = "pass",
    grad_mode: str = "torch.no_grad()",
    evaluated: str = "val_loader",
    each_step: str = "pass",
) -> str:
    filled = LOOP.replace("MODEL", model).replace("BEFORE", before).replace("GRAD_MODE", grad_mode)
    return filled.replace("EVALUATED", evaluated).replace("EACH_STEP", each_step)


def facts(source: str, folder: Path) -> list[dict[str, Any]]:
    run_script(source, folder)
    return [fact for fact in events(read(folder), "fact") if fact["fact"] == "eval-in-train-mode"]


@pytest.mark.parametrize("grad_mode", ["torch.no_grad()", "torch.inference_mode()", "torch.enable_grad()"])
def test_a_forgotten_eval(tmp_path: Path, grad_mode: str) -> None:
    source = script(grad_mode=grad_mode)
    found = facts(source, tmp_path)
    assert [(fact["times"], fact["step"]) for fact in found] == [(1, 4), (2, 8)]
    first = found[0]
    assert (first["dropouts"], first["batch_norms"], first["modules"]) == (1, 1, ["1", "2"])
    assert first["model_training"] is True and first["num_batches_tracked_advanced"] is True
    assert (first["batches"], first["metric"]) == (3, "cross_entropy")
    assert first["where"]["line"] == line_of(source, "# evaluated here")


OWN_CLASS = """class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 16), nn.Dropout(0.1), nn.Linear(16, 3)
    def forward(self, inputs):
        hidden = self.drop(self.first(inputs))
        return self.last(hidden)
model = Model()"""


def test_the_line_is_the_one_that_calls_the_model_and_not_one_of_its_forward(tmp_path: Path) -> None:
    source = script(OWN_CLASS)
    found = facts(source, tmp_path)
    assert found[0]["where"]["line"] == line_of(source, "# evaluated here") and found[0]["dropouts"] == 1


def test_a_submodule_left_in_training_mode(tmp_path: Path) -> None:
    found = facts(script(before="model.eval(); model[1].train()"), tmp_path)
    assert len(found) == 2 and (found[0]["dropouts"], found[0]["batch_norms"]) == (0, 1)
    assert found[0]["model_training"] is False and found[0]["num_batches_tracked_advanced"] is True


ONE_OF_TWO = (
    COMMON
    + """
nn = torch.nn
body = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.1))
head = nn.Sequential(nn.Dropout(0.1), nn.Linear(16, 3))
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01)
for epoch in range(3):
    body.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        cross_entropy(head(body(inputs)), targets).backward()
        optimizer.step()
    body.eval()
    with torch.no_grad():
        for inputs, targets in val_loader:
            cross_entropy(head(body(inputs)), targets)
"""
)


def test_one_of_two_models_forgotten(tmp_path: Path) -> None:
    found = facts(ONE_OF_TWO, tmp_path)
    assert len(found) == 2 and (found[0]["dropouts"], found[0]["modules"]) == (1, ["0"])


NEAR_MISSES = {
    "eval": script(before="model.eval()"),
    "nothing depends on the mode": script(PLAIN),
    "monte carlo dropout": script(before="model.eval(); model[2].train()"),
    "a pass over the training data": script(evaluated="train_loader"),
    "a metric of the training batch": script(
        before="model.eval()", each_step="F.l1_loss(model(inputs).detach(), F.one_hot(targets, 3).float())"
    ),
    "the training batch once more": script(
        before="model.eval()", each_step="with torch.no_grad(): cross_entropy(model(inputs), targets)"
    ),
    "a copy is evaluated": script(
        model=BATCH_NORM + "\nema = torch.optim.swa_utils.AveragedModel(model)\nema.eval()",
        each_step="ema.update_parameters(model)",
    ).replace("outputs = model(inputs)", "outputs = ema(inputs)"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_looks_like_it(tmp_path: Path, name: str) -> None:
    assert facts(NEAR_MISSES[name], tmp_path) == []
