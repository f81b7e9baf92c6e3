"""gradient-spike: single gradient norms far outside their own recent range, and whether the loss followed."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Rows
from forgemon.detectors.blocks import Floats, finite_median
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.norms import measured, norms_of
from forgemon.detectors.rates import rose
from forgemon.detectors.update_history import UpdateHistory

WINDOW = 200
"""Rows before a block that say how far the norms go by themselves."""
NEAR = 50
"""The newest of them, whose median and spread a row is compared with: norms fall as training goes on, which is no spread."""
FEWEST = 100
"""Of them that must be there: early norms change by themselves."""
JUST_BEFORE = 50
"""Rows before a row whose loss, rate and batch size it is compared with."""
START = 50
"""Rows of a run that are in no window: their norms say nothing of how far later ones go."""
BLOCK = 25
AFTER = 25
"""Rows after a row that say whether it stood alone and whether the loss followed."""
FEWEST_AFTER = 5
MOST_BLOCKS = 4000
"""Judged at once: bounds the memory of a fold over a million rows."""

Z = 6.0
"""Robust standard deviations of the log norm. Alone it is what healthy runs reach (measured: 19 of 144), with `TAIL` none did."""
LEAST_SPREAD = 0.1
"""Of the log norm: the steadiest norms vary by more than this sooner or later."""
FACTOR = 5.0
"""Times the median: below this no step is spoilt."""
TAIL = 1.5
"""Times the log distance from the median to the highest norm of the window must lie between that and the row: norms with heavy tails
have shown before how far they go. Where tails fall as a power, one row in 100000 does this. Where the norms have fallen since the
highest of the window, that one is no tail: then the distance is that from the median of the NEAR rows around each, and HIGHER times
the highest and NEAR_HIGHER times that of the newest NEAR rows are asked for as well."""
HIGHER, NEAR_HIGHER = 2.0, 10.0
ALONE = 0.5
"""Share of the log distance that the norms after it must have come back, all of them or the FEWEST_AFTER just after it: a level that
changed for good is no spike, but weights that a spoilt batch has thrown may make gradients that grow again."""
SAME_NORM = 0.6
SAME_LOSS = 1.3
"""Times. The next batch has about the same gradient and loss: it is no single batch, the data have changed. After spoilt batches that
the loss followed the next norm was 0.44 of theirs at most, and 0.97 where a curriculum went on to harder data (measured)."""
LOSS_FOLLOWS = 1.5
CLIMBED = 0.5
"""Share of the log distance that the row before had gone already: steps that overshoot take several, a batch comes out of nothing.
At the edge of stability it is 0.6 and more, before batches that were spoilt 0.2 at most (measured)."""
FAST_UPDATES = 0.1
"""Ratio of update to weight in the steps before: so much says that the steps were too large already."""
WHOLE_BATCH = 0.5
"""Share of the usual batch size: the small last batch of an epoch is noisier by itself."""


@dataclass(frozen=True)
class Spike:
    row: int
    "Its number among the rows with a norm."
    step: int
    norm: float
    usual: float
    z: float
    loss: float
    loss_before: float
    loss_after: float
    follows: bool
    rate_rose: bool
    climbed: bool
    data_changed: bool
    "The next row is like it: no single batch, but the first of others."


@dataclass(frozen=True)
class Seen:
    """The spikes so far. High norms soon after one, or after a change of data, are its aftermath."""

    count: int = 0
    first_step: int = -1
    last_step: int = -1
    last_row: int = -AFTER
    gravest: Spike | None = None

    def with_one(self, spike: Spike) -> Seen:
        if spike.data_changed or spike.row < self.last_row + AFTER:
            return replace(self, last_row=spike.row)
        graver = self.gravest is None or (spike.follows, spike.z) > (self.gravest.follows, self.gravest.z)
        first = self.first_step if self.count else spike.step
        return Seen(self.count + 1, first, spike.step, spike.row, spike if graver else self.gravest)


class GradientSpike:
    """Statistical, on log norms before clipping, of one optimizer; steps that a GradScaler skipped have no row."""

    symptoms: ClassVar[tuple[str, ...]] = ("gradient-spike",)

    def __init__(self) -> None:
        self._kept: Rows | None = None
        "The newest WINDOW judged rows and those that wait for the rows after them."
        self._judged = 0
        "Of the kept rows."
        self._dropped = 0
        "Rows before the kept ones."
        self._seen = Seen()
        self._ratios = UpdateHistory()

    def feed(self, chunk: Chunk) -> None:
        for updates in chunk.updates:
            self._ratios.feed(updates)
        rows = measured(chunk.steps)
        if not len(rows):
            return
        kept = rows if self._kept is None else np.concatenate([self._kept, rows])
        while (ready := (len(kept) - self._judged - AFTER) // BLOCK) > 0:
            blocks = min(ready, MOST_BLOCKS)
            for spike in spikes(kept, self._judged, blocks, self._dropped):
                self._add(spike)
            self._judged += blocks * BLOCK
            drop = max(0, self._judged - WINDOW)
            kept, self._judged, self._dropped = kept[drop:], self._judged - drop, self._dropped + drop
        self._kept = kept.copy()

    def _add(self, spike: Spike) -> None:
        self._seen = self._seen.with_one(spike)

    def candidates(self) -> list[Candidate]:
        if self._kept is None:
            return []
        seen = self._seen
        for spike in spikes(self._kept, self._judged, -(-(len(self._kept) - self._judged) // BLOCK), self._dropped):
            seen = seen.with_one(spike)
        return [] if seen.gravest is None else [_candidate(seen, seen.gravest, self._ratios)]


def spikes(rows: Rows, start: int, blocks: int, dropped: int) -> list[Spike]:
    """Those among the rows of so many blocks from `start` on; the rows before are what each block is compared with."""
    if blocks <= 0:
        return []
    logs = np.log(norms_of(rows))
    compared = np.where(np.arange(dropped, dropped + len(rows)) < START, np.nan, logs)
    padded = np.concatenate([np.full(WINDOW, np.nan), compared])
    before = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[start : start + blocks * BLOCK : BLOCK]
    near = before[:, -NEAR:]
    middle = finite_median(near)
    spread = 1.4826 * finite_median(np.abs(near - middle[:, None]))
    highest = _highest(before)
    enough = np.isfinite(before).sum(axis=1) >= FEWEST
    tail = highest + TAIL * (highest - finite_median(before))
    higher = np.maximum(highest + math.log(HIGHER), _highest(near) + math.log(NEAR_HIGHER))
    fallen = np.maximum(higher, middle + (1 + TAIL) * _highest_above_own_level(before))
    level = middle + np.maximum(Z * np.maximum(spread, LEAST_SPREAD), math.log(FACTOR))
    level = np.where(enough, np.maximum(level, np.minimum(tail, fallen)), np.inf)
    stop = min(len(rows), start + blocks * BLOCK)
    of_block = (np.arange(start, stop) - start) // BLOCK
    found = np.flatnonzero(logs[start:stop] > level[of_block]) + start
    judged = []
    for place in found.tolist():
        block = (place - start) // BLOCK
        spike = _judge(rows, logs, place, float(middle[block]), float(max(spread[block], LEAST_SPREAD)))
        if spike is not None:
            judged.append(replace(spike, row=dropped + place))
    return judged


def _highest(windows: Floats) -> Floats:
    highest: Floats = np.max(np.where(np.isfinite(windows), windows, -np.inf), axis=1)
    return highest


def _highest_above_own_level(before: Floats) -> Floats:
    """How far the highest log norm of each window lay above the median of those around it: norms that fall have no tail by that."""
    parts = before.reshape(len(before), -1, NEAR)
    above = parts - finite_median(parts.reshape(-1, NEAR)).reshape(len(before), -1, 1)
    highest: Floats = np.max(np.where(np.isfinite(above), above, 0.0), axis=(1, 2))
    return highest


def _judge(rows: Rows, logs: Floats, place: int, middle: float, spread: float) -> Spike | None:
    """None where it did not stand alone, or nothing says so yet."""
    after, before = rows[place + 1 : place + 1 + AFTER], rows[max(0, place - JUST_BEFORE) : place]
    later = logs[place + 1 : place + 1 + AFTER]
    came_back = logs[place] - ALONE * (logs[place] - middle)
    if len(after) < FEWEST_AFTER or min(np.median(later), np.median(later[:FEWEST_AFTER])) > came_back:
        return None
    sizes = before["batch_size"][np.isfinite(before["batch_size"])]
    if len(sizes) and rows["batch_size"][place] < WHOLE_BATCH * np.median(sizes):
        return None
    loss_before, loss_after = _losses(before), _losses(after[2:])
    rate_rose = rose(before["learning_rate"])  # the row's own rate came after its gradient
    climbed = bool(logs[place - 1] - middle > CLIMBED * (logs[place] - middle))
    same_norm = math.log(SAME_NORM) < logs[place + 1] - logs[place] <= 0
    return Spike(
        row=place,
        step=int(rows["step"][place]),
        norm=math.exp(logs[place]),
        usual=math.exp(middle),
        z=float(logs[place] - middle) / spread,
        loss=float(rows["loss"][place]),
        loss_before=float(np.median(loss_before)) if len(loss_before) else math.nan,
        loss_after=float(np.median(loss_after)) if len(loss_after) else math.nan,
        follows=_follows(loss_before, loss_after),
        rate_rose=rate_rose,
        climbed=climbed,
        data_changed=same_norm and not (rate_rose or climbed) and _same_loss(rows["loss"][place : place + 2]),
    )


def _follows(before: Floats, after: Floats) -> bool:
    """Whether the loss went up with the norm and stayed there; False too where too few rows say so."""
    if len(before) < JUST_BEFORE // 2 or len(after) < AFTER // 2 or before.min() <= 0:
        return False
    later = np.median(after)
    return bool(later > LOSS_FOLLOWS * np.median(before) and later > before.max())


def _same_loss(pair: npt.NDArray[np.float32]) -> bool:
    """Whether a row's loss, which is from before its update, and that of the next one are about the same."""
    first, second = pair.tolist()
    return first > 0 and second > 0 and abs(math.log(second / first)) < math.log(SAME_LOSS)


