"""Gradients that are cleared between backward() and the step they were made for, so that the step finds nothing to apply.

Gradients that another optimizer's backward pass left behind may be cleared, and so may those of a step that is not taken at all: only
what a step should have used and did not find counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from .clearing import cleared_by_hand
from .gradients import gradient_norms
from .known import Known, Observation
from .owners import MARKED, Owners, gradient_marks
from .probe import QUIET, Probe
from .where import Line

if TYPE_CHECKING:
    from .session import Session

FACT = "gradients-discarded"
IN_A_ROW = 3
MOST_FRAMES = 16


class Window:
    """From one step of an optimizer to its next."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.by_hand: Line | None = None
        "The line that clears them where no call is seen to; asked for once."
        self.asked_code = False
        self.renew(whole=False)

    def renew(self, whole: bool) -> None:
        self.whole = whole
        self.before: list[tuple[int, int]] = []
        "Marks of the gradients when the newest backward pass began."
        self.after: list[tuple[int, int]] = []
        "And when it had ended; empty while none has reached these parameters."
        self.norms: list[torch.Tensor] = []
        "Of the first gradients then; taken once there is a suspicion."
        self.cleared: Line | None = None
        self.absent = False
        self.now: Observation | None = None
        "Of the step under way."


class GradientsDiscarded(Probe):
    """Rests while every step finds gradients."""

    told_at_rest = ("without_gradients",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._windows = Owners(Window)
        self._steps_with = 0
        "In a row, of any optimizer."

    def awoke(self) -> None:
        for window in self._windows.all():
            window.renew(whole=False)

    def backward_begins(self, root: Any) -> None:
        for known, window in self._windows.items():
            window.before = gradient_marks(known)

    def backward_ended(self, root: Any) -> None:
        for known, window in self._windows.items():
            now = gradient_marks(known)
            if now == window.before:
                continue
            window.after, window.cleared = now, None
            if window.in_a_row:
                with_gradient = [p for p in known.parameters if p.grad is not None]
                with torch.no_grad():
                    window.norms = gradient_norms(with_gradient[:MARKED])[1]

    def zeroed(self, optimizer: torch.optim.Optimizer | None, module: torch.nn.Module | None) -> None:
        for known, window in self._windows.items():
            mine = optimizer is None or known.optimizer() is optimizer
            if mine and window.after and window.in_a_row and window.cleared is None:
                window.cleared = self.session.user_line()

    def without_gradients(self, known: Known) -> None:
        self._steps_with = 0
        if self.rests:
            self.resume()

    def clipped(self, parameters: Any, limit: Any, norm: Any) -> None:
        writes = 2 if norm is None else 1
        for known, window in self._windows.items():
            now = gradient_marks(known)
            if now == [(identity, version + writes) for identity, version in window.after]:
                window.after = now  # by nothing but the clip

    def step_begins(self, known: Known) -> None:
        window = self._windows.of(known)
        window.now = known.now
        window.absent = gradient_marks(known) != window.after  # None, or written since: by zeros, if the norms say so

    def step_ended(self, known: Known) -> None:
        window = self._windows.of(known)
        if window.whole and window.after and window.now is not None and not window.now.closure:
            self._judge(known, window, window.now.norms)
        window.renew(whole=True)
        self._steps_with += 1
        if self._steps_with >= QUIET:
            self.rest()

    def _judge(self, known: Known, window: Window, at_step: list[torch.Tensor]) -> None:
        if window.absent:
            _Step(self.session, known, window, at_step, self._line(window)).ask()
        else:
            window.in_a_row = 0
            self.session.facts.absent(FACT, known.index)

    def _line(self, window: Window) -> Line | None:
        """What clears the gradients: the call that was seen, else the line by hand, else that of the step."""
        if window.cleared is not None or not window.in_a_row:
            return window.cleared
        if not window.asked_code:
            window.asked_code, window.by_hand = True, cleared_by_hand(self.session.lines.frames(MOST_FRAMES))
        return window.by_hand or self.session.user_line()


class _Step:
    """A step that may have found nothing of what backward() had made; the norms that say so arrive later."""

    def __init__(self, session: Session, known: Known, window: Window, at_step: list[torch.Tensor], where: Line | None) -> None:
        self._session, self._window, self._key, self._where = session, window, known.index, where
        self._optimizer, self._step, self._parameters = type(known.optimizer()).__name__, known.steps, len(known.parameters)
        self._made, self._at_step = window.norms, at_step

    def ask(self) -> None:
        """For some of the norms first, which are not zero as a rule."""
        if len(self._at_step) > MARKED:
            self._session.transfer.submit(self._at_step[:MARKED], self._some)
        else:
            self._ask_for_all()

    def _some(self, used: list[float]) -> None:
        if any(used):
            self._has_used()
        else:
            self._ask_for_all()

    def _ask_for_all(self) -> None:
        if self._made or self._at_step:
            self._session.transfer.submit([*self._made, *self._at_step], self._all)
        else:
            self._all([])

    def _all(self, norms: list[float]) -> None:
        unused, used = norms[: len(self._made)], norms[len(self._made) :]
        if any(used) or (unused and not any(unused)):
            self._has_used()
            return
        self._window.in_a_row += 1
        if self._window.in_a_row >= IN_A_ROW:
            self._session.facts.seen(
                FACT,
                self._key,
                where=self._where,
                at_step=self._step,
                optimizer=self._optimizer,
                parameters=self._parameters,
                gradient_norm_discarded=max(unused, default=None),
            )

    def _has_used(self) -> None:
        self._window.in_a_row = 0
        self._session.facts.absent(FACT, self._key)
