"""Reads a run to its end, or follows it while it lives, and diagnoses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from forgemon.chunk import Chunk
from forgemon.diagnosis import LEVEL_ORDER, Diagnosis
from forgemon.findings import Finding, Level
from forgemon.ranks import Ranks
from forgemon.reader import RunReader, read_all
from forgemon.report import Checked
from forgemon.snapshot import Snapshot
from forgemon.telemetry import Telemetry

POLL_S = 0.3


class RunCheck:
    """One run, read once from start to end. UserError when the path is no run directory."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self._reader = RunReader(run)
        self._diagnosis = Diagnosis()
        self._telemetry = Telemetry()
        self._ranks = Ranks(run)
        self._chunks = 0

    def read(self) -> bool:
        """Take in all that stands there now; whether anything was new."""
        before = self._chunks
        read_all(self._reader, self._feed)
        self._ranks.read(self._reader)
        return self._chunks > before

    def _feed(self, chunk: Chunk) -> None:
        self._chunks += 1
        self._diagnosis.feed(chunk)
        self._telemetry.feed(chunk)
        self._ranks.feed(chunk, self._reader)

    def snapshot(self) -> Snapshot:
        return self._telemetry.snapshot(self._reader.info, self._reader.problems)

    def checked(self) -> Checked:
        report = self._diagnosis.report(self._ranks.candidates(self._reader.info))
        return Checked(str(self.run), max(1, len(self._reader.ranks)), self.snapshot(), report)


def reached(findings: tuple[Finding, ...], level: Level) -> bool:
    """Whether a finding of that level or a more serious one stands."""
    return any(LEVEL_ORDER[finding.level] <= LEVEL_ORDER[level] for finding in findings)


def follow(check: RunCheck, level: Level, tell: Callable[[Finding], None]) -> Checked:
    """Watches a live run until a finding of that level stands or the run ends. `tell` hears of each finding once, and again
    when its level rises."""
    told: dict[str, int] = {}
    while True:
        new = check.read()
        checked = check.checked()
        for finding in checked.report.findings:
            rank = LEVEL_ORDER[finding.level]
            if rank < told.get(finding.symptom, 99):
                told[finding.symptom] = rank
                tell(finding)
        if reached(checked.report.findings, level) or (checked.ended and not new):
            return checked
        time.sleep(POLL_S)
