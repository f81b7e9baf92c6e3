"""The table: recall, causes, lines, delays, and every healthy run that was given an alarm."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

from tests.accuracy.judging import SECTION_A_STEPS, SECTION_B_STEPS, Judged

DELAY = """\
delay: optimizer steps from the one at which the fault shows (visible.py) to the first one after which a report on the log up to
there has the finding, at the level that the table promises. Other alarms: runs with an alarm for what is not wrong there."""


IN_TIME = {
    "B": f"within {SECTION_B_STEPS} steps, or at the first validation pass after the step at which the fault shows",
    "A": f"within {SECTION_A_STEPS} steps of showing",
}


def tables(runs: list[Judged]) -> str:
    """All that is printed, as text."""
    return "\n".join([*_by_fault(runs), "", *_healthy(runs), "", *_misses(runs), "", *_oddities(runs)])


def _by_fault(runs: list[Judged]) -> list[str]:
    head = f"{'fault':34}{'runs':>5}{'found':>7}{'cause':>7}{'line':>7}{'delay':>7}{'90 %':>6}{'max':>6}{'other alarms':>14}"
    lines = [head, "-" * len(head)]
    faulty = [run for run in runs if run.fault]
    for name in dict.fromkeys(run.fault for run in faulty):
        lines.append(_row(name, [run for run in faulty if run.fault == name]))
    for section in ("B", "A"):
        judged = [run for run in faulty if run.section == section and run.detector]
        if judged:
            lines.append(_row(f"section {section}, with a detector", judged))
            lines.append(f"    of them told {IN_TIME[section]}: {_in_time(judged)}")
    return [*lines, DELAY]


def _in_time(runs: list[Judged]) -> str:
    shown = [run for run in runs if run.visible is not None]
    count = sum(run.in_time for run in shown)
    return f"{count} of {len(shown)} ({100 * count / max(1, len(shown)):.2f} %)"


def _row(name: str, runs: list[Judged]) -> str:
    shown = [run for run in runs if run.visible is not None]
    if not any(run.detector for run in runs):
        return f"{name:34}{len(runs):5}  no detector"
    found = [run for run in shown if run.found]
    lines = [run for run in found if run.line_right is not None]
    delays = [run.delay for run in found if run.delay is not None]
    figures = f"{statistics.median(delays):7.0f}{_high(delays):6}{max(delays):6}" if delays else f"{'-':>7}{'-':>6}{'-':>6}"
    hidden = f"  ({len(runs) - len(shown)} never showed)" if len(shown) < len(runs) else ""
    return (
        f"{name:34}{len(shown):5}{_share(len(found), len(shown)):>7}"
        f"{_share(sum(run.cause_right for run in found), len(found)):>7}"
        f"{_share(sum(bool(run.line_right) for run in lines), len(lines)):>7}"
        f"{figures}{sum(bool(run.others) for run in shown):14}{hidden}"
    )


def _high(values: list[int]) -> int:
    return sorted(values)[min(len(values) - 1, int(0.9 * len(values)))]


def _share(count: int, of: int) -> str:
    return f"{100 * count / of:.0f} %" if of else "-"


def _healthy(runs: list[Judged]) -> list[str]:
    healthy = [run for run in runs if not run.fault]
    alarmed = [run for run in healthy if run.alarms]
    watched = [run for run in healthy if run.watches]
    settings = len({run.name for run in healthy})
    lines = [
        f"healthy: {len(healthy)} runs of {settings} settings",
        f"  with an alarm at some time: {len(alarmed)} ({_share(len(alarmed), len(healthy))})",
        f"    of them overfitted (their validation ends a tenth above its best): {sum(run.overfits for run in alarmed)}",
        f"  with a watch at some time:  {len(watched)} ({_share(len(watched), len(healthy))})",
    ]
    for run in alarmed:
        lines += _told(run, run.alarms, "ALARM")
    for run in watched:
        lines += _told(run, run.watches, "watch")
    return lines


def _remark(run: Judged) -> str:
    return (" (does not learn)" if not run.learns else "") + (" (overfits)" if run.overfits else "")


def _told(run: Judged, findings: list[dict[str, object]], word: str) -> list[str]:
    return [
        f"  {word} {run.name} seed {run.seed}{_remark(run)}: {f['symptom']}/{f['cause']}, told at step "
        f"{f['reported_at']}{'' if f['still'] else ', not at the end'}: {f['summary']}"
        for f in findings
    ]


def _misses(runs: list[Judged]) -> list[str]:
    lines = ["faulty runs not found, or with another cause, line or alarm:"]
    for run in runs:
        if not run.fault or not run.detector or run.visible is None:
            continue
        wrong = []
        if not run.found:
            said = ", ".join(f"{f['level']} {f['symptom']}/{f['cause']}" for f in run.findings if f["symptom"] != "ended")
            wrong.append(f"not found; said: {said or 'nothing'}")
        elif not run.cause_right:
            wrong.append(f"cause {run.found}/{run.cause}")
        if run.found and run.line_right is False:
            wrong.append(f"line {next(f['line'] for f in run.findings if f['symptom'] == run.found)!r}")
        if run.others:
            wrong.append("also alarms: " + ", ".join(run.others))
        if wrong:
            lines.append(f"  {run.name} seed {run.seed} (shows at {run.visible} of {run.last_step}): {'; '.join(wrong)}")
    return lines


def _oddities(runs: list[Judged]) -> list[str]:
    """What is wrong with the harness itself."""
    lines: list[str] = []
    lines += _named(
        "healthy runs that do not learn", runs, lambda run: not (run.fault or run.learns or "fine-tuning" in run.name)
    )
    lines += _named("healthy settings whose run overfits", runs, lambda run: not run.fault and run.overfits)
    lines += _named("runs that ended with an error", runs, lambda run: run.status != 0)
    lines += _named("runs with an error of the probes", runs, lambda run: bool(run.probe_errors))
    return lines + _named("faults that never showed", runs, lambda run: bool(run.fault) and run.visible is None)


def _named(what: str, runs: Iterable[Judged], chosen: Callable[[Judged], bool]) -> list[str]:
    names = [f"{run.name} seed {run.seed}" for run in runs if chosen(run)]
    return [f"{what}: {len(names)}", *(f"  {name}" for name in names)]
