"""Which saved files hold which weights, and whether the best validation result is among them."""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .where import Line

MOST_FILES = 1_000
MOST_RESULTS = 10_000
MOST_STEPS = 200
MOST_EXCUSED = 10_000
LEAST_DIFFERENCE = 0.01
"""Results that lie nearer than this share of the best are equally good."""
COMPARABLE = 1.5
"""Passes over numbers of samples further apart than this factor are not compared (sanity checks, quick evaluations)."""

CLEARLY = 0.05
"""A result that is worse by more than this share of the best, and than the noise, if that is known, is enough where its state replaced
the best."""
ENOUGH_FOR_NOISE, MOST_FOR_NOISE = 6, 256
"""Results from which their noise is known, and how many of the newest tell it."""
MOST_LOOKED_BACK = 64
"""Results back to which is looked for the one with which the best was lost."""

HELD = "held"


@dataclass
class SavedFile:
    """One path as it was last written."""

    path: str
    step: int
    time: float
    holds: int | None
    "Step whose weights are in it; None when that is not known."
    has_weights: bool | None
    where: Line | None
    own_measure: bool = False
    "Whether the loop seems to choose its best by another measure than the validation loss."
    steps: list[int] = field(default_factory=list)
    "Of the saves to this path."
    was_there: bool = False
    deleted: bool = False


@dataclass(frozen=True)
class Result:
    """One validation pass; `value` is signed so that lower is better."""

    step: int
    value: float
    samples: int
    began: float
    "Unix time."
    model: int = 0
    "The number of the model that it judges."


class SavedFiles:
    """Told of results and saves in their order. No torch, no disk."""

    def __init__(self) -> None:
        self.files: dict[str, SavedFile] = {}
        self.results: dict[str, list[Result]] = {}
        self.excused: set[int] = set()
        "Steps whose weights may be kept in another way: in memory, in a buffer, in a file written by other means."
        self._excuses_all = False
        self._once: list[int] = []
        "Steps of the saves to paths that were written once, also of files that are gone."

    def excuse(self, step: int) -> None:
        self.excused.add(step)
        if len(self.excused) > MOST_EXCUSED:
            self._excuses_all = True
            self.excused.clear()

    def evaluated(self, metric: str, result: Result) -> None:
        series = self.results.setdefault(metric, [])
        if len(series) < MOST_RESULTS:
            series.append(result)

    def saved(self, file: SavedFile) -> int | None:
        """Returns the step of the save that this one overwrites."""
        before = self.files.pop(file.path, None)
        file.steps = [*(before.steps if before is not None else [])[-MOST_STEPS:], file.step]
        self.files[file.path] = file
        if before is None:
            self._once = [*self._once[-MOST_STEPS:], file.step]
        elif len(file.steps) == 2 and before.step in self._once:
            self._once.remove(before.step)
        if len(self.files) > MOST_FILES:
            self.files.pop(next(iter(self.files)))
        return None if before is None or before.deleted else before.step

    @property
    def count(self) -> int:
        """Results so far."""
        return sum(map(len, self.results.values()))

    @property
    def newest_step(self) -> int:
        """Of a result."""
        return max((series[-1].step for series in list(self.results.values())), default=0)

    def judge(self, final: bool) -> str | dict[str, Any] | None:
        """HELD, the evidence that no file holds the best result, or None where that is open. `final`: no save will follow."""
        verdicts = [self._judge(metric, series, final) for metric, series in list(self.results.items())]
        if HELD in verdicts:
            return HELD
        found = [verdict for verdict in verdicts if isinstance(verdict, dict)]
        return found[0] if found and len(found) == len(verdicts) else None

    def _judge(self, metric: str, series: Sequence[Result], final: bool) -> str | dict[str, Any] | None:
        compared = comparable(series)
        files = [f for f in list(self.files.values()) if f.has_weights is not False and not f.deleted]
        if len(compared) < 2 or not files or any(f.holds is None for f in files):
            return None
        best = min(compared, key=lambda result: result.value)
        limit = best.value + noise([result.value for result in compared])
        good = {result.step for result in compared if result.value <= limit}
        if any(f.holds in good for f in files) or _keeps_the_best_of_all(comparable(series, of_any=True), compared, files):
            return HELD
        if self._excuses_all or best.step in self.excused or any(f.own_measure for f in files):
            return None
        seen_at = sorted(result.step for result in compared)
        histories = [f.steps for f in files if len(f.steps) > 1]
        if len(histories) < len(files):  # the others are of one history, that of the files written once
            histories.append(self._once)
        if any(_chosen(steps, seen_at) for steps in histories):
            return None
        replaced = any(best.step in f.steps for f in files)
        if any(_latest(seen_at, f.holds) in good for f in files) or not (final or _is_lost(compared, best, replaced)):
            return None
        newest = max(files, key=lambda f: f.time)
        return {
            "metric": metric,
            "best_value": abs(best.value),
            "best_step": best.step,
            "saved_step": newest.holds,
            "saved_value": next((abs(r.value) for r in reversed(compared) if r.step <= (newest.holds or 0)), None),
            "path": newest.path,
            "overwritten": replaced,
            "where": newest.where,
        }

    def lost_at(self, metric: str, best_step: int) -> int | None:
        """The step at which the state of `best_step` was lost, which `judge` may say some steps later; None where no file ever held
        that state, or no result says so."""
        compared = comparable(self.results[metric])
        best = next((result for result in compared if result.step == best_step), None)
        replaced = [_next_save(f, best_step) for f in list(self.files.values()) if best_step in f.steps]
        with_which = None if best is None or not replaced else _with_which_lost(compared, best)
        return None if with_which is None else max(with_which, *replaced)


