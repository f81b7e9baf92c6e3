"""loss-graph-retained: losses kept with their graphs, and what looks like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import events, line_of, read, run_fresh

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
    run_fresh(source, folder, budget=budget)
    return [fact for fact in events(read(folder), "fact") if fact["fact"] == "loss-graph-retained"]


BY_HAND = "-F.log_softmax(model(x[:16]), 1).gather(1, y[:16, None]).mean()"
SCALER = "torch.amp.GradScaler('cpu', init_scale=64.0).scale(loss).backward()"


def by_hand(keep: str, backward: str, start: str = "[], 0, None") -> str:
    return script(keep, start, backward).replace("cross_entropy(model(x[:16]), y[:16])", BY_HAND)


KEPT = {
    "list, loss by hand": by_hand("kept.append(loss)", "loss.backward()"),
    "list, divided by hand": by_hand("kept.append(loss)", "(loss / 4).backward()"),
    "list, scaled by hand": by_hand("kept.append(loss)", SCALER),
    "running sum, scaled by hand": by_hand("total = total + loss", SCALER),
    "running sum, of a quotient": by_hand("total = total + loss", "loss.backward()").replace(BY_HAND, f"{BY_HAND} / 4"),
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
    first, last = found[0], found[-1]
    assert first["step"] == 3 and first["alive"] == 3 and first["only_grows"] is True
    assert last["alive"] >= 20 and last["oldest_step"] == first["oldest_step"] == 0 and last["kept_share"] == 1.0
    assert first["held_by"] == {"dict": "dict", "running sum": "running sum"}.get(name.partition(",")[0], "list")
    if not name.startswith("running sum"):
        assert first["held"] == first["step"]
    kept = next(text for text in ("kept.append(", "kept[step] =", "total = total +") if text in source)
    assert first["where"]["line"] == line_of(source, kept)


ONLY_GROWS = {
    "list": script("kept.append(loss)"),
    "list of an object": script("run.kept.append(loss)").replace(
        "kept, total, hidden = [], 0, None",
        "total, hidden = 0, None\nclass Run:\n    def __init__(self): self.kept = []\nrun = Run()",
    ),
    "the last of several micro-batches": script("kept.append(loss)").replace(
        "        loss = cross", "        cross_entropy(model(x[16:32]), y[16:32]).backward()\n        loss = cross"
    ),
}


@pytest.mark.parametrize("name", ONLY_GROWS)
def test_kept_where_no_code_takes_anything_out_again(tmp_path: Path, name: str) -> None:
    found = facts(ONLY_GROWS[name], tmp_path)
    assert found[0]["step"] <= 4 and found[0]["alive"] == 3 and found[0]["only_grows"] is True
    assert found[0]["held_by"] == "list"


MAY_BE_CUT = {
    "pop": script("kept.append(loss)\n        if len(kept) > 90: kept.pop(0)", steps=80),
    "del": script("kept.append(loss)\n        if len(kept) > 90: del kept[0]", steps=80),
    "a slice": script("kept.append(loss)\n        if len(kept) > 90: kept[:] = kept[-50:]", steps=80),
    "a new list": script("kept.append(loss)\n        if len(kept) > 90: kept = []", steps=80),
    "a new list each epoch": script("kept.append(loss)", steps=80).replace(
        "train(80)", "for epoch in range(2):\n    kept = []\n    train(40)"
    ),
    "a function of every epoch": script("mine.append(loss)", steps=40).replace("    for step", "    mine = []\n    for step")
    + "\nfor epoch in range(2): train(40)",
}


@pytest.mark.parametrize("name", MAY_BE_CUT)
def test_a_list_that_may_be_cut_is_not_said_to_grow_for_ever(tmp_path: Path, name: str) -> None:
    found = facts(MAY_BE_CUT[name], tmp_path)
    assert found and all(fact["only_grows"] is False and fact["alive"] >= 20 for fact in found)


def test_kept_in_a_run_that_is_observed_now_and_then(tmp_path: Path) -> None:
    assert facts(script("kept.append(loss)", steps=500), tmp_path, budget=0.01)[0]["step"] <= 40


def test_a_window_without_a_limit_of_its_own_is_taken_back(tmp_path: Path) -> None:
    run_fresh(script("kept = [*kept, loss][-60:]", steps=150), tmp_path)
    (gone,) = [fact for fact in events(read(tmp_path), "fact_gone") if fact["fact"] == "loss-graph-retained"]
    assert 60 < gone["step"] < 100


NEAR_MISSES = {
    "numbers, scaled by hand": by_hand("kept.append(loss.item())", SCALER),
    "detached, divided by hand": by_hand("kept.append(loss.detach())", "(loss / 4).backward()"),
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
