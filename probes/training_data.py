"""Which loader training reads, and how often it has begun anew."""

from __future__ import annotations

from typing import Any

from .loader_identity import LoaderIdentity, loader_identity

MOST_LOADERS = 256


class TrainingData:
    """Told of the first batch of every iterator, and of each batch that trained."""

    def __init__(self) -> None:
        self.loader: int | None = None
        "That of the newest batch that trained."
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

    def trained(self, loader: int | None) -> None:
        if loader is not None:
            self.loader = loader
