"""The whole dashboard by key and mouse: replaying, seeking, following, scrolling, sorting, opening and closing."""

from __future__ import annotations

from pathlib import Path

import pytest

from forgemon.tui.keys import KEYS
from forgemon.tui.screens.details import Details
from forgemon.tui.screens.help import Help
from forgemon.tui.widgets.findings import Findings
from forgemon.tui.widgets.gradient_table import GradientTable
from tests.recorded import RunFiles
from tests.tui.runs import train_step
from tests.tui.seat import runs_in, seated
from tests.tui.test_feed import growing_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs_in(tmp_path_factory.mktemp("runs"))


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
