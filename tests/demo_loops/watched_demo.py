"""Record a training script from its first step to its end, every step looked at, and diagnose it in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forgemon.check import RunCheck
from forgemon.findings import Finding
from forgemon.report import Checked
from tests.accuracy.running import train
from tests.forked.scripts import shared_server

EVERY_STEP = 0.0
"""How many steps are looked at must not depend on what else this machine does."""
START = """import runpy, sys, tempfile
tempfile.tempdir = {folder!r}
sys.argv = {argv!r}
runpy.run_path({script!r}, run_name="__main__")
"""


@dataclass(frozen=True)
class Watched:
    """What a script printed, how it ended and what is said of it."""

    output: str
    status: int
    checked: Checked

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.checked.report.findings

    def of(self, symptom: str | None) -> Finding | None:
        return next((finding for finding in self.findings if finding.symptom == symptom), None)

    def symptoms(self, *levels: str) -> set[str]:
        return {finding.symptom for finding in self.findings if finding.level in levels}


def watched(script: Path, folder: Path, arguments: Sequence[str]) -> Watched:
    """Run `script` in a process of its own; what it writes, its checkpoints too, goes into `folder`."""
    start = folder / "start.py"
    start.write_text(START.format(folder=str(folder), argv=[str(script), *arguments], script=str(script)))
    status = train(shared_server(), start, EVERY_STEP)
    check = RunCheck(folder / "run")
    check.read()
    return Watched((folder / "output.log").read_text(), status, check.checked())
