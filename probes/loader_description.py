"""What a DataLoader's iterator says of the loader. Attributes of torch's own objects only: no code of the program's is run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

MOST_HOPS = 8
DRAWS_AT_RANDOM = (RandomSampler, SubsetRandomSampler, WeightedRandomSampler)


def attributes(thing: Any) -> dict[str, Any]:
    """The instance's own attributes, without a property or `__getattr__` of its class."""
    try:
        found = object.__getattribute__(thing, "__dict__")
    except AttributeError:
        return {}
    return found if type(found) is dict else {}


def is_a(thing: Any, *classes: type) -> bool:
    """isinstance() by the real type: `__class__` of a lazy proxy is code of the program's."""
    return issubclass(type(thing), classes)


def sampler_chain(iterator: Any) -> list[Any]:
    """The batch sampler, what it wraps, down to the sampler that chooses single rows."""
    chain: list[Any] = []
    sampler = attributes(iterator).get("_index_sampler")
    while sampler is not None and len(chain) < MOST_HOPS:
        chain.append(sampler)
        inside = attributes(sampler)
        # Samplers that shard batches over ranks keep the one they wrap under either name.
        sampler = inside.get("batch_sampler", inside.get("sampler"))
    return chain


def shuffled(iterator: Any) -> bool | None:
    """Whether rows come in random order; None where a sampler of the program's own, or a stream, decides."""
    if reads_stream(iterator):
        return None
    row_sampler = sampler_chain(iterator)[-1:]
    for sampler in row_sampler:
        if is_a(sampler, *DRAWS_AT_RANDOM):
            return True
        if is_a(sampler, DistributedSampler):
            return bool(attributes(sampler).get("shuffle"))
        if type(sampler) is SequentialSampler:
            return False
    return None


def gives_each_once(iterator: Any) -> bool:
    """Whether a pass surely has no sample twice."""
    for sampler in [] if reads_stream(iterator) else sampler_chain(iterator)[-1:]:
        if is_a(sampler, RandomSampler):
            return attributes(sampler).get("replacement") is False
        return type(sampler) is SequentialSampler or is_a(sampler, SubsetRandomSampler, DistributedSampler)
    return False


def reads_stream(iterator: Any) -> bool:
    return attributes(iterator).get("_dataset_kind") == torch.utils.data._DatasetKind.Iterable


def batch_size(iterator: Any) -> int | None:
    """None without automatic batches, or where a batch sampler of the program's own decides."""
    sizes = (attributes(sampler).get("batch_size") for sampler in sampler_chain(iterator) if is_a(sampler, BatchSampler))
    return next((size for size in sizes if type(size) is int), None)


def rows_a_pass(iterator: Any) -> int | None:
    """Rows that the sampler gives in one pass; None where only code of the program's would know."""
    chain = sampler_chain(iterator)
    if not chain or reads_stream(iterator):
        return None
    inside = attributes(chain[-1])
    for name in ("num_samples", "_num_samples"):
        if type(inside.get(name)) is int:
            return int(inside[name])
    if is_a(chain[-1], SubsetRandomSampler):
        return length(inside.get("indices"))
    return length(attributes(iterator).get("_dataset")) if is_a(chain[-1], RandomSampler, SequentialSampler) else None


def length(data: Any, depth: int = 0) -> int | None:
    """Rows of a dataset or of a list of indices, where torch's or Python's own code counts them."""
    if type(data) in (list, tuple, range):
        return len(data)
    if type(data) is torch.Tensor:
        return int(data.shape[0]) if data.dim() else None
    inside = attributes(data)
    if type(data) is TensorDataset:
        return length(next(iter(inside.get("tensors", ())), None))
    if is_a(data, Subset) and type(data).__len__ is Subset.__len__:
        return length(plain_indices(inside.get("indices")))
    if type(data) is ConcatDataset and depth < MOST_HOPS:
        parts = [length(part, depth + 1) for part in inside.get("datasets", ())]
        return None if None in parts else sum(part for part in parts if part is not None)
    return None


def plain_indices(indices: Any) -> Sequence[int] | torch.Tensor | None:
    """Indices that can be read without code of the program's."""
    if type(indices) is torch.Tensor:
        return indices if indices.device.type == "cpu" and indices.dim() == 1 else None
    if type(indices).__module__ == "numpy" and type(indices).__name__ == "ndarray" and indices.ndim == 1:
        # From the buffer itself, and without a numpy of ours.
        return torch.as_tensor(indices) if indices.dtype.kind == "i" and indices.dtype.isnative else None
    return indices if type(indices) in (list, tuple, range) else None


def describe_loader(iterator: Any) -> dict[str, Any]:
    """The fields of a `loader` event that the loader itself determines."""
    inside, chain = attributes(iterator), sampler_chain(iterator)
    dataset = inside.get("_dataset")
    return {
        "batch_size": batch_size(iterator),
        "workers": inside.get("_num_workers"),
        "shuffled": shuffled(iterator),
        "sampler": None if reads_stream(iterator) or not chain else type(chain[-1]).__name__,
        "drop_last": bool(inside.get("_drop_last")),
        "pin_memory": bool(inside.get("_pin_memory")),
        "persistent_workers": bool(inside.get("_persistent_workers")),
        "prefetch_factor": inside.get("_prefetch_factor"),
        "dataset": type(dataset).__name__,
        "length": length(dataset),
    }


def rows_dropped(described: dict[str, Any], rows: int | None) -> int | None:
    """Rows at the end of a pass that make no batch; None where drop_last is set and their number is not known."""
    size = described["batch_size"]
    if not described["drop_last"]:
        return 0
    return None if rows is None or not size else rows % size
