"""Gradients that no optimizer will use; parts that are optimised by hand, later or by another optimizer are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.probes.common_script import ADVERSARIAL, COMMON
from tests.probes.watched import events, line_of, read, run_script

STEPS = """
for step in range(8):
    optimizer.zero_grad()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
"""
REBUILT = (
    COMMON
    + """
import copy
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
old, model = model, copy.deepcopy(model)
KEEP
"""
    + STEPS
)


@pytest.mark.parametrize("keep", ["", "del old"])
def test_an_optimizer_of_another_model(keep: str, tmp_path: Path) -> None:
    source = REBUILT.replace("KEEP", keep)
    run_script(source, tmp_path)
    found = events(read(tmp_path), "fact")
    assert {event["fact"] for event in found} == {"optimizer-mismatch"}
    assert found[0]["step"] <= 5 and found[0]["holds_other_tensors"] is True
    assert found[0]["where"]["line"] == line_of(source, "optimizer.step()") and found[0]["optimizer"] == "SGD"
    assert found[0]["parameters_of_optimizer"] == found[0]["parameters_in_no_optimizer"] == 4


PART = COMMON + "optimizer = torch.optim.SGD(model[3].parameters(), lr=0.01)\n" + STEPS


def test_a_part_of_the_model_in_no_optimizer(tmp_path: Path) -> None:
    run_script(PART, tmp_path)
    found = events(read(tmp_path), "fact")
    assert {event["fact"] for event in found} == {"optimizer-mismatch"}
    assert found[0]["step"] == 4 and found[0]["holds_other_tensors"] is False
    assert found[0]["names"] == ["0.weight", "0.bias"] and found[0]["parameters_in_no_optimizer"] == 2


BY_HAND = (
    COMMON
    + """
optimizer = torch.optim.SGD(model[3].parameters(), lr=0.01)
for step in range(12):
    optimizer.zero_grad()
    model.zero_grad()
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    for p in model[0].parameters():
        p.data -= 0.01 * p.grad
"""
)
FROZEN = COMMON + "model[0].requires_grad_(False)\noptimizer = torch.optim.SGD(model[3].parameters(), lr=0.01)\n" + STEPS
REST = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
"""
    + STEPS
    + """
# its old gradients stay or are zeroed in place, and no new ones come
for step in range(30):
    optimizer = torch.optim.SGD(model[3].parameters(), lr=0.01) if step == 0 else optimizer
    F.cross_entropy(model[3](model[:3](x).detach()), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    model.zero_grad(set_to_none=False)
"""
)
SELDOM = (
    COMMON
    + """
body = torch.optim.SGD(model[0].parameters(), lr=0.01)
head = torch.optim.SGD(model[3].parameters(), lr=0.01)
for step in range(24):
    F.cross_entropy(model(x), y).backward()
    head.step()
    head.zero_grad()
    if step % 10 == 9:
        body.step()
        body.zero_grad()
# a model that judges alone
judge = torch.nn.Linear(3, 3).eval()
for step in range(8):
    head.zero_grad(), body.zero_grad()
    judge(model(x)).square().mean().backward()
    head.step(), body.step()
"""
)


@pytest.mark.parametrize("source", [BY_HAND, FROZEN, REST, SELDOM, ADVERSARIAL], ids="by_hand frozen rest seldom gan".split())
def test_what_looks_like_it(source: str, tmp_path: Path) -> None:
    run_script(source, tmp_path)
    chunk = read(tmp_path)
    assert len(chunk.steps) >= 8
    assert [event for event in events(chunk, "fact") if event["fact"] == "optimizer-mismatch"] == []