def _is_lost(results: Sequence[Result], best: Result, replaced: bool) -> bool:
    """Whether results after the best one are so much worse that none of their states stands for it."""
    limit = best.value + noise([result.value for result in results])
    worse = [result.value for result in results if result.step > best.step and result.value > limit]
    clear = any(value > best.value + CLEARLY * abs(best.value) for value in worse)
    return len(worse) >= 2 or (clear and replaced and len(results) >= ENOUGH_FOR_NOISE)


def _with_which_lost(results: Sequence[Result], best: Result) -> int | None:
    """Step of the first result with which a replaced state was lost, by the noise of those up to there."""
    after = range(max(results.index(best) + 2, len(results) - MOST_LOOKED_BACK), len(results) + 1)
    return next((results[count - 1].step for count in after if _is_lost(results[:count], best, True)), None)


def _next_save(file: SavedFile, step: int) -> int:
    """The save to that path after the one of `step`."""
    return next((later for later in file.steps if later > step), file.step)


def comparable(series: Sequence[Result], of_any: bool = False) -> list[Result]:
    """Results after training began, of the model (or `of_any`) and over about as many samples as the newest."""
    now, model = (series[-1].samples, series[-1].model) if series else (0, 0)
    return [
        result
        for result in series
        if result.step > 0
        and (of_any or result.model == model)
        and math.isfinite(result.value)
        and max(now, result.samples) <= COMPARABLE * max(1, min(now, result.samples))
    ]


def _keeps_the_best_of_all(results: Sequence[Result], newest: Sequence[Result], files: Sequence[SavedFile]) -> bool:
    """Whether nothing of the newest model is kept, whose results are `newest`, but the best of those before it is: a search."""
    best = min(results, key=lambda result: result.value)
    holds = [file.holds for file in files if file.holds is not None]
    return best.step in holds and max(holds) < newest[0].step


def noise(values: Sequence[float]) -> float:
    """Difference below which two results are equally good: twice their spread about the trend."""
    least = LEAST_DIFFERENCE * min(map(abs, values))
    values = values[-MOST_FOR_NOISE:]
    if len(values) < ENOUGH_FOR_NOISE:
        return least
    # Independent noise of deviation s gives second differences of deviation s * sqrt(6), third ones of s * sqrt(20); half of them
    # are below 0.6745 of that. A curve's own bend shows least in one of the two.
    spreads, differences = [], list(values)
    for factor in (2, 6, 20):
        differences = [b - a for a, b in itertools.pairwise(differences)]
        spreads.append(statistics.median(map(abs, differences)) / (0.6745 * math.sqrt(factor)))
    return max(least, 2 * min(spreads))


def _latest(seen_at: Sequence[int], step: int | None) -> int | None:
    """The step of the newest result at or before `step`; `seen_at`: those of all results, in order."""
    before = 0 if step is None else bisect.bisect_right(seen_at, step)
    return seen_at[before - 1] if before else None


def _chosen(steps: Sequence[int], seen_at: Sequence[int]) -> bool:
    """Whether the loop saves after some results and not after others, by a measure of its own (its accuracy, say). `steps` of its saves
    and, in order, of its results."""
    after = sorted({bisect.bisect_right(seen_at, step) for step in steps} - {0})
    if not after:
        return False
    gaps = {b - a for a, b in itertools.pairwise(after)}
    unsaved = len(seen_at) - after[-1]
    if len(after) == 2 and min(gaps) > 1 and after[0] not in gaps:
        return True  # a single gap, which is not that from the start either
    return len(gaps) > 1 or (unsaved > 0 and (not gaps or unsaved >= min(gaps)))
