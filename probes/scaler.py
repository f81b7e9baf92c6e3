"""GradScaler: the loss scale at each step, the steps it skipped, and gradient norms without the scale.

A skip costs nobody an optimizer step where the scaler itself looks at the gradients. Fused optimizers are always called: they get the
scale and a flag, and unscale or skip inside their kernel, so that their gradients are still scaled when the step begins.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from .guard import AWAKE
from .known import Known
from .losses import GRAD_SCALER
from .probe import Probe

if TYPE_CHECKING:
    from .instruments import Instruments
    from .session import Session


class Skips:
    """Of one optimizer."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.unasked: list[torch.Tensor] = []
        "Skips inside a fused kernel while the probes slept, counted on each device."


class Scaler(Probe):
    """Steps skipped since the row before stand in the column `skipped_steps`, the scale in `loss_scale`."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._skipped_since_row = 0.0
        self._steps_with_us = False
        self._skips: weakref.WeakKeyDictionary[Known, Skips] = weakref.WeakKeyDictionary()
        self._scaler: weakref.ref[torch.amp.GradScaler] | None = None
        "The one that scaled a loss since the last step, or whose step() is under way."
        self._steps_before = 0

    def install(self, instruments: Instruments) -> None:
        instruments.always(GRAD_SCALER.step, self._step_begins, self._step_ended)

    def columns(self) -> dict[str, float]:
        taken, self._skipped_since_row = self._skipped_since_row, 0.0
        return {"skipped_steps": taken if self._steps_with_us else float("nan")}

    def awoke(self) -> None:
        self._scaler = None

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        if scaled is not output:
            self._scaler = weakref.ref(scaler)

    # Steps of the optimizer

    def step_begins(self, known: Known) -> None:
        scale = self._scale()
        window = known.now.window
        if scale is None or window is None:
            return

        def deliver(values: list[float]) -> None:
            window.loss_scale = values[0]

        self.session.transfer.submit([scale], deliver)
        inside = getattr(known.optimizer(), "grad_scale", None)
        if isinstance(inside, torch.Tensor) and known.now.norms:
            known.now.norms = _divided(known.now.norms, inside)

    def step_ended(self, known: Known) -> None:
        self._scaler = None

    def _scale(self) -> torch.Tensor | None:
        scale = getattr(self._scaler() if self._scaler is not None else None, "_scale", None)
        return scale if isinstance(scale, torch.Tensor) else None

    # Steps of the scaler, seen whether the probes are awake or not

    def _step_begins(self, values: tuple[Any, ...]) -> None:
        if values[0]._enabled:
            self._steps_with_us = True
            self._scaler = weakref.ref(values[0])
            self._steps_before = self.session.steps.know(values[1]).steps

    def _step_ended(self, values: tuple[Any, ...], result: Any) -> None:
        scaler, optimizer = values[0], values[1]
        if not scaler._enabled:
            return
        known = self.session.steps.know(optimizer)
        self._scaler = None
        if known.steps == self._steps_before:
            self.session.first_step()
            self._skipped(known, 1.0, scaler._scale)
        elif getattr(optimizer, "_step_supports_amp_scaling", False):
            self._ask(known, scaler, optimizer)
        else:
            self._skipped(known, 0.0, scaler._scale)

    def _ask(self, known: Known, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """A fused optimizer was called; whether its kernel skipped stands on the device."""
        found = list(scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values())
        if not found or scaler._scale is None:
            return
        skips = self._skips.setdefault(known, Skips())
        before, skips.unasked = skips.unasked, []
        alike = [one.device for one in before] == [one.device for one in found]
        # Copies, because GradScaler adds up in its own.
        totals = [new + old for new, old in zip(found, before, strict=True)] if alike else [one.clone() for one in found]
        if totals[0].device.type != "cpu" and self.session.guard.mode != AWAKE:
            skips.unasked = totals
            return
        step = self.session.steps.step
        self.session.transfer.submit(
            [*totals, scaler._scale], lambda values: self._count(known, max(values[:-1]), values[-1], step), rare=True
        )

    def _skipped(self, known: Known, skipped: float, scale: torch.Tensor | None) -> None:
        if not skipped:
            skips = self._skips.get(known)
            if skips is not None:
                skips.in_a_row = 0
        elif scale is not None:
            step = self.session.steps.step
            self.session.transfer.submit([scale], lambda values: self._count(known, 1.0, values[0], step), rare=True)

    def _count(self, known: Known, skipped: float, scale: float, step: int) -> None:
        skips = self._skips.setdefault(known, Skips())
        if not skipped:
            skips.in_a_row = 0
            return
        self._skipped_since_row += skipped
        before, skips.in_a_row = skips.in_a_row, skips.in_a_row + int(skipped)
        if before.bit_length() != skips.in_a_row.bit_length():  # the 1st, 2nd, 4th, 8th … is among them
            self.session.emit("skipped", optimizer=known.index, times_in_a_row=skips.in_a_row, loss_scale=scale, at_step=step)


def _divided(norms: list[torch.Tensor], scale: torch.Tensor) -> list[torch.Tensor]:
    """`norms` without the scale, device by device, in their order."""
    divided = list(norms)
    for device in {norm.device for norm in norms}:
        places = [place for place, norm in enumerate(norms) if norm.device == device]
        inverse = scale.to(device, non_blocking=True).reciprocal()
        for place, norm in zip(places, torch._foreach_mul([norms[p] for p in places], inverse), strict=True):
            divided[place] = norm
    return divided
