"""The loop note: a few sentences on a run as a whole. Which checkpoint was best, what the curves imply, whether to trust it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from forgemon.chunk import Chunk
from forgemon.detectors.blocks import Block, Blocks
from forgemon.detectors.candidate import figure
from forgemon.evaluations import Evaluations
from forgemon.findings import Finding
from forgemon.journal import text
from forgemon.snapshot import Evaluation
from forgemon.symptoms import UNKNOWN


class LoopNote:
    """Feed it every chunk; `text` writes the note of what was seen so far."""

    def __init__(self) -> None:
        self._evaluations = Evaluations()
        self._blocks = Blocks()
        self._first: Block | None = None
        self._best: Block | None = None
        self._last: Block | None = None
        self._rows = 0

    def feed(self, chunk: Chunk) -> None:
        self._rows += len(chunk.steps)
        for block in self._blocks.feed(chunk.steps):
            self._first = self._first or block
            self._last = block
            if self._best is None or block.loss < self._best.loss:
                self._best = block
        for event in chunk.events:
            if event["kind"] in ("checkpoint", "checkpoint_deleted"):
                self._evaluations.add_checkpoint(event)
            elif event["kind"] == "evaluation" and not text(event, "metric").endswith("(training data)"):
                self._evaluations.add_evaluation(event)

    def text(self, findings: Sequence[Finding]) -> str:
        if not self._rows:
            return "No optimizer step was seen."
        return " ".join([self._checkpoint(), self._curves(), self._trust(findings)])

    def _checkpoint(self) -> str:
        best = self._evaluations.best()
        if best is None:
            return "No validation pass was seen, so no checkpoint can be called the best."
        said = f"Best {best.metric}: {figure(best.value)} at step {best.step}"
        if best.path is not None:
            return f"{said}, saved in {best.path}."
        saved = self._evaluations.checkpoints()
        if best.lost is not None:
            return f"{said}; {best.lost} held that state and was overwritten or deleted."
        return f"{said}; no file holds that state{' although checkpoints were saved' if saved else ''}."

    def _curves(self) -> str:
        said = []
        if self._first is not None and self._last is not None and self._best is not None and self._first is not self._last:
            first, last = self._first, self._last
            said.append(
                f"Training loss went from {figure(first.loss)} to {figure(last.loss)} (medians of the first and last rows)"
            )
        held_out = self._held_out()
        finite = [e for e in held_out if math.isfinite(e.value)]
        if len(finite) > 1:
            best = min(finite, key=lambda e: e.value)
            tail = "its best yet" if best is finite[-1] else f"best {figure(best.value)} at step {best.step}"
            said.append(f"validation from {figure(finite[0].value)} to {figure(finite[-1].value)} ({tail})")
        return f"{', '.join(said)}." if said else "Too few rows to say what the curves imply."

    def _held_out(self) -> list[Evaluation]:
        best = self._evaluations.best()
        return [e for e in self._evaluations.evaluations() if best is not None and e.metric == best.metric]

    @staticmethod
    def _trust(findings: Sequence[Finding]) -> str:
        faults = sorted((f for f in findings if f.symptom != "ended" and f.level != "info"), key=lambda f: f.first_step)
        if not faults:
            return "No failure pattern appeared in what could be seen."
        first = faults[0]
        cause = "" if first.cause in (UNKNOWN, first.symptom) else f" ({first.cause})"
        said = f"First failure pattern: {first.symptom}{cause}, since step {first.first_step}."
        alarms = [f for f in faults if f.level == "alarm"]
        if not alarms:
            return f"{said} It is something to watch and no alarm; the loop can be trusted otherwise."
        if all(f.cause == "overfitting" for f in alarms):
            return f"{said} The loop itself ran in order; what it learned after that step does not hold for other data."
        return f"{said} The loop is not stable enough to trust: results from that step on need a second look."
