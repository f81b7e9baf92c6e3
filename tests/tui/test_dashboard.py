"""The whole dashboard with a pilot: what is seen at three sizes, in any colours and while resizing, and how it ends."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from textual.app import App

from forgemon.tui.app import Dashboard
from forgemon.tui.pages import PAGES
from forgemon.tui.panel import Panel
from tests.tui.runs import PARAMETERS
from tests.tui.seat import runs_in, seated

SIZES = [(80, 24), (120, 36), (200, 50)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs_in(tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_an_alarm_is_seen_at_every_size_without_a_key(runs: Path, size: tuple[int, int]) -> None:
    async with seated(runs / "reused", size, live=True) as seat:
        await seat.sees("ALARM", "missing-zero-grad", "since step", "Call optimizer.zero_grad()", "finished", "step 400")
        for page in range(1, 6):
            await seat.press(str(page))
            await seat.sees("ALARM", "missing-zero-grad")


@pytest.mark.parametrize("size", SIZES, ids=str)
async def test_every_page_shows_its_panels(runs: Path, size: tuple[int, int]) -> None:
    async with seated(runs / "healthy", size, live=True) as seat:
        await seat.sees("train 0.0", "val_loss", "? help")
        await seat.press("2")
        await seat.sees("vs median", *PARAMETERS)
        await seat.press("3")
        await seat.sees("process", "host", "no NVIDIA GPU")
        await seat.press("4")
        await seat.sees("train loss", "★ best", "✓ eval()", "/home/ada/best.pt")
        await seat.press("5")
        await seat.sees("can this loop be trusted?", "Are gradients zeroed", "yes", "not visible")
        await seat.press("6")
        assert seat.app.main.page == "findings"  # there is no output to show


async def test_the_large_overview_shows_everything_side_by_side(runs: Path) -> None:
    async with seated(runs / "healthy", (200, 50), live=True) as seat:
        await seat.sees("loss", "gradients", "gradient norms over time", "evaluations", "findings", "best checkpoint", "memory")
        assert {p.id for p in seat.app.main.query(Panel) if p.is_on_screen and p.display} >= {"loss", "heatmap", "evaluations"}


async def test_no_line_is_wider_than_the_terminal_at_any_size(runs: Path) -> None:
    async with seated(runs / "broken", (80, 24), live=True) as seat:
        for size in [(200, 50), (60, 16), (61, 45), (110, 30), (169, 43), (80, 24)]:
            await seat.pilot.resize_terminal(*size)
            await seat.sees("ALARM", "loss-nonfinite", "killed by SIGKILL")
            lines = seat.app.screen._compositor.render_strips()
            assert len(lines) == size[1] and all(line.cell_length == size[0] for line in lines)


async def test_a_terminal_too_small_says_so_and_recovers(runs: Path) -> None:
    async with seated(runs / "healthy", (80, 24), live=True) as seat:
        await seat.pilot.resize_terminal(59, 20)
        await seat.sees("Terminal too small: 59x20, needs 60x16")
        assert "train" not in seat.screen()
        await seat.pilot.resize_terminal(80, 24)
        await seat.sees("train 0.0")
        assert "too small" not in seat.screen()


async def test_before_the_first_step_it_says_what_it_waits_for(runs: Path) -> None:
    async with seated(runs / "waiting", (80, 24), live=True) as seat:
        await seat.sees("Waiting for the first optimizer step")


async def test_the_output_page_shows_what_was_printed_and_follows_it(runs: Path, tmp_path: Path) -> None:
    printed = tmp_path / "output.log"
    printed.write_text("epoch 1 \x1b[31mred\x1b[0m [bold]\n")
    async with seated(runs / "healthy", (80, 24), live=True, output=printed) as seat:
        await seat.press("6")
        await seat.sees("epoch 1 red [bold]")
        with open(printed, "a") as file:
            file.write("epoch 2\n")
        await seat.sees("epoch 2")
    assert PAGES[5] == "output"


async def test_other_themes_and_no_colour_can_be_drawn(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with seated(runs / "broken", (120, 36), live=True) as seat:
        assert seat.app.no_color
        for theme in ("textual-light", "textual-ansi", "forge"):
            if theme in seat.app.available_themes:
                seat.app.theme = theme
                await seat.sees("ALARM", "loss-nonfinite")


async def test_a_failure_of_the_feed_ends_the_app_with_that_error(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Dashboard(runs / "healthy", live=True)
    monkeypatch.setattr(app.feed, "frame", lambda: 1 // 0)
    async with app.run_test() as pilot:
        end = time.monotonic() + 30
        while app.error is None and time.monotonic() < end:
            await pilot.pause(0.01)
    assert isinstance(app.error, ZeroDivisionError)


async def test_q_quits_and_the_feed_ends(runs: Path) -> None:
    app: App[None] = Dashboard(runs / "healthy", live=True)
    async with app.run_test() as pilot:
        await pilot.press("q")
    assert isinstance(app, Dashboard)
    await asyncio.to_thread(app.feed.stop)
    assert app.feed.ended
