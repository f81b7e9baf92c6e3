"""Make the picture of the README from a run, live or recorded: python -m tests.picture RUN OUT.svg [STEP]."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from forgemon.tui.app import Dashboard


async def take(run: Path, out: Path, step: int | None, columns: int = 120, rows: int = 36) -> None:
    """The dashboard at `step` of `run`, or at its end, as the terminal shows it."""
    app = Dashboard(run, live=step is None, at_step=step)
    async with app.run_test(size=(columns, rows)) as pilot:
        await pilot.pause(3.0)  # the feed reads the whole run first
        out.write_text(app.export_screenshot(title="forgemon"), encoding="utf-8")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    asyncio.run(take(Path(arguments[0]), Path(arguments[1]), int(arguments[2]) if len(arguments) > 2 else None))
