"""Weight norm and update norm of each parameter, estimated from a fixed sample of its entries; never from a copy of the model.

Of a tensor with n entries k are looked at, every s-th from the first on, with s prime to the tensor's sizes, so that the sample
runs through all rows and columns alike. The norm is taken to be sqrt(n / k) times that of the sample: exact up to k entries, off by
about 1 / sqrt(2 k) (3 %) where entries are of one kind, by a quarter where few of them carry the norm (an embedding of which a
batch touches a tenth, a weight whose rows differ by orders of magnitude). The update is what the step changed in the stored numbers,
so one that a half-precision weight rounds away is zero. Sharded tensors: the local shard's.
"""

from __future__ import annotations

import math
import time
import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from .known import Known
from .loop import NAN
from .probe import Probe
from .record import update_columns

if TYPE_CHECKING:
    from .session import Session

MOST_ENTRIES = 512
"""Of one tensor."""
MOST_ENTRIES_IN_ALL = 1 << 20
FIRST = 10
"""Observed steps that are all sampled: a learning rate that is too high shows in the first few."""
SHARE = 0.05
"""Of what the other probes take; so much more may sampling take, as long as it comes often enough."""
LONGEST_PAUSE = 20
"""Observed steps."""
MOST_WAITING = 4

_WIDE = {d: d for d in (torch.float64, torch.complex64, torch.complex128)} | {torch.complex32: torch.complex64}
"""In what the samples of other dtypes than float32 are compared; all that are not here in float32."""


class Choice(NamedTuple):
    """Which entries of one tensor are looked at."""

    entries: int
    sampled: int
    stride: int
    sharded: bool

    @property
    def scale(self) -> float:
        return math.sqrt(self.entries / self.sampled)


