"""Whether two DataLoaders give the same samples in the same manner, so that one built anew for each epoch is still the same loader."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple


class LoaderIdentity(NamedTuple):
    """What a loader is known by. Weak, so that nothing is kept and an address used again is no identity."""

    sampler: weakref.ref[Any] | None
    dataset: weakref.ref[Any] | None
    manner: tuple[object, ...]
    "Class of the sampler, its indices if it has some, and the batch size."

    def is_same(self, other: LoaderIdentity | None) -> bool:
        """The same loader, or one of the same manner over the same dataset."""
        if other is None:
            return False
        return _alive_and_same(self.sampler, other.sampler) or (
            self.manner == other.manner and _alive_and_same(self.dataset, other.dataset)
        )


def loader_identity(iterator: Any) -> LoaderIdentity:
    """Of the loader that a DataLoader's iterator belongs to. Reads attributes of torch's own objects only."""
    batches = iterator._index_sampler
    own = vars(batches) if hasattr(batches, "__dict__") else {}
    sampler = own.get("sampler", batches)
    indices = vars(sampler).get("indices") if hasattr(sampler, "__dict__") else None
    return LoaderIdentity(_weakly(batches), _weakly(iterator._dataset), (type(sampler), id(indices), own.get("batch_size")))


def _alive_and_same(one: weakref.ref[Any] | None, other: weakref.ref[Any] | None) -> bool:
    if one is None or other is None:
        return False
    found = one()
    return found is not None and found is other()


def _weakly(thing: Any) -> weakref.ref[Any] | None:
    try:
        return weakref.ref(thing)
    except TypeError:  # a list or a tuple
        return None
