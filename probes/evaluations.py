"""Validation passes: batches that are read and never go into backward(), mostly with a loss."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .drivers import Driver, same_call, same_driver
from .graph_marks import Mark, mark_graph
from .losses import plain_tensor
from .transfer import Transfer
from .where import Line

MARK = "forgemon-output"
MOST_OUTPUTS = 10_000
MOST_HOPS = 4
MOST_LOSSES = 1000
"""Of one batch."""
FEWEST_FORWARDS = 3
"""One after the other without gradients, of data that no loader gave, that may be a validation pass."""


class Output(NamedTuple):
    """What a model returned."""

    graph: weakref.ref[Mark] | None
    "None where it has no graph."
    samples: float
    training: bool
    ended: float
    took_s: float


def output_of(value: Any, samples: float, training: bool, ended: float, took_s: float) -> Output:
    """Of the first tensor among the values, however it is nested. Classes of the program's are not asked."""
    for _ in range(MOST_HOPS):
        kind = type(value)
        if issubclass(kind, dict):
            value = next(iter(dict.values(value)), None)
        elif issubclass(kind, (tuple, list)):
            inside: Any = (list if issubclass(kind, list) else tuple).__iter__(value)
            value = next(inside, None)
    if not plain_tensor(value) or value.grad_fn is None:
        return Output(None, samples, training, ended, took_s)
    return Output(mark_graph(MARK, value), samples, training, ended, took_s)


class BatchLoss(NamedTuple):
    """What a criterion returned for a batch."""

    name: str
    "The criterion's."
    value: torch.Tensor
    reduction: str
    items: int
    "Over which it was taken."
    driver: Driver | None = None
    "None where it was not looked for."
    has_graph: bool = False


class Batch:
    """One batch from its fetch on, until it is known whether it trains or evaluates."""

    __slots__ = (
        "again",
        "began",
        "ended",
        "epoch",
        "fetch_s",
        "forward_s",
        "forwards",
        "grad_enabled",
        "graph",
        "had_graph",
        "is_fetched",
        "loader",
        "losses",
        "of",
        "outputs",
        "samples",
        "training",
        "where",
    )

    def __init__(self, began: float) -> None:
        self.began = began
        self.ended = began
        "At its newest loss, or output where it has no loss."
        self.again = False
        "Whether it reads the same tensor as the batch before it."
        self.graph = False
        "Whether a model was called with gradients enabled."
        self.had_graph = False
        "The same, of before it was gone back through."
        self.forwards = 0
        self.is_fetched = False
        "Whether a DataLoader gave it."
        self.fetch_s = float("nan")
        self.forward_s = float("nan")
        self.samples = float("nan")
        self.loader: int | None = None
        self.training: bool | None = None
        self.grad_enabled = False
        "Whether one of its losses has a graph."
        self.losses: list[BatchLoss] = []
        self.where: Line | None = None
        self.epoch: int | None = None
        self.outputs: list[Output] = []
        "Of the models called for it, where no loader gave it, in their order."
        self.of: EvaluationPass | None = None
        "The pass it turned out to belong to."

    def without_wasted(self) -> Batch | None:
        """Take out the forwards before the newest whose graphs are gone, though no backward() came: they were an evaluation's, of
        which nothing had told this batch apart. None where they are too few."""
        gone = [output for output in self.outputs[:-1] if output.graph is not None and output.graph() is None]
        if len(gone) < FEWEST_FORWARDS or self.losses:
            return None
        self.outputs = [output for output in self.outputs if output not in gone]
        self.samples, self.forward_s = self.outputs[0].samples, sum(output.took_s for output in self.outputs)
        found = Batch(self.began)
        found.ended, found.training, found.where = gone[-1].ended, gone[0].training, self.where
        found.graph = found.grad_enabled = True
        found.forwards, found.samples = len(gone), sum(output.samples for output in gone)
        return found

    @property
    def is_over(self) -> bool:
        """Whether no backward() can follow: it has losses, and neither they nor the outputs have a graph."""
        return bool(self.losses) and not self.graph and not self.grad_enabled

    @property
    def may_be_evaluation(self) -> bool:
        """Whether it has outputs without a graph and no loss, so that nothing but an evaluation could have been made of it."""
        enough = self.forwards if self.is_fetched else self.forwards >= FEWEST_FORWARDS
        return bool(enough) and not (self.losses or self.graph or self.again)

    @property
    def count(self) -> int:
        """Batches it stands for: where no loader tells them apart, each forward is one."""
        return 1 if self.is_fetched else max(1, self.forwards)

    @property
    def kind(self) -> tuple[object, ...]:
        return self.training, self.loader

    def went_back(self) -> None:
        """Its losses were gone back through, for the gradient of its inputs: nothing more will be."""
        self.had_graph = self.had_graph or self.graph
        self.graph = self.grad_enabled = False

    def has_met(self, name: str, driver: Driver | None) -> bool:
        """Whether it was given to the criterion by the same call before: the next batch, where no fetch tells them apart."""
        if self.is_fetched and len(self.losses) < MOST_LOSSES:
            return False
        return any(loss.name == name and same_call(loss.driver, driver) for loss in self.losses)


