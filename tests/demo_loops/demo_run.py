"""Run a demo loop in a process of its own and read the curves it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

DEMO_LOOPS = Path(__file__).resolve().parents[2] / "demo_loops"
SHORT = {
    "healthy_classifier": ("--epochs", "6"),
    "goes_nan": ("--steps", "600"),
    "oscillates": ("--steps", "800"),
    "overfits": ("--epochs", "28"),
    "missing_zero_grad": ("--epochs", "7"),
}
"""Arguments with which each demo shows its behaviour within seconds."""


@dataclass(frozen=True)
class DemoRun:
    """What a demo printed and left behind."""

    output: str
    folder: Path
    "Where it said its checkpoints go."

    def curve(self, name: str) -> list[float]:
        """Every value printed after `name`, in order. A `loss` is not a `train loss`."""
        return [float(value) for value in re.findall(rf"(?:^|  ){name} +(\S+)", self.output, re.MULTILINE)]

    def checkpoint(self) -> dict[str, Any]:
        loaded: dict[str, Any] = torch.load(self.folder / "best.pt", weights_only=True)
        return loaded


def run_demo(name: str, temporary: Path, *arguments: str) -> DemoRun:
    """Run a demo to its end, which must be a good one, with its own temporary directory inside `temporary`."""
    done = subprocess.run(
        [sys.executable, str(DEMO_LOOPS / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    folder = re.match(r"checkpoints go to (.+)\n", done.stdout)
    assert folder, done.stdout[:200]
    return DemoRun(done.stdout, Path(folder[1]))
