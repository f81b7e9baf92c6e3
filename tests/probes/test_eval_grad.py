"""eval-with-grad: a validation pass that builds graphs for nothing, and what looks like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import events, line_of, read, run_script

LOOP = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model.eval()
    BEFORE
    for inputs, targets in val_loader:
        EVALUATE
    AFTER
"""
)


def script(evaluate: str, before: str = "pass", after: str = "pass") -> str:
    return LOOP.replace("EVALUATE", evaluate).replace("BEFORE", before).replace("AFTER", after)


def facts(source: str, folder: Path) -> list[dict[str, Any]]:
    run_script(source, folder)
    return [fact for fact in events(read(folder), "fact") if fact["fact"] == "eval-with-grad"]


FORGOTTEN = script("val_loss = cross_entropy(model(inputs), targets).item()")


def test_a_forgotten_no_grad(tmp_path: Path) -> None:
    found = facts(FORGOTTEN, tmp_path)
    assert [(fact["times"], fact["step"]) for fact in found] == [(1, 4), (2, 8)]
    assert (found[0]["batches"], found[0]["samples"], found[0]["metric"]) == (3, 32, "cross_entropy")
    assert found[0]["where"]["line"] == line_of(FORGOTTEN, "val_loss =")


ADVERSARIAL = """
        inputs = inputs.clone().requires_grad_()
        loss = cross_entropy(model(inputs), targets)
        GO_BACK
        with torch.no_grad():
            cross_entropy(model(inputs + 0.1 * slope.sign()), targets)
"""
NEAR_MISSES = {
    "no_grad": script("with torch.no_grad(): cross_entropy(model(inputs), targets)"),
    "inference_mode": script("with torch.inference_mode(): cross_entropy(model(inputs), targets)"),
    "nothing requires a gradient": script(
        "cross_entropy(model(inputs), targets)", "model.requires_grad_(False)", "model.requires_grad_(True)"
    ),
    "adversarial by autograd.grad": script(
        ADVERSARIAL.replace("GO_BACK", "(slope,) = torch.autograd.grad(loss, inputs)").strip()
    ),
    "adversarial by backward": script(ADVERSARIAL.replace("GO_BACK", "loss.backward(); slope = inputs.grad").strip()),
    "a gradient is all that is wanted": script(
        "inputs.requires_grad_(); torch.autograd.grad(cross_entropy(model(inputs), targets), inputs)"
    ),
    "fewer than three batches": FORGOTTEN.replace("in val_loader", "in list(val_loader)[:2]"),
    "one backward for several batches": FORGOTTEN.replace(
        "        cross_entropy(model(inputs), targets).backward()\n",
        "        total = sum(cross_entropy(model(a), b) for a, b in zip(inputs.split(4), targets.split(4)))\n        total.backward()\n",
    ).replace("val_loss = cross", "with torch.no_grad(): cross"),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_looks_like_it(tmp_path: Path, name: str) -> None:
    assert facts(NEAR_MISSES[name], tmp_path) == []
