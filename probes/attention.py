"""Which functions are observed at the moment.

Awake, all of them. Asleep, only those that the loop calls rarely: each of their calls wakes us, since something else than an
ordinary training step happens (an epoch begins, a validation pass, a checkpoint). Those that every step calls are left as they were
found, so that between observed steps the loop runs as if we were not there.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from .dynamo import skip
from .guard import ASLEEP, AWAKE, LOSS, Guard
from .observe import Observer, unwrap

OFTEN = 4
"""A function called again within so many steps is called by every step, or nearly so."""
SURE = 4
"""So many times in a row."""

OnStart = Callable[[tuple[Any, ...]], None]
OnReturn = Callable[[tuple[Any, ...], Any], None]


class Watched:
    """One observed function and how often the loop calls it."""

    __slots__ = ("_in_a_row", "_last", "_missed", "_missed_since", "for_loss", "function", "often", "suspended")

    def __init__(self, function: types.FunctionType, for_loss: bool) -> None:
        self.function = function
        self.for_loss = for_loss
        "Whether a step of which the loss alone is wanted needs it."
        self.often = False
        self.suspended = False
        self._last = -SURE - OFTEN
        self._in_a_row = 0
        self._missed = 0
        "Steps during which it was not observed; its own clock stands still then."
        self._missed_since = 0

    def called(self, step: int) -> None:
        now = step - self._missed
        gap = now - self._last
        if gap:
            self._last = now
            self._in_a_row = self._in_a_row + 1 if gap <= OFTEN else 0
            self.often = self._in_a_row >= SURE

    def sleeps(self, step: int) -> bool:
        """Whether it is called so often that it is not observed from now on."""
        if not self.often:
            return False
        if step - self._missed - self._last > OFTEN:
            self._in_a_row, self.often = 0, False
            return False
        self.suspend(step)
        return True

    def suspend(self, step: int) -> None:
        self.suspended = True
        self._missed_since = step

    def wakes(self, step: int) -> None:
        self.suspended = False
        self._missed += step - self._missed_since


skip([Watched.called.__code__])


class Attention:
    """The observed functions of one session, awake or asleep. All on the thread that trains."""

    def __init__(self, guard: Guard, observer: Observer, roused: Callable[[], None], step_now: Callable[[], int]) -> None:
        """`roused()` is called when a rare call has woken us in the middle of a step; `step_now()` is the clock by which it is rare."""
        self._guard = guard
        self._observer = observer
        self._roused = roused
        self._step_now = step_now
        self._watched: dict[types.FunctionType, Watched] = {}
        guard.rouse = self._rouse

    def watch(
        self,
        function: Any,
        start: OnStart | None = None,
        end: OnReturn | None = None,
        light: tuple[Any, Any] = (None, None),
        trains: bool = False,
    ) -> bool:
        """Observe `function`; `light` are the stand-ins of `start` and `end` in a step of which the loss alone is wanted. `trains`: whether
        it goes backward."""
        found = unwrap(function)
        if found is None or found in self._watched:
            return False
        watched = Watched(found, for_loss=light != (None, None))
        on_start = self._guard(start, light=light[0], watched=watched, trains=trains) if start else None
        on_return = self._guard(end, light=light[1], watched=watched, trains=trains) if end else None
        if not self._observer.observe(found, on_start, on_return):
            return False
        self._watched[found] = watched
        return True

    def always(self, function: Any, start: OnStart | None = None, end: OnReturn | None = None) -> bool:
        """Observe `function` awake and asleep, without waking."""
        wrapped = [self._guard(callback, always=True) if callback else None for callback in (start, end)]
        return self._observer.observe(function, *wrapped)

    def forget(self, function: Any) -> None:
        self._watched.pop(function, None)
        self._observer.forget(function)

    def was_missed(self, function: Any) -> bool:
        """Whether calls of `function` may ever have gone unseen."""
        found = unwrap(function)
        watched = self._watched.get(found) if found is not None else None
        return watched is None or watched.suspended or watched._missed > 0

    def wake(self, loss_only: bool = False) -> None:
        """Observe every function again, or those alone that the loss needs."""
        if loss_only:
            self.sleep()
        self._guard.step = self._step_now()
        for watched in self._watched.values():
            if watched.suspended and (watched.for_loss or not loss_only):
                self._observer.resume(watched.function)
                watched.wakes(self._guard.step)
        self._guard.mode = LOSS if loss_only else AWAKE

    def sleep(self) -> None:
        """Leave alone what every step calls."""
        self._guard.mode = ASLEEP
        self._guard.step = self._step_now()
        for watched in self._watched.values():
            if not watched.suspended and watched.sleeps(self._guard.step):
                self._observer.suspend(watched.function)

    def leave_all(self) -> None:
        """Observe nothing until the next `wake()`."""
        self._guard.mode = ASLEEP
        self._guard.step = self._step_now()
        for watched in self._watched.values():
            if not watched.suspended:
                self._observer.suspend(watched.function)
                watched.suspend(self._guard.step)

    def resume_all(self) -> None:
        """After `leave_all()`: as asleep, with the rare calls observed."""
        for watched in self._watched.values():
            if watched.suspended and not watched.often:
                self._observer.resume(watched.function)
                watched.wakes(self._guard.step)

    def _rouse(self, watched: Watched) -> bool:
        """A watched function was called while asleep. False where that was foreseen, or under way when we fell asleep."""
        if watched.suspended or (self._guard.mode == LOSS and watched.for_loss):
            return False
        self.wake()
        self._roused()
        return True
