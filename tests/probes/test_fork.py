"""Children that the loop forks are none of ours: what they compute is not looked at, however deep they are forked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import column, read, run_fresh

FORKS = (
    COMMON
    + """
import os
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
guard = sys.modules["_forgemon_probe"].session.guard
def train(steps):
    for step in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
def calls_in_a_child(deeper):
    before, (reading, writing) = guard.calls, os.pipe()
    child = os.fork()
    if child == 0:
        train(20)
        found = [guard.calls - before]
        if deeper:
            found += calls_in_a_child(False)
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return json.loads(os.read(reading, 1000))
train(40)
calls = [calls_in_a_child(True)]
before = guard.calls
train(10)
json.dump({"in children": calls[0], "after": guard.calls - before, "step": int(sys.modules["_forgemon_probe"].session.steps.step)},
          open("calls.json", "w"))
"""
)


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_a_forked_child_is_not_looked_at(budget: float, tmp_path: Path) -> None:
    run_fresh(FORKS, tmp_path, budget=budget)
    calls = json.loads((tmp_path / "calls.json").read_text())
    assert calls["in children"] == [0, 0]
    assert calls["step"] == 50
    assert budget or calls["after"] > 0
    steps = column(read(tmp_path), "step")
    assert len(set(steps)) == len(steps) and max(steps) <= 50
