"""best-checkpoint-not-saved and checkpoint-incomplete: whether the best result can be gone back to, and gone on from."""

from __future__ import annotations

import math
import os
from typing import ClassVar

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import figure
from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.journal import flag, number, text, whole
from forgemon.state import RunState

LEAST_DIFFERENCE = 0.01
SPREADS = 2.0
"""Two results are equally good within this share of the best, or within so many spreads of the results about their trend."""
MOST_VALUES = 256
MOST_METRICS = 64
MOST_FILES = 1_000


class CheckpointFacts(FactDetector):
    """The probe's word on what no file holds, and a second look at the results and saves that the log has: the run may have
    saved a better one since. A best state whose file was replaced is lost for good; one that was never saved is an alarm at the
    end of the run only, since it may save more rarely than it validates."""

    symptoms: ClassVar[tuple[str, ...]] = ("best-checkpoint-not-saved", "checkpoint-incomplete")

    def __init__(self) -> None:
        super().__init__()
        self._state = RunState()
        self._results: dict[str, _Results] = {}
        self._files: dict[str, Event] = {}
        "The newest save to each path that is there."
        self._saved: list[int | None] = []
        "Steps whose weights were in a file, of the newest saves."

    def feed(self, chunk: Chunk) -> None:
        super().feed(chunk)
        for event in chunk.events:
            self._state.add(event)
            if event["kind"] == "evaluation":
                metric = text(event, "metric")
                if metric in self._results or len(self._results) < MOST_METRICS:
                    self._results.setdefault(metric, _Results()).add(int(event["step"]), number(event, "value"))
            elif event["kind"] in ("checkpoint", "checkpoint_deleted"):
                self._add_file(event)
        for event in chunk.machine_events:
            self._state.add_machine(event)

    def _add_file(self, event: Event) -> None:
        path = os.path.normpath(text(event, "path"))
        self._files.pop(path, None)
        if event["kind"] == "checkpoint" and flag(event, "has_weights") is not False:
            self._files[path] = event
            if len(self._files) > MOST_FILES:
                self._files.pop(next(iter(self._files)))
            self._saved = [*self._saved[-MOST_FILES:], _held_by(event)]

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        return self._incomplete(seen) if symptom == "checkpoint-incomplete" else self._best(seen)

    def _best(self, seen: Seen) -> Verdict | None:
        fact = seen.newest
        metric, best, best_step = text(fact, "metric"), number(fact, "best_value"), whole(fact, "best_step")
        if not seen.stands or self._may_be_held(metric, best, best_step):
            return None
        is_over = self._state.state(-math.inf, -math.inf)[0] == "finished"
        path, saved, saved_step = text(fact, "path"), number(fact, "saved_value"), whole(fact, "saved_step")
        lost = ""
        if flag(fact, "overwritten"):
            lost = "; a worse state replaced the one that held it"
        elif best_step is not None and best_step in self._saved:
            lost = "; the file that held it was deleted"
        newest = f" {path} holds step {saved_step} ({figure(saved)})." if path and math.isfinite(saved) else ""
        rest = "" if is_over else " The run goes on and may reach and save a better one."
        return Verdict(
            "alarm" if is_over or lost else "watch",
            f"The best {metric}, {figure(best)} of step {best_step}, is in no file{lost}.{newest}{rest}",
            "A file with the weights of that step, or a copy of them that is used after training.",
            evidence(fact, "metric", "best_value", "best_step", "saved_value", "saved_step", "path", "overwritten"),
            first_step=best_step,
        )

    def _may_be_held(self, metric: str, best: float, best_step: int | None) -> bool:
        """Whether, since the probe spoke, a better result came or a state as good as the best was saved."""
        results = self._results.get(metric)
        if results is None:
            return False
        better = any(step > (best_step or 0) and value < best for step, value in results.values)
        limit = best + results.noise(best)
        for save in self._files.values():
            holds = _held_by(save)
            value = results.at(holds)
            if holds is None or holds == best_step or (value is not None and value <= limit):
                return True
        return better

    def _incomplete(self, seen: Seen) -> Verdict | None:
        """None once a checkpoint holds all that is needed: those before it, of weights alone, were kept for another reason."""
        fact = seen.newest
        if not seen.stands:
            return None
        lacks = ["no optimizer state"] * (flag(fact, "has_optimizer") is False)
        lacks += ["no step, epoch or metric"] * (flag(fact, "has_progress") is False)
        count = whole(fact, "checkpoints") or 1
        return Verdict(
            "info",
            f"{text(fact, 'path') or 'A checkpoint'} holds {' and '.join(lacks) or 'not all that is needed'} beside the weights"
            f"{f', like all {count} checkpoints so far' if count > 1 else ''}: training cannot be resumed from it as it was.",
            "Another file of the same step that holds them.",
            evidence(fact, "path", "has_optimizer", "has_progress", "checkpoints"),
        )


def _held_by(save: Event) -> int | None:
    """Step whose weights are in a file; None where that is not known."""
    return whole(save, "holds_step") if "holds_step" in save else int(save["step"])


class _Results:
    """The newest validation results of one metric."""

    def __init__(self) -> None:
        self.values: list[tuple[int, float]] = []

    def add(self, step: int, value: float) -> None:
        if math.isfinite(value):
            self.values = [*self.values[-MOST_VALUES + 1 :], (step, value)]

    def at(self, step: int | None) -> float | None:
        """The newest result at or before a step."""
        return None if step is None else next((value for at, value in reversed(self.values) if at <= step), None)

    def noise(self, best: float) -> float:
        """Difference below which two results are equally good. Independent noise of deviation s gives second differences of
        deviation s * sqrt(6), and half of them are below 0.6745 of that."""
        least = LEAST_DIFFERENCE * abs(best)
        values = [value for _, value in self.values]
        if len(values) < 6:
            return least
        bends = sorted(abs(a - 2 * b + c) for a, b, c in zip(values, values[1:], values[2:], strict=False))
        return max(least, SPREADS * bends[len(bends) // 2] / (0.6745 * math.sqrt(6)))
