"""Where the training loss began, where it is, and where the first epoch left it."""

from __future__ import annotations

import math

import numpy as np

from forgemon.chunk import Chunk
from forgemon.detectors.blocks import Floats
from forgemon.journal import whole

START = 25
"""Rows in which the level of an untrained model is looked for."""
NEWEST = 100
BLOCK = 10
EARLY = 500
"""Rows among which the first are found that lie below a level."""
MOST_BLOCKS = 400
HIGH = 90
"""Percentile of the newest rows."""


class TrainingLosses:
    """Rows with a finite loss, in bounded memory."""

    def __init__(self) -> None:
        self.any_negative = False
        self._first = np.zeros(0)
        self._newest = np.zeros(0)
        self._early = np.zeros((0, 2))
        "Step and loss."
        self._pending: list[tuple[int, float]] = []
        self._blocks: list[tuple[int, float]] = []
        "Last step and median of every so many blocks."
        self._every = 1
        self._count = 0
        self._second_epoch: int | None = None
        "Step at which it began."

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            if event["kind"] == "epoch" and self._second_epoch is None and whole(event, "epoch") == 1:
                self._second_epoch = int(event["step"])
        rows = chunk.steps[np.isfinite(chunk.steps["loss"])]
        losses: Floats = rows["loss"].astype(np.float64)
        if not len(losses):
            return
        self.any_negative = self.any_negative or bool(losses.min() < 0)
        if len(self._first) < START:
            self._first = np.concatenate([self._first, losses])[:START]
        self._newest = np.concatenate([self._newest, losses])[-NEWEST:]
        if len(self._early) < EARLY:
            self._early = np.concatenate([self._early, np.stack([rows["step"], losses], axis=1)])[:EARLY]
        pending = [*self._pending, *zip(rows["step"].tolist(), losses.tolist(), strict=True)]
        ready = len(pending) // BLOCK * BLOCK
        for start in range(0, ready, BLOCK):
            self._add(pending[start : start + BLOCK])
        self._pending = pending[ready:]

    def _add(self, block: list[tuple[int, float]]) -> None:
        if self._count % self._every == 0:
            self._blocks.append((block[-1][0], float(np.median([loss for _, loss in block]))))
            if len(self._blocks) >= MOST_BLOCKS:
                self._blocks, self._every = self._blocks[::2], self._every * 2
        self._count += 1

    @property
    def first_level(self) -> float:
        """Of an untrained model: the first rows may have learned already, and few of them are noisy."""
        return max(float(np.median(self._first[:5])), float(np.median(self._first))) if len(self._first) else math.nan

    @property
    def first(self) -> float:
        """The very first row: that of a model that learns within a few steps is the only one of an untrained model."""
        return float(self._first[0]) if len(self._first) else math.nan

    @property
    def newest(self) -> float:
        return float(np.median(self._newest)) if len(self._newest) else math.nan

    @property
    def newest_high(self) -> float:
        """What one in ten of the newest rows reaches."""
        return float(np.percentile(self._newest, HIGH)) if len(self._newest) else math.nan

    def step_below(self, level: float) -> int | None:
        """At which the median of the newest rows first lay below `level`: of START, or of BLOCK where an epoch has no more steps."""
        count = START if self.first_epoch_steps > START else BLOCK
        if len(self._early) >= count:
            medians = np.median(np.lib.stride_tricks.sliding_window_view(self._early[:, 1], count), axis=1)
            below = np.flatnonzero(medians < level)
            if len(below):
                return int(self._early[below[0] + count - 1, 0])
        return next((step for step, loss in self._blocks if loss < level), None)

    @property
    def first_epoch_steps(self) -> int:
        """-1 while no second epoch was seen to begin."""
        return -1 if self._second_epoch is None else self._second_epoch

    @property
    def end_of_first_epoch(self) -> float:
        """NaN where the loop has no epochs that show, or the second one began before so many rows."""
        if self._second_epoch is None:
            return math.nan
        inside = [loss for step, loss in self._blocks if step <= self._second_epoch]
        return inside[-1] if inside else math.nan
