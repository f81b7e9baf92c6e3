"""The first value that is not finite: what was not and what still was, in the order input, layer output, loss, gradient, weight.

The loss and the gradients' norms of an observed step are looked at as they come to the host; only where one is NaN or inf, what stands
around them is. On the CPU that is at that very step, before the optimizer uses the gradients. A GPU's numbers come a step or more later:
then the batch and the gradients are told as they were, by numbers kept on the device, and the weights as the next observed step finds
them. Layer outputs are seen in one later training forward. Under a GradScaler nothing is said: it skips what is not finite.
"""

from __future__ import annotations

import math
import weakref
from typing import TYPE_CHECKING, Any

import torch

from .batch_inputs import AT_ONCE, BatchInputs, Entry, Seen, entries, with_rows
from .extremes import float_tensors, largest
from .known import Known, Observation
from .layer_outputs import LayerOutputs
from .losses import plain_tensor
from .nonfinite_order import broken_at, first_of, of_gradients, of_losses, of_weights
from .observe import parameter_names
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .session import Session

MOST_INVESTIGATIONS = 8
"""In a run; between two of them all must have been finite."""


class Step:
    """What was seen of a step before it is known whether all of it is finite."""

    def __init__(self) -> None:
        self.inputs: list[Seen] = []
        self.criterion: str | None = None
        self.outputs: list[Entry] = []
        "Of what went into the criterion, where its value was not finite."
        self.where: Line | None = None
        self.scaled = False


class Look:
    """One step that is judged, now or when its numbers arrive."""

    def __init__(self, number: int, known: Known, now: Observation, step: Step) -> None:
        self.number = number
        self.of = weakref.ref(known)
        self.now = now
        self.step = step
        self.losses = [loss.root for loss in now.window.losses] if now.window is not None else []
        self.loss_values: list[float] = []
        self.last_finite_step: int | None = None
        self.late = now.closure
        "Whether the optimizer has used the gradients by now."


