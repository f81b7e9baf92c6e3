"""loss-graph-retained: old losses are kept with their graphs, so that memory grows step by step."""

from __future__ import annotations

import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import torch

from .graph_marks import mark_graph, mark_unscaled
from .holders import Holder, find_holder
from .losses import plain_tensor
from .owners import Owners
from .probe import QUIET, Probe

if TYPE_CHECKING:
    from .instruments import Instruments
    from .known import Known
    from .session import Session

MARK = "forgemon-alive"
MOST_NOTED = 256
OLD_STEPS = 5
ENOUGH_OLD = 20
KEPT_SHARE = 0.9
EARLY = 3
"""Losses of as many steps, all alive, after which it is asked who holds them: what cannot but grow need not grow old first."""
MOST_EARLY_QUESTIONS = 2
MOST_FRAMES = 16
STEPS_TO_BE_SURE = OLD_STEPS + 3
"""After a rest: so many are followed before the next."""
MODULE_LOOKS_AT_REST = 2
"""So many times that imports are looked for (every MODULES_EVERY observed steps) a rest lasts."""


class _Noted:
    __slots__ = ("is_old", "mark", "step", "tensor")

    def __init__(self, step: int, tensor: torch.Tensor, root: torch.Tensor) -> None:
        """`root` was computed from the loss `tensor` and goes backward."""
        self.step = step
        self.mark = mark_unscaled(MARK, root) if tensor is root else mark_graph(MARK, root, tensor)
        self.tensor = weakref.ref(tensor)
        self.is_old = False


