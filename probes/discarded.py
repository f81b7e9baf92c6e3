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
from .probe import Probe
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
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._windows = Owners(Window)

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

    def _judge(self, known: Known, window: Window, at_step: list[torch.Tensor]) -> None:
        if not window.absent:
            window.in_a_row = 0
            self.session.facts.absent(FACT, known.index)
            return
        where = self._line(window)
        optimizer, step, made = type(known.optimizer()).__name__, known.steps, len(window.norms)

        def deliver(norms: list[float]) -> None:
            used, unused = norms[made:], norms[:made]
            if any(used) or (made and not any(unused)):
                window.in_a_row = 0
                self.session.facts.absent(FACT, known.index)
                return
            window.in_a_row += 1
            if window.in_a_row >= IN_A_ROW:
                self.session.facts.seen(
                    FACT,
                    known.index,
                    where=where,
                    at_step=step,
                    optimizer=optimizer,
                    parameters=len(known.parameters),
                    gradient_norm_discarded=max(unused, default=None),
                )

        def look_at_some(norms: list[float]) -> None:
            if any(norms):
                deliver([*[1.0] * made, *norms])
            else:
                submit([*window_norms, *at_step])

        def submit(numbers: list[torch.Tensor]) -> None:
            if numbers:
                self.session.transfer.submit(numbers, deliver)
            else:
                deliver([])

        window_norms = window.norms
        if len(at_step) > MARKED:
            self.session.transfer.submit(at_step[:MARKED], look_at_some)
        else:
            submit([*window_norms, *at_step])

    def _line(self, window: Window) -> Line | None:
        """What clears the gradients: the call that was seen, else the line by hand, else that of the step."""
        if window.cleared is not None or not window.in_a_row:
            return window.cleared
        if not window.asked_code:
            window.asked_code, window.by_hand = True, cleared_by_hand(self.session.lines.frames(MOST_FRAMES))
        return window.by_hand or self.session.user_line()
