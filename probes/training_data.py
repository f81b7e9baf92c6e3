"""Which loader training reads, how often it has begun anew, and which criteria its batches meet."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .loader_identity import LoaderIdentity, loader_identity
from .losses import Loss

MOST_LOADERS = 256


class TrainingData:
    """Told of the first batch of every iterator, and of each batch that trained."""

    def __init__(self) -> None:
        self.loader: int | None = None
        "That of the newest batch that trained."
        self.criteria: frozenset[str] = frozenset()
        "Of the losses of the newest batch that trained and had some."
        self.goes_back_alone = True
        "Whether what went backward last was what a criterion of torch returned, if scaled: its value in a validation is the loss then."
        self.passes = 0
        "Begun after the one in which it was first seen."
        self._identities: dict[int | None, LoaderIdentity] = {}

    def begins(self, loader: int, iterator: Any) -> None:
        """`loader` gives the first batch of `iterator`; it may be the training loader built anew."""
        identity = loader_identity(iterator)
        if identity.is_same(self._identities.get(self.loader)):
            self.passes += 1
            self.loader = loader
        elif loader == self.loader:  # its address was used again
            self.loader = None
        if len(self._identities) >= MOST_LOADERS:
            self._identities.clear()
        self._identities[loader] = identity

    def trained(self, loader: int | None, criteria: Collection[str]) -> None:
        if loader is not None:
            self.loader = loader
        if criteria:
            self.criteria = frozenset(criteria)

    def went_backward(self, loss: Loss | None) -> None:
        """`loss` is None where no scalar went backward: that says nothing of criteria."""
        self.goes_back_alone = loss is None or loss.criterion is not None