class EvaluationPass:
    """Sums one criterion over one pass: the mean loss over items, by each batch's reduction and size. No wait for a GPU."""

    def __init__(self, first: Batch, step: int, loss: BatchLoss | None = None) -> None:
        loss = loss or (first.losses[0] if first.losses else None)
        # As of its first batch: its end shows only when training goes on, and a GPU's answer comes later still.
        self.step = step
        self.epoch = first.epoch
        self.metric = None if loss is None else loss.name
        "The criterion's name; None for a pass that called none."
        self.driver = self.driven_by = None if loss is None else loss.driver
        "Of its criterion; and of the first batch of which it was looked for."
        self.loader = first.loader
        self.began = first.began
        self.ended = first.began
        self.where = (self.driver and self.driver.line) or first.where
        self.batches = 0
        self.items = 0
        self.exhausted = False
        "Whether its loader had no more to give."
        self.any_training: bool | None = None
        self.any_grad = False
        self.of = object()
        "The same for all criteria of one pass: the pass itself would be held in a ring, and what it sums until the next collection."
        self.beside: list[EvaluationPass] = []
        "Of the other criteria that its batches met, or of the same one called from elsewhere."
        self.notes: dict[str, Any] = {}
        "What a probe wants to remember of it until its end is told, under the probe's own name."
        self._met = 0
        "Batches that met its criterion."
        self._met_by_name: dict[str, int] = {}
        self._host_sum = 0.0
        self._device_sum: torch.Tensor | None = None
        self._is_readable = True
        "Whether its losses can be had without waiting."

    def takes(self, batch: Batch) -> bool:
        """Whether it goes on with `batch`: of the same loader; or, where none gave it, driven by the same calls and named split."""
        if self.loader != batch.loader or (self.metric is not None) != bool(batch.losses):
            return False
        if self.exhausted and batch.is_fetched:
            return False  # the same loader from its beginning: another model, or another pass
        return self.loader is not None or self.metric is None or same_driver(self.driven_by, batch.losses[0].driver)

    def add(self, batch: Batch) -> None:
        batch.of = self
        self._count(batch)
        samples = sum(output.samples for output in batch.outputs) if batch.outputs else batch.samples
        if self.metric is None and samples == samples:
            self.items += int(samples)
        for name in dict.fromkeys(loss.name for loss in batch.losses):  # in their order, and not in that of hashes
            self._met_by_name[name] = self._met_by_name.get(name, 0) + batch.count
        if self.driven_by is None and batch.losses:
            self.driven_by = batch.losses[0].driver
        met: list[EvaluationPass] = []
        for loss in batch.losses:
            one = self._result(loss, batch)
            if one not in met:
                met.append(one)
                one._met += batch.count
            one._weigh(loss)
        for one in met:
            if one is not self:
                one._count(batch)

    def _count(self, batch: Batch) -> None:
        if self.where is None:
            self.where, self.epoch = batch.where, batch.epoch
        self.batches += batch.count
        self.ended = batch.ended
        self.any_grad = self.any_grad or (batch.grad_enabled and not batch.losses)
        if batch.training is not None:
            self.any_training = bool(self.any_training) or batch.training

    def _result(self, loss: BatchLoss, batch: Batch) -> EvaluationPass:
        """The one of this pass that `loss` belongs to."""
        for one in (self, *self.beside):
            if one.metric == loss.name and same_call(one.driver, loss.driver):
                break
        else:
            one = EvaluationPass(batch, self.step, loss)
            one.of = self.of
            self.beside.append(one)
        return one

    def _weigh(self, loss: BatchLoss) -> None:
        self.any_grad = self.any_grad or loss.has_graph
        self.items += loss.items
        weight = 1 if loss.reduction == "sum" else loss.items
        if loss.value.is_cpu:
            self._host_sum += float(loss.value) * weight if loss.items else 0.0
        elif loss.value.is_cuda:
            self._add_on_device(loss.value.to(torch.float64) * weight if loss.items else None)
        else:
            self._is_readable = False

    def _add_on_device(self, weighted: torch.Tensor | None) -> None:
        if weighted is not None:
            self._device_sum = weighted if self._device_sum is None else self._device_sum + weighted

    def results(self) -> list[EvaluationPass]:
        """One for each criterion. Calls of the same one have a result each where a batch met several, and one where they are branches."""
        found: list[EvaluationPass] = []
        for name, met in self._met_by_name.items():
            alike = [one for one in (self, *self.beside) if one.metric == name]
            if sum(one._met for one in alike) <= met:
                for other in alike[1:]:
                    alike[0]._absorb(other)
                found.append(alike[0])
            elif all(one.driver is not None for one in alike):  # else which call's losses some of them were is not known
                found += alike
        return found

    def _absorb(self, other: EvaluationPass) -> None:
        self.driver = self.driver or other.driver
        self._met += other._met
        self.batches = max(self.batches, self._met)
        self.items += other.items
        self._host_sum += other._host_sum
        self._add_on_device(other._device_sum)
        self._is_readable = self._is_readable and other._is_readable

    @property
    def is_whole(self) -> bool:
        """Whether it is more than a single batch of a loader that could have given another."""
        return self.loader is None or self.batches > 1 or self.exhausted

    def deliver(self, transfer: Transfer, done: Callable[[float], None]) -> None:
        """`done(mean loss)` as soon as it is on the host; never where that would have to be waited for."""
        if not self._is_readable:
            return
        if self._device_sum is None:
            done(self._host_sum / self.items if self.items else float("nan"))
            return
        transfer.submit([self._device_sum], lambda values: done((values[0] + self._host_sum) / self.items), rare=True)
