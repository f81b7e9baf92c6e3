"""What happened since the last optimizer step: the part of a step row that the loop's own calls make."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .evaluations import Batch
    from .losses import Loss

NAN = float("nan")


class Window:
    """What happened since the last optimizer step."""

    __slots__ = (
        "backward_s",
        "backwards",
        "clipped_norm",
        "complete",
        "data_s",
        "evaluation_s",
        "fetched",
        "forward_s",
        "loss_scale",
        "losses",
        "samples",
        "training",
    )

    def __init__(self) -> None:
        self.backwards = 0
        self.backward_s = 0.0
        self.data_s = NAN
        self.forward_s = NAN
        self.samples = NAN
        self.fetched = False
        self.evaluation_s = 0.0
        self.losses: list[Loss] = []
        self.loss_scale = NAN
        self.clipped_norm: torch.Tensor | float | None = None
        self.training: bool | None = None
        self.complete = True
        "Whether every call since the last step was seen."

    def trained_on(self, batch: Batch) -> None:
        """Add what is known of a batch that trains."""
        self.data_s = plus(self.data_s, batch.fetch_s)
        self.forward_s = plus(self.forward_s, batch.forward_s)
        was_fetched = batch.fetch_s == batch.fetch_s
        if was_fetched or not self.fetched:  # a second forward of what was fetched brings no new samples
            self.samples = plus(self.samples, batch.samples)
        self.fetched = self.fetched or was_fetched
        if batch.training is not None:
            self.training = batch.training

    def take(self, inner: Window) -> None:
        """Add what happened inside step(). Several evaluations of one batch (LBFGS) count once, with the loss of the first."""
        again = inner.backwards if not self.backwards else 1
        self.losses += inner.losses if again == 1 else inner.losses[:1]
        self.samples = plus(self.samples, inner.samples / again)
        self.backwards += 1 if again > 1 else inner.backwards
        self.backward_s += inner.backward_s
        self.data_s = plus(self.data_s, inner.data_s)
        self.forward_s = plus(self.forward_s, inner.forward_s)
        self.evaluation_s += inner.evaluation_s
        if inner.clipped_norm is not None:
            self.clipped_norm = inner.clipped_norm
        if inner.training is not None:
            self.training = inner.training


def plus(total: float, more: float) -> float:
    """Sum in which NaN means not seen."""
    if more != more:
        return total
    return more if total != total else total + more
