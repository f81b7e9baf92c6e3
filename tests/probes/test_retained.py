"""loss-graph-retained: losses kept with their graphs, and what looks like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.test_recorded import COMMON
from tests.probes.watched import events, line_of, read, run_script

LOOP = (
    COMMON
    + """
from collections import deque
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
kept, total, hidden = START
def train(steps):
    global total, hidden, kept
    for step in range(steps):
        optimizer.zero_grad()
        loss = cross_entropy(model(x[:16]), y[:16])
        BACKWARD
        optimizer.step()
        KEEP
train(STEPS)
"""
)


def script(keep: str, start: str = "[], 0, None", backward: str = "loss.backward()", steps: int = 64) -> str:
    filled = LOOP.replace("KEEP", keep).replace("START", start).replace("BACKWARD", backward)
    return filled.replace("STEPS", str(steps))


def facts(source: str, folder: Path, budget: float = 0.0) -> list[dict[str, Any]]:
    run_script(source, folder, budget=budget)
    return [fact for fact in events(read(folder), "fact") if fact["fact"] == "loss-graph-retained"]


KEPT = {
    "list": script("kept.append(loss)"),
    "list of what was divided": script("kept.append(loss)", backward="(loss / 4).backward()"),
    "dict": script("kept[step] = loss", start="{}, 0, None"),
    "running sum": script("total = total + loss"),
    "retain_graph": script("kept.append(loss)", backward="loss.backward(retain_graph=True)"),
}


@pytest.mark.parametrize("name", KEPT)
def test_kept(tmp_path: Path, name: str) -> None:
    source = KEPT[name]
    found = facts(source, tmp_path)
    assert found and found[0]["step"] <= 40
    first = found[0]
    assert first["alive"] >= 20 and first["oldest_step"] == 0 and first["kept_share"] == 1.0
    assert first["held_by"] == {"dict": "dict", "running sum": "running sum"}.get(name, "list")
    if name != "running sum":
        assert first["held"] == first["step"]
    assert first["where"]["line"] == line_of(source, ".backward(")


def test_kept_in_a_run_that_is_observed_now_and_then(tmp_path: Path) -> None:
    assert facts(script("kept.append(loss)", steps=500), tmp_path, budget=0.01)[0]["step"] <= 40


def test_a_window_without_a_limit_of_its_own_is_taken_back(tmp_path: Path) -> None:
    run_script(script("kept = [*kept, loss][-60:]", steps=150), tmp_path)
    (gone,) = [fact for fact in events(read(tmp_path), "fact_gone") if fact["fact"] == "loss-graph-retained"]
    assert 60 < gone["step"] < 100


NEAR_MISSES = {
    "item": script("kept.append(loss.item())", steps=150),
    "detach": script("kept.append(loss.detach())", steps=150),
    "a window": script("kept.append(loss)", start="deque(maxlen=100), 0, None", steps=400),
    "a window of what was divided": script("kept.append(loss / 4)", start="deque(maxlen=100), 0, None", steps=400),
    "a window of pairs": script("kept.append((step, loss))", start="deque(maxlen=100), 0, None", steps=400),
    "the last few": script("kept = [*kept, loss][-12:]", steps=150),
    "truncated backpropagation": script(
        "hidden = loss if step % 8 else None",
        backward="(loss + (0 if hidden is None else hidden.detach())).backward()",
        steps=150,
    ),
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_what_looks_like_it(tmp_path: Path, name: str) -> None:
    assert facts(NEAR_MISSES[name], tmp_path) == []
