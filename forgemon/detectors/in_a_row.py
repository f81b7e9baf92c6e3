"""How many rows in a row show something, carried over from chunk to chunk."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Flags = npt.NDArray[np.bool_]
Steps = npt.NDArray[np.int64]


class InARow:
    """The run of flagged rows that is going on."""

    def __init__(self) -> None:
        self.length = 0
        "Flagged rows up to the newest one; 0 when that is not flagged."
        self.start_step = 0
        "Step of the first of them."

    def feed(self, steps: Steps, flags: Flags) -> tuple[npt.NDArray[np.int64], Steps]:
        """For each row: the length of its run so far (0 where not flagged), and the step at which that run began."""
        index = np.arange(len(flags))
        last_clear = np.maximum.accumulate(np.where(flags, -1, index)) if len(flags) else index
        carried = last_clear < 0
        lengths = np.where(flags, index - last_clear + np.where(carried, self.length, 0), 0)
        begins = steps[np.minimum(last_clear + 1, len(flags) - 1)] if len(flags) else steps
        if self.length:
            begins = np.where(carried, self.start_step, begins)
        if len(flags):
            self.length, self.start_step = int(lengths[-1]), int(begins[-1])
        return lengths, begins
