"""What happened since the last optimizer step: the part of a step row that the loop's own calls make."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .evaluations import Batch
    from .losses import Loss

NAN = float("nan")
MOST_CLEARED = 8
"""Sets of parameters whose gradients were cleared after a backward pass that are told apart, in one step."""


class Window:
    """What happened since the last optimizer step."""

    __slots__ = (
        "backward_s",
        "backwards",
        "clipped_norm",
        "clips",
        "complete",
        "data_s",
        "evaluation_s",
        "fetched",
        "forward_s",
        "loss_scale",
        "losses",
        "samples",
        "since_cleared",
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
        self.clips = 0
        self.training: bool | None = None
        self.complete = True
        "Whether every call since the last step was seen."
        self.since_cleared: dict[frozenset[int], Window] = {}
        "By the ids of parameters whose gradients were cleared after a backward pass: what happened after it."

    def went_backward(self, loss: Loss | None) -> None:
        self.backwards += 1
        if loss is not None:
            self.losses.append(loss)
        for since in self.since_cleared.values():
            since.went_backward(loss)

    def backward_took(self, seconds: float) -> None:
        self.backward_s += seconds
        for since in self.since_cleared.values():
            since.backward_took(seconds)

    def clipped(self, norm: torch.Tensor | float | None) -> None:
        """`norm`: the 2-norm before; None where it is not known. Of several clips each may have been of a part."""
        self.clips += 1
        self.clipped_norm = norm if self.clips == 1 else None
        for since in self.since_cleared.values():
            since.clipped(norm)

    def unscale_clipped(self, scale: torch.Tensor) -> None:
        if isinstance(self.clipped_norm, torch.Tensor):
            self.clipped_norm = self.clipped_norm / scale.to(self.clipped_norm.device, non_blocking=True)
        for since in self.since_cleared.values():
            since.unscale_clipped(scale)

    def cleared(self, parameters: frozenset[int]) -> None:
        """The gradients of the parameters with these ids were cleared."""
        self.since_cleared.pop(parameters, None)  # the newest comes last
        if len(self.since_cleared) < MOST_CLEARED:
            self.since_cleared[parameters] = Window()

    def of(self, parameters: tuple[int, ...]) -> Window:
        """What of it went into a step with the parameters of these ids: only what came after their gradients were cleared last (an
        adversarial attack goes backward before, and so did a step that a GradScaler skipped)."""
        for cleared, since in reversed(self.since_cleared.items()):
            if since.backwards and cleared.issuperset(parameters):
                since.data_s, since.evaluation_s, since.complete = self.data_s, self.evaluation_s, self.complete
                return since
        return self

    def trained_on(self, batch: Batch) -> None:
        """Add what is known of a batch that trains."""
        self.data_s = plus(self.data_s, batch.fetch_s)
        self.forward_s = plus(self.forward_s, batch.forward_s)
        was_fetched = batch.fetch_s == batch.fetch_s
        if was_fetched or not self.fetched:  # a second forward of what was fetched brings no new samples
            self.samples = plus(self.samples, batch.samples)
        self.fetched = self.fetched or was_fetched
        if batch.training is not None and batch.graph:  # without gradients it was another model's: a teacher's
            self.training = batch.training
        for since in self.since_cleared.values():
            since.trained_on(batch)

    def take(self, inner: Window) -> None:
        """Add what happened inside step(). Several evaluations of one batch (LBFGS) count once, with the loss of the first."""
        again = inner.backwards if not self.backwards else 1
        self.losses += inner.losses if again == 1 else inner.losses[:1]
        self.samples = plus(self.samples, inner.samples / again)
        self.backwards += 1 if again > 1 else inner.backwards
        self.clips += inner.clips
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
