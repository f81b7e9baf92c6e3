"""What went into the training forwards since the last step: looked at only when something is not finite, so kept by weak references.

Where a device would have to be waited for, the largest value of each sample is computed beside the forward instead: by the time
that the loss is known to be NaN, the batch is gone.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import torch

from .extremes import first_bad, float_tensors, largest, largest_of_each_row

MOST_SEEN = 32
MOST_SAMPLES = 1024
"""In a batch whose samples are looked at one by one."""

Entry = dict[str, Any]


def at_once(tensor: torch.Tensor) -> bool:
    """Whether its numbers can be read without waiting. (The device's `type` costs ten times as much.)"""
    return tensor.is_cpu


class Seen(NamedTuple):
    """One tensor of an input."""

    name: str
    batch: int | None
    micro_batch: int
    dtype: torch.dtype
    tensor: weakref.ref[torch.Tensor] | None
    rows: torch.Tensor | None

    def entry(self, rows: list[float]) -> Entry:
        sample = first_bad(rows)
        dtype = str(self.dtype).replace("torch.", "")
        found: Entry = {"stage": "input", "name": self.name, "finite": sample is None, "dtype": dtype}
        if sample is not None:
            found |= {"sample": sample if len(rows) > 1 else None, "batch": self.batch, "micro_batch": self.micro_batch}
        return found


class BatchInputs:
    """Of one step; `batch` is the number of the newest batch in its loader's pass, from 1 on."""

    def __init__(self) -> None:
        self.batch: int | None = None
        self._forwards = 0
        self._seen: list[Seen] = []

    def clear(self) -> None:
        self._seen = []
        self._forwards = 0

    def add(self, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        """The arguments of a forward; `names` are those of its signature."""
        for position, value in enumerate(values):
            tensors = float_tensors(value)
            name = names[position] if position < len(names) else f"argument {position}"
            for number, tensor in enumerate(tensors):
                self._note(name if len(tensors) == 1 else f"{name}[{number}]", tensor, self._forwards)
        self._forwards += 1

    def add_target(self, name: str, tensor: torch.Tensor) -> None:
        """What the outputs of the newest forward are compared with."""
        self._note(name, tensor, max(0, self._forwards - 1))

    def _note(self, name: str, tensor: torch.Tensor, micro_batch: int) -> None:
        if len(self._seen) >= MOST_SEEN:
            return
        if at_once(tensor):
            self._seen.append(Seen(name, self.batch, micro_batch, tensor.dtype, weakref.ref(tensor), None))
            return
        by_sample = tensor.dim() and tensor.shape[0] <= MOST_SAMPLES
        rows = largest_of_each_row(tensor) if by_sample else largest([tensor])[0].reshape(1)
        self._seen.append(Seen(name, self.batch, micro_batch, tensor.dtype, None, rows))

    @property
    def seen(self) -> list[Seen]:
        return list(self._seen)


def with_rows(seen: list[Seen]) -> list[Seen]:
    """Those that can be judged: the ones whose samples were looked at before, and the ones whose tensor is still there."""
    kept = []
    for one in seen:
        tensor = one.tensor() if one.tensor is not None else None
        if tensor is not None:
            kept.append(one._replace(tensor=None, rows=largest_of_each_row(tensor)))
        elif one.rows is not None:
            kept.append(one)
    return kept


def entries(seen: list[Seen], values: list[float]) -> list[Entry]:
    """Of each, by the numbers of its rows; only the first that is not finite, where there is one."""
    found, start = [], 0
    for one in seen:
        count = one.rows.numel() if one.rows is not None else 0
        found.append(one.entry(values[start : start + count]))
        start += count
    return [entry for entry in found if not entry["finite"]][:1] or found[:1]
