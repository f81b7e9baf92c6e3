"""cpu-fallback and shm-too-small: what the machine has that the run does not use, or lacks that the run needs."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import FactDetector, Seen, Verdict, evidence
from forgemon.exceptions import exception_line, found_no_shared_memory
from forgemon.findings import Level
from forgemon.journal import flag, number, text, where_of, whole

MARGIN = 1.5
"""By which the probe multiplies what the batches need."""
ENOUGH_ROWS = 8
MOST_ROWS = 64
WORTH_A_GPU_S = 0.02
"""Work in a step: below it the start of the kernels and the transfers take about as long as the CPU does."""
_PARTS = ("forward_s", "backward_s", "optimizer_s")


class MachineFacts(FactDetector):
    """The probe looks at the device files, the driver and /dev/shm; whether it matters is judged by the time of a step."""

    symptoms: ClassVar[tuple[str, ...]] = ("cpu-fallback", "shm-too-small")

    def __init__(self) -> None:
        super().__init__()
        self._work_s: list[float] = []
        "Of the first rows that have it."
        self._no_room: Event | None = None
        "The exception by which torch said that /dev/shm is full."

    def feed(self, chunk: Chunk) -> None:
        super().feed(chunk)
        for event in chunk.events:
            if event["kind"] == "exception" and found_no_shared_memory(text(event, "message")):
                self._no_room = event
        if len(self._work_s) < MOST_ROWS and len(chunk.steps):
            work = sum((chunk.steps[part].astype(np.float64) for part in _PARTS), np.zeros(len(chunk.steps)))
            self._work_s += work[np.isfinite(work)][: MOST_ROWS - len(self._work_s)].tolist()

    def candidates(self) -> list[Candidate]:
        found = super().candidates()
        if self._no_room is not None and not any(candidate.symptom == "shm-too-small" for candidate in found):
            found.append(_no_room(self._no_room))  # not even the first batch came through
        return found

    def judge(self, symptom: str, seen: Seen) -> Verdict | None:
        return self._cpu(seen) if symptom == "cpu-fallback" else self._shared_memory(seen)

    def _cpu(self, seen: Seen) -> Verdict:
        fact = seen.newest
        files, driver = whole(fact, "device_files") or 0, whole(fact, "driver_gpus") or 0
        work = float(np.median(self._work_s)) if len(self._work_s) >= ENOUGH_ROWS else float("nan")
        level: Level = "alarm" if files else "watch"
        if flag(fact, "on_purpose"):
            level, why = "info", "CUDA_VISIBLE_DEVICES hides its GPUs, so this is on purpose."
        elif not work >= WORTH_A_GPU_S:
            level, why = "info", "Its steps are short, so that a GPU would gain little." if work >= 0 else ""
        elif not files:
            why = "The driver knows them, but this process may open none: a container without its GPU flags."
        else:
            why = "This build of torch has no CUDA." if flag(fact, "torch_has_cuda") is False else ""
        if work >= 0:
            why = f"A step's forward, backward and update take {figure(1000 * work)} ms. {why}"
        count = max(files, driver)
        gpus = f"{count} NVIDIA GPU{'s' * (count > 1)}"
        return Verdict(
            level,
            f"All parameters are on the CPU of a machine with {gpus}. {why}".rstrip(),
            "A parameter on a GPU, or a reason to train on the CPU.",
            evidence(fact, "device_files", "driver_gpus", "torch_has_cuda", "cuda_visible_devices", "on_purpose"),
        )

    def _shared_memory(self, seen: Seen) -> Verdict:
        fact, free, needed = seen.newest, number(seen.newest, "free_bytes"), number(seen.newest, "needed_bytes") / MARGIN
        mib = 1 << 20
        return Verdict(
            "alarm" if free < needed else "watch",
            f"{whole(fact, 'workers')} workers with {whole(fact, 'prefetch_factor')} batches of "
            f"{figure(number(fact, 'batch_bytes') / mib)} MiB each in waiting need {figure(needed / mib)} MiB of /dev/shm, which had "
            f"{figure(free / mib)} MiB free of {figure(number(fact, 'total_bytes') / mib)} MiB.",
            "More free space in /dev/shm (df /dev/shm), or batches that do not go through it.",
            evidence(fact, "loader", "workers", "prefetch_factor", "batch_bytes", "needed_bytes", "free_bytes", "total_bytes"),
            about=f"loader {whole(fact, 'loader')}",
        )


def _no_room(exception: Event) -> Candidate:
    step, said = int(exception["step"]), exception_line(text(exception, "type"), text(exception, "message"))
    return Candidate(
        symptom="shm-too-small",
        cause="shm-too-small",
        level="alarm",
        first_step=step,
        last_step=step,
        summary="A DataLoader worker found no room for its batch in /dev/shm.",
        refute="A /dev/shm (df /dev/shm) that holds a batch for each worker, times its prefetch_factor.",
        evidence={"message": said},
        where=where_of(exception),
    )
