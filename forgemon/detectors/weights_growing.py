"""weights-growing: the norm of all weights together rises and does not level off."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Updates
from forgemon.detectors.blocks import Floats
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import Facts

FEWEST = 15
"""Sampled steps before anything is said."""
GROWN = 3.0
"""Times the first norm: training from the usual initialisations stays below 2 within thousands of steps."""
LATER = 1.45
"""Times in the later half of the steps: a random walk that trebles grows 1.34-fold there, growth in proportion to the steps 1.5-fold,
growth that feeds itself still more; what levels off less than 1.2 (measured on healthy runs, some of which trebled at the start)."""
MOST_KEPT = 256
SPAN = 100
"""Steps that the samples must span: the first few, while a rate warms up, say nothing."""


class WeightsGrowing:
    """Statistical: watch. Of the weights (not biases) of the newest table of parameters."""

    symptoms: ClassVar[tuple[str, ...]] = ("weights-growing",)

    def __init__(self) -> None:
        self._table = -1
        self._begin(np.zeros(0, np.int64), ())
        self._facts = Facts(("missing-zero-grad",))

    def _begin(self, weights: object, names: tuple[str, ...]) -> None:
        self._weights = np.asarray(weights, np.int64)
        self._names = names
        self._steps: list[int] = []
        self._norms: list[Floats] = []
        self._every = 1
        self._count = 0

    def feed(self, chunk: Chunk) -> None:
        self._facts.feed(chunk)
        for updates in chunk.updates:
            self._add(updates)

    def _add(self, updates: Updates) -> None:
        table, rows = updates.table, updates.rows
        if table.table < self._table or not len(rows):
            return
        if table.table > self._table:
            self._table = table.table
            weights = [i for i, shape in enumerate(table.shapes) if len(shape) > 1]
            self._begin(weights, tuple(table.names[i] for i in weights))
        if not len(self._weights):
            return
        norms = rows["weight_norm"][:, self._weights].astype(np.float64)
        for place in np.flatnonzero(np.isfinite(norms).any(axis=1)).tolist():
            if self._count % self._every == 0:
                self._steps.append(int(rows["step"][place]))
                self._norms.append(norms[place])
                if len(self._steps) >= MOST_KEPT:
                    self._steps, self._norms, self._every = self._steps[::2], self._norms[::2], self._every * 2
            self._count += 1

    def candidates(self) -> list[Candidate]:
        if len(self._steps) < FEWEST:
            return []
        steps, norms = np.array(self._steps), np.array(self._norms)
        always = np.isfinite(norms).mean(axis=0) > 0.9  # those of another optimizer have no number at a step of this one
        if not always.any() or steps[-1] - steps[0] < SPAN:
            return []
        norms = norms[:, always]
        whole = np.isfinite(norms).all(axis=1)
        steps, norms = steps[whole], norms[whole]
        total = np.sqrt((norms**2).sum(axis=1))
        if len(steps) < FEWEST or not total[0] > 0:
            return []
        middle = float(np.interp((steps[0] + steps[-1]) / 2, steps, total))
        grown, later = float(total[-1] / total[0]), float(total[-1]) / middle
        if grown < GROWN or later < LATER or total[-1] < total.max():
            return []
        first = int(steps[np.argmax(total > math.sqrt(GROWN) * total[0])])
        names = [name for name, kept in zip(self._names, always.tolist(), strict=True) if kept]
        return [self._candidate(steps.tolist(), total, (grown, later), first, _most(names, norms))]

    def _candidate(
        self, steps: list[int], total: Floats, growth: tuple[float, float], first: int, most: tuple[str, float]
    ) -> Candidate:
        unzeroed = any(seen.stands for seen in self._facts.of("missing-zero-grad"))
        return Candidate(
            symptom="weights-growing",
            cause="missing-zero-grad" if unzeroed else "no-regularisation",
            level="watch",
            first_step=first,
            last_step=steps[-1],
            summary=f"From step {steps[0]} to {steps[-1]} the norm of the weights grew from {figure(float(total[0]))} to "
            f"{figure(float(total[-1]))}, {figure(growth[1])}-fold in the later half of these steps alone, so it does not level off; "
            f"most of all {most[0]}, {figure(most[1])}-fold.",
            refute="A norm that levels off as training goes on.",
            evidence={
                "first_weight_norm": float(total[0]),
                "newest_weight_norm": float(total[-1]),
                "growth": growth[0],
                "growth_of_later_half": growth[1],
                "parameter": most[0],
            },
        )


def _most(names: list[str], norms: Floats) -> tuple[str, float]:
    """The weight that grew most, and by how much; one that began at zero grew from nothing and is left out."""
    with np.errstate(all="ignore"):
        grown = np.where(norms[0] > 0, norms[-1] / norms[0], -np.inf)
    place = int(np.argmax(grown))
    return names[place], float(grown[place])
