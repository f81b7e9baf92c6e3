"""clip-before-backward, clip-after-step and clip-scaled-gradients: gradients are clipped when it does no good."""

from __future__ import annotations

import math
from typing import ClassVar

from forgemon.detectors.candidate import figure
from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.journal import number

LIMIT_OF_SCALE = 0.05
PLAIN_LIMIT = 20.0
"""A limit above this, and above that share of the loss scale, was multiplied by the scale on purpose."""


class ClipPlace(FactDetector):
    """Exact: the probe sees clip, backward and step in their order, two windows in a row."""

    symptoms: ClassVar[tuple[str, ...]] = ("clip-before-backward", "clip-after-step", "clip-scaled-gradients")

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        limit, norm = number(seen.newest, "limit"), number(seen.newest, "norm")
        if math.isinf(limit):
            return None  # asks for the norm and clips nothing
        optimizer = self.facts.optimizer(seen)
        if symptom == "clip-scaled-gradients":
            return self._scaled(seen, limit, norm, optimizer)
        of = f" to {figure(limit)}" if math.isfinite(limit) else ""
        found = f" (the norm it found: {figure(norm)})" if math.isfinite(norm) else ""
        if symptom == "clip-before-backward":
            said = (
                f"At step {seen.last_step} gradients were clipped{of} before backward() had made them{found}; {optimizer} then "
            )
            said += "applied the new ones unclipped."
        else:
            said = f"At step {seen.last_step} gradients were clipped{of} after {optimizer} had already applied them{found}: the step "
            said += "itself was unclipped."
        return Verdict(
            "alarm",
            said,
            "A clip of these parameters between backward() and step() in the same iteration.",
            evidence(seen.newest, "norm", "limit"),
            about=optimizer,
        )

    def _scaled(self, seen: Seen, limit: float, norm: float, optimizer: str) -> Verdict:
        scale = number(seen.newest, "loss_scale")
        on_purpose = limit > PLAIN_LIMIT and limit >= LIMIT_OF_SCALE * scale
        idle = norm <= limit
        said = f"At step {seen.last_step} the gradients of {optimizer} were clipped to {figure(limit)} while still multiplied by the "
        said += f"loss scale {scale:g}"
        if math.isfinite(norm):
            said += f": a norm of {figure(norm)} that without it is {figure(norm / scale)}. " if scale else ". "
        else:
            said += ". "
        if idle:
            said += "So far the limit was not reached."
        elif on_purpose:
            said += "The limit may have been multiplied by the scale on purpose."
        else:
            said += f"What is left of them is at most {figure(limit / scale)}." if scale else ""
        return Verdict(
            "watch" if idle or on_purpose else "alarm",
            said.rstrip(),
            "scaler.unscale_(optimizer) before the clip, or a limit that was multiplied by the loss scale.",
            evidence(seen.newest, "norm", "limit", "loss_scale"),
            about=optimizer,
        )
