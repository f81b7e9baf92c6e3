"""Weight norm and update norm of each parameter, estimated from a fixed sample of its entries; never from a copy of the model.

Of a tensor with n entries k are looked at, every s-th from the first on, with s prime to the tensor's sizes, so that the sample
runs through all rows and columns alike, to the end of the tensor. The norm is taken to be sqrt(n / k) times that of the sample: exact
up to MOST_ENTRIES entries, off by about 1 / sqrt(2 k) (3 to 5 %) where entries are of one kind, by a quarter where few of them carry
the norm (an embedding of which a batch touches a tenth, a weight whose rows differ by orders of magnitude). The update is what the
step changed in the stored numbers, so one that a half-precision weight rounds away is zero. Sharded tensors: the local shard's.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .known import Known, Observation
from .probe import Probe
from .record import update_columns
from .window import NAN

if TYPE_CHECKING:
    from .session import Session

NOTE = "updates"
MOST_ENTRIES = 512
"""Of one tensor."""
MOST_ENTRIES_IN_ALL = 1 << 20
FIRST = 10
"""Observed steps that are all sampled: a learning rate that is too high shows in the first few."""
SHARE = 0.05
"""Of what the other probes take; so much more may sampling take, as long as it comes often enough."""
LONGEST_PAUSE = 20
"""Observed steps between samples; as long where every step is observed: the same in every run, whatever the machine does beside it."""
MOST_WAITING = 4
ROSE = 2.0
"""Times the learning rate of the sample before: what a rate that rose does to the weights shows at once, and is over soon."""
AFTER_A_RISE = 3
"""Observed steps in a row that are then sampled."""

_WIDE = {d: d for d in (torch.float64, torch.complex64, torch.complex128)} | {torch.complex32: torch.complex64}
"""In what the samples of other dtypes than float32 are compared; all that are not here in float32."""


class Choice(NamedTuple):
    """Which entries of one tensor are looked at."""

    position: int
    entries: int
    sampled: tuple[int]
    stride: tuple[int]
    sharded: bool

    @property
    def scale(self) -> float:
        return math.sqrt(self.entries / self.sampled[0])


Groups = list[list[Choice]]
"""Tensors of one device and dtype of which equally many entries are looked at: their samples are the rows of one matrix."""


class Sampler:
    """When and where the parameters of one optimizer are sampled."""

    def __init__(self) -> None:
        self.pause = 0
        "Observed steps until the next sample."
        self.rate = math.inf
        "Learning rate at the newest sample."
        self.after_a_rise = 0
        "Samples still to be taken one after the other."
        self.taken = 0
        self.observed = 0
        self.began_s = 0.0
        self.spent_s = 0.0
        "In all samples."
        self.before: list[torch.Tensor] = []
        "The sample of the step under way; empty where it is not sampled."
        self.now = Observation()
        "What the others measure of it; complete only at its end, where a closure goes backward inside it."
        self.choices: list[Choice] = []
        "Of the tensors in it, in its order."
        self._groups: Groups = []
        self._chosen_for: object = None

    def begin(self, known: Known) -> None:
        self.now = known.now
        indices = known.now.indices or [i for i, p in enumerate(known.parameters) if p.requires_grad]
        chosen_for = (known.layout, tuple(indices))
        if self._chosen_for != chosen_for:
            self._groups = _choose(known.parameters, indices)
            self.choices = [choice for group in self._groups for choice in group]
            self._chosen_for = chosen_for
        self.before = _unseen(lambda: self._look(known.parameters))
        if not self.before:
            self._chosen_for = None

    def end(self, known: Known) -> list[torch.Tensor]:
        """Norms of the entries before the step, then of what it changed; none where a tensor was replaced meanwhile."""
        before, self.before = self.before, []
        after = _unseen(lambda: self._look(known.parameters))
        if not after:
            self._chosen_for = None
            return []
        with torch.no_grad():
            changed = torch._foreach_sub(after, before)
            return [torch.linalg.vector_norm(matrix, dim=1) for matrix in (*before, *changed)]

    def _look(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """One matrix for each group; RuntimeError where a tensor is laid out otherwise than when it was chosen."""
        matrices = []
        strided = torch.as_strided
        for group in self._groups:
            local = [_local(tensors[choice.position]) if choice.sharded else tensors[choice.position] for choice in group]
            if [tensor.numel() for tensor in local] != [choice.entries for choice in group]:
                raise RuntimeError("a parameter has another size")
            views = [strided(tensor, size, stride) for tensor, (_, _, size, stride, _) in zip(local, group, strict=True)]
            matrix = torch.cat(views).view(len(group), -1)
            matrices.append(matrix.to(_WIDE.get(matrix.dtype, torch.float32)))
        return matrices


class Updates(Probe):
    signals = ("update ratio",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._waiting: list[tuple[weakref.ref[Known], int, list[int], list[float]]] = []
        self._declared = -1

    def step_begins(self, known: Known) -> None:
        began = time.perf_counter()
        if self._waiting:
            self._write_waiting()
        sampler: Sampler | None = known.notes.get(NOTE)
        if sampler is None:
            sampler = known.notes[NOTE] = Sampler()
        sampler.before = []
        sampler.observed += 1
        sampler.pause -= 1
        rate = known.now.learning_rate
        if rate > ROSE * sampler.rate:
            sampler.pause, sampler.after_a_rise = 0, AFTER_A_RISE
        if sampler.pause <= 0:
            sampler.rate = rate
            sampler.begin(known)
            sampler.began_s = time.perf_counter() - began

    def step_ended(self, known: Known) -> None:
        began = time.perf_counter()
        sampler: Sampler | None = known.notes.get(NOTE)
        if sampler is None or not sampler.before:
            return
        norms = sampler.end(known)
        with_gradient, sampler.now = frozenset(sampler.now.indices), Observation()
        if norms and with_gradient:
            self._send(known, [choice if choice.position in with_gradient else None for choice in sampler.choices], norms)
        self._pace(sampler, sampler.began_s + time.perf_counter() - began)

    def exiting(self) -> None:
        self._write_waiting()

    def _pace(self, sampler: Sampler, took_s: float) -> None:
        """How many observed steps until the next sample, by what it takes and what the other probes take."""
        sampler.taken += 1
        sampler.spent_s += took_s
        sampler.after_a_rise -= 1
        if sampler.taken < FIRST or sampler.after_a_rise > 0:
            return
        if self.session.steps.pace.schedule.budget <= 0:
            sampler.pause = LONGEST_PAUSE
            return
        others_s = max(0.0, self.session.guard.spent_s - sampler.spent_s) / sampler.observed
        steps = took_s / (SHARE * others_s) if others_s else LONGEST_PAUSE
        sampler.pause = max(1, min(LONGEST_PAUSE, math.ceil(steps)))

    def _send(self, known: Known, choices: list[Choice | None], norms: list[torch.Tensor]) -> None:
        """Queue a row, in which None stands for a parameter that had no gradient."""
        step, of, place = self.session.steps.step, weakref.ref(known), self._place(known)

        def deliver(values: list[float]) -> None:
            row = (step, [choice.position for choice in choices if choice is not None], _scaled(values, choices))
            if place is None:
                self._waiting = [*self._waiting[1 - MOST_WAITING :], (of, *row)]
            else:
                self._write_waiting()  # of an earlier step, where both came late
                self._write(place, *row)

        if not self.session.transfer.submit(norms, deliver):
            self.session.writer.lose_row()
        self.session.signals.seen("update ratio")

    def _place(self, known: Known) -> tuple[int, int, tuple[int, ...]] | None:
        """Table, its width and the columns of the parameters; None before the first row of their gradients."""
        parameters = self.session.steps.parameters
        return (parameters.table, parameters.count, known.columns) if known.columns else None

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for of, step, indices, values in waiting:
            known = of()
            place = self._place(known) if known is not None else None
            if place is not None and max(indices) < len(place[2]):
                self._write(place, step, indices, values)

    def _write(self, place: tuple[int, int, tuple[int, ...]], step: int, indices: list[int], values: list[float]) -> None:
        table, count, columns = place
        if table > self._declared:
            self.session.writer.declare(f"updates-{table}", update_columns(count))
            self._declared = table
        row = [NAN] * (2 * count)
        for position, index in enumerate(indices):
            row[columns[index]] = values[position]
            row[count + columns[index]] = values[len(indices) + position]
        self.session.writer.row(f"updates-{table}", [step, *row])


def _scaled(values: list[float], choices: list[Choice | None]) -> list[float]:
    """Estimates for whole tensors, of norms of samples: weights, then updates."""
    return [value * choice.scale for value, choice in zip(values, choices * 2, strict=True) if choice is not None]


def _unseen(look: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
    """What `look()` finds, hidden from autograd and subclasses; nothing where a tensor is no longer laid out as it was."""
    try:
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            return look()
    except RuntimeError:  # as_strided checks the bounds of the storage
        return []


def _local(tensor: torch.Tensor) -> torch.Tensor:
    local: Any = getattr(tensor, "_local_tensor", None)  # DTensor
    return tensor if local is None else local


def _choose(parameters: Sequence[torch.Tensor], indices: Sequence[int]) -> Groups:
    most = max(1, min(MOST_ENTRIES, MOST_ENTRIES_IN_ALL // max(1, len(parameters))))
    groups: dict[tuple[object, ...], list[Choice]] = {}
    for index in indices:
        local = _local(parameters[index])
        choice = _entries(index, local, most, local is not parameters[index])
        if choice is not None:
            groups.setdefault((choice.sampled, local.device, local.dtype), []).append(choice)
    return list(groups.values())


def _entries(position: int, tensor: torch.Tensor, most: int, sharded: bool) -> Choice | None:
    """Every s-th entry in the order of memory; None for what has none, or whose memory has gaps or is not plain."""
    plain = tensor.layout is torch.strided and type(tensor).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    if not plain or tensor.device.type == "meta" or not (tensor.is_floating_point() or tensor.is_complex()):
        return None
    entries = tensor.numel()
    if not entries or entries != 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)):
        return None
    stride = -(-entries // most)
    # Upwards, so that the sample reaches the end of the tensor: there are fewer entries of it then.
    while stride > 1 and any(math.gcd(stride, size) > 1 for size in tensor.shape):
        stride += 1
    return Choice(position, entries, ((entries - 1) // stride + 1,), (stride,), sharded)
