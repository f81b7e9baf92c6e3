"""Two answers of the loop note: which failure pattern appeared first, and whether the loop was stable enough to trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from forgemon.findings import Answer, Finding, NoteAnswer
from forgemon.symptoms import UNKNOWN

TRAINING_IN_ORDER: Mapping[str, str] = {
    "train-val-divergence": "what it learned after step {step} does not hold for other data",
    "best-checkpoint-not-saved": "its best state is not kept",
    "checkpoint-incomplete": "what it saves cannot be resumed or judged",
    "cpu-fallback": "it could be faster",
    "eval-with-grad": "validation takes more memory than it needs",
    "input-bound": "it waits for data",
}
"""Symptoms of a loop that is stable all the same, and what they take away from it."""

VALIDATION_ALONE = frozenset({"eval-in-train-mode", "val-uses-train-data", "val-loader-shuffled"})
"""Symptoms that make the validation results doubtful, and not the training."""


def first_failure(findings: Sequence[Finding], before: str) -> NoteAnswer:
    """`before`: what to add of a time that was not seen."""
    faults = _faults(findings)
    if not faults:
        ended = next((f for f in findings if f.symptom == "ended" and f.level == "alarm"), None)
        said = "No failure pattern appeared in what could be seen."
        if ended is not None:
            said = f"None before its end. {ended.summary.rstrip('.')}."
        return NoteAnswer("first_failure", "first failure", f"{said} {before}".strip(), {})
    first = faults[0]
    cause = "" if first.cause in (UNKNOWN, first.symptom) else f" ({first.cause})"
    names = {"symptom": first.symptom, "cause": first.cause, "level": first.level}
    said = f"First failure pattern: {first.symptom}{cause}, since step {first.first_step}. {before}".strip()
    return NoteAnswer("first_failure", "first failure", said, {**names, "first_step": first.first_step})


def trust(findings: Sequence[Finding], enough: bool, rows: int) -> NoteAnswer:
    """`enough`: whether so many steps were seen that their silence means something."""
    answer, said = _trust(_faults(findings), enough, rows)
    return NoteAnswer("stable", "stable enough", said, {"answer": answer})


def _trust(faults: Sequence[Finding], enough: bool, rows: int) -> tuple[Answer, str]:
    alarms = [fault for fault in faults if fault.level == "alarm"]
    serious = [alarm for alarm in alarms if alarm.symptom not in TRAINING_IN_ORDER]
    doubtful = [fault for fault in faults if fault.symptom in VALIDATION_ALONE]
    if serious and all(alarm.symptom in VALIDATION_ALONE for alarm in serious):
        return "no", "The training ran in order, but its validation results cannot be trusted, nor which of them is the best."
    if serious:
        steps = min(alarm.first_step for alarm in serious)
        return "no", f"The loop is not stable enough to trust: results from step {steps} on need a second look."
    if alarms:
        takes = "; ".join(dict.fromkeys(TRAINING_IN_ORDER[a.symptom].format(step=a.first_step) for a in alarms))
        return "yes", f"The loop itself ran in order; {takes}."
    if doubtful:
        return "yes", "It is something to watch and no alarm: the training ran in order, the validation results are in doubt."
    if faults:
        return "yes", "It is something to watch and no alarm; the loop can be trusted otherwise."
    if not enough:
        return "not visible", f"Only {rows} step{'s were' if rows > 1 else ' was'} seen, too few to call the loop stable."
    return "yes", "The loop is stable in what could be seen."


def _faults(findings: Sequence[Finding]) -> list[Finding]:
    return sorted((f for f in findings if f.symptom != "ended" and f.level != "info"), key=lambda f: f.first_step)
