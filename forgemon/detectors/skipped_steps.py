"""Optimizer steps that a GradScaler skips, one after the other, because a gradient is not finite: then there are no rows to see it in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forgemon.chunk import Chunk
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.loss_nonfinite import SKIPPED_IN_A_ROW
from forgemon.journal import number, whole

MOST_OPTIMIZERS = 64


@dataclass
class _InARow:
    """The newest of one optimizer that are too many."""

    first_step: int
    step: int
    times: int
    loss_scale: float


class SkippedSteps:
    def __init__(self) -> None:
        self._skipped: dict[int, _InARow] = {}
        self._stepped: dict[int, int] = {}
        "Step of the newest row. Both by optimizer."

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            times = (whole(event, "times_in_a_row") or 0) if event["kind"] == "skipped" else 0
            optimizer = whole(event, "optimizer") or 0
            if times > SKIPPED_IN_A_ROW and (optimizer in self._skipped or len(self._skipped) < MOST_OPTIMIZERS):
                before = self._skipped.get(optimizer)
                goes_on = before is not None and times > before.times
                first = before.first_step if before is not None and goes_on else event["step"]
                self._skipped[optimizer] = _InARow(first, event["step"], times, number(event, "loss_scale"))
        rows = chunk.steps
        for optimizer in np.unique(rows["optimizer"]).tolist():
            if optimizer in self._stepped or len(self._stepped) < MOST_OPTIMIZERS:
                self._stepped[optimizer] = int(rows["step"][rows["optimizer"] == optimizer][-1])

    def candidate(self) -> Candidate | None:
        """Where more were skipped in a row than the search for a loss scale takes."""
        found = [(row, self._stepped.get(optimizer, -1)) for optimizer, row in self._skipped.items()]
        if not found:
            return None
        row, stepped = max(found, key=lambda f: f[0].times)
        stands = stepped <= row.step
        text = f"After step {row.step} GradScaler skipped {row.times} steps in a row and more: each time a gradient was not finite, "
        text += f"though the loss scale had come down to {figure(row.loss_scale)}. "
        text += "Nothing is learned." if stands else f"It stood until step {row.step}."
        return Candidate(
            symptom="gradient-nonfinite",
            cause="unknown",
            level="alarm" if stands else "watch",
            first_step=row.first_step,
            last_step=row.step,
            summary=text,
            evidence={"skipped_in_a_row": row.times, "loss_scale": row.loss_scale},
            refute="A step of this optimizer that is taken.",
            stands=stands,
        )
