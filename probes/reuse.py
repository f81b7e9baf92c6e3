"""Gradients that an optimizer applies a second time because nothing cleared them: missing zero_grad(), exactly.

After a step every gradient is *used*. When a backward pass begins and finds a used gradient still there, the same tensor and
unwritten since (its version counter stands still), the pass will add onto it. If the same optimizer then steps on that sum, it
applies the old part again. Zeroing in place moves the version counter, zeroing by None drops the tensor, so any way of clearing ends
the suspicion; gradients of one optimizer polluted by another's backward are cleared before their own step and never reach it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from .where import Line

CHECKED = 32
"""Parameters of each optimizer that are checked at every step, spread evenly over all of them."""


class Reuse(NamedTuple):
    """What one step was found to apply."""

    checked: int
    "Gradients; where none was reused one of them tells."
    reused: int
    parameter: torch.Tensor | None
    "The first one whose gradient was used before."
    where: Line | None
    "The user's line of the backward call that added onto it."


class _Suspect:
    """A gradient that a backward pass began to add onto."""

    __slots__ = ("added", "before", "identity", "parameter", "version")

    def __init__(self, parameter: torch.Tensor, gradient: torch.Tensor) -> None:
        self.parameter = parameter
        self.before: torch.Tensor | None = gradient
        "Held during the pass alone, so that a new tensor cannot come to its address."
        self.identity = id(gradient)
        self.version = gradient._version
        self.added = False


class GradientReuse:
    """The gradients of one optimizer between its steps. Costs two attribute reads a checked parameter, no tensor operation."""

    def __init__(self, parameters: Sequence[torch.Tensor]) -> None:
        trainable = [p for p in parameters if p.requires_grad]
        spread = max(1, -(-len(trainable) // CHECKED))
        self._sample = trainable[::spread]
        self._used: list[tuple[torch.Tensor, int, int]] | None = None
        self._suspects: list[_Suspect] = []
        self._rewritten = False
        self._where: Line | None = None

    def stepped(self) -> None:
        """The optimizer has just applied the gradients."""
        self._suspects = []
        self._rewritten = False
        self._used = []
        for parameter in self._sample:
            gradient = parameter.grad
            if gradient is not None:
                self._used.append((parameter, id(gradient), gradient._version))

    def unknown(self) -> None:
        """The step that was just taken is not followed up, so that nothing can be said of the next."""
        self._suspects = []
        self._used = None

    def backward_begins(self, user_line: Callable[[], Line | None]) -> None:
        if self._suspects:
            self._drop_cleared()
        if not self._used:
            return
        for parameter, identity, version in self._used:
            gradient = parameter.grad
            if gradient is not None and id(gradient) == identity and gradient._version == version:
                self._suspects.append(_Suspect(parameter, gradient))
        self._used.clear()
        if self._suspects:
            self._where = user_line()

    def backward_ended(self) -> None:
        for suspect in self._suspects:
            before, suspect.before = suspect.before, None
            gradient = suspect.parameter.grad
            if gradient is None or before is None:
                continue
            # With create_graph the sum is a new tensor; it still contains the old one.
            if gradient is not before or gradient._version != suspect.version:
                suspect.added = True
                suspect.identity, suspect.version = id(gradient), gradient._version

    def cleared(self) -> None:
        """zero_grad() was called for these parameters."""
        self._suspects = []
        if self._used:
            self._used = []

    def rewritten(self) -> None:
        """Clipping or unscaling wrote the gradients in place, which is no clearing."""
        self._rewritten = True

    def at_step(self) -> Reuse | None:
        """What the step that begins now applies; None when there was no step before to compare with."""
        if self._used is None:
            return None
        if self._suspects:
            self._drop_cleared(at_step=True)
        reused = [s for s in self._suspects if s.added]
        if not reused:
            return Reuse(int(any(p.grad is not None for p in self._sample)), 0, None, None)
        checked = len([None for p in self._sample if p.grad is not None])
        return Reuse(checked, len(reused), reused[0].parameter, self._where)

    def _drop_cleared(self, at_step: bool = False) -> None:
        kept = []
        for suspect in self._suspects:
            gradient = suspect.parameter.grad
            if gradient is None or id(gradient) != suspect.identity:
                continue
            if gradient._version != suspect.version and not (self._rewritten and at_step) and _may_be_zero(gradient):
                continue
            suspect.version = gradient._version
            suspect.before = None if at_step else gradient
            kept.append(suspect)
        self._suspects = kept


def _may_be_zero(gradient: torch.Tensor) -> bool:
    """Whether something cleared the gradient in place. Read on the CPU alone; elsewhere the loop gets the benefit of the doubt."""
    if gradient.device.type != "cpu":
        return True
    values = gradient._values() if gradient.is_sparse else gradient
    return not bool(values.any())
