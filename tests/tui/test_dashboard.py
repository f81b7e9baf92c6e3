"""The whole dashboard with a pilot, at three sizes: what is seen, keys, mouse, seeking, resizing, a growing run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot

from forgemon.tui.app import Dashboard
from forgemon.tui.frame import Frame
from forgemon.tui.keys import KEYS
from forgemon.tui.pages import PAGES
from forgemon.tui.panel import Panel
from forgemon.tui.screens.details import Details
from forgemon.tui.screens.help import Help
from forgemon.tui.widgets.findings import Findings
from forgemon.tui.widgets.gradient_table import GradientTable
from tests.recorded import RunFiles
from tests.tui.runs import PARAMETERS, train_step, training_run
from tests.tui.test_feed import growing_run

SIZES = [(80, 24), (120, 36), (200, 50)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
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


async def test_a_replay_opens_at_the_start_and_goes_by_key(runs: Path) -> None:
    async with seated(runs / "broken", (120, 36)) as seat:
        await seat.sees("paused", "step 1 of 400", "ahead")
        await seat.press("right", "right")
        await seat.until(lambda: seat.frame.cursor == 3, "step 3")
        await seat.press("left")
        await seat.until(lambda: seat.frame.cursor == 2, "step 2")
        await seat.press("shift+right")
        await seat.until(lambda: seat.frame.cursor == 6, "one percent on")
        await seat.press("n")
        await seat.until(lambda: seat.frame.cursor == 260, "the first finding")
        await seat.sees("loss-nonfinite", "train NaN", "running")
        await seat.press("shift+left", "N")
        await seat.press("end")
        await seat.sees("killed by SIGKILL", "step 400 of 400")
        await seat.press("home")
        await seat.until(lambda: seat.frame.cursor == 1, "the start")
        assert "ALARM" not in seat.screen()


async def test_going_to_a_step_by_typing_it(runs: Path) -> None:
    async with seated(runs / "healthy") as seat:
        await seat.press("g")
        await seat.until(lambda: len(seat.app.screen_stack) == 2, "the prompt")
        await seat.press("1", "2", "3", "enter")
        await seat.until(lambda: seat.frame.cursor == 123, "step 123")
        assert seat.frame.snapshot.step == 123
        await seat.press("g")
        await seat.until(lambda: len(seat.app.screen_stack) == 2, "the prompt")
        await seat.press("9", "escape")
        await seat.until(lambda: len(seat.app.screen_stack) == 1, "the prompt to close")
        assert seat.frame.cursor == 123


async def test_a_replay_opens_at_the_step_asked_for(runs: Path) -> None:
    async with seated(runs / "healthy", at_step=77) as seat:
        await seat.sees("step 77 of 400")


async def test_playing_moves_on_and_stops_when_asked(runs: Path) -> None:
    async with seated(runs / "healthy") as seat:
        await seat.press("plus", "plus", "space")
        await seat.until(lambda: seat.frame.playing and seat.frame.cursor > 5, "the picture to move")
        await seat.sees("playing")
        await seat.press("space")
        await seat.until(lambda: not seat.frame.playing, "the picture to stop")
        await seat.sees("paused")


async def test_a_live_run_grows_can_be_scrubbed_and_followed_again(tmp_path: Path) -> None:
    files = growing_run(tmp_path / "run", 40)
    async with seated(tmp_path / "run", live=True) as seat:
        await seat.sees("following", "● live")
        train_step(files, 41)
        await seat.until(lambda: seat.frame.cursor == 41, "step 41")
        await seat.press("space", "left", "left")
        await seat.until(lambda: seat.frame.cursor == 39, "step 39")
        for step in range(42, 51):
            train_step(files, step)
        await seat.until(lambda: seat.frame.end_step == 50, "the recording to go on")
        assert seat.frame.cursor == 39 and seat.frame.snapshot.step == 39
        await seat.sees("paused", "step 39 of 50")
        await seat.press("end")
        await seat.until(lambda: seat.frame.cursor == 50 and seat.frame.following, "following again")


async def test_a_click_on_the_timeline_goes_there(runs: Path) -> None:
    async with seated(runs / "healthy", (102, 30)) as seat:
        await seat.pilot.click("#timeline", offset=(51, 0))
        await seat.until(lambda: 195 <= seat.frame.cursor <= 210, "the middle")
        await seat.pilot.click("#timeline", offset=(101, 0))
        await seat.until(lambda: seat.frame.following, "the end")


async def test_a_click_on_a_tab_or_a_key_does_what_it_says(runs: Path) -> None:
    async with seated(runs / "healthy", (120, 36), live=True) as seat:
        at = seat.screen().splitlines()[2].index("3 memory")
        await seat.pilot.click("#tabs", offset=(at + 2, 0))
        await seat.until(lambda: seat.app.main.page == "memory", "the page")
        await seat.pilot.click("#keys", offset=(seat.screen().splitlines()[-1].index("help") + 1, 0))
        await seat.until(lambda: isinstance(seat.app.screen, Help), "the help screen")


async def test_the_gradients_can_be_sorted_filtered_and_drawn_as_a_heatmap(runs: Path) -> None:
    async with seated(runs / "healthy", (80, 24), live=True) as seat:
        await seat.press("2", "s")
        await seat.sees("by norm")
        await seat.press("slash")
        await seat.until(lambda: len(seat.app.screen_stack) == 2, "the prompt")
        await seat.press(*"head", "enter")
        await seat.sees("2 of 4")
        assert "encoder" not in seat.screen()
        await seat.press("m")
        await seat.sees("gradient norms over time", "steps 1 – 400")
        await seat.press("m")
        await seat.sees("vs median")


async def test_the_heatmap_key_works_from_any_page(runs: Path) -> None:
    async with seated(runs / "healthy", (80, 24), live=True) as seat:
        await seat.press("m")
        await seat.sees("gradient norms over time")


async def test_long_lists_scroll_by_key_and_wheel(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    files.parameters([f"layer.{i}.weight" for i in range(100)])
    files.step(1, loss=1.0, gradient_norm=1.0)
    files.gradients(1, [1.0] * 100)
    async with seated(tmp_path / "run", (80, 24), live=True) as seat:
        await seat.press("2")
        await seat.sees("layer.0.weight", "100 parameters")
        await seat.press("down", "down")
        await seat.until(lambda: "layer.1.weight" not in seat.screen() and "layer.2.weight" in seat.screen(), "two rows down")
        await seat.press(*["pagedown"] * 6)
        await seat.sees("layer.99.weight")
        table = seat.app.main.query_one(GradientTable)
        table.scroll_rows(-1000)
        await seat.sees("layer.0.weight")


async def test_enter_opens_a_finding_in_full_and_escape_closes_it(runs: Path) -> None:
    async with seated(runs / "broken", (120, 36), live=True) as seat:
        await seat.sees("loss-nonfinite")
        await seat.press("enter")
        await seat.until(lambda: isinstance(seat.app.screen, Details), "the details")
        await seat.sees("Evidence", "How to mend it", "What would refute it", "last_finite_step")
        await seat.press("escape")
        await seat.until(lambda: len(seat.app.screen_stack) == 1, "the dashboard")
        await seat.press("5", "down")
        assert seat.app.main.query_one(Findings).selected == 1


async def test_help_and_palette_know_every_key(runs: Path) -> None:
    async with seated(runs / "healthy", (120, 60), live=True) as seat:
        await seat.press("question_mark")
        await seat.sees("Play, or hold", "Sort the gradients", "Leave the dashboard")
        await seat.press("escape")
        commands = {c.title for c in seat.app.get_system_commands(seat.app.screen)}
        assert commands >= {k.name for k in KEYS if k.id not in ("palette", "quit")}
        bound = {b.id for b in seat.app._bindings.key_to_bindings["space"]}
        assert bound == {"play"} and all(k.tooltip and k.id for k in KEYS)


async def test_every_key_of_the_table_is_bound_to_an_action_that_exists(runs: Path) -> None:
    async with seated(runs / "healthy", (120, 36), live=True) as seat:
        for key in KEYS:
            name = key.action.partition("(")[0].removeprefix("app.")
            assert callable(getattr(seat.app, f"action_{name}")), key.id
            for bound in key.keys.split(","):
                assert bound in seat.app._bindings.key_to_bindings, bound


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
