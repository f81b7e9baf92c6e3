"""What the diagnosis said of one run, beside what it should have said."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from forgemon.check import RunCheck
from forgemon.chunk import Chunk
from forgemon.detectors import DETECTED
from forgemon.diagnosis import LEVEL_ORDER
from forgemon.findings import Finding
from forgemon.reader import RunReader
from tests.accuracy.faults import Fault
from tests.accuracy.running import Done
from tests.accuracy.script import MARK
from tests.accuracy.streamed import First, first_reports
from tests.accuracy.visible import next_pass, visible_step

MOST_ROWS = 1_000_000
SECTION_A_STEPS, SECTION_B_STEPS = 200, 3
"""Within which a fault should be told from when it shows."""


@dataclass(frozen=True)
class Judged:
    """One run's outcome, as it is kept in outcome.json."""

    name: str
    family: str
    seed: int
    half: str
    fault: str
    "Empty for a healthy run."
    section: str
    folder: str
    status: int
    last_step: int
    learns: bool
    overfits: bool
    "By the rule that says of the fault overfitting whether it shows; of a healthy setting it says that the run was none."
    findings: list[dict[str, Any]]
    "Of the last report."
    alarms: list[dict[str, Any]]
    "The first report of each symptom that was ever an alarm in mid-run: symptom, cause, step, summary, still."
    watches: list[dict[str, Any]]
    probe_errors: list[str] = field(default_factory=list)
    level: str = ""
    "What the table promises for the fault, at least."
    detector: bool = True
    "Whether there is a detector for what should be found."
    visible: int | None = None
    "The step from which the fault shows; None: it never did."
    found: str = ""
    "The symptom that was found, of those that are right."
    cause: str = ""
    cause_right: bool = False
    line_right: bool | None = None
    "None where no line is declared."
    delay: int | None = None
    "Optimizer steps from `visible` to the first report with the finding at its level."
    next_pass: int | None = None
    "Optimizer steps from `visible` to the end of the first validation pass after it; None where none came."
    others: list[str] = field(default_factory=list)
    "Alarms of a faulty run beside the right one."

    @property
    def in_time(self) -> bool:
        """Section A within so many steps of showing, section B within its few or by the first validation pass after."""
        if self.delay is None:
            return False
        if self.section == "A":
            return self.delay <= SECTION_A_STEPS
        return self.delay <= max(SECTION_B_STEPS, self.next_pass or 0)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_log(folder: Path) -> Chunk:
    """The whole log of FOLDER/run as one chunk."""
    return RunReader(folder / "run").read(max_rows=MOST_ROWS)


def judge(done: Done) -> Judged:
    """Reads the log twice: whole, as `forgemon check` does, and step by step."""
    configuration, fault = done.configuration, done.configuration.fault
    log = read_log(done.folder)
    check = RunCheck(done.folder / "run")
    check.read()
    findings = check.checked().report.findings
    told = first_reports(log, lambda f: f"{f.symptom} {f.level}")
    judged = Judged(
        name=configuration.name,
        family=configuration.setting.family,
        seed=done.seed,
        half=configuration.half,
        fault="" if fault is None else fault.name,
        section="" if fault is None else fault.section,
        folder=str(done.folder),
        status=done.status,
        last_step=int(log.steps["step"][-1]) if len(log.steps) else -1,
        learns=learns(log, done.folder),
        overfits=visible_step("overfits", log) is not None,
        findings=[_short(finding) for finding in findings],
        alarms=_ever(told, findings, "alarm"),
        watches=_ever(told, findings, "watch"),
        probe_errors=[str(event) for event in log.events if event["kind"] == "probe_error"],
        **({} if fault is None else _of_fault(done, fault, log, findings, told)),
    )
    (done.folder / "outcome.json").write_text(json.dumps(judged.as_json(), indent=1))
    return judged


def _of_fault(done: Done, fault: Fault, log: Chunk, findings: tuple[Finding, ...], told: dict[str, First]) -> dict[str, Any]:
    setting = done.configuration.setting
    right = [finding for finding in findings if fault.is_shown_by(finding, setting)]
    right.sort(key=lambda f: (f.cause not in fault.causes, LEVEL_ORDER[f.level]))
    visible = visible_step(fault.visible, log)
    allowed = fault.symptoms | fault.beside
    result: dict[str, Any] = {
        "level": fault.level(setting),
        "visible": visible,
        "detector": bool(fault.symptoms & DETECTED),
        "others": sorted({f.symptom for f in findings if f.level == "alarm"} - allowed - {"ended"}),
    }
    if not right:
        return result
    best = right[0]
    steps = [first.step for first in told.values() if fault.is_shown_by(first.finding, setting)]
    marked = _marked_lines(done.folder)
    return result | {
        "found": best.symptom,
        "cause": best.cause,
        "cause_right": best.cause in fault.causes,
        "line_right": (best.where is not None and best.where.line in marked) if marked else None,
        "delay": max(0, min(steps) - visible) if steps and visible is not None else None,
        "next_pass": None if visible is None else next_pass(visible, log),
    }


def _marked_lines(folder: Path) -> set[int]:
    lines = (folder / "train.py").read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith(MARK)}


def _short(finding: Finding) -> dict[str, Any]:
    return {
        "symptom": finding.symptom,
        "cause": finding.cause,
        "level": finding.level,
        "steps": [finding.first_step, finding.last_step],
        "summary": finding.summary,
        "evidence": {key: str(value)[:200] for key, value in finding.evidence.items()},
        "where": "" if finding.where is None else finding.where.location,
        "line": "" if finding.where is None else finding.where.text,
    }


def _ever(told: dict[str, First], findings: tuple[Finding, ...], level: str) -> list[dict[str, Any]]:
    at_end = {f.symptom for f in findings if f.level == level}
    return [
        {**_short(first.finding), "reported_at": first.step, "still": first.finding.symptom in at_end}
        for first in told.values()
        if first.finding.level == level and first.finding.symptom != "ended"
    ]


def learns(log: Chunk, folder: Path) -> bool:
    """Whether the loss (or what the script prints as its score, the lower the better) ends lower than it began."""
    text = (folder / "output.log").read_text(errors="replace") if (folder / "output.log").exists() else ""
    scores = [float(line.split()[1]) for line in text.splitlines() if line.startswith("score ")]
    values = np.array(scores) if scores else log.steps["loss"][log.steps["optimizer"] == 0]
    if len(values) < 4 or not np.isfinite(values).all():
        return False
    count = max(2, len(values) // 10)
    # Of printed scores the first one is that of the untrained model.
    first = scores[0] if scores else float(np.median(values[:count]))
    last = float(np.median(values[-count:]))
    return math.isfinite(last) and last < first - 0.02 * abs(first)