class NonFinite(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._inputs = BatchInputs()
        self._step = Step()
        self._layers = LayerOutputs(session, self._layers_seen)
        self._names: weakref.WeakKeyDictionary[type, tuple[str, ...]] = weakref.WeakKeyDictionary()
        self._now: weakref.WeakKeyDictionary[Known, Observation] = weakref.WeakKeyDictionary()
        self._uses_closures: weakref.WeakSet[Known] = weakref.WeakSet()
        self._losses_looked_at = 0
        self._at_hand: Look | None = None
        "Of the step under way, while its numbers are sent for."
        self._waiting: Look | None = None
        "One that is known not to be finite, for the next observed step to look at the weights."
        self._said: dict[str, Any] | None = None
        self._said_of = 0
        self._last_finite_step: int | None = None
        self._broken = False
        self._investigations = 0

    # What goes into a step

    def awoke(self) -> None:
        self._begin_step()

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        number = getattr(iterator, "_num_yielded", None)
        self._inputs.batch = number if type(number) is int else None

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled():
            kind = type(root)
            names = self._names.get(kind)
            if names is None:
                names = self._names[kind] = parameter_names(kind.forward)[1:]
            self._inputs.add(names, inputs)

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        step = self._step
        if not (plain_tensor(output) and output.requires_grad and output.device.type in AT_ONCE and output.numel() == 1):
            return
        if math.isfinite(output.detach()) or step.criterion is not None or self._enough():
            return
        step.criterion, step.where = name, self.session.user_line()
        step.inputs = with_rows(self._inputs.seen)
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
            if loss.root.device.type in AT_ONCE and not math.isfinite(loss.root) and not self._enough():
                self._step.where = self._step.where or self.session.user_line()
                self._step.inputs = self._step.inputs or with_rows(self._inputs.seen)
        self._losses_looked_at = len(losses)

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        self._step.scaled = self._step.scaled or scaled is not output

    # A step

    def step_begins(self, known: Known) -> None:
        self._now[known] = known.now
        self._losses_looked_at = 0
        waiting = self._waiting
        if waiting is not None and waiting.of() in (known, None):
            self._waiting, waiting.late = None, True
            self._investigate(waiting, known)
        if known not in self._uses_closures:
            self._look(known, known.now, max(self.session.steps.step, known.steps + 1))

    def step_ended(self, known: Known) -> None:
        now = self._now.pop(known, None)
        if now is not None and now.closure:
            self._uses_closures.add(known)
            self._look(known, now, self.session.steps.step)
        else:
            self._uses_closures.discard(known)
        self._begin_step()

    def exiting(self) -> None:
        self._layers.end()

    def _begin_step(self) -> None:
        self._inputs.clear()
        self._step = Step()
        self._losses_looked_at = 0

    def _enough(self) -> bool:
        return self._broken or self._investigations >= MOST_INVESTIGATIONS

    def _look(self, known: Known, now: Observation, number: int) -> None:
        """Send for the losses and the sum of the gradients' norms, which is finite where all of them are."""
        step = self._step
        look = Look(number, known, now, step)
        if (
            step.scaled
            or self._investigations >= MOST_INVESTIGATIONS
            or not (look.losses or now.norms)
            or _capturing(now.norms)
        ):
            return
        count = len(look.losses)
        step.inputs = step.inputs or self._inputs.seen
        self._at_hand = look
        self.session.transfer.submit(
            [*look.losses, *_totals(now.norms)], lambda values: self._judge(look, values[:count], values[count:])
        )
        self._at_hand = None

    def _judge(self, look: Look, losses: list[float], totals: list[float]) -> None:
        if all(map(math.isfinite, (*losses, *totals))):
            self._broken = False
            self._last_finite_step = look.number
            return
        if self._enough():
            return
        self._broken = True
        self._investigations += 1
        look.loss_values, look.last_finite_step = losses, self._last_finite_step
        known = look.of()
        if self._at_hand is look and known is not None:
            self._investigate(look, known)
        else:
            look.step.inputs = [seen for seen in look.step.inputs if seen.rows is not None]
            self._waiting = look

    # What stands around it

    def _investigate(self, look: Look, known: Known) -> None:
        """Look at the batch, every gradient and every weight, once."""
        inputs = with_rows(look.step.inputs)
        rows = [seen.rows for seen in inputs if seen.rows is not None]
        # A norm overflows where the gradient itself is finite; later only the norms are left.
        gradients = [known.parameters[i].grad for i in look.now.indices] if self._at_hand is look else []
        norms = largest([g for g in gradients if g is not None]) if gradients else look.now.norms
        weights = largest(known.parameters)
        names = [self._name(known, i) for i in range(len(known.parameters))]
        samples = sum(row.numel() for row in rows)
        root = self.session.steps.main_root()

        def deliver(values: list[float]) -> None:
            of_inputs, rest = values[:samples], values[samples:]
            order = [
                *entries(inputs, of_inputs),
                *look.step.outputs,
                *of_losses(look.step.criterion, look.loss_values),
                *of_gradients([names[i] for i in look.now.indices], rest[: len(norms)]),
                *of_weights(names, rest[len(norms) :], look.late),
            ]
            self._say(look, order)

        self.session.transfer.submit([*rows, *norms, *weights], deliver, rare=True)
        if not all(map(math.isfinite, look.loss_values)):
            self._layers.begin(root)

    def _name(self, known: Known, index: int) -> str:
        return self.session.steps.parameters.name_of(known.parameters[index]) or f"optimizer{known.index}.{index}"

    def _say(self, look: Look, order: list[Entry]) -> None:
        first = first_of(order)
        if first is None:
            self._broken = False  # a norm that overflowed
            return
        self._said_of = look.number
        self._said = {
            "first_seen_step": look.number,
            "last_finite_step": look.last_finite_step,
            "first": {key: first.get(key) for key in ("stage", "name", "dtype")},
            "order": order,
            "where": look.step.where,
        }
        self.session.emit("nonfinite", at_step=look.number, **self._said)

    def _layers_seen(self, found: list[Entry]) -> None:
        """A later forward came by something that is not finite: say all again, with its layer."""
        said, self._said = self._said, None
        if said is None or not found:
            return
        rest = [entry for entry in said["order"] if entry["stage"] != "layer"]
        at = next((n for n, entry in enumerate(rest) if entry["stage"] != "input"), len(rest))
        order = [*rest[:at], *({**entry, "seen_later": True} for entry in found), *rest[at:]]
        first = first_of(order)
        if first is not None and broken_at(said["order"], "loss"):
            said |= {"order": order, "first": {key: first.get(key) for key in ("stage", "name", "dtype")}}
            self.session.emit("nonfinite", at_step=self._said_of, **said)


def _totals(norms: list[torch.Tensor]) -> list[torch.Tensor]:
    """One number for each device and dtype."""
    groups: dict[tuple[torch.device, torch.dtype], list[torch.Tensor]] = {}
    for norm in norms:
        groups.setdefault((norm.device, norm.dtype), []).append(norm)
    return [torch.stack(group).sum() for group in groups.values()]


def _capturing(norms: list[torch.Tensor]) -> bool:
    return any(n.device.type == "cuda" for n in norms[:1]) and torch.cuda.is_current_stream_capturing()
