"""Validation passes: batches whose loss is computed and never goes into backward()."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .transfer import Transfer
from .where import Line


class Batch:
    """One batch from its fetch on, until it is known whether it trains or evaluates."""

    __slots__ = ("began", "fetch_s", "forward_s", "grad_enabled", "loader", "losses", "of", "samples", "training", "where")

    def __init__(self, began: float) -> None:
        self.began = began
        self.fetch_s = float("nan")
        self.forward_s = float("nan")
        self.samples = float("nan")
        self.loader: int | None = None
        self.training: bool | None = None
        self.grad_enabled = True
        self.losses: list[tuple[str, torch.Tensor, str, int]] = []
        "Criterion's name, its value, reduction and the number of items it was taken over."
        self.where: Line | None = None
        self.of: EvaluationPass | None = None
        "The pass it turned out to belong to."

    @property
    def kind(self) -> tuple[object, ...]:
        return self.training, self.loader


class EvaluationPass:
    """Sums one pass over one loader: the mean loss over items, by each batch's reduction and size. No wait for a GPU."""

    def __init__(self, first: Batch, step: int, epoch: int | None) -> None:
        # As of its first batch: its end shows only when training goes on, and a GPU's answer comes later still.
        self.step = step
        self.epoch = epoch
        self.metric = first.losses[0][0]
        self.loader = first.loader
        self.began = first.began
        self.ended = first.began
        self.where = first.where
        self.batches = 0
        self.items = 0
        self.any_training: bool | None = None
        self.any_grad = False
        self.notes: dict[str, Any] = {}
        "What a probe wants to remember of it until its end is told, under the probe's own name."
        self._host_sum = 0.0
        self._device_sum: torch.Tensor | None = None

    def add(self, batch: Batch, now: float) -> None:
        batch.of = self
        self.batches += 1
        self.ended = now
        self.any_grad = self.any_grad or batch.grad_enabled
        if batch.training is not None:
            self.any_training = bool(self.any_training) or batch.training
        for name, value, reduction, items in batch.losses:
            if name != self.metric:
                continue
            self.items += items
            weight = 1 if reduction == "sum" else items
            if value.device.type == "cpu":
                self._host_sum += float(value) * weight
            else:
                weighted = value.to(torch.float64) * weight
                self._device_sum = weighted if self._device_sum is None else self._device_sum + weighted

    def deliver(self, transfer: Transfer, done: Callable[[float], None]) -> None:
        """`done(mean loss)` as soon as it is on the host."""
        if self._device_sum is None:
            done(self._host_sum / self.items if self.items else float("nan"))
            return
        if not transfer.submit([self._device_sum], lambda values: done((values[0] + self._host_sum) / self.items), rare=True):
            done(float("nan"))


def criterion_items(values: tuple[Any, ...]) -> int:
    """Number of items a criterion averages over: rows of the target, for class indices every one of them."""
    target = values[1] if len(values) > 1 else None
    tensor = target if isinstance(target, torch.Tensor) else values[0]
    if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
        return 1
    return int(tensor.numel() if not tensor.is_floating_point() else tensor.shape[0])