class Sample:
    """The chosen entries of some parameters, before the step: one matrix for all that are alike."""

    def __init__(self, sampler: Sampler, indices: Sequence[int], tensors: Sequence[torch.Tensor]) -> None:
        self.indices: list[int] = []
        "Parameters in the order of the rows."
        self._alike: list[tuple[list[int], torch.Tensor]] = []
        self._sampler = sampler
        groups: dict[tuple[int, torch.dtype, torch.device], tuple[list[int], list[torch.Tensor]]] = {}
        for index in indices:
            entries = sampler.entries(index, tensors[index])
            if entries is not None:
                members, views = groups.setdefault((len(entries), entries.dtype, entries.device), ([], []))
                members.append(index)
                views.append(entries)
        for (size, *_), (members, views) in groups.items():
            self._alike.append((members, _matrix(views, size)))
            self.indices += members

    def norms(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
        """Norms of the entries before the step, then of what it changed; None where a tensor was replaced meanwhile."""
        weights, updates = [], []
        for members, before in self._alike:
            entries = [self._sampler.entries(index, tensors[index]) for index in members]
            present = [view for view in entries if view is not None and len(view) == before.shape[1]]
            if len(present) < len(members):
                return None
            after = _matrix(present, before.shape[1])
            if after.device != before.device or after.dtype != before.dtype:
                return None
            weights.append(torch.linalg.vector_norm(before, dim=1))
            updates.append(torch.linalg.vector_norm(after - before, dim=1))
        return weights + updates


class Sampler:
    """When and where the parameters of one optimizer are sampled."""

    def __init__(self) -> None:
        self.sample: Sample | None = None
        self.pause = 0
        "Observed steps until the next sample."
        self.taken = 0
        self.observed = 0
        self.began_s = 0.0
        self.spent_s = 0.0
        "In all samples."
        self._most = MOST_ENTRIES
        self._layout: object = None
        self._choices: dict[int, Choice | None] = {}

    def plan(self, known: Known) -> None:
        """Choose anew where the optimizer holds other parameters than before."""
        if self._layout != known.layout:
            self._layout = known.layout
            self._choices.clear()
            self._most = max(1, min(MOST_ENTRIES, MOST_ENTRIES_IN_ALL // max(1, len(known.parameters))))

    def entries(self, index: int, tensor: torch.Tensor) -> torch.Tensor | None:
        """A view of the chosen entries, which must not outlive the callback; None for a tensor that cannot be sampled."""
        try:
            choice = self._choices[index]
        except KeyError:
            choice = self._choices[index] = _choose(tensor, self._most)
        if choice is None:
            return None
        local: Any = tensor._local_tensor if choice.sharded else tensor  # type: ignore[attr-defined]
        if local.numel() != choice.entries:  # replaced or resharded: chosen anew next time
            del self._choices[index]
            return None
        view: torch.Tensor = torch.as_strided(local, (choice.sampled,), (choice.stride,))
        return view

    def forget(self) -> None:
        self.sample = None
        self._choices.clear()

    def scales(self, indices: Sequence[int]) -> list[float]:
        choices = [self._choices[index] for index in indices]
        return [choice.scale if choice is not None else NAN for choice in choices]


class Updates(Probe):
    signals = ("update ratio",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._samplers: weakref.WeakKeyDictionary[Known, Sampler] = weakref.WeakKeyDictionary()
        self._waiting: list[tuple[weakref.ref[Known], int, list[int], list[float]]] = []
        self._declared = -1

    def step_begins(self, known: Known) -> None:
        began = time.perf_counter()
        self._write_waiting()
        sampler = self._samplers.get(known)
        if sampler is None:
            sampler = self._samplers[known] = Sampler()
        sampler.sample = None
        sampler.observed += 1
        sampler.pause -= 1
        if sampler.pause > 0 or not known.now.indices or _in_a_graph(known.now.norms):
            return
        sampler.plan(known)
        sampler.sample = _unseen(lambda: Sample(sampler, known.now.indices, known.parameters), sampler)
        sampler.began_s = time.perf_counter() - began

    def step_ended(self, known: Known) -> None:
        began = time.perf_counter()
        sampler = self._samplers.get(known)
        if sampler is None or sampler.sample is None:
            return
        sample, sampler.sample = sampler.sample, None
        norms = _unseen(lambda: sample.norms(known.parameters), sampler)
        if norms:
            self._send(known, sample.indices, norms, sampler.scales(sample.indices))
        self._pace(sampler, sampler.began_s + time.perf_counter() - began)

    def exiting(self) -> None:
        self._write_waiting()

    def _pace(self, sampler: Sampler, took_s: float) -> None:
        """How many observed steps until the next sample, by what it takes and what the other probes take."""
        sampler.taken += 1
        sampler.spent_s += took_s
        if sampler.taken < FIRST:
            return
        others_s = max(0.0, self.session.guard.spent_s - sampler.spent_s) / sampler.observed
        steps = took_s / (SHARE * others_s) if others_s else LONGEST_PAUSE
        sampler.pause = max(1, min(LONGEST_PAUSE, math.ceil(steps)))

    def _send(self, known: Known, indices: list[int], norms: list[torch.Tensor], scales: list[float]) -> None:
        step, of = self.session.steps.step, weakref.ref(known)
        place = self._place(known)

        def deliver(values: list[float]) -> None:
            scaled = [value * scale for value, scale in zip(values, scales * 2, strict=True)]
            if place is None:
                self._waiting = [*self._waiting[1 - MOST_WAITING :], (of, step, indices, scaled)]
            else:
                self._write(place, step, indices, scaled)

        if not self.session.transfer.submit(norms, deliver):
            self.session.writer.lose_row()
        self.session.seen("update ratio")

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


def _unseen(measure: Any, sampler: Sampler) -> Any:
    """The result of `measure()`, hidden from autograd and subclasses; None where a tensor is no longer laid out as it was."""
    try:
        with torch.no_grad(), torch._C.DisableTorchFunctionSubclass():
            return measure()
    except RuntimeError:  # as_strided checks the bounds of the storage
        sampler.forget()
        return None


def _in_a_graph(norms: Sequence[torch.Tensor]) -> bool:
    """Whether the step is being captured into a CUDA graph, in which our kernels would run for ever."""
    return any(n.device.type == "cuda" for n in norms[:1]) and torch.cuda.is_current_stream_capturing()


def _matrix(views: list[torch.Tensor], size: int) -> torch.Tensor:
    """One row a tensor, in a dtype in which small updates show."""
    stacked = torch.cat(views).view(len(views), size)
    return stacked.to(_WIDE.get(stacked.dtype, torch.float32))


def _choose(tensor: torch.Tensor, most: int) -> Choice | None:
    """Every s-th entry in the order of memory; None for what has none, or whose memory has gaps or is not plain."""
    sharded = hasattr(tensor, "_local_tensor")  # DTensor
    local: torch.Tensor = tensor._local_tensor if sharded else tensor  # type: ignore[attr-defined]
    plain = local.layout is torch.strided and type(local).__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    if not plain or local.device.type == "meta" or not (local.is_floating_point() or local.is_complex()):
        return None
    entries = local.numel()
    if not entries or entries != 1 + sum((n - 1) * s for n, s in zip(local.shape, local.stride(), strict=True)):
        return None
    sampled = min(entries, most)
    stride = (entries - 1) // max(1, sampled - 1) or 1
    while stride > 1 and any(math.gcd(stride, size) > 1 for size in local.shape):
        stride -= 1
    return Choice(entries, sampled, stride, sharded)
