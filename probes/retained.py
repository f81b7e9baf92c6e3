"""loss-graph-retained: old losses are kept with their graphs, so that memory grows step by step."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from .holders import Holder, find_holder
from .losses import plain_tensor
from .probe import Probe

if TYPE_CHECKING:
    from .known import Known
    from .session import Session

MARK = "forgemon-alive"
MOST_NOTED = 256
OLD_STEPS = 5
ENOUGH_OLD = 20
KEPT_SHARE = 0.9


class Mark:
    """Put into the metadata of a loss's graph node: it lives as long as that node does."""

    __slots__ = ("__weakref__",)


class _Noted:
    __slots__ = ("is_old", "mark", "step", "tensor")

    def __init__(self, step: int, mark: Mark, tensor: torch.Tensor) -> None:
        self.step = step
        self.mark = weakref.ref(mark)
        self.tensor = weakref.ref(tensor)
        self.is_old = False


class LossGraphRetained(Probe):
    """Follows the losses of observed steps by weak references: a healthy loop lets go of each when the next is computed."""

    signals = ("retained graphs",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._noted: list[_Noted] = []
        self._grown_old: deque[bool] = deque(maxlen=ENOUGH_OLD)
        "Of the newest that became old: whether each was still alive."
        self._criterion: weakref.ref[torch.Tensor] | None = None
        self._noted_this_step = False
        self._suspicious = False
        self._look_at_age = 0
        "A window that was found to be bounded explains losses up to this age in steps."
        self._holder: Holder | None = None
        self._oldest_looked_at = 0

    def awoke(self) -> None:
        self._criterion = None
        self._noted_this_step = False

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if plain_tensor(output) and output.grad_fn is not None and output.numel() == 1:
            self._criterion = weakref.ref(output)

    def backward_begins(self, root: Any) -> None:
        if self._suspicious:
            self._suspicious = False
            self._report()
        if self._noted_this_step:
            return
        if isinstance(root, (tuple, list)):
            root = root[0] if root else None
        if root is None or not plain_tensor(root) or root.grad_fn is None:
            return
        self._noted_this_step = True
        mark = Mark()
        criterion = self._criterion() if self._criterion is not None else None
        for tensor in (root, criterion):
            if tensor is not None and tensor.grad_fn is not None:
                notes: Any = tensor.grad_fn.metadata
                notes.setdefault(MARK, mark)
        self._noted.append(_Noted(self.session.step_now(), mark, root if criterion is None else criterion))

    def step_ended(self, known: Known) -> None:
        self._noted_this_step = False
        self._criterion = None
        now = self.session.step_now()
        lost = self._forget_dead(now)
        old = [noted for noted in self._noted if noted.is_old]
        kept = sum(self._grown_old)
        if self._grown_old:
            self.session.seen("retained graphs")
        if len(self._grown_old) == ENOUGH_OLD and (2 * kept < ENOUGH_OLD or 0 < lost <= 2):
            # None is kept, or each new one pushes the oldest out: that is a window.
            self.session.facts.absent("loss-graph-retained")
            return
        enough = len(old) >= ENOUGH_OLD and kept >= KEPT_SHARE * ENOUGH_OLD
        self._suspicious = enough and now - old[0].step >= self._look_at_age
        if len(self._noted) > MOST_NOTED:
            # Every other one of the older half, so that the oldest stay known.
            self._noted[: MOST_NOTED // 2] = self._noted[: MOST_NOTED // 2 : 2]

    def _forget_dead(self, now: int) -> int:
        """Drop what died, note what grew old; returns how many old ones died since the last time."""
        lost = 0
        kept = []
        for noted in self._noted:
            alive = noted.mark() is not None
            if not noted.is_old and now - noted.step > OLD_STEPS:
                noted.is_old = True
                self._grown_old.append(alive)
            elif noted.is_old and not alive:
                lost += 1
            if alive or not noted.is_old:
                kept.append(noted)
        self._noted = kept
        return lost

    def _report(self) -> None:
        old = [noted for noted in self._noted if noted.is_old]
        if len(old) < ENOUGH_OLD:
            return
        now = self.session.step_now()
        if self._holder is None or old[0].step != self._oldest_looked_at:
            self._holder = find_holder(old[len(old) // 2].tensor(), old[len(old) // 2].mark(), MARK)
            self._oldest_looked_at = old[0].step
        if self._holder.limit is not None:
            # Not every step need add to it: beyond twice its length nothing in it can be as old as that.
            self._look_at_age = 2 * self._holder.limit + OLD_STEPS
            self._holder = None
            return
        self.session.facts.seen(
            "loss-graph-retained",
            where=self.session.user_line(),
            alive=len(old),
            oldest_step=old[0].step,
            oldest_age_steps=now - old[0].step,
            kept_share=sum(self._grown_old) / len(self._grown_old),
            held_by=self._holder.kind,
            held=self._holder.length,
        )
