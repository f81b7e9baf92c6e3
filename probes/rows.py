"""One row of steps.npy, from what is known at the step and the numbers that may come from a GPU later."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch

from .losses import are_shares, undivided
from .record import STEP_COLUMNS
from .reuse import Reuse
from .window import NAN, Window


class Row:
    """A row that waits for its `scalars`: two for each loss (root, criterion), then the norm before clipping where there is one."""

    def __init__(
        self,
        step: int,
        when: float,
        optimizer: int,
        learning_rate: float,
        window: Window,
        reuse: Reuse | None,
        numbers: Mapping[str, float],
        accumulates: int = 1,
        passes: Collection[int] = (),
        had_shares: bool = False,
    ) -> None:
        """`accumulates`: by how many micro-batches the loop divides its losses; 1 where it does not. `passes`: numbers of backward passes
        that its steps had. `had_shares`: whether the losses of a step before were shares in one, which padding can hide in this one."""
        self.step = step
        self._when = when
        self._optimizer = optimizer
        self._rate = learning_rate
        self._numbers = numbers
        # Numbers alone from here on: what waits to be written keeps no tensor of the loop's alive.
        self._reused = reuse.reused / reuse.checked if reuse is not None and reuse.checked else NAN
        self._samples, self._backwards, self._training = window.samples, window.backwards, window.training
        self._scale = NAN
        self._data_s, self._forward_s, self._backward_s = window.data_s, window.forward_s, window.backward_s
        self._losses = len(window.losses)
        self._passes = passes
        self._factors = [accumulates if abs(loss.divided_by - accumulates) < 1e-6 else 1 for loss in window.losses]
        self._summed = [loss.summed for loss in window.losses]
        self.scalars: list[torch.Tensor] = [
            t for loss in window.losses for t in (loss.root, loss.root if loss.criterion is None else loss.criterion)
        ]
        self.are_shares = had_shares and all(number == number for number in self._summed)
        "Whether its losses are shares in one."
        self.loss = NAN
        "Mean over the micro-batches; a NaN in any of them shows. NaN without any, or before `take`."
        self._norms: Sequence[float] = ()
        self._numbers_on_device: Sequence[float] = ()
        clipped = window.clipped_norm
        self._clipped = isinstance(clipped, torch.Tensor) and clipped.dim() == 0
        if isinstance(clipped, torch.Tensor) and self._clipped:
            self.scalars.append(clipped)

    def take(self, norms: Sequence[float], numbers: Sequence[float], scale: float = NAN) -> None:
        """The numbers have arrived. `norms`: of the parameters that have a gradient; `numbers`: of `scalars`; `scale`: of the loss."""
        self._norms, self._numbers_on_device, self._scale, self.scalars = norms, numbers, scale, []
        pairs = [(numbers[2 * i], numbers[2 * i + 1]) for i in range(self._losses)]
        self.are_shares = self.are_shares or are_shares(pairs, self._summed)
        losses = undivided(pairs, self._passes, self._factors, self.are_shares)
        self.loss = sum(losses) / self._losses if losses else NAN

    def __iter__(self) -> Iterator[float]:
        """All columns in their order; put together on the thread that writes them."""
        norms = self._norms
        known: dict[str, float] = {
            "step": self.step,
            "time": self._when,
            "optimizer": self._optimizer,
            "loss": self.loss,
            "learning_rate": self._rate,
            "loss_scale": self._scale,
            "gradient_norm": math.hypot(*norms) if norms else NAN,
            "gradient_norm_before_clip": self._numbers_on_device[-1] if self._clipped else NAN,
            "batch_size": self._samples,
            "micro_batches": float(self._backwards) if self._backwards else NAN,
            "training": NAN if self._training is None else float(self._training),
            "losses": float(self._losses) if self._losses else NAN,
            "gradients": float(len(norms)) if norms else NAN,
            "gradients_reused": self._reused,
            "data_s": self._data_s,
            "forward_s": self._forward_s,
            "backward_s": self._backward_s if self._backward_s else NAN,
            **self._numbers,
        }
        return iter([known.get(column[0], NAN) for column in STEP_COLUMNS])


class GradientRow:
    """One row of gradients-T.npy."""

    def __init__(self, step: int, count: int, columns: Sequence[int], indices: Sequence[int], norms: Sequence[float]) -> None:
        """`columns` of the parameters, of which those at `indices` have `norms`; `count`: of all columns."""
        self._row = step, count, columns, indices, norms

    def __iter__(self) -> Iterator[float]:
        """The step and all columns; put together on the thread that writes them."""
        step, count, columns, indices, norms = self._row
        by_column = [NAN] * count
        for index, norm in zip(indices, norms, strict=True):
            by_column[columns[index]] = norm
        return iter([step, *by_column])
