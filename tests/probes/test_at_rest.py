"""Probes that rest in a loop that gives them nothing to look into: what begins later is found all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import events, line_of, read, run_script

BEGINS = 300
"""The step at which something changes; all rest by then."""

LOOP = (
    COMMON
    + f"""
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
extra = torch.nn.Linear(3, 3)
state = sys.modules.get("_forgemon_probe")
resting, kept = set(), []
for step in range(STEPS):
    late = step >= {BEGINS}
    if state is not None and not late:
        resting.update(type(probe).__name__ for probe in state.session.probes.all if probe.rests)
    optimizer.zero_grad()
    for part in range(PASSES):
        loss = F.cross_entropy(model(x + part), y)
        FORWARD
        loss.backward()
    BACKWARD
    optimizer.step()
    STEP
json.dump(sorted(resting), open("resting.json", "w"))
"""
)

REST = ["Accumulation", "Clipping", "GradientsDiscarded", "LossGraphRetained", "OptimizerMismatch"]


def script(forward: str = "", backward: str = "", step: str = "", passes: str = "1", steps: int = 420) -> str:
    places = {"FORWARD": forward, "BACKWARD": backward, "    STEP\n": f"    {step}\n", "PASSES": passes, "STEPS": str(steps)}
    source = LOOP
    for place, filled in places.items():
        source = source.replace(place, filled)
    return source


def run(source: str, folder: Path) -> list[dict[str, Any]]:
    run_script(source, folder)
    assert json.loads((folder / "resting.json").read_text()) == REST
    return events(read(folder), "fact")


CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.01)"
CLIP_VALUE = "torch.nn.utils.clip_grad_value_(model.parameters(), 0.01)"
FAULTS = {
    "clip-before-backward": (script(forward=f"if late: {CLIP}"), CLIP, BEGINS + 4),
    "clip-after-step": (script(step=f"if late: {CLIP_VALUE}"), CLIP_VALUE, BEGINS + 4),
    "clip-scaled-gradients": (
        script(backward=f"if late: {CLIP}").replace("loss.backward()", "(scaler.scale(loss) if late else loss).backward()"),
        CLIP,
        BEGINS + 4,
    ),
    "accumulation-not-scaled": (script(passes="2 if late else 1"), "loss.backward()", BEGINS + 5),
    "gradients-discarded": (script(backward="if late: model.zero_grad()"), "model.zero_grad()", BEGINS + 5),
    "loss-graph-retained": (script(step="if late: kept.append(loss)"), "kept.append(loss)", BEGINS + 48),
    "optimizer-mismatch": (
        script(forward="if step == 300: model.append(extra); loss = F.cross_entropy(model(x), y)"),
        "optimizer.step()",
        BEGINS + 90,
    ),
}


@pytest.mark.parametrize("fact", FAULTS)
def test_a_fault_that_begins_while_its_probe_rests(fact: str, tmp_path: Path) -> None:
    source, line, latest = FAULTS[fact]
    found = [event for event in run(source, tmp_path) if event["fact"] == fact]
    assert found and BEGINS < found[0]["step"] <= latest
    assert found[0]["where"]["line"] == line_of(source, line)


HEALTHY = {
    "clipped now and then": script(backward=f"if step % 50 == 49 and late: {CLIP}"),
    "clipped later on": script(backward=f"if late: {CLIP}"),
    "accumulates later on": script(forward="if late: loss = loss / 2", passes="2 if late else 1"),
    "no gradients now and then": script(backward="if late and step % 10 == 0: optimizer.zero_grad()"),
    "a part comes, in the optimizer": script(
        forward="""if step == 300:
            model.append(extra)
            optimizer.add_param_group({"params": extra.parameters()})
            loss = F.cross_entropy(model(x), y)"""
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_what_is_right(name: str, tmp_path: Path) -> None:
    assert run(HEALTHY[name], tmp_path) == []


def test_a_probe_that_follows_something_does_not_rest(tmp_path: Path) -> None:
    run_script(script(step="if step % 100 == 0: kept.append(loss)"), tmp_path)
    assert json.loads((tmp_path / "resting.json").read_text()) == [name for name in REST if name != "LossGraphRetained"]
    assert events(read(tmp_path), "fact") == []


def test_what_was_found_while_awake_is_said_to_be_gone(tmp_path: Path) -> None:
    """A probe that has something to say does not rest before it has said that it is over."""
    run_script(script(forward=f"if step < 20: {CLIP}", steps=200), tmp_path)
    chunk = read(tmp_path)
    assert [event["fact"] for event in events(chunk, "fact")][:1] == ["clip-before-backward"]
    assert [event["fact"] for event in events(chunk, "fact_gone")] == ["clip-before-backward"]
