"""Whether two loaders read the same samples, told by the identity of what they read: exact, and without reading a sample."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import (
    ConcatDataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from .loader_description import MOST_HOPS, attributes, is_a, length, plain_indices, reads_stream, sampler_chain

MOST_OF_THE_SMALLER = 50_000
MOST_OF_THE_LARGER = 200_000
EXAMPLES = 5

Indices = Sequence[int] | torch.Tensor
Base = tuple[Any, ...]


class Rows(NamedTuple):
    """Rows of one base: a storage, or a dataset object of the program's own."""

    base: Base
    indices: Indices | None
    "None: all of them."


class Common(NamedTuple):
    """Rows that two loaders have in common."""

    found: int
    checked: int
    share: float
    "Of the first one's rows."
    examples: list[int]
    how: str


class Reading:
    """What a loader reads, held weakly; taken when its first batch is fetched."""

    def __init__(self, iterator: Any) -> None:
        inside = attributes(iterator)
        dataset = inside.get("_dataset")
        chain = sampler_chain(iterator)
        self._dataset = weakly(dataset)
        self._sampler = weakly(chain[-1]) if chain and is_a(chain[-1], SubsetRandomSampler) else None
        self._takes_all = bool(chain) and not reads_stream(iterator) and _takes_all(chain[-1], dataset)
        self._state = _states(dataset)

    def dataset(self) -> Any:
        return None if self._dataset is None else self._dataset()

    def rows(self) -> list[Rows]:
        """Empty where code of the program's decides which rows are read, or when the dataset is gone or has changed since."""
        dataset = self.dataset()
        if dataset is None or _states(dataset) != self._state:
            return []
        if self._takes_all:
            return _rows(dataset, None, self._state, 0)
        sampler = None if self._sampler is None else self._sampler()
        indices = None if sampler is None else plain_indices(attributes(sampler).get("indices"))
        return [] if indices is None else _rows(dataset, indices, self._state, 0)


def _takes_all(sampler: Any, dataset: Any) -> bool:
    source = attributes(sampler).get("dataset" if is_a(sampler, DistributedSampler) else "data_source")
    return is_a(sampler, RandomSampler, SequentialSampler, DistributedSampler) and source is dataset


def common_rows(first: Reading, second: Reading) -> tuple[bool, Common | None]:
    """Whether it is known what both read, and what they have in common."""
    mine, others = first.rows(), second.rows()
    for one in mine:
        for other in others:
            common = _intersect(one, other) if one.base == other.base else None
            if common is not None:
                return True, common
    return bool(mine and others) and _comparable(mine, others), None


def _comparable(mine: list[Rows], others: list[Rows]) -> bool:
    """Whether nothing in common means apart: two datasets of the program's own may read the same files."""
    return all(one.base[0] == "storage" or any(one.base == other.base for other in others) for one in mine)


def _rows(dataset: Any, indices: Indices | None, states: dict[int, Any], depth: int) -> list[Rows]:
    inside = attributes(dataset)
    if is_a(dataset, Subset) and depth < MOST_HOPS:
        chosen = plain_indices(inside.get("indices"))
        if chosen is None:
            return []
        return _rows(inside.get("dataset"), chosen if indices is None else _composed(chosen, indices), states, depth + 1)
    if type(dataset) is TensorDataset:
        found = _of_tensors(inside.get("tensors", ()), indices)
        if found is not None:
            return [found]
    if type(dataset) is ConcatDataset and indices is None and depth < MOST_HOPS:
        return [rows for part in inside.get("datasets", ())[:16] for rows in _rows(part, None, states, depth + 1)]
    return [Rows(("object", id(dataset), states.get(id(dataset))), indices)]


def _of_tensors(tensors: Any, indices: Indices | None) -> Rows | None:
    """Rows as places in the storages, so that slices of one tensor are told apart and found alike."""
    if type(tensors) is not tuple or not tensors:
        return None
    base: list[Any] = ["storage"]
    first_row = None
    for tensor in tensors:
        if type(tensor) is not torch.Tensor or tensor.layout is not torch.strided or not tensor.dim() or not tensor.stride(0):
            return None
        stride, offset = tensor.stride(0), tensor.storage_offset()
        base += [tensor.untyped_storage().data_ptr(), tensor.dtype, tuple(tensor.shape[1:]), stride, offset % stride]
        first_row = offset // stride if first_row is None else first_row
    if first_row is None:
        return None
    rows = range(first_row, first_row + tensors[0].shape[0])
    return Rows(tuple(base), rows if indices is None else _composed(rows, indices))


def _composed(outer: Indices, inner: Indices) -> Indices:
    """Rows of the base behind rows of a subset."""
    if isinstance(outer, torch.Tensor) and isinstance(inner, torch.Tensor):
        return outer[inner]
    if isinstance(outer, range) and isinstance(inner, range):
        return (
            outer[inner.start : inner.stop : inner.step] if inner.start >= 0 and inner.step > 0 else [outer[i] for i in inner]
        )
    inner = inner.tolist() if isinstance(inner, torch.Tensor) else inner
    outer = outer.tolist() if isinstance(outer, torch.Tensor) else outer
    return [outer[i] for i in inner]


def _intersect(first: Rows, second: Rows) -> Common | None:
    mine, other = first.indices, second.indices
    if mine is None and other is None:
        return Common(0, 0, 1.0, [], "the same dataset")
    if mine is None or other is None:
        rest = other if mine is None else mine
        count = length(rest) or 0
        share = 1.0 if other is None else float("nan")
        return Common(count, count, share, _thinned(rest, EXAMPLES), "the same dataset") if count else None
    how = "the same storage" if first.base[0] == "storage" else "the same dataset and index"
    if isinstance(mine, range) and isinstance(other, range) and mine.step == other.step == 1:
        both = range(max(mine.start, other.start), min(mine.stop, other.stop))
        return Common(len(both), len(mine), len(both) / len(mine), list(both[:EXAMPLES]), how) if both else None
    wanted, others = set(_thinned(mine, MOST_OF_THE_SMALLER)), _thinned(other, MOST_OF_THE_LARGER)
    found = wanted.intersection(others)
    if not found:
        return None
    seen_share = len(others) / max(1, length(other) or 1)
    share = min(1.0, len(found) / len(wanted) / seen_share)
    return Common(len(found), len(wanted), share, sorted(found)[:EXAMPLES], how)


def _thinned(indices: Indices | None, most: int) -> list[int]:
    """Evenly spread ones of them; only true integers, whose comparison is Python's own."""
    count = length(indices) or 0
    if indices is None or not count:
        return []
    some = indices[:: -(-count // most)]
    numbers = some.tolist() if isinstance(some, torch.Tensor) else some
    return [number for number in numbers if type(number) is int or type(number).__module__ == "numpy"]


def _states(dataset: Any) -> dict[int, Any]:
    """For each dataset of the program's own that is read, what its attributes were: `set_split("val")` makes another of it."""
    states: dict[int, Any] = {}
    waiting = [dataset]
    while waiting and len(states) < 16:
        one = waiting.pop()
        inside = attributes(one)
        if is_a(one, Subset):
            waiting.append(inside.get("dataset"))
        elif type(one) is ConcatDataset:
            waiting += inside.get("datasets", ())[:16]
        elif type(one) is not TensorDataset:
            states[id(one)] = tuple((name, id(value)) for name, value in inside.items())
    return states


def weakly(thing: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(thing)
    except TypeError:
        return None
