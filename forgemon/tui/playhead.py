"""Where the picture stands in the recording: following its end, paused at a step, or playing towards the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5)
PLAY_WHOLE_RUN_S = 45.0
"""The speed chosen first plays the whole recording in about this time."""


def _no_steps() -> npt.NDArray[np.int64]:
    return np.empty(0, dtype=np.int64)


def _no_times() -> npt.NDArray[np.float64]:
    return np.empty(0)


@dataclass
class Playhead:
    """Moves over `steps` (rising) with their `times`; the feed sets both whenever the recording has grown."""

    following: bool
    playing: bool = False
    speed: float = 0.0
    cursor: int | None = None
    "Step it stands at; None until there is one."
    steps: npt.NDArray[np.int64] = field(default_factory=_no_steps)
    times: npt.NDArray[np.float64] = field(default_factory=_no_times)
    findings: tuple[int, ...] = ()
    "First steps of the findings, rising."
    _clock: float = 0.0

    def grow(self, steps: npt.NDArray[np.int64], times: npt.NDArray[np.float64]) -> None:
        self.steps, self.times = steps, times
        if not len(steps):
            return
        if self.following:
            self.cursor = int(steps[-1])
        elif self.cursor is None:
            self._place(0)

    @property
    def newest(self) -> int:
        """Step of the newest row; 0 before there is one."""
        return int(self.steps[-1]) if len(self.steps) else 0

    def _index(self) -> int:
        cursor = 0 if self.cursor is None else self.cursor
        return max(int(np.searchsorted(self.steps, cursor, side="right")) - 1, 0)

    def _place(self, index: int) -> None:
        """Stand at a row; at the last one everything that came after it counts too, so that is following."""
        if not len(self.steps):
            return
        last = len(self.steps) - 1
        index = min(max(index, 0), last)
        self.cursor = int(self.steps[index])
        self._clock = float(self.times[index])
        self.following = index == last
        if self.following:
            self.playing = False

    def toggle(self, _: float = 0) -> None:
        """Pause, or play from here; at the end of a recording play again from its start."""
        if self.playing:
            self.playing = False
        elif not self.following:
            self._play()
        elif self._ended:
            self._place(0)
            self._play()
        else:
            self.following = False  # a live run goes on being recorded; the picture stands still

    _ended: bool = False
    "No more will come, so that its end is a place to start again from."

    def ended(self, ended: bool) -> None:
        self._ended = ended

    def _play(self) -> None:
        if not len(self.steps):
            return
        self.speed = self.speed or self._first_speed()
        self._clock = float(self.times[self._index()])
        self.playing = True

    def _first_speed(self) -> float:
        wanted = float(self.times[-1] - self.times[0]) / PLAY_WHOLE_RUN_S
        return next((s for s in SPEEDS if s >= wanted), SPEEDS[-1]) if wanted > 1 else 1.0

    def faster(self, by: float) -> None:
        """`by` notches up (or down) the list of speeds."""
        if len(self.steps):
            now = self.speed or self._first_speed()
            index = min(range(len(SPEEDS)), key=lambda i: abs(SPEEDS[i] - now))
            self.speed = SPEEDS[min(max(index + int(by), 0), len(SPEEDS) - 1)]

    def by_steps(self, count: float) -> None:
        self.playing = False
        self._place(self._index() + int(count))

    def by_share(self, percent: float) -> None:
        """Move by so many percent of the recording, at least one step."""
        rows = max(round(len(self.steps) * abs(percent) / 100), 1)
        self.by_steps(rows if percent > 0 else -rows)

    def to_step(self, step: float) -> None:
        """Stand at the last recorded step that is not after `step`."""
        self.playing = False
        self._place(max(int(np.searchsorted(self.steps, int(step), side="right")) - 1, 0))

    def to_start(self, _: float = 0) -> None:
        self.playing = False
        self._place(0)

    def to_end(self, _: float = 0) -> None:
        self._place(len(self.steps) - 1)
        self.following, self.playing = True, False

    def to_finding(self, direction: float) -> None:
        """To where the next (or the previous) finding begins."""
        here = self.cursor if self.cursor is not None else 0
        ahead = [s for s in self.findings if s > here] if direction > 0 else [s for s in self.findings if s < here][::-1]
        if ahead:
            self.to_step(ahead[0])

    def advance(self, seconds: float) -> bool:
        """Play on for so many seconds of the screen; whether the cursor moved."""
        if not self.playing or not len(self.steps):
            return False
        self._clock += seconds * self.speed
        index = int(np.searchsorted(self.times, self._clock, side="right")) - 1
        before, clock = self.cursor, self._clock
        if index > self._index():
            self._place(index)
            self._clock = clock
        return self.cursor != before
