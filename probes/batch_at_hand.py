"""The batch at hand, from its fetch to its last loss: which calls belong to one and the same batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from .attacks import Attacks
from .batch_data import Data, criterion_items, data_of, first_size, same_data, summed_items
from .drivers import Driver
from .evaluations import MOST_OUTPUTS, Batch, BatchLoss, output_of
from .listener import Listener
from .losses import note_loss, plain_tensor
from .passes import Passes
from .training_data import TrainingData
from .transfer import Transfer
from .undecided import Undecided
from .window import NAN


class BatchAtHand:
    """Fed by the callbacks. What becomes of a batch that is complete, the loop knows."""

    def __init__(self, listener: Listener, transfer: Transfer, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._clock = clock
        self.training_data = TrainingData()
        self.activity = 0
        "Rises with every batch, so that a long evaluation is not taken for a stall."
        self._batch: Batch | None = None
        self._ahead: Batch | None = None
        "Fetched while the one before it had not been used yet (Accelerate does)."
        self._loader: int | None = None
        "The loader that gave the newest batch."
        self._read: tuple[Data | None, int | None] = (None, None)
        "What the newest forward read, and the loader it came from."
        self._undecided = Undecided()
        self._attacks = Attacks(self.training_data)
        self._passes = Passes(listener, transfer)
        self._fetch_began = 0.0
        self._is_fetching = False
        self._forward_began = 0.0
        self._forward_depth = 0
        self._samples_of_forward = NAN
        self._newest_output: Callable[[], torch.Tensor | None] = lambda: None
        "What a criterion returned."

    def _evaluate(self, batch: Batch) -> None:
        """It belongs to a validation pass."""
        raise NotImplementedError

    @property
    def reads_training_data(self) -> bool:
        """Whether the batch at hand is of the loader that training reads, or neither has one."""
        return (None if self._batch is None else self._batch.loader) == self.training_data.loader

    def fetch_began(self) -> None:
        batch = self._batch
        if batch is not None and batch.forward_s != batch.forward_s and not batch.losses:
            self._ahead, self._batch = batch, None
        self._turn_over()
        self._note_exhausted()
        self._fetch_began = self._clock()
        self._is_fetching = True

    def _note_exhausted(self) -> None:
        if self._is_fetching:  # a fetch that gave nothing
            self._passes.exhausted(self._loader)
            self._is_fetching = False

    def fetch_ended(self, iterator: Any, data: Any) -> None:
        now = self._clock()
        self._is_fetching = False
        batch = Batch(self._fetch_began or now)
        batch.fetch_s = now - self._fetch_began if self._fetch_began else NAN
        batch.loader = self._loader = id(iterator._index_sampler)
        batch.is_fetched = True
        batch.samples = first_size(data)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.loader == batch.loader and iterator._num_yielded > 1:
            self._batch, self._ahead = ahead, batch
        else:
            self._batch = batch
        self._read = data_of((data,)), self._loader
        self.activity += 1
        if iterator._num_yielded == 1:
            self.training_data.begins(self._loader, iterator)

    def forward_began(self, inputs: tuple[Any, ...]) -> None:
        self._forward_depth += 1
        if self._forward_depth > 1:
            return
        data, graph = data_of(inputs), torch.is_grad_enabled()
        batch = self._batch
        is_whole = batch is not None and batch.losses and not self._attacks.is_tried_again(batch)
        if batch is None or is_whole or (graph and batch.may_be_evaluation):
            batch = self._batch = self._next_batch(same_data(data, self._read[0]), graph)
        # Before that one it may be what an agent asks of its model to choose an action.
        trains_first = graph and not (batch.graph or batch.is_fetched)
        batch.graph = batch.graph or graph
        batch.forwards += 1
        # The line is wanted where this may be an evaluation, and to find it takes long: not for each batch that trains.
        trains = graph and batch.loader == self.training_data.loader and batch.forwards == 1
        if batch.where is None and not trains:
            batch.where = self._listener.line_of_forward()
        self._read = data, batch.loader
        self._samples_of_forward = first_size(inputs)
        if trains_first or batch.samples != batch.samples:
            batch.samples = self._samples_of_forward
        self._forward_began = self._clock()

    def _next_batch(self, again: bool, graph: bool) -> Batch:
        """`again`: whether the forward that begins reads what the one before it read."""
        if again and graph and self._batch is not None and self._batch.is_over:
            self._batch = None  # a number of the batch that is about to train (a teacher's loss)
        self._turn_over()
        batch, self._ahead = self._ahead or Batch(self._clock()), None
        if batch.loader is None:
            batch.again = again
            batch.loader = self._read[1] if again else None
        return batch

    def forward_ended(self, training: bool, output: Any = None) -> None:
        self._forward_depth = max(0, self._forward_depth - 1)
        batch = self._batch
        if self._forward_depth or batch is None:
            return
        took = self._clock() - self._forward_began
        batch.forward_s = took if batch.forward_s != batch.forward_s else batch.forward_s + took
        if not batch.losses:
            batch.ended = self._forward_began + took
            if not batch.is_fetched and len(batch.outputs) < MOST_OUTPUTS:
                batch.outputs.append(output_of(output, self._samples_of_forward, training, batch.ended, took))
        if batch.training is None or torch.is_grad_enabled():
            batch.training = training
        self.activity += 1

    def forward_failed(self) -> None:
        """A new step or batch began while a forward seemed open: it had raised."""
        self._forward_depth = 0

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any, ignored: int | None = None) -> None:
        """A loss function returned `output`; `ignored`: the target's class that does not count."""
        if not plain_tensor(output) or self._newest_output() is output:
            return  # the second where a mode (a default device) calls the function anew, so that two calls return the same
        self._newest_output = weakref.ref(output)
        if output.numel() != 1:
            if output.requires_grad:
                return
            output = output.mean()
        value = note_loss(output, summed_items(name, reduction, values))
        graph = output.requires_grad
        at_hand = self._batch
        by_loader = at_hand is not None and at_hand.loader is not None  # which is told apart by that: no splits are looked for
        driver = None if graph else self._listener.driver(not by_loader)
        batch = self._batch_of_criterion(name, driver)
        if driver is None and (self._undecided or self._attacks.in_evaluation):
            driver = self._listener.driver(not by_loader)
        batch.grad_enabled = batch.grad_enabled or graph
        # What trains is not weighed, and to look at its targets takes time.
        items = criterion_items(name, values, ignored if reduction in ("mean", "sum") and not graph else None)
        batch.losses.append(BatchLoss(name, value, reduction, items, driver, graph))
        batch.ended = self._clock()
        if batch.samples != batch.samples:
            batch.samples = first_size(values[0])
        if not graph or self._undecided:
            batch.where = self._listener.user_line()
            if not self._passes.goes_on(batch):
                batch.epoch = self._listener.epoch()  # looked for among the variables of the program's frames

    def _batch_of_criterion(self, name: str, driver: Driver | None) -> Batch:
        if self._batch is not None and self._batch.is_over and self._batch.has_met(name, driver):
            self._turn_over()  # forwards that we do not see
        batch = self._batch
        if batch is None:
            batch = self._batch = Batch(self._clock())
            batch.loader = self._loader
        if batch.training is None:
            batch.training = self._listener.training_mode()
        return batch

    def _turn_over(self) -> None:
        """The batch at hand is complete; whether it trains shows at the next backward()."""
        batch, self._batch = self._batch, None
        if batch is None or not (batch.losses or batch.may_be_evaluation or (batch.graph and batch.is_fetched)):
            return
        if not (batch.is_over or batch.may_be_evaluation):
            batch.grad_enabled = batch.grad_enabled or not batch.losses
            self._undecided.add(batch)
        elif not batch.again:
            self._evaluate(batch)
