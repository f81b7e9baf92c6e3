"""All optimizers of the process that we have met and that live."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch

from . import discover
from .known import Known, layout_of
from .pending import raise_after

if TYPE_CHECKING:
    from .session import Session


class Optimizers:
    def __init__(self, session: Session) -> None:
        self._session = session
        self.by_id: dict[int, Known] = {}
        self._count = 0

    def knows(self, optimizer: torch.optim.Optimizer) -> bool:
        return id(optimizer) in self.by_id

    def know(self, optimizer: torch.optim.Optimizer, step: int, has_new_weights: bool) -> Known:
        """`step`: that of the process, from which one counts that comes late. `has_new_weights` matters where it is not known yet."""
        known = self.by_id.get(id(optimizer))
        if known is None:
            identity = id(optimizer)
            gone = functools.partial(self._gone, identity)
            self._count += 1  # first: whatever fails after it, no two optimizers share a number, and with it a table
            known = self.by_id[identity] = Known(self._count - 1, optimizer, step, gone)
            self._session.emit(
                "optimizer",
                at_step=max(step, known.steps),
                index=known.index,
                **{"class": type(optimizer).__name__},
                learning_rate=discover.learning_rate(optimizer),
                hyperparameters=discover.hyperparameters(optimizer),
                parameters=len(known.parameters),
                new_weights=has_new_weights,
                counted_from="the optimizer's own count" if known.counted is not None else "attach",
            )
        elif known.layout != layout_of(optimizer):
            known.refresh(optimizer)
        return known

    def _gone(self, identity: int, _: object) -> None:
        """Called by a weak reference, which no exception can leave: Python would report and forget a KeyboardInterrupt that comes
        meanwhile. The main thread raises it afterwards."""
        known, protected = self.by_id.get(identity), self._session.guard.protected
        try:
            protected(self._forget, identity, known)
        except BaseException as error:
            protected(self._forget, identity, known)  # from its beginning, which does no harm
            raise_after(Optimizers._gone.__code__, error)

    def _forget(self, identity: int, known: Known | None) -> None:
        self.by_id.pop(identity, None)  # first: whatever fails after it, no other at its address is taken for it
        if known is not None:
            self._session.steps.slept.gone(known)
            known.let_go()

    def living(self) -> list[torch.optim.Optimizer]:
        found = [known.optimizer() for known in self.everyone()]
        return [optimizer for optimizer in found if optimizer is not None]

    def everyone(self) -> list[Known]:
        """All optimizers that live."""
        return list(self.by_id.values())

    def backward_begins(self) -> None:
        for known in self.everyone():
            known.reuse.backward_begins(self._session.user_line)

    def backward_ended(self) -> None:
        for known in self.everyone():
            known.reuse.backward_ended()

    def cleared(self, optimizer: torch.optim.Optimizer | None) -> None:
        """zero_grad() of one optimizer, or of a module (None), which may reach any of them."""
        for known in self.everyone() if optimizer is None else filter(None, [self.by_id.get(id(optimizer))]):
            known.reuse.cleared()

    def rewritten(self) -> None:
        for known in self.everyone():
            known.reuse.rewritten()
