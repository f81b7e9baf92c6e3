"""Numbers that the loop itself logs or keeps, each under the loop's own name, and validation losses among them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import torch

from .directions import better, is_validation, is_validation_loss, is_whole_validation_loss
from .result_names import PART, SHARE
from .where import Line

if TYPE_CHECKING:
    from .evaluations import Batch, EvaluationPass
    from .session import Session

PERIOD_S = 0.25
"""A number that every step gives anew is written so often."""
MOST_NAMES = 400
MOST_OF_ONE_SOURCE = 300
MOST_RESULTS = 50
"""Beyond those two bounds, for results of validation passes alone."""
LONGEST_NAME = 150


class Series:
    """One name of one source."""

    __slots__ = ("better", "is_result", "is_validation", "is_whole", "name", "reported", "step", "waiting", "written")

    def __init__(self, own_name: str, name: str) -> None:
        self.name = name
        "As it is recorded."
        self.better = better(own_name)
        self.is_validation = is_validation(own_name)
        self.is_result = is_validation_loss(own_name)
        "Whether it can stand for the result of a validation pass."
        self.is_whole = is_whole_validation_loss(own_name)
        "Whether it can where criteria show parts of the loss."
        self.step = -1
        "Of the newest value."
        self.written = -math.inf
        self.waiting: tuple[int, float, float] | None = None
        "The newest value, if it was not written."
        self.reported = (-1, math.nan)
        "Step and value of the newest result of a validation pass."


class _Result(NamedTuple):
    """A validation loss that the loop logs or keeps."""

    value: float
    step: int
    where: Line | None
    epoch: int | None


class AllSeries:
    """The series of one session. Told of the criterion's calls too: a pass that they show is not reported a second time."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._series: dict[str, dict[str, Series]] = {}
        "Of each source, by the loop's names."
        self._names: set[str] = set()
        self._criterion_step = -1
        self._pass_step = -1
        self._results: list[float] = []
        "Reported at `_results_step`."
        self._results_step = -1
        self._held: dict[Series, _Result] = {}
        "Of passes that a criterion shows, of which it is not known yet whether that is all of the loss."
        self._parted: EvaluationPass | None = None
        "The newest pass whose criteria are parts of the loss."

    def of(self, source: str) -> dict[str, Series]:
        """Those of one source so far."""
        return self._series.setdefault(source, {})

    def find(self, source: str, own_name: str, where: Line | None = None) -> Series | None:
        """The series, new where it was not known; None beyond the bounds."""
        of_source = self.of(source)
        series = of_source.get(own_name)
        if series is None and self._has_room(of_source, own_name):
            name = own_name[:LONGEST_NAME]
            name = name if name not in self._names else f"{name} ({source})"
            series = of_source[own_name] = Series(own_name, name)
            self.say(name, source, series.better, where or self._session.user_line())
        return series

    def _has_room(self, of_source: Mapping[str, Series], own_name: str) -> bool:
        if len(self._names) < MOST_NAMES and len(of_source) < MOST_OF_ONE_SOURCE:
            return True
        return is_validation_loss(own_name) and len(self._names) < MOST_NAMES + MOST_RESULTS

    def say(self, name: str, source: str, direction: str | None, where: Line | None) -> None:
        """The `metric` event, once for each name."""
        if name not in self._names:
            self._names.add(name)
            self._session.emit("metric", name=name, source=source, better=direction, where=where)

    # Values

    def offer(self, series: Series, value: float, step: int, every: bool) -> None:
        """A value of now. One that comes with each step is written now and then, unless `every`; any other always."""
        gap, series.step = step - series.step, step
        now = time.time()
        if every or gap > 1 or series.is_validation or not now - PERIOD_S < series.written <= now:
            series.written, series.waiting = now, None
            self._session.writer.metric(series.name, [step, now, value])
        else:
            series.waiting = (step, now, value)

    def offer_tensor(self, series: Series, value: torch.Tensor, step: int, every: bool) -> None:
        """The same for a scalar on a GPU, which comes some steps later. One that is not written is not kept alive either."""
        self._session.transfer.poll()  # a validation pass that logs each batch would have them wait for the next training step
        gap, series.step = step - series.step, step
        now = time.time()
        if every or gap > 1 or series.is_validation or not now - PERIOD_S < series.written <= now:
            series.written = now
            is_shown = self._is_shown(step)
            epoch = self._session.epoch() if series.is_result else None

            def deliver(values: list[float]) -> None:
                self._session.writer.metric(series.name, [step, now, values[0]])
                self._take(series, _Result(values[0], step, None, epoch), is_shown)

            if not self._session.transfer.submit([value.detach().reshape(())], deliver, rare=series.is_validation):
                self._session.writer.lose_row()

    def flush(self) -> None:
        """Write the newest value of each."""
        for series in [series for of_source in self._series.values() for series in of_source.values()]:
            if series.waiting is not None:
                self._session.writer.metric(series.name, series.waiting)
                series.waiting = None

    # Validation passes that no criterion of torch shows

    def criterion(self) -> None:
        self._criterion_step = self._session.guard.step

    def backward_begins(self) -> None:
        self._criterion_step = -1

    def evaluation_batch(self, batch: Batch) -> None:
        if batch.losses and (batch.loader is None or batch.loader != self._session.loop.training_data.loader):
            self._pass_step = self._session.step_now()

    def result(self, series: Series, value: float, step: int, where: Line | None, epoch: int | None) -> None:
        """Report a validation loss, unless a criterion shows the same pass."""
        self._take(series, _Result(value, step, where, epoch), self._is_shown(step))

    def _is_shown(self, step: int) -> bool:
        return step in (self._criterion_step, self._pass_step)

    def _take(self, series: Series, result: _Result, is_shown: bool) -> None:
        if not series.is_result:
            return
        if not is_shown or (series.is_whole and self._parted_at(result.step) is not None):
            self._report(series, result)
        elif series.is_whole:
            self._hold(series, result)

    def _hold(self, series: Series, now: _Result) -> None:
        before = self._held.get(series)
        if before is not None and before.step == now.step:
            series.is_result = _same(before.value, now.value)  # else a number of each batch, not of a pass
        self._held[series] = now

    def evaluated(self, finished: EvaluationPass, metric: str) -> None:
        """A criterion's result came, as `metric`. Where that is not all of the loss, the loop's own number is that of the pass."""
        if metric.endswith((PART, SHARE)):
            self._parted = finished
            held = [(series, now) for series, now in self._held.items() if now.step == finished.step and series.is_result]
            self._held.clear()
            for series, now in held:
                self._report(series, now)

    def _parted_at(self, step: int) -> EvaluationPass | None:
        return self._parted if self._parted is not None and self._parted.step == step else None

    def _report(self, series: Series, result: _Result) -> None:
        value, step = result.value, result.step
        if step != self._results_step:
            self._results_step, self._results = step, []
        before, series.reported = series.reported, (step, value)
        if before[0] == step:
            # A second one without a training step between: a number of each batch, not of a pass.
            series.is_result = series.is_result and _same(before[1], value)
            return
        if any(_same(value, known) for known in self._results):
            return  # the same number under another name
        self._results.append(value)
        self._session.steps.validation.reported(series.name, value, step, result.epoch, result.where, self._parted_at(step))


def _same(value: float, other: float) -> bool:
    return value == other or math.isclose(value, other, rel_tol=1e-6) or (value != value and other != other)
