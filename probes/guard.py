"""The one place that swallows exceptions: whatever fails in our callbacks never reaches the loop, and is recorded once a place."""

from __future__ import annotations

import _thread
import contextlib
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from .capture import CAN_CAPTURE, is_capturing
from .dynamo import skip
from .interrupts import is_the_programs
from .threads import TrainingThread
from .torch_modes import apart

if TYPE_CHECKING:
    from .attention import Watched
    from .observe import Observer

MOST_ERRORS = 8
HOLD_UP_S = 0.0005

ASLEEP, LOSS, AWAKE = 0, 1, 2
"""Modes. ASLEEP: of the watched functions only rare ones are observed, and a call of one wakes us. LOSS: a step of which the loss alone
is wanted. AWAKE: an observed step, or an evaluation."""

_traces: Callable[[], bool] = torch._C._is_tracing
"""Whether torch.jit.trace writes down what is asked of tensors: nothing of ours belongs there."""

Report = Callable[[str, str], None]
"""Place and message."""


class Guard:
    """Wraps callbacks: silent in forked children, while a CUDA graph is captured and when switched off, and timed."""

    def __init__(self, report: Report, give_up: Callable[[], None]) -> None:
        """`report()` is called at the first error of each place, `give_up()` when there have been too many in all."""
        self.active = False
        self.mode = AWAKE
        self.step = 0
        "Optimizer steps so far."
        self.pid = os.getpid()
        self._here = [True]
        "Emptied in every forked child. What torch's functions call is not to ask for the process: that is a call into the system."
        os.register_at_fork(after_in_child=self._here.clear)  # for good; a list is all that stays of us
        self.spent_s = 0.0
        "Seconds spent in callbacks so far, and in what calls them."
        self.rouse: Callable[[Watched], bool] = lambda watched: True
        "Called when a watched function is called while asleep; whether its callback is to run."
        self.overhead_s = 0.0
        "What a call of a callback costs beside the callback."
        self.calls = 0
        "Of callbacks, so far."
        self.inside = False
        "In a callback: what torch's functions do for us is none of the loop's doing."
        self.when_over: Callable[[], None] | None = None
        "To be called once, when the callback under way is over."
        self.captures: Callable[[], bool] | None = is_capturing if CAN_CAPTURE else None
        "Whether a CUDA graph is being captured just now; None where there can be none."
        self.after_capture: Callable[[], object] = lambda: None
        "Called in the first callback after a capture: all calls within it went unseen."
        self._was_captured = False
        self.thread = TrainingThread(self._two_train)
        self.when_two_train: Callable[[], object] = lambda: None
        "Called once, when a second thread begins to train beside the first."
        self._report = report
        self._give_up = give_up
        self._gave_up = False
        self._errors: dict[str, int] = {}
        self.unsaid = 0
        "Errors that could not even be recorded."

    def __call__(
        self,
        callback: Callable[..., None],
        *,
        always: bool = False,
        light: Callable[..., None] | None = None,
        watched: Watched | None = None,
        trains: bool = False,
    ) -> Callable[..., None]:
        """`always`: whatever the mode. `light`: what is called instead in mode LOSS. `watched`: the function it belongs to. `trains`: that
        function goes backward or steps."""
        clock, here, thread, ident = time.perf_counter, self._here, self.thread, _thread.get_ident
        # What is observed always (a save, a logged number) reads no gradients, and is often done on a thread of its own.
        on_its_thread = trains or not always

        def guarded(*values: Any) -> None:
            try:
                if not self.active or not here or (on_its_thread and thread.ident != ident() and thread.is_another(trains)):
                    return
                if self.inside or _traces() or (self.captures is not None and self._in_a_capture()):
                    return
                began = clock()
                try:
                    self.inside = True
                    self.calls += 1
                    if always or self.mode == AWAKE:
                        if watched is not None:
                            watched.called(self.step)
                        apart(callback, values)
                    else:
                        apart(self._call_in_this_mode, (callback, light, watched, values))
                except Exception as error:
                    self.swallow_ours(callback, error)
                finally:
                    self.inside = False
                    if self.when_over is not None:
                        self._now_over()
                    self.spent_s += clock() - began + self.overhead_s
            except RecursionError:  # the program has called itself so often that there is no room for us, not even to say so
                self.unsaid += 1
            except Exception as error:  # before the callback, or what the program sent while it ran
                self.swallow_ours(callback, error)

        guarded._torchdynamo_disable = True  # type: ignore[attr-defined]
        skip([guarded.__code__])
        return guarded

    def _two_train(self) -> None:
        """On the second thread. It is held up until what runs on the first, which may read gradients that it is about to write, is over."""
        if self.active:
            self.active = False
            while self.inside:
                time.sleep(HOLD_UP_S)
            self.when_two_train()

    def _in_a_capture(self) -> bool:
        if self.captures is not None and self.captures():
            self._was_captured = True
            return True
        if self._was_captured:
            self._was_captured = False
            apart(self._capture_ended, ())
        return False

    def _capture_ended(self) -> None:
        with self.undisturbed():
            self.protected(self.after_capture)

    def _call_in_this_mode(
        self,
        callback: Callable[..., None],
        light: Callable[..., None] | None,
        watched: Watched | None,
        values: tuple[Any, ...],
    ) -> None:
        call = self._in_this_mode(callback, light, watched)
        if call is not None:
            self.protected(call, *values)  # says which of the two it was

    def _in_this_mode(
        self, callback: Callable[..., None], light: Callable[..., None] | None, watched: Watched | None
    ) -> Callable[..., None] | None:
        """What is to be called of the two while not awake, if anything."""
        chosen = callback
        if self.mode == LOSS and light is not None:
            chosen = light
        elif watched is None or not self.rouse(watched):
            return None
        if watched is not None:
            watched.called(self.step)
        return chosen

    def calibrate(self, observer: Observer, calls: int = 500) -> None:
        """Measure what the call of a callback by `observer` costs on this machine beside the callback itself."""

        def probe(value: int) -> int:
            return value

        clock = time.perf_counter
        plain_s = watched_s = float("inf")
        active, self.active, mode, self.mode = self.active, True, self.mode, AWAKE
        inside_s = 0.0
        for is_watched in (False, True):
            if is_watched:
                observer.observe(probe, self(lambda values: None))
            for _ in range(3):
                before_s, began = self.spent_s, clock()
                for number in range(calls):
                    probe(number)
                took_s = clock() - began
                if is_watched and took_s < watched_s:
                    watched_s, inside_s = took_s, self.spent_s - before_s
                elif not is_watched:
                    plain_s = min(plain_s, took_s)
        observer.forget(probe)
        self.active, self.mode, self.spent_s = active, mode, 0.0
        self.overhead_s = max(0.0, watched_s - plain_s - inside_s) / calls

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """As in a callback: nothing is observed, and whoever wants to take us out waits until this is over."""
        before, self.inside = self.inside, True
        try:
            yield
        finally:
            self.inside = before
            if self.when_over is not None and not before:
                self._now_over()

    def _now_over(self) -> None:
        action, self.when_over = self.when_over, None
        if action is not None:
            self.protected(action)

    def protected(self, function: Callable[..., object], *values: Any) -> None:
        """Call once, swallowing what it raises."""
        try:
            function(*values)
        except Exception as error:
            self.swallow_ours(function, error)

    def swallow_ours(self, callback: Callable[..., object], error: Exception) -> None:
        """Swallow what a callback raised, unless the program sent it to itself while that ran."""
        if is_the_programs(error):
            raise error  # it came from outside while our code ran
        self.swallow(getattr(callback, "__qualname__", type(callback).__name__), error)

    def swallow(self, place: str, error: Exception) -> None:
        """Count an error of our own, report it once for its place, and give up after several."""
        try:
            self._errors[place] = times = self._errors.get(place, 0) + 1
            if times == 1:
                self._report(place, _described(error))
            if not self._gave_up and sum(self._errors.values()) >= MOST_ERRORS:
                self._give_up()
                self._gave_up = True
        except Exception:
            self.unsaid += 1


def _described(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except Exception:  # of a class of the program's, which cannot be written
        return type(error).__name__


# Called where a compiler may look at the frames of this thread.
skip(method.__code__ for method in (Guard._in_a_capture, Guard._two_train, Guard._now_over))
