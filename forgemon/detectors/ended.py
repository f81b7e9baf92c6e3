"""ended: how the run ended. Finished is no fault; an exception, a kill or silence is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import Candidate
from forgemon.exceptions import found_no_shared_memory
from forgemon.findings import Level
from forgemon.journal import number, text, where_of
from forgemon.state import RunState

ASKED_TO_STOP = frozenset({"SIGINT", "SIGTERM", "SIGHUP"})
"""Signals by which a person or a scheduler asks a program to stop."""

LEVELS: Mapping[str, Level] = {
    "finished": "info",
    "detached": "info",
    "exited": "watch",
    "gone": "watch",
    "exception": "alarm",
    "killed": "alarm",
}

REFUTE = "A run that still goes on: its process lives and its files grow."


class Ended:
    """Exact: what the probe, the sidecar and the kernel said, put together as the dashboard shows it."""

    symptoms: ClassVar[tuple[str, ...]] = ("ended",)

    def __init__(self) -> None:
        self._state = RunState()
        self._step = 0
        self._time = -math.inf
        self._exception: Event = {}
        self._end: Event = {}
        self._stopping = math.inf
        "When the first request of ours that it end was made."

    def feed(self, chunk: Chunk) -> None:
        if len(chunk.steps):
            self._step = max(self._step, int(chunk.steps["step"].max()))
            self._time = max(self._time, float(chunk.steps["time"].max()))
        for event in chunk.events:
            self._state.add(event)
            self._step = max(self._step, int(event["step"]))
            if event["kind"] == "exception":
                self._exception = event
            elif event["kind"] == "attached":
                self._exception = {}
        for event in chunk.machine_events:
            self._state.add_machine(event)
            if event["kind"] == "ended":
                self._end = event
            elif event["kind"] == "stopping":
                self._stopping = min(self._stopping, event["time"])

    def candidates(self) -> list[Candidate]:
        how, detail, _ = self._state.state(self._time, self._time)
        if how not in LEVELS or (how == "detached" and self._time == -math.inf):
            return []
        signal = text(self._end, "signal") if how == "killed" else ""
        interrupted = how == "exception" and text(self._exception, "type") == "KeyboardInterrupt"
        told = self._exception if how == "exception" and self._exception else self._end
        stopped = how != "detached" and number(told, "time") >= self._stopping
        asked = interrupted or signal in ASKED_TO_STOP or stopped
        where = where_of(self._exception) if how == "exception" else None
        evidence: dict[str, float | int | str] = {"how": how}
        if detail:
            evidence["message"] = detail
        if signal:
            evidence["signal"] = signal
        if stopped:
            evidence["asked_by"] = "forgemon check"
        code = number(self._end, "exit_code")
        if math.isfinite(code):
            evidence["exit_code"] = int(code)
        return [
            Candidate(
                symptom="ended",
                cause="shm-too-small"
                if how == "exception" and found_no_shared_memory(text(self._exception, "message"))
                else how,
                level="info" if asked else LEVELS[how],
                first_step=self._step,
                last_step=self._step,
                summary=_sentence(how, detail, self._step, where.location if where is not None else ""),
                refute=REFUTE,
                evidence=evidence,
                where=where,
            )
        ]


def _sentence(how: str, detail: str, step: int, location: str) -> str:
    at = f" at {location}" if location else ""
    said = {
        "finished": f"The program came to its end in order after step {step}.",
        "detached": f"The probe left after step {step} and the run is not observed since.",
        "exited": f"The program left after step {step}.",
        "gone": f"The process is gone without a word after step {step}.",
        "exception": f"An exception ended the program after step {step}{at}.",
        "killed": f"The process was killed after step {step}.",
    }[how]
    return said if not detail or how == "finished" else f"{said[:-1]}: {detail}"
