"""accumulation-not-scaled: several backwards to one step, each on the undivided mean loss."""

from __future__ import annotations

from typing import ClassVar

from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.journal import flag, text, whole

SCALE_DEPENDENT = frozenset({"SGD", "ASGD"})
"""Optimizers whose step is known to grow with the gradient; of an optimizer of the program's own that is not known."""


class Accumulation(FactDetector):
    """Exact: each of the windows' losses was a mean that nothing had divided, three steps in a row."""

    symptoms: ClassVar[tuple[str, ...]] = ("accumulation-not-scaled",)

    def judge(self, symptom: str, seen: Seen) -> Verdict:
        fact, optimizer = seen.newest, self.facts.optimizer(seen)
        count, clipped = whole(fact, "micro_batches"), flag(fact, "clipped") is True
        grows = flag(fact, "scale_free") is False and text(fact, "optimizer") in SCALE_DEPENDENT
        if clipped:
            follows = f"The clip sees a gradient {count} times too large and cuts more than it is meant to."
        elif grows:
            follows = f"The step is {count} times as large as that of one such batch."
        else:
            follows = f"{optimizer} may not mind the scale; its eps and any weight decay or clipping in the gradient would."
        return Verdict(
            "alarm" if clipped or grows else "watch",
            f"At step {seen.last_step} {optimizer} used the sum of {count} gradients, each of the undivided mean of "
            f"{text(fact, 'criterion') or 'its loss'} over a micro-batch. {follows}",
            f"A division of the loss, or of the gradients, by {count}; reduction='sum'; or a learning rate chosen for the sum.",
            evidence(fact, "optimizer", "micro_batches", "criterion", "clipped", "scale_free"),
            about=optimizer,
        )
