"""Validation passes: batches that are read and never go into backward(), mostly with a loss."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from .graph_marks import Mark, mark_graph
from .losses import noted_loss, plain_tensor
from .transfer import Transfer
from .where import Line

MARK = "forgemon-output"
MOST_OUTPUTS = 10_000
MOST_HOPS = 4
FEWEST_FORWARDS = 3
"""One after the other without gradients, of data that no loader gave, that may be a validation pass."""
MOST_NODES = 64
"""Of a graph that are looked at for the losses in a sum."""


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
        self.losses: list[tuple[str, torch.Tensor, str, int]] = []
        "Criterion's name, its value, reduction and the number of items it was taken over."
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


class EvaluationPass:
    """Sums one pass over one loader: the mean loss over items, by each batch's reduction and size. No wait for a GPU."""

    def __init__(self, first: Batch, step: int) -> None:
        # As of its first batch: its end shows only when training goes on, and a GPU's answer comes later still.
        self.step = step
        self.epoch = first.epoch
        self.metric = first.losses[0][0] if first.losses else None
        "The criterion's name; None for a pass that called none."
        self.loader = first.loader
        self.began = first.began
        self.ended = first.began
        self.where = first.where
        self.batches = 0
        self.items = 0
        self.number = 1
        "Among the passes between two training steps."
        self.exhausted = False
        "Whether its loader had no more to give."
        self.any_training: bool | None = None
        self.any_grad = False
        self.notes: dict[str, Any] = {}
        "What a probe wants to remember of it until its end is told, under the probe's own name."
        self._host_sum = 0.0
        self._device_sum: torch.Tensor | None = None
        self._is_readable = True
        "Whether its losses can be had without waiting."

    def add(self, batch: Batch) -> None:
        batch.of = self
        if self.where is None:
            self.where, self.epoch = batch.where, batch.epoch
        self.batches += batch.count
        self.ended = batch.ended
        samples = sum(output.samples for output in batch.outputs) if batch.outputs else batch.samples
        if self.metric is None and samples == samples:
            self.items += int(samples)
        self.any_grad = self.any_grad or batch.grad_enabled
        if batch.training is not None:
            self.any_training = bool(self.any_training) or batch.training
        for name, value, reduction, items in batch.losses:
            if name != self.metric or not items:
                continue
            self.items += items
            weight = 1 if reduction == "sum" else items
            if value.is_cpu:
                self._host_sum += float(value) * weight
            elif value.is_cuda:
                weighted = value.to(torch.float64) * weight
                self._device_sum = weighted if self._device_sum is None else self._device_sum + weighted
            else:
                self._is_readable = False

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


def criterion_items(name: str, values: tuple[Any, ...], ignored: int | None = None) -> int:
    """Number of items that the criterion `name` averages over: rows of the target, for class indices every one of them but those that
    are `ignored` (padding), where they can be counted without waiting for a device."""
    if name == "ctc_loss" and len(values) > 3:
        lengths = values[3]
        return int(lengths.numel()) if isinstance(lengths, torch.Tensor) else len(lengths)
    target = values[1] if len(values) > 1 else None
    tensor = target if isinstance(target, torch.Tensor) else values[0]
    if not isinstance(tensor, torch.Tensor) or tensor.dim() == 0:
        return 1
    if tensor.is_floating_point():
        return int(tensor.shape[0])
    if ignored is not None and plain_tensor(tensor) and tensor.is_cpu:
        return int((tensor != ignored).sum())
    return int(tensor.numel())


Data = tuple["weakref.ref[torch.Tensor]", int]
"""The tensor that owns the memory a model reads, and the address: the same for all views of one batch."""


def data_of(inputs: tuple[Any, ...]) -> Data | None:
    """Of the first tensor among a model's inputs."""
    first: Any = inputs[0] if inputs else None
    if isinstance(first, (tuple, list)) and first:
        first = first[0]
    if not plain_tensor(first) or first.layout is not torch.strided:
        return None
    owner: torch.Tensor = first if first._base is None else first._base
    return weakref.ref(owner), first.data_ptr()


def same_data(one: Data | None, other: Data | None) -> bool:
    if one is None or other is None:
        return False
    return one[1] == other[1] and one[0]() is not None and one[0]() is other[0]()


def reached(root: Any, batches: list[Batch]) -> list[Batch]:
    """Those of `batches` with a loss that is a part of `root`, a few operations behind it."""
    if isinstance(root, (tuple, list)):
        nodes = [tensor.grad_fn for tensor in root if plain_tensor(tensor)]
    else:
        nodes = [root.grad_fn] if plain_tensor(root) else []
    values = {id(value): batch for batch in batches for _, value, _, _ in batch.losses}
    found: list[Batch] = []
    todo = [node for node in nodes if node is not None]
    for _ in range(MOST_NODES):
        if not todo:
            break
        node: Any = todo.pop(0)
        note = noted_loss(node)
        batch = values.get(id(note.root)) if note is not None else None
        if batch is not None:
            found.append(batch)
        if note is None:
            todo += [following for following, _ in node.next_functions if following is not None]
    return found


def first_size(data: Any, depth: int = 0) -> float:
    """Rows of the first tensor in a batch, however it is nested; NaN when there is none."""
    if isinstance(data, torch.Tensor):
        return float(data.shape[0]) if data.dim() else 1.0
    if depth > 3:
        return float("nan")
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else ()
    for item in inside:
        size = first_size(item, depth + 1)
        if size == size:
            return size
    return float("nan")
