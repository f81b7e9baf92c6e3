"""Whether a run waits, runs, stands still or has ended, and how, from the events of its probe and its sidecar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, get_args

from forgemon.chunk import Event
from forgemon.exceptions import exception_line
from forgemon.journal import number, text, texts
from forgemon.snapshot import Mode, State

SIGNS_OF_LIFE = frozenset({"progress", "evaluation", "checkpoint", "epoch", "mode", "fact", "optimizer", "table"})
ENDS: Mapping[str, State] = {
    state: state for state in get_args(State) if state in ("finished", "exception", "killed", "exited", "gone")
}

LONG_SILENCE_S = 2.0
"""A record is written five times a second."""


class RunState:
    """Feed it events in the order of each file. The two files are put in order by time alone, so any split gives the same."""

    def __init__(self) -> None:
        self._attached: Event | None = None
        self._before: Event | None = None
        "The newest `waiting` or `refused` since no probe was attached."
        self._exception: Event | None = None
        self._exiting: Event | None = None
        self._detached: Event | None = None
        self._ended: Event | None = None
        self._gone: Event | None = None
        self._stalled: Event | None = None
        self._resumed = -math.inf
        self._alive = -math.inf
        "Newest sign of life but for step rows."

    def add(self, event: Event) -> None:
        """An event of a rank."""
        kind = event["kind"]
        if kind in SIGNS_OF_LIFE:
            self._alive = max(self._alive, event["time"])
        elif kind in ("waiting", "refused"):
            self._before = event
        elif kind == "attached":  # once more, perhaps: what an earlier probe said of its end is past
            self._attached, self._before = event, None
            self._exception = self._exiting = self._detached = None
        elif kind == "exception":
            self._exception = event
        elif kind == "exiting":
            self._exiting = event
        elif kind == "detached":
            self._detached = event

    def add_machine(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "stalled":
            self._stalled = event
        elif kind == "resumed":
            self._resumed = max(self._resumed, event["time"])
        elif kind == "ended" and text(event, "seen_by") == "reader":
            self._gone = event
        elif kind == "ended":
            self._ended = event

    def state(self, newest_step: float, now: float) -> tuple[State, str, tuple[str, ...]]:
        """State, one line about it, and the stack of a stalled process. `newest_step`: time of the newest step row, -inf
        without one; `now`: time of the newest row or event."""
        attached = -math.inf if self._attached is None else self._attached["time"]
        alive = max(self._alive, newest_step)
        if self._ended is not None and self._ended["time"] >= attached:
            state, detail = _ended(self._ended, self._exception)
            return state, detail or self._without_an_end(state, alive), ()
        if self._exception is not None:
            return "exception", _exception(self._exception), ()
        if self._detached is not None:
            return "detached", text(self._detached, "reason"), ()
        if self._exiting is not None:
            return "finished", "the program came to its end", ()
        if self._gone is not None and self._gone["time"] >= max(attached, alive):
            return (*_ended(self._gone, None), ())
        if self._stalled is not None and self._stalled["time"] > max(self._resumed, alive):
            stack = stack_lines(self._stalled)
            return "stalled", _stall(self._stalled, now, stack), stack
        if self._before is not None and text(self._before, "kind") == "refused":
            return "detached", text(self._before, "message"), ()
        if alive > -math.inf and newest_step > -math.inf:
            return "running", "", ()
        return "waiting", self._waiting(), ()

    def _without_an_end(self, state: State, alive: float) -> str:
        """What is said of a program that finished, and of which nothing was written for a while before: no row says that rows were lost
        where the disk had no room for that either."""
        silent_s = 0.0 if self._ended is None else self._ended["time"] - alive
        if state != "finished" or self._exiting or self._detached or not LONG_SILENCE_S < silent_s < math.inf:
            return ""
        return f"record ends {silent_s:.0f} s early: full disk or os._exit()"

    def _waiting(self) -> str:
        if self._before is not None:
            return text(self._before, "message") or f"for {text(self._before, 'for') or 'the process'}"
        return "for the process" if self._attached is None else "for the first optimizer step"


class ModeBadge:
    """TRAIN, EVAL or no_grad: what the newest event or step row says of the root module."""

    def __init__(self) -> None:
        self._mode: Mode = "unknown"
        self._time = -math.inf

    def add(self, event: Event) -> None:
        if event["kind"] not in ("mode", "evaluation"):
            return
        training, grad = event.get("training"), event.get("grad_enabled")
        if training is False:
            self._mode = "EVAL"
        elif event["kind"] == "evaluation" and grad is False:
            self._mode = "no_grad"
        elif training is True:
            self._mode = "TRAIN"
        else:
            return
        self._time = event["time"]

    def mode(self, step_time: float, training: float) -> Mode:
        """`step_time` and `training` of the newest step row, NaN where there is none."""
        if step_time > self._time and not math.isnan(training):
            return "TRAIN" if training else "EVAL"
        return self._mode


def _exception(event: Event) -> str:
    return exception_line(text(event, "type"), text(event, "message"), texts(event, "traceback"))


def stack_lines(event: Event) -> tuple[str, ...]:
    """The frames of the first thread, the main one, innermost first."""
    stack = event.get("stack")
    thread = stack[0] if isinstance(stack, list) and stack else None
    frames = thread.get("frames") if isinstance(thread, dict) else None
    return tuple(_frame(f) for f in frames[:200] if isinstance(f, dict)) if isinstance(frames, list) else ()


def _frame(frame: Mapping[str, Any]) -> str:
    line = number(frame, "line")
    place = text(frame, "file") + (f":{line:.0f}" if math.isfinite(line) else "")
    return f"{text(frame, 'function') or '?'} ({place})"


def _ended(event: Event, exception: Event | None) -> tuple[State, str]:
    state = ENDS.get(text(event, "how"), "exited")
    detail = text(event, "message")
    if not detail and state == "exception" and exception is not None:
        detail = _exception(exception)
    if not detail and state == "killed":
        detail = text(event, "signal")
    code = number(event, "exit_code")
    if not detail and math.isfinite(code) and code:
        detail = f"exit code {code:.0f}"
    return state, detail


def _stall(event: Event, now: float, stack: tuple[str, ...]) -> str:
    since, usual = number(event, "since"), number(event, "usual_s")
    seconds = number(event, "seconds")
    if math.isfinite(since) and now > since:
        seconds = now - since
    said = "no step" + (f" for {seconds:.0f} s" if math.isfinite(seconds) else "")
    if math.isfinite(usual):
        said += f" (usual: {usual:.3g} s)"
    if text(event, "message"):
        said += f", {text(event, 'message')}"
    return said + (f", in {stack[0]}" if stack else "")