def _losses(rows: Rows) -> Floats:
    loss: Floats = rows["loss"].astype(np.float64)
    return loss[np.isfinite(loss)]


def _candidate(seen: Seen, spike: Spike, ratios: UpdateHistory) -> Candidate:
    count, too_fast = seen.count, ratios.highest_before(spike.step) > FAST_UPDATES
    cause = "learning-rate-too-high" if too_fast or spike.rate_rose or spike.climbed else "bad-batch"
    text = f"At step {spike.step} the gradient norm was {figure(spike.norm)}, {figure(spike.norm / spike.usual)} times its median of "
    text += f"{figure(spike.usual)} over the {NEAR} rows before ({figure(spike.z)} robust standard deviations), and was back after it"
    if spike.climbed:
        text += "; it had climbed there over several steps"
    if spike.follows:
        text += f"; the loss went from {figure(spike.loss_before)} to {figure(spike.loss_after)} and stayed there"
    elif math.isfinite(spike.loss_after):
        text += f"; the loss did not follow ({figure(spike.loss_before)} before, {figure(spike.loss_after)} after)"
    others = f" {count} such steps were seen." if count > 1 else ""
    evidence: dict[str, float | int | str] = {
        "step": spike.step,
        "gradient_norm": spike.norm,
        "usual_gradient_norm": spike.usual,
        "robust_z": spike.z,
        "spikes": count,
    }
    for name, value in (("loss", spike.loss), ("loss_before", spike.loss_before), ("loss_after", spike.loss_after)):
        if math.isfinite(value):
            evidence[name] = value
    return Candidate(
        symptom="gradient-spike",
        cause=cause,
        level="alarm" if spike.follows else "watch",
        first_step=seen.first_step,
        last_step=seen.last_step,
        summary=f"{text}.{others}",
        refute="The same batch without such a gradient: then it was the weights of that moment and not the batch."
        if cause == "bad-batch"
        else "The same spikes with a tenth of the learning rate: then the data make them.",
        evidence=evidence,
        stands=False,
    )
