"""loss-oscillates and loss-climbs: the training loss leaves its best level, zig-zagging or not, and does not return."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk
from forgemon.detectors.blocks import ROWS, Blocks
from forgemon.detectors.burst import Bursts
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.dead_gradients import DeadGradients
from forgemon.detectors.departure import Departure, Departures, First
from forgemon.detectors.loss_jump import Jump, LossJumps
from forgemon.detectors.update_history import Sample, UpdateHistory

WATCH_BLOCKS = 4
"""Blocks in a row above the best level that are worth a look without a second line of evidence."""
DEAD_BLOCKS = 2
LARGE_BLOCKS = 1
"""Blocks above the best level that make a fault beside updates that were too large: curve and steps agree. With one, all of nine
rates that rose a hundredfold in mid-run were found 25 steps later, and none of 113 healthy runs was accused (measured)."""
NEAR = 100
"""Steps before a loss left its best level in which the step that drove it away is looked for."""
WEAK_LINE = "worse from the start"
"""A line that luck alone can draw: never an alarm."""
GUESS = 0.9
"""Of the loss before anything was learned: below it the loop knows something of the new data. Labels that are mixed up from some step
on end at the level of a guess."""
FALLEN = 0.98
"""Of the level that a jump brought, that the median of the blocks since is below when the loss falls."""
BACK_AT_START = 0.8
"""Share of the first level that a loss with dead gradients has climbed back to."""

REFUTE = (
    "The loss returning to its best level by itself, or the same climb with a tenth of the learning rate from the weights "
    "before it."
)
REFUTE_JUMP = (
    "The loss of the batches from before it, evaluated again now: if it went up as well, it was the weights that changed."
)
REFUTE_WATCH = (
    "The same batches evaluated again right after their own step: if their loss falls, the data changed and not the fit."
)


class LossTrend:
    """Statistical, of one optimizer. Off for losses below zero (RL, densities)."""

    symptoms: ClassVar[tuple[str, ...]] = ("loss-oscillates", "loss-climbs")

    def __init__(self) -> None:
        self._blocks = Blocks()
        self._first: First | None = None
        self._departures = Departures()
        self._bursts = Bursts()
        self._jumps = LossJumps()
        self._dead = DeadGradients()
        self._updates = UpdateHistory()

    def feed(self, chunk: Chunk) -> None:
        for updates in chunk.updates:
            self._updates.feed(updates)
        for gradients in chunk.gradients:
            self._dead.feed(gradients)
        rows = chunk.steps
        finite = np.flatnonzero(np.isfinite(rows["loss"]))
        if not len(finite):
            return
        if self._first is None:
            row = rows[finite[0]]
            self._first = First(int(row["step"]), float(row["loss"]), float(row["gradient_norm"]))
        self._jumps.feed(rows)
        self._bursts.feed(rows)
        for block in self._blocks.feed(rows):
            self._departures.feed(block, self._first)

    def candidates(self) -> list[Candidate]:
        seen = self._departures
        if seen.any_negative or seen.initial is None:
            return []
        found, now = seen.confirmed, seen.now
        if now is not None and (found is None or found.line == WEAK_LINE) and self._is_dead(now, seen.initial.loss):
            return [self._fault(now, True, None)]
        large = None if now is None or now.blocks < LARGE_BLOCKS else self._too_large(now)
        if now is not None and large is not None and (found is None or found.line == WEAK_LINE):
            return [self._fault(now, True, large)]
        if found is not None:
            return [self._fault(found, seen.stands, self._too_large(found))]
        for ended in (*seen.ended, *self._bursts.found):
            if (large := self._too_large(ended)) is not None:
                return [self._fault(ended, False, large)]
        fair = seen.fair
        return [self._watch(fair)] if fair is not None and fair.blocks >= WATCH_BLOCKS else []

    def _is_dead(self, departure: Departure, initial: float) -> bool:
        """The loss went back to where it began, and gradients that were alive have been zero since about then."""
        back = departure.blocks >= DEAD_BLOCKS and departure.peak > BACK_AT_START * initial
        died = self._dead.since_step
        return back and died is not None and departure.best.last_step <= died <= departure.last_step

    def _too_large(self, departure: Departure) -> Sample | None:
        """The update that drove the loss away, or one on its way: the second line that does not rest on the curve."""
        first = max(departure.first_step - NEAR, departure.best.last_step)
        return self._updates.too_large(first, departure.first_step - 1 if departure.thrown else departure.last_step)

    def _fault(self, found: Departure, stands: bool, large: Sample | None) -> Candidate:
        best = found.best
        evidence: dict[str, float | int | str] = {
            "best_loss": best.loss,
            "best_step": best.last_step,
            "peak_loss": found.peak,
            "first_loss": self._first.loss if self._first is not None else math.nan,
            "second_line": found.line or ("dead gradients" if large is None else "large updates"),
        }
        if large is not None:
            evidence |= {"largest_update_to_weight": large.ratio, "largest_update_step": large.step}
        swings = 2 * found.swings >= found.blocks > 0
        symptom = "loss-oscillates" if swings else "loss-climbs"
        certain = found.line != WEAK_LINE or large is not None
        overshoot = "the updates overshoot" if certain else "as updates that overshoot would do"
        text = f"Since step {found.first_step} {_climb_words(found, swings)}{self._second_line(found, large)}: {overshoot}."
        if not stands:
            text += f" It stood until step {found.last_step}."
        return Candidate(
            symptom=symptom,
            cause="learning-rate-too-high",
            level="alarm" if certain and (stands or large is not None) else "watch",
            first_step=found.first_step,
            last_step=found.last_step,
            summary=text,
            evidence=evidence,
            refute=REFUTE,
            stands=stands,
        )

    def _second_line(self, found: Departure, large: Sample | None) -> str:
        return self._line(found, large) + self._large_text(large)

    def _large_text(self, large: Sample | None) -> str:
        if large is None:
            return ""
        text = f", and step {large.step} changed the weights by {figure(large.ratio)} of themselves (median over "
        return f"{text}{self._updates.which})"

    def _line(self, found: Departure, large: Sample | None) -> str:
        if found.line == "worse than untrained":
            return f", above the {figure(self._untrained())} it began with, and the gradient norm grew at least threefold"
        if found.line == "runaway":
            return ", and the gradient norm grew with it from block to block, more than tenfold"
        if found.line == WEAK_LINE:
            return ", far above its very first value, and so did the gradient norm"
        if large is not None:
            return ""
        return f", back to where it began, and {self._dead.share_text} since step {self._dead.since_step}"

    def _untrained(self) -> float:
        initial, first = self._departures.initial, self._first
        return max(math.nan if initial is None else initial.loss, math.nan if first is None else first.loss)

    def _watch(self, fair: Departure) -> Candidate:
        """One statistical line: the climb itself. Where the loss jumped there at once and falls since, the loop learns other data."""
        best = fair.best
        jump = next((j for j in self._jumps.found if j.step > best.last_step and j.leaves(best.loss)), None)
        evidence: dict[str, float | int | str] = {
            "best_loss": best.loss,
            "best_step": best.last_step,
            "peak_loss": fair.peak,
            "blocks": fair.blocks,
        }
        if jump is not None:
            evidence |= {"jump_step": jump.step, "loss_before_jump": jump.before, "loss_after_jump": jump.after}
        return Candidate(
            symptom="loss-climbs",
            cause="unknown" if jump is None else "data-changed",
            level="watch" if jump is None or not self._learns_on(fair, jump) else "info",
            first_step=fair.first_step if jump is None else jump.step,
            last_step=fair.last_step,
            summary=_climb_text(fair) if jump is None else self._jump_text(fair, jump),
            evidence=evidence,
            refute=REFUTE_WATCH if jump is None else REFUTE_JUMP,
        )

    def _learns_on(self, fair: Departure, jump: Jump) -> bool:
        """Whether what the loop knows is still worth something: the loss falls, and lies below that of a guess."""
        return _falls_since(fair, jump) and fair.since[-1].loss < GUESS * self._untrained()

    def _jump_text(self, fair: Departure, jump: Jump) -> str:
        text = f"At step {jump.step} the loss went from {figure(jump.before)} to {figure(jump.after)} (medians of {ROWS} rows) from one "
        text += (
            "row to the next, with ordinary gradients before it: other data or another loss begin there; no step drove it away."
        )
        if not _falls_since(fair, jump):
            return f"{text} It has not fallen since."
        if not self._learns_on(fair, jump):
            return f"{text} It falls since, but is no lower than before anything was learned ({figure(self._untrained())})."
        return f"{text} It falls since."


def _climb_words(found: Departure, swings: bool) -> str:
    best = found.best
    if not found.blocks:  # rows, of which too few for a block
        return f"the loss is above where it began: it went from a median of {figure(best.loss)} up to {figure(found.peak)}"
    how = "zig-zags and climbs" if swings else "climbs"
    return f"the loss {how}: block medians rose from {figure(best.loss)} at step {best.last_step} to {figure(found.peak)}"


def _falls_since(fair: Departure, jump: Jump) -> bool:
    """Whether no block since has risen above the level of the jump, and they lie below it on the whole."""
    since = [block.loss for block in fair.since if block.first_step > jump.step]
    return len(since) > 0 and max(since) <= jump.after and float(np.median(since)) < FALLEN * jump.after


def _climb_text(fair: Departure) -> str:
    best = fair.best
    return (
        f"Since step {fair.first_step} the loss is above its best level: block medians went from {figure(best.loss)} at step "
        f"{best.last_step} up to {figure(fair.peak)}, at the same learning rate. Harder data look like this too."
    )