class _Track:
    """Follows one loss of each observed step by weak references: a healthy loop lets go of each when the next is computed."""

    def __init__(self) -> None:
        self.noted: list[_Noted] = []
        self.grown_old: deque[bool] = deque(maxlen=ENOUGH_OLD)
        "Of the newest that became old: whether each was still alive."
        self.suspicious = self.suspicious_early = False
        self._look_at_age = 0
        "A window that was found to be bounded explains losses up to this age in steps."
        self.holder: Holder | None = None
        self.oldest_looked_at = 0
        "The oldest loss when it was asked for."

    def step_ended(self, now: int) -> bool | None:
        """False where losses are let go of, True where they may be kept; None where that does not show yet."""
        if not self.noted and not self.grown_old:
            return None  # no second loss to a step
        lost = self._forget_dead(now)
        kept = sum(self.grown_old)
        if len(self.grown_old) == ENOUGH_OLD and (2 * kept < ENOUGH_OLD or 0 < lost <= 2):
            return False  # none is kept, or each new one pushes the oldest out: that is a window
        old = self.old()
        enough = len(old) >= ENOUGH_OLD and kept >= KEPT_SHARE * ENOUGH_OLD
        self.suspicious = enough and now - old[0].step >= self._look_at_age
        self.suspicious_early = not enough and len(self.noted) >= EARLY and now - self.noted[0].step >= EARLY
        if len(self.noted) > MOST_NOTED:
            # Every other one of the older half, so that the oldest stay known.
            self.noted[: MOST_NOTED // 2] = self.noted[: MOST_NOTED // 2 : 2]
        return True if self.suspicious else None

    def old(self) -> list[_Noted]:
        return [noted for noted in self.noted if noted.is_old]

    def _forget_dead(self, now: int) -> int:
        """Drop what died, note what grew old; returns how many old ones died since the last time."""
        lost = 0
        kept = []
        for noted in self.noted:
            alive = noted.mark() is not None
            if not noted.is_old and now - noted.step > OLD_STEPS:
                noted.is_old = True
                self.grown_old.append(alive)
            elif noted.is_old and not alive:
                lost += 1
            if alive or not noted.is_old:
                kept.append(noted)
        self.noted = kept
        return lost

    def holds_before(self, now: int) -> bool:
        """Whether a loss of an earlier step than the newest is alive."""
        return any(now - noted.step > 1 and noted.mark() is not None for noted in self.noted)

    def all_alive(self) -> bool:
        return all(noted.mark() is not None for noted in self.noted)

    def is_a_window_of(self, limit: int) -> None:
        """Not every step need add to it: beyond twice its length nothing in it can be as old as that."""
        self._look_at_age = 2 * limit + OLD_STEPS


class _Tracks:
    """Of one optimizer. The first and the last loss of its steps are followed apart: with accumulation a loop may keep either."""

    def __init__(self) -> None:
        self.first, self.last = _Track(), _Track()

    def both(self) -> tuple[_Track, _Track]:
        return self.first, self.last


class LossGraphRetained(Probe):
    """A loss belongs to the optimizer that steps next. Where every loss is let go of at once, some stretches of steps are enough."""

    signals = ("retained graphs",)
    told_at_rest = ("late_modules",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._tracks = Owners(_Tracks)
        self._criterion: weakref.ref[torch.Tensor] | None = None
        self._first: _Noted | None = None
        self._last: _Noted | None = None
        "The first loss that went backward since the last step, and the last one where there were several."
        self._early_questions = 0
        self._suspects = False
        "Whether any track does."
        self._steps_followed = 0
        "Since the last rest, or since a loss was found alive."
        self._enough_steps = QUIET
        self._rest_left = 0

    def awoke(self) -> None:
        self._criterion = self._first = self._last = None

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if plain_tensor(output) and output.grad_fn is not None and output.numel() == 1:
            self._criterion = weakref.ref(output)

    def backward_begins(self, root: Any) -> None:
        if self._suspects:
            self._suspects = False
            self._ask_who_holds()
        if isinstance(root, (tuple, list)):
            root = root[0] if root else None
        if root is None or not plain_tensor(root) or root.grad_fn is None:
            return
        criterion = self._criterion() if self._criterion is not None else None
        noted = _Noted(self.session.step_now(), root if criterion is None else criterion, root)
        if self._first is None:
            self._first = noted
        else:
            self._last = noted

    def _ask_who_holds(self) -> None:
        for known, tracks in self._tracks.items():
            for track in tracks.both():
                if track.suspicious or track.suspicious_early:
                    early, track.suspicious, track.suspicious_early = not track.suspicious, False, False
                    self._report(known.index, track, early)

    def step_ended(self, known: Known) -> None:
        tracks = self._tracks.of(known)
        for noted, track in ((self._first, tracks.first), (self._last, tracks.last)):
            if noted is not None:
                track.noted.append(noted)
        self._criterion = self._first = self._last = None
        now = self.session.step_now()
        found = [track.step_ended(now) for track in tracks.both()]
        self._suspects = self._suspects or any(track.suspicious or track.suspicious_early for track in tracks.both())
        if tracks.first.grown_old:
            self.session.signals.seen("retained graphs")
        if False in found and True not in found:
            self.session.facts.absent("loss-graph-retained", known.index)
        self._steps_followed += 1
        if self._steps_followed >= self._enough_steps:
            self._rest_if_all_let_go(now)

    def _rest_if_all_let_go(self, now: int) -> None:
        tracks = [track for both in self._tracks.all() for track in both.both()]
        self._steps_followed = 0
        if any(track.holds_before(now) for track in tracks):
            self._enough_steps = QUIET
        else:
            self._enough_steps, self._rest_left = STEPS_TO_BE_SURE, MODULE_LOOKS_AT_REST
            self.rest()

    def late_modules(self, instruments: Instruments) -> None:
        if self.rests:
            self._rest_left -= 1
            if self._rest_left <= 0:
                self.resume()

    def _report(self, index: int, track: _Track, early: bool) -> None:
        old = track.noted if early else track.old()
        if len(old) < (EARLY if early else ENOUGH_OLD) or (early and not self._may_ask_early(track)):
            return
        now = self.session.step_now()
        holder = track.holder
        if holder is None or old[0].step != track.oldest_looked_at:
            middle = old[len(old) // 2]
            frames = self.session.lines.frames(MOST_FRAMES)
            holder = find_holder(middle.tensor(), middle.mark(), track.noted[-1].mark(), MARK, frames, EARLY if early else None)
            track.holder, track.oldest_looked_at = holder, old[0].step
        if holder.limit is not None:
            track.is_a_window_of(holder.limit)
            track.holder = None
            return
        if early and not holder.only_grows:
            track.holder = None
            return
        self.session.facts.seen(
            "loss-graph-retained",
            index,
            where=holder.where or self.session.user_line(),
            alive=len(old),
            oldest_step=old[0].step,
            oldest_age_steps=now - old[0].step,
            kept_share=1.0 if early else sum(track.grown_old) / len(track.grown_old),
            held_by=holder.kind,
            held=holder.length,
            only_grows=holder.only_grows,
        )

    def _may_ask_early(self, track: _Track) -> bool:
        """To ask takes long: for what is certain already as often as wanted, else twice in a run."""
        if track.holder is not None and track.holder.only_grows and track.noted[0].step == track.oldest_looked_at:
            return track.all_alive()
        self._early_questions += 1
        return self._early_questions <= MOST_EARLY_QUESTIONS and track.all_alive()
