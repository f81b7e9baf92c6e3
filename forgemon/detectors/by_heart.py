"""Whether a training loss that fell may be samples learned by heart: few for so many parameters, and only when seen again.

What is learned by heart helps no validation, and is no sign that its labels are at fault. Measured on some 600 small networks that were
given random labels (32 to 2048 samples, Adam at rates from 0.001 to 0.03, batches of 4 and more): none that began at a guess fell in its
first epoch, and the fastest took longer by about the square root of samples per parameter. With more than MOST_SAMPLES it took them ten
epochs at least, at rates that few would choose: there the loss is taken to have fallen because there was something to learn.
"""

from __future__ import annotations

import math

import numpy as np

from forgemon.chunk import Chunk
from forgemon.detectors.training_losses import TrainingLosses
from forgemon.journal import number, text

FELL = 0.7
"""Of the first training loss."""
EPOCHS = 4.0
"""Beyond the first, times the square root of samples per parameter: what falls sooner is not learned by heart."""
MOST_SAMPLES = 0.5
"""For each parameter."""


class ByHeart:
    """Counts samples and parameters."""

    def __init__(self) -> None:
        self._samples = 0.0
        self._parameters: tuple[int, int] = (-1, 0)
        "Table, and values in it."

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            length = number(event, "length") if event["kind"] == "loader" and text(event, "role") == "training" else math.nan
            if math.isfinite(length):
                self._samples = max(self._samples, length)
        for gradients in chunk.gradients:
            table = gradients.table
            if table.table > self._parameters[0]:
                self._parameters = table.table, sum(int(np.prod(shape)) for shape in table.shapes)

    def is_possible(self, train: TrainingLosses, began: float) -> bool | None:
        """None where the number of samples is not known: batches that no DataLoader gave. False where only the length of an epoch is
        not."""
        if not self._samples:
            return None
        epoch, fell_at = train.first_epoch_steps, train.step_below(FELL * began)
        if epoch <= 0 or not self._parameters[1] or fell_at is None:
            return False
        share = self._samples / self._parameters[1]
        return share < MOST_SAMPLES and fell_at / epoch > 1 + EPOCHS * math.sqrt(share)
