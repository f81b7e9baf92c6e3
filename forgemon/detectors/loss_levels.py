"""Where the training loss began, whether it has moved since, and which steps were taken at the full learning rate."""

from __future__ import annotations

import math

import numpy as np

from forgemon.chunk import Rows
from forgemon.detectors.blocks import Block, Blocks

MOST_BLOCKS = 80
MOVED = 0.02
"""Share of its first level by which a loss must fall before it has moved (research, section 3B)."""
ERRORS = 3.0
"""Standard errors by which two blocks must differ."""
MOVED_BLOCKS = 2
BELOW_START = 0.9
"""Share of its first value below which the loss shows that something was learned: the last bias alone brings less."""
FULL_RATE = 0.5
"""Share of the highest learning rate seen from which on a step counts: those of a warm-up are meant to be small."""
STILL_RISING = 1.05


class LossLevels:
    """Feed it rows of steps.npy, loss-only ones too; it keeps the first blocks, then every second one, and so on."""

    def __init__(self) -> None:
        self.any_negative = False
        self.first_loss = math.nan
        self.first_step = -1
        self.highest_loss = -math.inf
        self.newest: Block | None = None
        self.moved_since: int | None = None
        "First step of the blocks in a row in which the loss was clearly below its first level; the first such stretch counts."
        self.learned_from: int | None = None
        "First step of the first blocks in a row that were clearly, by BELOW_START, below where it all began, jump or no jump."
        self.blocks: list[Block] = []
        self._cut = Blocks()
        self._moved: list[Block] = []
        self._learned: list[Block] = []
        self._every = 1
        self._count = 0

    def feed(self, rows: Rows) -> None:
        loss = rows["loss"][np.isfinite(rows["loss"])]
        if not len(loss):
            return
        if self.first_step < 0:
            self.first_loss, self.first_step = float(loss[0]), int(rows["step"][np.isfinite(rows["loss"])][0])
        self.any_negative = self.any_negative or bool(loss.min() < 0)
        self.highest_loss = max(self.highest_loss, float(loss.max()))
        for block in self._cut.feed(rows):
            self._add(block)

    def _add(self, block: Block) -> None:
        self.newest = block
        if self._count % self._every == 0:
            self.blocks.append(block)
        self._count += 1
        if len(self.blocks) == MOST_BLOCKS:
            self.blocks, self._every = self.blocks[::2], 2 * self._every
        if self.learned_from is None:
            self._learned = [*self._learned, block] if block.loss <= BELOW_START * self.untrained else []
            if len(self._learned) >= MOVED_BLOCKS:
                self.learned_from = self._learned[0].first_step
        if self.moved_since is None:
            self._moved = [*self._moved, block] if fell(self.blocks[0], block, MOVED) else []
            if len(self._moved) >= MOVED_BLOCKS:
                self.moved_since = self._moved[0].first_step

    def at_full_rate(self, until: int) -> list[Block]:
        """Blocks before step `until` with at least half the highest learning rate; of a rate that rises, the newest alone."""
        blocks = [b for b in self.blocks if b.last_step < until]
        if self.newest is not None and self.newest.last_step < until and blocks and blocks[-1] is not self.newest:
            blocks.append(self.newest)
        rates = [b.learning_rate for b in blocks if math.isfinite(b.learning_rate)]
        if not rates:
            return []
        highest = max(rates)
        full = [b for b in blocks if not b.learning_rate < FULL_RATE * highest]
        return [b for b in full if not b.learning_rate * STILL_RISING < full[-1].learning_rate]

    def learned_before(self, step: int, share: float) -> bool:
        below = [b for b in self.blocks if b.last_step < step and b.loss + ERRORS * b.error < share * self.untrained]
        return len(below) >= MOVED_BLOCKS

    @property
    def untrained(self) -> float:
        """The lower one of the first row and the first block: a jump at the start lifts the block, a lucky batch lowers the row."""
        return min(self.first_loss, self.blocks[0].loss) if self.blocks else self.first_loss


def fell(earlier: Block, later: Block, share: float) -> bool:
    """By a share of the earlier level, and by more than the noise of both."""
    return earlier.loss - later.loss > max(share * abs(earlier.loss), ERRORS * math.hypot(earlier.error, later.error))
