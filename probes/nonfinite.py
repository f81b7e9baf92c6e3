"""The first value that is not finite: what was not and what still was, in the order input, layer output, loss, gradient, weight.

The loss and the gradients' norms of an observed step are looked at as they come to the host; only where one is NaN or inf, what stands
around them is. On the CPU that is at that very step, before the optimizer uses the gradients. A GPU's numbers come a step or more later:
then the batch and the gradients are told as they were, by numbers kept on the device, and the weights as the next observed step finds
them. Layer outputs are seen in one later training forward. Under a GradScaler nothing is said: it skips what is not finite.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .batch_inputs import BatchInputs, Entry, Seen, at_once, entries, with_rows
from .extremes import float_tensors, largest
from .known import Known, Observation
from .layer_outputs import LayerOutputs
from .losses import plain_tensor
from .nonfinite_order import broken_at, first_of, of_gradients, of_losses, of_weights
from .observe import forward_of, parameter_names
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .session import Session

MOST_INVESTIGATIONS = 8
"""In a run; between two of them all must have been finite."""


class Step:
    """What was seen of a step before it is known whether all of it is finite."""

    def __init__(self) -> None:
        self.of: weakref.ref[Known] | None = None
        "The optimizer that took it; None until it begins."
        self.inputs: list[Seen] = []
        self.criterion: str | None = None
        self.outputs: list[Entry] = []
        "Of what went into the criterion, where its value was not finite."
        self.where: Line | None = None
        self.bad_loss = False
        self.scaled = False


class Look:
    """One step that was found not to be finite."""

    def __init__(self, number: int, now: Observation, step: Step) -> None:
        self.number = number
        self.now = now
        self.step = step
        self.first_seen_step = number
        self.last_finite_step: int | None = None
        self.after_step = False
        "Whether its weights are looked at after it."

    @property
    def losses(self) -> list[torch.Tensor]:
        return [loss.root for loss in self.now.window.losses] if self.now.window is not None else []


class NonFinite(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._inputs = BatchInputs()
        self._fetched = BatchInputs()
        "What the loader gave, until a forward is seen: the first one of a model that nobody knows yet is not."
        self._forward_was_seen = False
        self._step = Step()
        self._layers = LayerOutputs(session, self._layers_seen)
        session.taken_out.append(self._layers.end)
        self._names: tuple[str, ...] = ()
        self._named: Callable[[], type | None] = lambda: None
        "The class whose forward has those arguments, that of the newest root."
        self._losses_looked_at = 0
        self._at_hand: Observation | None = None
        "That of the newest step, whose gradients are still there."
        self._waiting: Look | None = None
        "One that is known not to be finite, for the next observed step to look at the weights."
        self._said: dict[str, Any] | None = None
        self._last_finite_step: int | None = None
        self._first_seen_step: int | None = None
        "Of a row with the loss alone, before any observed step."
        self._broken = False
        self._investigations = 0

    # What goes into a step

    def awoke(self) -> None:
        self._begin_step()
        self._at_hand = None

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        number = getattr(iterator, "_num_yielded", None)
        self._inputs.batch = self._fetched.batch = number if type(number) is int else None
        if not self._forward_was_seen:
            self._fetched.clear()
            self._fetched.add(("batch",), (data,))

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            self._forward_was_seen = True
            self._fetched.clear()
            if self._named() is not type(root):
                self._named = weakref.ref(type(root))
                self._names = parameter_names(forward_of(type(root)))[1:]
            self._inputs.add(self._names, inputs)

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        step = self._step
        if not (plain_tensor(output) and output.requires_grad and output.numel() == 1 and at_once(output)):
            return
        if math.isfinite(output.item()) or step.criterion is not None or self._enough():
            return
        step.criterion, step.where = name, self.session.user_line()
        step.inputs = with_rows(self._went_in)
        for tensor in float_tensors(values[:1]):
            finite = math.isfinite(largest([tensor])[0])
            dtype = str(tensor.dtype).replace("torch.", "")
            step.outputs = [{"stage": "layer", "name": f"what goes into {name}", "finite": finite, "dtype": dtype}]
        for tensor in float_tensors(values[1:2]):
            self._inputs.add_target(f"target of {name}", tensor)
            step.inputs += with_rows(self._inputs.seen[-1:])

    def backward_begins(self, root: Any) -> None:
        losses = self.session.loop.window.losses
        for loss in losses[self._losses_looked_at :]:
            if at_once(loss.root) and not math.isfinite(loss.root.item()) and not self._enough():
                self._step.bad_loss = True
                self._step.where = self._step.where or self.session.user_line()
                self._step.inputs = self._step.inputs or with_rows(self._went_in)
        self._losses_looked_at = len(losses)

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        self._step.scaled = self._step.scaled or scaled is not output

    @property
    def _went_in(self) -> list[Seen]:
        return self._inputs.seen or self._fetched.seen

    # A step

    def step_begins(self, known: Known) -> None:
        waiting = self._waiting
        if waiting is not None and _optimizer_of(waiting.step) in (known, None):
            self._waiting, waiting.after_step = None, True
            self._investigate(waiting, known)
        now, step = known.now, self._step
        step.of = weakref.ref(known)
        step.inputs = step.inputs or self._went_in
        self._at_hand, now.made_of = now, step
        if step.bad_loss and not step.scaled and not self._enough():
            self._begin_investigation(Look(max(self.session.steps.step, known.steps + 1), now, step), known)

    def step_ended(self, known: Known) -> None:
        self._begin_step()

    def measured(self, now: Observation, step: int, values: list[float]) -> None:
        total = sum(values)
        finite = total - total == 0.0
        made_of: Step | None = now.made_of  # None of a row with the loss alone
        at_hand, self._at_hand = self._at_hand, None
        if made_of is not None and made_of.scaled:
            return
        if finite:
            self._broken = False
            self._last_finite_step, self._first_seen_step = step, None
        elif made_of is None:
            self._first_seen_step = self._first_seen_step or step
        elif not self._enough():
            self._not_finite(Look(step, now, made_of), at_hand)

    def _not_finite(self, look: Look, at_hand: Observation | None) -> None:
        known = _optimizer_of(look.step)
        look.after_step = True
        if at_hand is look.now and known is not None:
            self._at_hand = at_hand
            self._begin_investigation(look, known)
            self._at_hand = None
        else:
            self._broken = True
            look.step.inputs = [seen for seen in look.step.inputs if seen.rows is not None]
            self._waiting = look

    def _begin_step(self) -> None:
        self._inputs.clear()
        self._step = Step()
        self._losses_looked_at = 0

    def _enough(self) -> bool:
        return self._broken or self._investigations >= MOST_INVESTIGATIONS

    # What stands around it

    def _begin_investigation(self, look: Look, known: Known) -> None:
        self._broken = True
        self._investigate(look, known)

    def _investigate(self, look: Look, known: Known) -> None:
        """Look at the batch, every gradient and every weight, once."""
        self._investigations += 1
        look.last_finite_step = self._last_finite_step
        if self._first_seen_step is not None:
            look.first_seen_step, look.after_step = self._first_seen_step, True
        inputs = with_rows(look.step.inputs)
        rows = [seen.rows for seen in inputs if seen.rows is not None]
        # A norm overflows where the gradient itself is finite; later only the norms are left.
        gradients = [known.parameters[i].grad for i in look.now.indices] if self._at_hand is look.now else []
        norms = largest([g for g in gradients if g is not None]) if None not in gradients and gradients else look.now.norms
        losses, weights = look.losses, largest(known.parameters)
        names = [self._name(known, i) for i in range(len(known.parameters))]
        sizes = [sum(row.numel() for row in rows), len(losses), len(norms), len(weights)]
        root = self.session.steps.main_root()

        def deliver(values: list[float]) -> None:
            of_rows, of_roots, of_norms, of_parameters = _split(values, sizes)
            order = [
                *entries(inputs, of_rows),
                *look.step.outputs,
                *of_losses(look.step.criterion, of_roots),
                *of_gradients([names[i] for i in look.now.indices], of_norms),
                *of_weights(names, of_parameters, look.after_step),
            ]
            self._say(look, order)
            if broken_at(order, "loss"):
                self._layers.begin(root)

        self.session.transfer.submit([*rows, *losses, *norms, *weights], deliver, rare=True)

    def _name(self, known: Known, index: int) -> str:
        return self.session.steps.parameters.name_of(known.parameters[index]) or f"optimizer{known.index}.{index}"

    def _say(self, look: Look, order: list[Entry]) -> None:
        if all(entry["finite"] for entry in order):
            self._broken = False  # a norm that overflowed
            return
        # Where weights were broken meanwhile, what a later step finds says nothing of the first.
        spoiled = look.first_seen_step < look.number and broken_at(order, "weight")
        self._said = {
            "at_step": look.first_seen_step,
            "first_seen_step": look.first_seen_step,
            "looked_at_step": look.number,
            "last_finite_step": look.last_finite_step,
            "first": None if spoiled else _named(first_of(order)),
            "order": order,
            "where": look.step.where,
        }
        self.session.emit("nonfinite", **self._said)

    def _layers_seen(self, found: list[Entry]) -> None:
        """A later forward came by something that is not finite: say all again, with its layer."""
        said, self._said = self._said, None
        if said is None or not found:
            return
        rest = [entry for entry in said["order"] if entry["stage"] != "layer"]
        at = next((n for n, entry in enumerate(rest) if entry["stage"] != "input"), len(rest))
        order = [*rest[:at], *({**entry, "seen_later": True} for entry in found), *rest[at:]]
        self.session.emit("nonfinite", **{**said, "order": order, "first": said["first"] and _named(first_of(order))})


def _optimizer_of(step: Step) -> Known | None:
    return None if step.of is None else step.of()


def _named(entry: Entry | None) -> Entry | None:
    return None if entry is None else {key: entry.get(key) for key in ("stage", "name", "dtype")}


def _split(values: list[float], sizes: list[int]) -> list[list[float]]:
    rest = iter(values)
    return [[next(rest) for _ in range(size)] for size in sizes]
