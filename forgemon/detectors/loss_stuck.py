"""loss-stuck and vanishing-gradients: the loss barely moves, and which of the reasons for that the gradients and updates show.

The curve alone cannot tell a rate that is too low from labels that cannot be learned, so it never alarms alone. Beside it must
stand, in this order: a fault of section B that keeps the weights still; gradients that were alive and died after a step that was
too large; gradients that are smaller by orders of magnitude in the first layers than in the last; updates that could not change
the weights in a lifetime; updates so large at the start that nothing was left to learn. A loss that stands while gradients and
updates are ordinary (noise in the labels, fine-tuning at the floor) is no fault that these numbers show, and nothing is said.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk
from forgemon.detectors.blocks import Block
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.dead_gradients import DeadGradients
from forgemon.detectors.facts import Facts
from forgemon.detectors.gradient_depth import GradientDepth
from forgemon.detectors.loss_levels import MOVED, LossLevels, fell
from forgemon.detectors.update_history import Sample, UpdateHistory
from forgemon.findings import Level

STEPS = 150
"""Steps at the full learning rate after which a loss that has not moved is stuck."""
LONG = 1000
"""Steps after which it is worth a look even where no gradient or update is visible."""
TOO_LOW = 1e-5
"""Updates of this share of the weights change them by a fifth of a percent in 200 steps. Healthy runs have 2e-4 and more at
their full rate, those with a rate that is far too low 1e-6 and less (measured); stuck and below: 0 of 144 healthy runs and 24 of
24 (research, section 2)."""
LOW = 1e-4
"""Between the two a rate is low, but weights move by some percent in LOW_STEPS."""
LOW_STEPS = 400
SAMPLES = 3
STOOD_STILL = 1e-3
"""Share by which all steps together changed the weights at most: where the loss is back at its first level after them, it had fallen
by chance."""
LEARNED = 0.95
"""Two blocks below this share of the first level, by more than their noise: the loss had left it before the gradients died."""
EARLY = 50
"""Steps in which a rate that is too high has made its jump."""
OVERSHOT = 0.5
"""Median ratio that says so (research, finding 5)."""
NOT_LEARNING = 0.05
"""Share that the loss may have fallen after such a jump or with vanishing gradients: the last bias learns by itself."""
JUMPED = 3.0
STRUCTURE = ("optimizer-mismatch", "frozen-parameters", "gradients-discarded")
RATE_HIGH, RATE_LOW, VANISHING = "learning-rate-too-high", "learning-rate-too-low", "vanishing-gradients"

REFUTES = {
    RATE_LOW: "The same loss with ten to a hundred times the learning rate: then the rate is not what holds it.",
    RATE_HIGH: "The same loss from fresh weights with a tenth of the learning rate.",
    VANISHING: "Gradients of the same size in all layers while the loss still stands.",
    "unknown": "One batch that can be overfitted: then model, rate and loop are sound and the data are what is hard.",
}


class LossStuck:
    """Of one optimizer. Off for losses below zero (RL)."""

    symptoms: ClassVar[tuple[str, ...]] = ("loss-stuck", "vanishing-gradients")

    def __init__(self) -> None:
        self._levels = LossLevels()
        self._dead = DeadGradients()
        self._depth = GradientDepth()
        self._updates = UpdateHistory()
        self._facts = Facts(STRUCTURE)
        self._attached = False

    def feed(self, chunk: Chunk) -> None:
        for gradients in chunk.gradients:
            self._dead.feed(gradients)
            self._depth.feed(gradients)
        for updates in chunk.updates:
            self._updates.feed(updates)
        self._facts.feed(chunk)
        self._levels.feed(chunk.steps)
        self._attached = self._attached or any(e["kind"] == "attached" and e.get("mode") == "attach" for e in chunk.events)

    def candidates(self) -> list[Candidate]:
        newest = self._levels.newest
        if self._levels.any_negative or self._levels.first_step < 0:
            return []
        died = self._died()
        if died is not None:
            return [died]
        vanishing = self._vanishing()
        stuck = self._stuck(newest, vanishing is not None) if newest is not None else None
        return [c for c in (vanishing, stuck) if c is not None]

    # Units that died

    def _died(self) -> Candidate | None:
        levels, since = self._levels, self._dead.since_step
        if since is None:
            return None
        jump = self._updates.too_large(levels.first_step, since)
        jumped = levels.highest_loss > JUMPED * levels.first_loss > 0
        if jump is None and not jumped:
            return None
        text, evidence = f"Since step {since} {self._dead.share_text}", self._evidence()
        if jump is not None:
            text += f"; before that step {jump.step} changed the weights by {figure(jump.ratio)} of themselves "
            text += f"(median over {self._updates.which})"
            evidence |= {"largest_update_to_weight": jump.ratio, "largest_update_step": jump.step}
        if jumped:
            text += f"; the loss jumped from {figure(levels.first_loss)} to {figure(levels.highest_loss)}"
            evidence |= {"highest_loss": levels.highest_loss}
        evidence["dead_since_step"] = since
        text += ". The learning rate was too high and killed the units"
        learned = levels.learned_before(since, LEARNED)
        symptom = "vanishing-gradients" if learned else "loss-stuck"
        text += "." if learned else f": the loss stands at {figure(self._now())}."
        return self._candidate(symptom, RATE_HIGH, "alarm", since, text, evidence, REFUTES[RATE_HIGH])

    # Gradients that never reach the first layers

    def _vanishing(self) -> Candidate | None:
        depth, since = self._depth, self._depth.since_step
        if since is None:
            return None
        jump = self._updates.too_large(self._levels.first_step, since) if since > self._levels.first_step + 1 else None
        names = ", ".join(depth.names[:2]) + (", …" if len(depth.names) > 2 else "")
        text = f"Since step {since} the gradients die towards the first layers: {figure(depth.first)} for {names} (root mean square), "
        text += f"{figure(depth.last)} for the largest of the last layers"
        evidence = self._evidence() | {"first_layers_gradient": depth.first, "last_layers_gradient": depth.last}
        if jump is not None:
            text += f"; step {jump.step} had changed the weights by {figure(jump.ratio)} of themselves"
            evidence |= {"largest_update_to_weight": jump.ratio, "largest_update_step": jump.step}
        stands = self._not_learning()
        if stands:
            text += f"; the loss does not fall ({figure(self._levels.untrained)} at first, {figure(self._now())} now)"
        cause = "depth-or-activation" if jump is None else RATE_HIGH
        refute = "Gradients that grow back in the first layers, or a loss that falls without them."
        return self._candidate(
            "vanishing-gradients", cause, "alarm" if stands else "watch", since, text + ".", evidence, refute
        )

    def _not_learning(self) -> bool:
        """Whether the loss has not fallen since its first block, in which the last bias finds its place."""
        blocks, newest = self._levels.blocks, self._levels.newest
        if newest is None or len(blocks) < 3 or newest.last_step - self._levels.first_step < STEPS - 1:
            return False
        return not fell(blocks[1], newest, 2 * NOT_LEARNING)

    def _back_from_a_jump(self) -> int | None:
        """From which step on the loss was below where it began, after a jump: none yet is the step to come, None that there was no
        jump, or that it was back within STEPS."""
        levels, newest = self._levels, self._levels.newest
        if newest is None or not levels.highest_loss > JUMPED * levels.first_loss > 0:
            return None
        back = newest.last_step + 1 if levels.learned_from is None else levels.learned_from
        return back if back - levels.first_step >= STEPS else None

    # A loss that never left its first level

    def _stuck(self, newest: Block, vanishing: bool) -> Candidate | None:
        levels = self._levels
        end = newest.last_step + 1
        until = end if levels.moved_since is None or self._fell_by_chance(newest, end) else levels.moved_since
        full = levels.at_full_rate(until)
        steps = full[-1].last_step - full[0].first_step + 1 if full else 0
        overshot = self._updates.largest(levels.first_step, levels.first_step + EARLY)
        if overshot is not None and overshot.ratio > OVERSHOT:
            back = self._back_from_a_jump()
            if back is not None or self._not_learning():
                return self._overshot(overshot, newest, back)
        if steps < STEPS:
            return None
        structure = next((name for name in STRUCTURE if any(seen.stands for seen in self._facts.of(name))), "")
        if structure:
            cause = "unknown" if structure == "gradients-discarded" else structure
            text = f"{self._stands_text(full)}: {structure} keeps the weights still."
            return self._candidate("loss-stuck", cause, "alarm", levels.first_step, text, self._evidence(), "", until)
        if vanishing:
            text = f"{self._stands_text(full)}: the gradients do not reach the first layers."
            return self._candidate(
                "loss-stuck", VANISHING, "alarm", levels.first_step, text, self._evidence(), REFUTES[VANISHING], until
            )
        if self._dead.all_at_zero:
            text = f"{self._stands_text(full)}: the gradient of every weight matrix is zero."
            refute = "A gradient that is not zero in any of the layers."
            return self._candidate("loss-stuck", VANISHING, "alarm", levels.first_step, text, self._evidence(), refute, until)
        return self._slow(full, steps, until)

    def _fell_by_chance(self, newest: Block, end: int) -> bool:
        """Whether the loss that seemed to move is back where it began, and the updates could not have moved it."""
        full = self._levels.at_full_rate(end)
        if not full or fell(self._levels.blocks[0], newest, MOVED):
            return False
        return self._usual(full) * (end - self._levels.first_step) < STOOD_STILL

    def _overshot(self, overshot: Sample, newest: Block, back: int | None) -> Candidate:
        """An alarm, even when the loss is back at last: so many steps were lost, and what the jump killed may never come back."""
        text = f"Step {overshot.step} changed the weights by {figure(overshot.ratio)} of themselves (median over "
        text += f"{self._updates.which}), and the loss is no better than untrained since: {figure(self._levels.untrained)} at first, "
        text += f"{figure(newest.loss)} now, {figure(self._levels.highest_loss)} at worst. The learning rate was too high."
        evidence = self._evidence() | {"largest_update_to_weight": overshot.ratio, "largest_update_step": overshot.step}
        found = self._candidate(
            "loss-stuck", RATE_HIGH, "alarm", self._levels.first_step, text, evidence, REFUTES[RATE_HIGH], back
        )
        return replace(found, level="alarm")

    def _slow(self, full: list[Block], steps: int, until: int) -> Candidate | None:
        ratio, text = self._usual(full), self._stands_text(full)
        if math.isnan(ratio):
            if steps < LONG or self._attached or len(self._updates.steps):
                return None
            text += ", and neither gradients nor updates are visible that would say why."
            return self._candidate("loss-stuck", "unknown", "watch", full[0].first_step, text, {}, REFUTES["unknown"], until)
        if ratio >= LOW or (ratio >= TOO_LOW and steps < LOW_STEPS):
            return None
        level: Level = "alarm" if ratio < TOO_LOW and not self._attached else "watch"
        text += f", and each step changes the weights by {figure(ratio)} of themselves (median over {self._updates.which}): "
        text += (
            f"{figure(100 * ratio * steps)} % in all these steps at most. The learning rate ({figure(full[-1].learning_rate)}) "
        )
        text += "is too low."
        evidence = self._evidence() | {"update_to_weight": ratio, "steps": steps, "learning_rate": full[-1].learning_rate}
        return self._candidate("loss-stuck", RATE_LOW, level, full[0].first_step, text, evidence, REFUTES[RATE_LOW], until)

    def _usual(self, full: list[Block]) -> float:
        """Median ratio of the samples that lie in these blocks; NaN for too few."""
        updates = self._updates
        first = np.array([b.first_step for b in full])
        last = np.array([*[b.first_step - 1 for b in full[1:]], full[-1].last_step])
        at = np.searchsorted(first, updates.steps, side="right") - 1
        inside = (at >= 0) & (updates.steps <= last[np.maximum(at, 0)])
        return float(np.median(updates.ratios[inside])) if inside.sum() >= SAMPLES else math.nan

    # What all of them say

    def _now(self) -> float:
        return self._levels.newest.loss if self._levels.newest is not None else self._levels.first_loss

    def _stands_text(self, full: list[Block]) -> str:
        return (
            f"Over {full[-1].last_step - full[0].first_step + 1} steps at the full learning rate the loss has barely moved: "
            f"{figure(full[0].loss)} at first, {figure(full[-1].loss)} at step {full[-1].last_step}"
        )

    def _evidence(self) -> dict[str, float | int | str]:
        return {"first_loss": self._levels.first_loss, "loss": self._now()}

    def _candidate(
        self,
        symptom: str,
        cause: str,
        level: Level,
        first_step: int,
        text: str,
        evidence: dict[str, float | int | str],
        refute: str,
        until: int | None = None,
    ) -> Candidate:
        last = self._levels.newest.last_step if self._levels.newest is not None else first_step
        stands = until is None or until > last
        if not stands and until is not None:
            last = max(first_step, until - 1)
            text += f" It stood until step {last}."
        return Candidate(
            symptom=symptom,
            cause=cause,
            level=level if stands or level != "alarm" else "watch",
            first_step=first_step,
            last_step=max(first_step, last),
            summary=text,
            refute=refute or REFUTES["unknown"],
            evidence=evidence,
            stands=stands,
        )
