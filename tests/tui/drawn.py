"""What panels are drawn from: runs of every kind, a finding, and a frame with findings of one's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from forgemon.findings import Finding, Where
from forgemon.tui.frame import Frame
from tests.recorded import RunFiles, small_run
from tests.tui.runs import training_run

FINDING = Finding(
    symptom="missing-zero-grad",
    cause="missing-zero-grad",
    level="alarm",
    first_step=3,
    last_step=90,
    summary="step() applied gradients that its earlier step had already used, 88 times.",
    evidence={"share_reused": 1.0, "steps": 88},
    refute="a zero_grad() between step() and backward()",
    where=Where("/home/ada/train.py", 41, "train", ("    loss = f(x)", "    loss.backward()", "    optimizer.step()"), 40),
    fix="call optimizer.zero_grad() inside the batch loop, before backward()",
)


def runs_in(folder: Path) -> Path:
    """A healthy run, two that go wrong, one that waits for its first step, and a small one."""
    training_run(folder / "healthy")
    training_run(folder / "broken", nan_from=260, ended="killed")
    training_run(folder / "reused", reused_from=5)
    waiting: dict[str, Any] = {"for": "step", "message": "torch is loaded, no optimizer has stepped"}
    RunFiles(folder / "waiting").event("waiting", 0, **waiting)
    small_run(folder / "small")
    return folder


def with_findings(frame: Frame, *found: Finding) -> Frame:
    return replace(frame, report=replace(frame.report, findings=found))
