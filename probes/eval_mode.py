"""eval-in-train-mode: a validation pass ran with Dropout or BatchNorm in training mode."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from .batch_data import Data, data_of, same_data
from .modes import Counter, ModelModes, Modes, has_advanced
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .evaluations import Batch, EvaluationPass
    from .session import Session

MOST_FORWARDS = 64
MOST_BATCHES = 1000
"""Of one pass, by which it is judged."""
NOTE = "eval-in-train-mode"


class _Forward:
    """One call of a root module."""

    __slots__ = ("counter", "grad", "modes", "of_training_data", "root", "training", "where")

    def __init__(self, root: torch.nn.Module, training: bool, where: Line | None) -> None:
        self.root = weakref.ref(root)
        self.training = training
        self.grad = torch.is_grad_enabled()
        self.of_training_data = False
        self.modes: Modes | None = None
        self.counter: Counter | None = None
        self.where = where


class _Seen:
    """What was seen of one validation batch."""

    __slots__ = ("advanced", "modes", "where")

    def __init__(self, modes: Modes, advanced: bool | None, where: Line | None) -> None:
        self.modes = modes
        self.advanced = advanced
        self.where = where


class EvalInTrainMode(Probe):
    """Notes the mode of each model as it is called; which calls were validation shows at the criterion or at the next backward."""

    signals = ("validation modes",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._models: dict[int, tuple[weakref.ref[torch.nn.Module], ModelModes]] = {}
        self._forwards: deque[_Forward] = deque(maxlen=MOST_FORWARDS)
        "Since the last backward or validation batch."
        self._training_input: Data | None = None
        self._fetched_since_backward = False

    def awoke(self) -> None:
        self._forwards.clear()
        self._training_input = None
        self._fetched_since_backward = False

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        self._fetched_since_backward = True

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        data = data_of(inputs)
        loop = self.session.loop
        of_training = torch.is_grad_enabled() and root.training and loop.reads_training_data
        if of_training and not self._forwards and loop.training_data.loader is not None:
            self._training_input = data  # of the loader of which nothing is said, with none before it to tell from
            return
        # In the training loop nobody asks for the line, and to find it is what costs most here.
        forward = _Forward(root, root.training, None if of_training else self.session.line_of_forward())
        model = self._model(root)
        forward.counter = model.counter(root)
        if forward.grad and root.training:
            # In the training loop this is all; the modules are asked when it turns out to have been validation.
            self._training_input = data
        else:
            forward.of_training_data = same_data(data, self._training_input)
            forward.modes = model.now(root)
        self._forwards.append(forward)

    def backward_begins(self, root: Any) -> None:
        if self.session.loop.is_attacked:
            return
        self._forwards.clear()
        self._fetched_since_backward = False

    def evaluation_batch(self, batch: Batch) -> None:
        forwards = self._of_batch(batch)
        seen = [(forward, modes) for forward in forwards if (modes := self._modes_of(forward)) is not None]
        if not batch.grad_enabled:
            self._forwards.clear()
        if not seen or batch.of is None:
            return
        # Of several models that take part, the one that was forgotten.
        forward, modes = next((one for one in seen if one[1].wrong_for_validation), seen[0])
        written = forwards[-1].counter if batch.grad_enabled else None
        noted: list[_Seen] = batch.of.notes.setdefault(NOTE, [])
        if len(noted) >= MOST_BATCHES:
            return
        noted.append(_Seen(modes, has_advanced(forward.counter, written), forward.where))

    def _of_batch(self, batch: Batch) -> list[_Forward]:
        if (
            batch.grad_enabled
        ):  # told at the backward that followed: the calls of several batches, the last is the one that trains
            return [forward for forward in self._forwards if forward.grad and forward.training == batch.training]
        if batch.loader is None and not self._fetched_since_backward and self.session.loop.training_data.loader is not None:
            return []  # of the training batch once more, or of data that no loader gave: not known
        # A number taken from the outputs of the training batch, or of its inputs once more, is no validation.
        return [
            forward for forward in self._forwards if not (forward.grad and forward.training) and not forward.of_training_data
        ]

    def _modes_of(self, forward: _Forward) -> Modes | None:
        root = forward.root()
        if forward.modes is None and root is not None and root.training == forward.training:
            forward.modes = self._model(root).now(root)
        return forward.modes

    def _model(self, root: torch.nn.Module) -> ModelModes:
        # By identity: a module may have an __eq__ of its own.
        reference, model = self._models.get(id(root), (None, None))
        if reference is None or model is None or reference() is not root:
            self._models = {key: entry for key, entry in self._models.items() if entry[0]() is not None}
            model = ModelModes()
            self._models[id(root)] = weakref.ref(root), model
        return model

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        seen: list[_Seen] = finished.notes.get(NOTE, [])
        if not seen or (finished.loader is not None and finished.loader == self.session.loop.training_data.loader):
            return
        self.session.signals.seen("validation modes")
        wrong = [batch for batch in seen if batch.modes.wrong_for_validation]
        if 2 * len(wrong) <= len(seen):
            self.session.facts.absent(NOTE, metric)
            return
        first = wrong[0]
        advanced = [batch.advanced for batch in wrong if batch.advanced is not None]
        self.session.facts.seen(
            NOTE,
            metric,
            at_step=finished.step,
            where=first.where or finished.where,
            metric=metric,
            batches=finished.batches,
            dropouts=first.modes.dropouts,
            batch_norms=first.modes.batch_norms,
            modules=list(first.modes.names),
            model_training=first.modes.training,
            num_batches_tracked_advanced=any(advanced) if advanced else None,
        )
