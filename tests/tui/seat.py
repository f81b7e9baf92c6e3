"""A person in front of the whole dashboard: a terminal of any size, keys, mouse, what is on the screen; runs to look at."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from textual.pilot import Pilot

from forgemon.tui.app import Dashboard
from forgemon.tui.frame import Frame
from tests.recorded import RunFiles
from tests.tui.runs import training_run


def runs_in(folder: Path) -> Path:
    """A healthy run, two that go wrong, and one that waits for its first step."""
    training_run(folder / "healthy")
    training_run(folder / "broken", nan_from=260, ended="killed")
    training_run(folder / "reused", reused_from=5)
    RunFiles(folder / "waiting").event("attached", 0, pid=1)
    return folder


class Seat:
    """A person in front of the dashboard."""

    def __init__(self, app: Dashboard, pilot: Pilot[None]) -> None:
        self.app, self.pilot = app, pilot

    def screen(self) -> str:
        """Every line of the terminal as text."""
        lines = self.app.screen._compositor.render_strips()
        return "\n".join(line.text.rstrip() for line in lines)

    @property
    def frame(self) -> Frame:
        assert self.app.frame is not None
        return self.app.frame

    async def until(self, condition: Callable[[], object], what: str, deadline_s: float = 30.0) -> None:
        end = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {what}; the screen:\n{self.screen()}"
            await self.pilot.pause(0.01)
        await self.pilot.pause()

    async def sees(self, *texts: str) -> None:
        for text in texts:
            await self.until(lambda text=text: text in self.screen(), repr(text))  # type: ignore[misc]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)


@asynccontextmanager
async def seated(
    run: Path, size: tuple[int, int] = (120, 36), live: bool = False, output: Path | None = None, at_step: int | None = None
) -> AsyncIterator[Seat]:
    app = Dashboard(run, live=live, output=output, at_step=at_step)
    async with app.run_test(size=size) as pilot:
        seat = Seat(app, pilot)
        await seat.until(lambda: app.frame is not None and not app.frame.loading, "the first picture")
        yield seat
    assert app.error is None
