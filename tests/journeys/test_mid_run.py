"""Attached to in mid-run, with every step observed and within the budget, a loop gives the findings it gives from the start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forgemon.check import RunCheck
from forgemon.inject import attach_process
from tests.detectors.test_section_b_loops import FAULTS, LOOP, script
from tests.probes.watched import PROBES
from tests.waiting import wait_for

SEEN_STEPS = 60
"""Ten epochs, after which a fault that shows must have been found."""

EVERY_STEP, WITHIN_BUDGET = 0.0, None

Said = set[tuple[str, str, str, str | None]]

FADED: Mapping[str, Said] = {
    "train-in-eval-mode": {("train-in-eval-mode", "train-in-eval-mode", "watch", None)},
}
"""What is still found in mid-run where the evidence lies before: that it ever trained in training mode was not seen."""

LEARNABLE = """y = x[:, :3].argmax(1)
train_set, val_set = TensorDataset(x[:96], y[:96]), TensorDataset(x[96:], y[96:])
train_loader, val_loader = DataLoader(train_set, batch_size=16, shuffle=True), DataLoader(val_set, batch_size=16)
"""
OVERFITS = """y[torch.rand(160) < 0.5] = 0
model = nn.Sequential(nn.Linear(8, 256), nn.ReLU(), nn.Linear(256, 3))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)"""

LOOPS: Mapping[str, Mapping[str, str]] = {
    "healthy": {},
    "missing-zero-grad": {"update": "loss.backward(); optimizer.step()"},
    "clip-before-backward": FAULTS["clip-before-backward"][0],
    "eval-in-train-mode": FAULTS["eval-in-train-mode"][0],
    "train-in-eval-mode": FAULTS["train-in-eval-mode"][0],
    "softmax-before-cross-entropy": FAULTS["softmax-before-cross-entropy"][0],
    "train-val-divergence": {"setup": OVERFITS},
}


class Nursery:
    """The process that forks training processes."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nursery.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    @contextmanager
    def training(self, folder: Path, source: str, **task: Any) -> Iterator[int]:
        """The pid of a process that trains by `source` until the end of the block."""
        (folder / "train.py").write_text(source)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"script": str(folder / "train.py"), "folder": str(folder), **task}) + "\n")
        self.process.stdin.flush()
        pid = int(self._answer())
        try:
            yield pid
        finally:
            os.kill(pid, signal.SIGKILL)  # the nursery does not reap it, so the pid is still its own


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    os.killpg(nursery.process.pid, signal.SIGKILL)
    nursery.process.communicate()


def gated(parts: Mapping[str, str]) -> str:
    train = f"gate(epoch); {parts.get('train', LOOP['train'])}"
    return script(**{**parts, "setup": LEARNABLE + parts.get("setup", ""), "train": train, "epochs": "10**9"})


def said(check: RunCheck) -> Said:
    """What is found, on which line; not since which step."""
    return {
        (f.symptom, f.cause, f.level, None if f.where is None else f.where.location)
        for f in check.checked().report.findings
        if f.symptom != "ended"
    }


def found_after(run: Path, steps: int, expected: Said | None = None) -> tuple[Said, dict[str, str]]:
    """What is found, and the answers of the checklist, once so many steps were taken; where it is not what is `expected`, many
    more steps later."""
    wait_for(lambda: (run / "rank-0").exists(), "the run", 60)
    check = RunCheck(run)

    def far_enough() -> bool:
        check.read()
        rows = check.snapshot().steps
        taken = int(rows["step"][-1] - rows["step"][0]) if len(rows) else 0
        return taken >= steps and (expected is None or said(check) == expected or taken >= 20 * steps)

    wait_for(far_enough, f"{steps} steps in {run}", 90)
    return said(check), {answer.id: answer.answer for answer in check.checked().report.checklist}


@pytest.mark.parametrize("name", LOOPS)
def test_the_same_is_found_from_the_middle_as_from_the_start(name: str, nursery: Nursery, tmp_path: Path) -> None:
    source = gated(LOOPS[name])
    (tmp_path / "go").touch()
    config = {"run_dir": str(tmp_path / "run"), "mode": "run", "budget": 0.0, "bootstrap": str(PROBES / "bootstrap.py")}
    with nursery.training(tmp_path, source, config=config):
        from_start, answers = found_after(tmp_path / "run", SEEN_STEPS)
    assert {symptom for symptom, *_ in from_start} == ({name} if name != "healthy" else set())

    expected = FADED.get(name, from_start)
    if name in FADED:
        answers |= {"train-mode": "not visible"}
    for budget in EVERY_STEP, WITHIN_BUDGET:
        # A loop of its own for each: what a loop shows late in its life is not what it shows in its middle.
        for file in ("go", "paused"):
            (tmp_path / file).unlink()
        with nursery.training(tmp_path, source) as pid:
            wait_for(lambda: (tmp_path / "paused").exists(), "the middle of the run", 60)
            run = attach_process(pid, tmp_path / "runs", budget=budget)
            (tmp_path / "go").touch()
            assert found_after(run, SEEN_STEPS, expected) == (expected, answers), f"budget {budget}"
