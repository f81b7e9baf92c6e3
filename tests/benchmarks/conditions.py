"""What is switched on and off around a loop: our probes, and the plainest thing that one would write instead."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from probes import bootstrap
from probes.api import watch
from tests.benchmarks.loops import TrainingLoop
from tests.benchmarks.recorded import Recorded


class Condition:
    """Off when made. `step` is what is timed while on, `plain_step` what it is held against."""

    title = ""
    needs: str | None = None
    "A package that must be installed."
    note = ""
    "For the reader of the table: what the two sides do, where that is not plain."
    round_steps = 1
    "Blocks are whole multiples of this many steps, where one step in so many is unlike the others."

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        self.loop = loop
        self.folder = folder

    def plain_step(self) -> None:
        self.loop.step()

    def step(self) -> None:
        self.loop.step()

    def on(self) -> None: ...

    def off(self) -> None:
        """Also called when it is off."""

    def looked_at(self) -> Collection[int]:
        """Of the steps since `on()`, numbered from 0, those at which it did what most steps are spared."""
        return ()

    def close(self) -> None: ...


class Probes(Condition):
    """forgemon in this process, under `budget`."""

    budget = 0.01
    title = "probes, default budget"

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        super().__init__(loop, folder)
        directory = watch(folder, budget=self.budget, sidecar=False)
        self.session: Any = sys.modules[bootstrap.STATE].session
        self.recorded = Recorded(directory, self.session.writer.flush)
        self._is_on = True
        self.off()

    def on(self) -> None:
        if not self._is_on:
            self._is_on = True
            self.session.resume()

    def off(self) -> None:
        if self._is_on:
            self._is_on = False
            self.session.pause()

    def close(self) -> None:
        self.on()
        self.session.leave("the measurement ended")


class EveryStep(Probes):
    budget = 0.0
    title = "probes, every step"


class RareSteps(Probes):
    budget = 1e-9
    title = "probes, fewest steps"

    def __init__(self, loop: TrainingLoop, folder: Path) -> None:
        self._rows: list[int] = []
        self._first = 0
        super().__init__(loop, folder)
        write = self.session.writer.row

        def row(table: str, values: Iterable[float]) -> None:
            if table == "steps":
                self._rows.append(self.session.step_now())
            write(table, values)

        self.session.writer.row = row

    def on(self) -> None:
        super().on()
        self._rows.clear()
        self._first = self.session.step_now() + 1

    def looked_at(self) -> Collection[int]:
        # At the end of the step before, they wake.
        return {step - self._first - before for step in self._rows for before in (0, 1)}


class Naive(Condition):
    title = "norm().item() of each"

    def step(self) -> None:
        self.loop.step()
        self.norms = [p.grad.norm().item() for p in self.loop.model.parameters() if p.grad is not None]
