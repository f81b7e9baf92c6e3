"""What the loop does, as a small state machine over calls in the order they come; it yields step rows and evaluations.

A batch is fetched, goes forward and meets a criterion; backward() makes it a training batch, a graph that nothing goes back through, or
none at all, makes it an evaluation. Times are of the host.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from .batch_at_hand import BatchAtHand
from .evaluations import Batch, EvaluationPass
from .listener import Listener
from .losses import Loss, loss_of_root, note_scaled, plain_tensor
from .transfer import Transfer
from .window import Window


class Loop(BatchAtHand):
    """Fed by the callbacks; `window` is read and renewed at each optimizer step."""

    def __init__(self, listener: Listener, transfer: Transfer, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__(listener, transfer, clock)
        self.window = Window()
        self._blind = False
        "Whether an evaluation may have begun before we looked: nothing is said of it."
        self._backward_began = 0.0

    @property
    def is_attacked(self) -> bool:
        """Whether the newest backward() was an evaluation's, for the gradient of its inputs."""
        return self._attacks.is_newest

    # Training

    def scaled(self, output: Any, scaled: Any) -> None:
        if plain_tensor(output) and plain_tensor(scaled):
            note_scaled(output, scaled)

    def backward_began(self, root: Any) -> None:
        loss = loss_of_root(root)
        if self._attacks.began(self._batch, loss):
            self._drop_attack()
        else:
            self._decide(root)
            self.end_evaluation()
            self.tell_of_passes()
            self._blind = False
            self._went_backward(loss)
        self.activity += 1
        self._backward_began = self._clock()

    def differentiated(self) -> None:
        """torch.autograd.grad() was called."""
        if self._batch is not None and self._attacks.may_be(self._batch):
            self._drop_attack()

    def _drop_attack(self) -> None:
        if self._batch is not None:
            self._batch.went_back()
            # Without a loader it may as well be an attack for the sake of a training step.
            self._batch = None if self._batch.loader is None else self._batch

    def _trained_after_all(self, batch: Batch, loss: Loss | None) -> None:
        """What was taken for an attack; train() was forgotten."""
        if self._batch is batch:
            self._batch = None
        batch.graph = batch.had_graph  # of a model that is not known yet no forward was seen, nor its mode
        self._train(batch)
        self._went_backward(loss)
        self.end_evaluation()

    def backward_ended(self) -> None:
        if not self.is_attacked:
            self.window.backward_took(self._clock() - self._backward_began)

    def cleared(self, parameters: Callable[[], frozenset[int]]) -> None:
        """zero_grad() is called; `parameters()` are the ids of those whose gradients it clears."""
        if self.window.backwards:
            self.window.cleared(parameters())

    # Between observed steps

    def roused(self, blind: bool = False) -> None:
        """Woken in the middle of a step; `blind` when not by a call but because no step came for long."""
        self.new_window()
        self.window.complete = False
        self._blind = blind

    def note_loss(self, root: Any) -> None:
        """The loss of a step that is not observed otherwise."""
        self._went_backward(loss_of_root(root))

    def _went_backward(self, loss: Loss | None) -> None:
        self.window.went_backward(loss)
        self.training_data.went_backward(loss)

    def new_window(self) -> Window:
        """Hand over what happened since the last step and begin anew."""
        for batch, loss in self._attacks.trained(self.window.backwards):
            self._trained_after_all(batch, loss)
        self.tell_of_passes()
        window, self.window = self.window, Window()
        self._forward_depth = 0
        return window

    def awoke(self) -> None:
        """What was open when we fell asleep is over."""
        self._batch = self._ahead = None
        self._undecided.take()
        self._passes.forget()
        self._attacks.awoke()
        self._fetch_began = 0.0
        self._is_fetching = False

    def end_evaluation(self) -> None:
        """Close the validation passes: training goes on or is about to, a checkpoint is saved, or the program ends."""
        if self._batch is not None and self._batch.is_over:
            self._turn_over()
        self._note_exhausted()
        self._passes.finish()

    def tell_of_passes(self) -> None:
        """Of those that were closed, now that there is no other to tell them apart from."""
        self._passes.tell()

    def mode_set(self, training: bool) -> None:
        """train() or eval() of a model: what was computed without gradients before it does not belong to what follows."""
        self._attacks.in_evaluation = not training
        batch = self._batch
        if batch is not None and batch.forwards and not (batch.graph or batch.losses or batch.is_fetched or batch.again):
            self._batch = None
            self._evaluate(batch)

    def named(self, metric: str, value: float, step: int) -> list[EvaluationPass]:
        """The loop logged or keeps a validation loss: the passes that it is the result of."""
        if self._batch is not None and self._batch.may_be_evaluation:
            self._turn_over()
        self._note_exhausted()
        return self._passes.named(metric, value, step)

    def flush_evaluations(self) -> None:
        """The training is over: what still waits for a backward() will never get one."""
        self._turn_over()
        for batch in self._undecided.take():
            self._evaluate(batch)
        self.end_evaluation()
        self.tell_of_passes()

    def _decide(self, root: Any) -> None:
        """backward() was called: the batch at hand trains, and so do those of its kind before it; others were evaluated."""
        if self._batch is not None and self._batch.is_over:
            self._turn_over()
        batch, self._batch = self._batch, None
        for earlier, trains in self._undecided.decided(root, batch):
            (self._train if trains else self._evaluate)(earlier)
        if batch is not None:
            wasted = batch.without_wasted()
            if wasted is not None:
                self._evaluate(wasted)
            self._train(batch)

    def _train(self, batch: Batch) -> None:
        self.window.trained_on(batch)
        self.training_data.trained(batch.loader, [loss.name for loss in batch.losses if loss.has_graph])
        self._attacks.trains(batch)

    def _evaluate(self, batch: Batch) -> None:
        if self._blind:
            return
        self.window.evaluation_s += self._passes.add(batch)
        self.activity += 1
