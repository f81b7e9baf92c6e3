"""train-val-divergence: the training loss keeps falling while the validation loss has turned and rises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event
from forgemon.detectors.blocks import Floats, slope
from forgemon.detectors.candidate import Candidate, figure
from forgemon.journal import number, text, whole

FEWEST = 5
"""Evaluations before anything is said."""
SOON_BEFORE = 2
"""Evaluations before the best one, whose training loss is about that of the best."""
LATER = 3
"""Newest evaluations in a row that must lie above the best one."""
WATCH_RISE = 0.02
ALARM_RISE = 0.10
NOTHING = 1e-3
"""Of what the loss was at the first evaluation: a rise of less matters to nobody, however many times the best value it is."""
LONG = 8
"""Newest evaluations in a row that must lie that far above the best one, where they do not go on rising."""
SMOOTHER = 0.8
"""Noise of the median of three values in that of one: 0.67 if normal, and something for neighbours that share two of their three."""
MOST_KEPT = 400
"""Evaluations kept of one metric; beyond that every second one is dropped, but never the best."""
MOST_METRICS = 32


@dataclass(frozen=True)
class _Pass:
    step: int
    value: float
    train_loss: float


class _Curve:
    """The evaluations of one metric, thinned out evenly when they grow many."""

    def __init__(self) -> None:
        self.passes: list[_Pass] = []
        self.best: _Pass | None = None
        self.is_lost = False
        "Whether that file was overwritten or deleted since."
        self.checkpoint = ""
        "Path of the first file with the weights of the best evaluation, or with those of soon after it."
        self._every = 1
        self._count = 0

    def feed(self, event: Event) -> None:
        new = _Pass(int(event["step"]), number(event, "value"), number(event, "train_loss"))
        if not math.isfinite(new.value):
            return
        if self.best is None or new.value < self.best.value:
            self.best, self.checkpoint, self.is_lost = new, "", False
        if self._count % self._every == 0:
            self.passes.append(new)
        self._count += 1
        if len(self.passes) >= MOST_KEPT:
            self.passes = self.passes[::2]
            self._every *= 2


class TrainValDivergence:
    """Two lines: training falls (Theil-Sen slope since the best evaluation), validation lies above its best and rises."""

    symptoms: ClassVar[tuple[str, ...]] = ("train-val-divergence",)

    def __init__(self) -> None:
        self._curves: dict[tuple[int, str], _Curve] = {}
        "By the number of the model and the metric."
        self._newest: _Curve | None = None

    def feed(self, chunk: Chunk) -> None:
        for event in chunk.events:
            if event["kind"] == "evaluation" and not text(event, "metric").endswith("(training data)"):
                self._newest = self._curve_of(whole(event, "model") or 0, text(event, "metric"))
                if self._newest is not None:
                    self._newest.feed(event)
            elif event["kind"] == "checkpoint":
                self._note_checkpoint(event)
            elif event["kind"] == "checkpoint_deleted":
                self._note_lost(text(event, "path"))

    def _curve_of(self, model: int, metric: str) -> _Curve | None:
        """Those of a model that is trained no more make way for those of the newest."""
        if (model, metric) not in self._curves and len(self._curves) >= MOST_METRICS:
            oldest = min(self._curves)
            if oldest[0] >= model:
                return None
            del self._curves[oldest]
        return self._curves.setdefault((model, metric), _Curve())

    def _note_checkpoint(self, event: Event) -> None:
        path = text(event, "path")
        self._note_lost(path)
        for curve in self._curves.values():
            wanted = curve.is_lost or not curve.checkpoint
            if wanted and curve.best is not None and _holds(event, curve.best.step, curve is self._newest):
                curve.checkpoint, curve.is_lost = path, False

    def _note_lost(self, path: str) -> None:
        """What was in that file is there no more."""
        for curve in self._curves.values():
            if curve.checkpoint and curve.checkpoint == path:
                curve.is_lost = True

    def candidates(self) -> list[Candidate]:
        """The first that is an alarm, else the first."""
        judged = (_judge(metric, curve) for (_, metric), curve in self._curves.items())
        found = [candidate for candidate in judged if candidate is not None]
        return sorted(found, key=lambda candidate: candidate.level != "alarm")[:1]


def _holds(event: Event, step: int, newest: bool) -> bool:
    """Whether a file has the weights of `step`, or those of soon after it: saved before the next pass of that, the newest, curve."""
    soon = newest and number(event, "evaluation_step") == step
    if "holds_step" not in event:
        return soon
    holds = whole(event, "holds_step")
    return holds is not None and (holds == step or (soon and holds > step))


def _judge(metric: str, curve: _Curve) -> Candidate | None:
    best, passes = curve.best, curve.passes
    if best is None or len(passes) < FEWEST:
        return None
    values = np.array([p.value for p in passes])
    noise = _noise(values)
    later = values[[p.step > best.step for p in passes]]
    chance = _lowest_of(len(passes)) * noise
    nothing = NOTHING * _first_level(passes[0])
    least = max(WATCH_RISE * abs(best.value), nothing)
    above = _streak_above(later, best.value + max(chance, least)) >= LATER
    if not above and not (_streak_above(later, best.value) >= LATER and _smoothed_above(values, noise, least)):
        return None
    since = [p for p in passes if p.step >= best.step]
    train = np.array([_train_loss_at(best, passes), *[p.train_loss for p in since[1:]]])
    falls = _train_falls(train)
    recent = float(np.median(values[-LATER:]))
    rise = recent - best.value
    far = max(chance, nothing, ALARM_RISE * abs(best.value))
    # What rises soon after a best that came early may sink a little later on, and stay far above it for all that.
    stays_above = _streak_above(later, best.value + far) >= LONG
    rises = rise > far and (slope(np.array([p.value for p in since])) > 0 or stays_above)
    if falls is False:
        return None
    return _candidate(metric, curve, since, train, recent, "alarm" if falls and rises else "watch", noise)


def _first_level(first: _Pass) -> float:
    """The geometric mean of both losses: after a first epoch validation has come down already, and they may be on two scales."""
    both = [abs(value) for value in (first.value, first.train_loss) if math.isfinite(value)]
    return math.sqrt(both[0] * both[-1])


def _train_loss_at(best: _Pass, passes: list[_Pass]) -> float:
    """That of the best evaluation, or of one soon before it: none may have been seen in its own interval, and a later one may be of
    other data."""
    seen = [p.train_loss for p in [*[p for p in passes if p.step < best.step][-SOON_BEFORE:], best]]
    return next((value for value in reversed(seen) if math.isfinite(value)), math.nan)


def _candidate(
    metric: str, curve: _Curve, since: list[_Pass], train_losses: Floats, recent: float, level: str, noise: float
) -> Candidate:
    best = curve.best
    assert best is not None
    last = since[-1]
    trains = train_losses[np.isfinite(train_losses)].tolist()
    train = f" while the training loss went from {figure(trains[0])} to {figure(trains[-1])}" if len(trains) > 1 else ""
    saved = f"that state is saved in {curve.checkpoint}" if curve.checkpoint else "no checkpoint of that state was seen"
    if curve.is_lost:
        saved = f"that state was saved in {curve.checkpoint}, which was overwritten or deleted since"
    evidence: dict[str, float | int | str] = {
        "metric": metric,
        "best_value": best.value,
        "best_step": best.step,
        "latest_value": recent,
        "evaluations_since": len(since) - 1,
        "evaluation_noise": noise,
    }
    if len(trains) > 1:
        evidence |= {"train_loss_then": trains[0], "train_loss_now": trains[-1]}
    if curve.checkpoint and not curve.is_lost:
        evidence["checkpoint"] = curve.checkpoint
    return Candidate(
        symptom="train-val-divergence",
        cause="overfitting",
        level="alarm" if level == "alarm" else "watch",
        first_step=best.step,
        last_step=last.step,
        summary=f"Validation ({metric}) was best at step {best.step} with {figure(best.value)}; since then it rose to "
        f"{figure(recent)} over {len(since) - 1} evaluations{train}. For the best result: {saved}.",
        evidence=evidence,
        refute="A validation loss that falls below its best again, or a metric that matters more (accuracy) that still improves.",
    )


def _lowest_of(count: float) -> float:
    """Standard deviations that a value must lie above the lowest of `count` noisy ones, which is itself about sqrt(2 ln count) below
    their level."""
    return 2 + math.sqrt(2 * math.log(count))


def _smoothed_above(values: Floats, noise: float, least: float) -> bool:
    """The same of medians of LATER neighbours: they are less noisy by a third, and fewer of them are independent."""
    smooth: Floats = np.median(np.lib.stride_tricks.sliding_window_view(values, LATER), axis=1)
    lowest = int(np.argmin(smooth))
    chance = _lowest_of(max(1.0, len(smooth) / LATER)) * noise * SMOOTHER
    return _streak_above(smooth[lowest + LATER :], float(smooth[lowest]) + max(chance, least)) >= LATER


def _noise(values: Floats) -> float:
    """Robust standard deviation of one evaluation, from the differences of neighbours; a steady trend drops out."""
    moves = np.diff(values)
    return 1.4826 * float(np.median(np.abs(moves - np.median(moves)))) / math.sqrt(2) if len(moves) else 0.0


def _streak_above(later: Floats, level: float) -> int:
    below = np.flatnonzero(~(later[::-1] > level))
    return int(below[0]) if len(below) else len(later)


def _train_falls(train: Floats) -> bool | None:
    """Whether the training loss went on falling from the first one, that of the best evaluation; None when it is not visible, or
    too little of it that lies lower."""
    seen = train[np.isfinite(train)]
    if len(seen) < 2:
        return None
    lower = float(np.median(seen[1:][-LATER:])) < float(seen[0]) - 0.02 * abs(float(seen[0]))
    if len(seen) < LATER + 1 or not math.isfinite(train[0]):
        return None if lower else False
    return slope(seen) < 0 and lower
