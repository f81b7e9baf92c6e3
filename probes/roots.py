"""The models of the program: the modules that no other module holds."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch


class Roots:
    """Those that were found and live."""

    def __init__(self, met: Callable[[torch.nn.Module], None]) -> None:
        """`met` is told of each when it is first found."""
        self._met = met
        self._known: dict[int, weakref.ref[torch.nn.Module]] = {}

    def know(self, roots: Iterable[torch.nn.Module]) -> None:
        self._known = {identity: known for identity, known in self._known.items() if known() is not None}
        for root in roots:
            if id(root) not in self._known:
                self._known[id(root)] = weakref.ref(root)
                self._met(root)

    def has(self, module: Any) -> bool:
        found = self._known.get(id(module))
        return found is not None and found() is module

    def living(self) -> list[torch.nn.Module]:
        return [root for root in (reference() for reference in self._known.values()) if root is not None]
