"""stalled: no step for many times the usual step time, and where the process waits."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import Candidate
from forgemon.findings import Where
from forgemon.journal import number, text, whole
from forgemon.state import ENDS, SIGNS_OF_LIFE, stack_lines

ALARM_S = 60.0
ALARM_FACTOR = 20.0
"""A stall becomes an alarm when it has lasted this many seconds and this many times the usual step."""
MOST_GAPS = 64
LIBRARIES = ("site-packages", "dist-packages", "/lib/python3", "<frozen", "<string>")

REFUTE = "Steps that come again by themselves: a long checkpoint, a download or a first compilation look the same."


class Stalled:
    """The sidecar notices and takes the stack; the machine's own rows say for how long it has lasted since."""

    symptoms: ClassVar[tuple[str, ...]] = ("stalled",)

    def __init__(self) -> None:
        self._gaps = np.empty((0, 2))
        "Longest gaps between rows: seconds, and the step before."
        self._step = 0
        self._step_time = -math.inf
        self._alive = -math.inf
        self._machine_time = -math.inf
        self._stall: Event = {}
        self._count = 0
        self._resumed: Event = {}
        self._ended = math.inf

    def feed(self, chunk: Chunk) -> None:
        self._feed_steps(chunk)
        for event in chunk.events:
            if event["kind"] in SIGNS_OF_LIFE:
                self._alive = max(self._alive, event["time"])
        if chunk.machine is not None and len(chunk.machine):
            self._machine_time = max(self._machine_time, float(chunk.machine["time"].max()))
        for event in chunk.machine_events:
            if event["kind"] == "stalled":
                self._stall, self._count = event, self._count + 1
            elif event["kind"] == "resumed":
                self._resumed = event
            elif event["kind"] == "ended" and text(event, "how") in ENDS:
                self._ended = min(self._ended, event["time"])

    def _feed_steps(self, chunk: Chunk) -> None:
        if not len(chunk.steps):
            return
        times = np.concatenate([[self._step_time], chunk.steps["time"]])
        steps = np.concatenate([[self._step], chunk.steps["step"]]).astype(np.float64)
        gaps = np.diff(times)
        new = np.column_stack([gaps, steps[:-1]])[np.isfinite(gaps) & (gaps > 1.0)]
        found = np.concatenate([self._gaps, new])
        self._gaps = found[np.argsort(-found[:, 0], kind="stable")[:MOST_GAPS]]
        self._step, self._step_time = int(chunk.steps["step"][-1]), float(chunk.steps["time"][-1])

    def candidates(self) -> list[Candidate]:
        if not self._stall:
            return []
        said = self._stall["time"]
        stands = said > max(self._resumed.get("time", -math.inf), self._step_time, self._alive)
        return [self._standing() if stands else self._over()]

    def _standing(self) -> Candidate:
        usual, seconds = number(self._stall, "usual_s"), self._seconds()
        limit = max(ALARM_S, ALARM_FACTOR * usual if math.isfinite(usual) else 0.0)
        usually = f", where a step usually takes {usual:.2g} s" if math.isfinite(usual) else ""
        message = text(self._stall, "message")
        stack = stack_lines(self._stall)
        waits = f" It waits in {stack[0]}." if stack else ""
        where = _user_line(self._stall)
        evidence: dict[str, float | int | str] = {"seconds": round(seconds, 1)}
        if math.isfinite(usual):
            evidence["usual_s"] = usual
        if stack:
            evidence["stack"] = "\n".join(stack[:20])
        return Candidate(
            symptom="stalled",
            cause="unknown",
            level="alarm" if seconds >= limit else "watch",
            first_step=self._step,
            last_step=self._step,
            summary=f"No step for {seconds:.0f} s after step {self._step}{usually}{f': {message}' if message else ''}.{waits}",
            refute=REFUTE,
            evidence=evidence,
            where=where,
        )

    def _seconds(self) -> float:
        since, known = number(self._stall, "since"), number(self._stall, "seconds")
        until = min(self._ended, max(self._machine_time, self._stall["time"]))
        return max(until - since, 0.0) if math.isfinite(since) else (known if math.isfinite(known) else 0.0)

    def _over(self) -> Candidate:
        stood = number(self._resumed, "stalled_s")
        longest = float(self._gaps[0, 0]) if len(self._gaps) else stood
        step = int(self._gaps[0, 1]) if len(self._gaps) else self._step
        times = "once" if self._count == 1 else f"{self._count} times"
        seconds = longest if math.isfinite(longest) else number(self._stall, "seconds")
        return Candidate(
            symptom="stalled",
            cause="unknown",
            level="info",
            first_step=step,
            last_step=step,
            summary=f"The run stood still {times}, for up to {seconds:.0f} s after step {step}, and went on.",
            refute=REFUTE,
            evidence={"stalls": self._count, "seconds": round(seconds, 1)},
            stands=False,
        )


def _user_line(event: Event) -> Where | None:
    """The innermost frame of the main thread that is no library's."""
    stack = event.get("stack")
    thread = stack[0] if isinstance(stack, list) and stack else None
    frames = thread.get("frames") if isinstance(thread, dict) else None
    for frame in frames if isinstance(frames, list) else []:
        if not isinstance(frame, dict):
            continue
        file, line = text(frame, "file"), whole(frame, "line")
        if file and line is not None and line > 0 and not any(part in file for part in LIBRARIES):
            return Where(file, line, text(frame, "function"))
    return None
