"""python -m tests.accuracy.long_runs: loops many times as long as the others, at the default budget, which looks at one step in many.

Healthy ones, and what a person who follows them is ever told; with --faults those with a mistake, and when it is told. Only loops that
draw each sample once: whatever goes over the same samples again overfits, sooner or later, and is then no healthy run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from forgemon.findings import Finding
from tests.accuracy.configurations import Configuration, all_configurations
from tests.accuracy.faults import FAULTS
from tests.accuracy.judging import read_log
from tests.accuracy.running import Done, run_all
from tests.accuracy.script import Script
from tests.accuracy.setting import STEPS, Setting
from tests.accuracy.streamed import first_reports

QUICK_FAMILIES = ("mlp", "regression", "vae")
"""Whose steps take a millisecond or two."""
PASSES = 50
"""Of validation, in a run."""


@dataclass(frozen=True)
class LongConfiguration(Configuration):
    """The same script for so many times the steps."""

    times: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.setting, self.half, "" if self.fault is None else self.fault.name, self.seeds, self.times)

    def script(self) -> Script:
        script, steps = super().script(), self.times * STEPS
        script.settings |= {"STEPS": str(steps), "EVERY": str(max(1, steps // PASSES))}
        return script


def _again(setting: Setting, half: str, fault: str, seeds: tuple[int, ...], times: int) -> LongConfiguration:
    return LongConfiguration(setting, half, FAULTS[fault] if fault else None, seeds, times)


@dataclass(frozen=True)
class Outcome:
    """What was ever told of one run."""

    fault: str
    "Empty for a healthy run."
    told_at: int | None
    "The step of the first report with the right symptom and cause, at its level or above."
    others: list[str]
    "A line for each other alarm or watch of a healthy run, and for whatever went wrong."


def main() -> None:
    options = _options()
    jobs: list[tuple[Configuration, int]] = [
        (LongConfiguration(c.setting, c.half, c.fault, c.seeds, options.times), c.seeds[0])
        for c in all_configurations()
        if (c.fault is not None) == options.faults
        and (c.setting.data, c.half != "frozen", c.setting.family in options.families) == ("fresh", True, True)
    ]
    out = options.out or Path(tempfile.mkdtemp(prefix="forgemon-long-"))
    print(f"{len(jobs)} runs of {options.times * STEPS} steps, logs in {out}", flush=True)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        judged = [pool.submit(_judged, done) for done in run_all(jobs, out, options.workers, options.budget)]
        outcomes = [one.result() for one in judged]
    print("\n".join([*_by_fault(outcomes), *sorted(line for outcome in outcomes for line in outcome.others)]))


def _judged(done: Done) -> Outcome:
    log, fault = read_log(done.folder), done.configuration.fault
    last = int(log.steps["step"][-1]) if len(log.steps) else 0
    name = f"{done.configuration.name} {done.seed}: {len(log.steps)} rows to step {last}"
    others = [f"ended with {done.status}"] if done.status else []
    others += [str(event) for event in log.events if event["kind"] == "probe_error"]
    told = [first for first in first_reports(log, _name).values() if first.finding.symptom != "ended"]
    if fault is None:
        graver = [first for first in told if first.finding.level != "info"]
        others += [f"{f.finding.level} {f.finding.symptom} at step {f.step}: {f.finding.summary}" for f in graver]
    of_fault = [] if fault is None else [f for f in told if fault.is_shown_by(f.finding, done.configuration.setting)]
    right = [first.step for first in of_fault if fault is not None and first.finding.cause in fault.causes]
    kind = "" if fault is None else f"{fault.section} {fault.name}"
    return Outcome(kind, min(right, default=None), [f"{name}: {other}" for other in others])


def _name(finding: Finding) -> str:
    return f"{finding.symptom} {finding.cause} {finding.level}"


def _by_fault(outcomes: list[Outcome]) -> list[str]:
    lines = []
    for fault in sorted({outcome.fault for outcome in outcomes if outcome.fault}):
        steps = [outcome.told_at for outcome in outcomes if outcome.fault == fault]
        told = sorted(step for step in steps if step is not None)
        when = f"at step {statistics.median(told):.0f} (middle), {told[-1]} at the latest" if told else ""
        lines.append(f"{fault:34}{len(steps):4} runs, told in {len(told):3} {when}")
    return lines


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy.long_runs", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help=f"as long as the others, which have {STEPS} steps")
    parser.add_argument("--faults", action="store_true", help="runs with a mistake in them")
    parser.add_argument("--budget", type=float, default=0.01, help="of the probes; 0 observes every step")
    parser.add_argument("--families", nargs="+", default=QUICK_FAMILIES)
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, help="where the logs stay; default: a new temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
