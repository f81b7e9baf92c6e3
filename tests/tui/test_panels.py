"""Every panel as lines of text, drawn from real frames without an app: all of them at any size and with any text, and what frames them."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.findings import Where
from forgemon.tui.frame import Frame
from forgemon.tui.keys import KEYS
from forgemon.tui.pages import PAGES
from forgemon.tui.screens import details
from forgemon.tui.screens import help as help_screen
from forgemon.tui.widgets import (
    best,
    checklist,
    evaluations,
    findings,
    gradient_table,
    header,
    heatmap,
    key_bar,
    loop_note,
    loss_chart,
    memory,
    output,
    tabs,
    timeline,
    verdict,
)
from tests.recorded import START, RunFiles
from tests.tui.drawn import FINDING, with_findings
from tests.tui.runs import INK, frame_of, text_of
from tests.tui.test_text import HOSTILE

PANELS = [
    best,
    checklist,
    evaluations,
    findings,
    gradient_table,
    heatmap,
    loop_note,
    loss_chart,
    memory,
    output,
    timeline,
    verdict,
]


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p.__name__.rpartition(".")[2])
@pytest.mark.parametrize("run", ["healthy", "broken", "reused", "waiting", "small"])
@settings(max_examples=15)
@given(width=st.integers(20, 220), height=st.integers(1, 60))
def test_no_size_makes_a_panel_draw_past_its_edges(
    panel_runs: Path, panel: ModuleType, run: str, width: int, height: int
) -> None:
    if (panel_runs, run) not in FRAMES:
        FRAMES[panel_runs, run] = frame_of(panel_runs / run)
    frame = FRAMES[panel_runs, run]
    strips = panel.lines(frame, width, height, INK)
    assert len(strips) <= max(height, 3 if panel is verdict else 1)
    assert all(strip.cell_length <= width for strip in strips)


FRAMES: dict[tuple[Path, str], Frame] = {}


def test_the_header_says_what_runs_where_and_how_fast(healthy: Frame) -> None:
    first, second = (s.text for s in header.lines(healthy, 120, INK))
    assert "finished" in first and "healthy" in first and "step 400" in first
    assert "lr 0.1" in second and "cpu" in second and "probe 0.4 %" in second and "1.0 steps/s" in second


def test_steps_counted_from_attach_are_called_so(healthy: Frame) -> None:
    counting = ({"index": 0, "class": "SGD", "counted_from": "attach"},)
    late = replace(healthy, snapshot=replace(healthy.snapshot, info={"mode": "attach"}, optimizers=counting))
    assert "steps since attach 400" in header.lines(late, 120, INK)[0].text
    assert "since attach" not in header.lines(healthy, 120, INK)[0].text


def test_a_killed_run_says_by_which_signal(broken: Frame) -> None:
    assert "killed by SIGKILL" in header.lines(broken, 80, INK)[0].text


def test_a_silent_run_says_for_how_long(panel_runs: Path) -> None:
    frame = frame_of(panel_runs / "healthy")
    running = replace(frame, snapshot=replace(frame.snapshot, state="running"), live=True, following=True, silent_s=42.0)
    assert "nothing new for 42 s" in header.lines(running, 80, INK)[1].text
    assert "nothing new" not in header.lines(replace(running, silent_s=0.5), 80, INK)[1].text


def test_lost_rows_are_said(healthy: Frame) -> None:
    lossy = replace(healthy, snapshot=replace(healthy.snapshot, dropped_rows=1234))
    assert "1,234 rows dropped" in header.lines(lossy, 120, INK)[1].text


def test_the_timeline_stands_where_the_cursor_is(panel_runs: Path) -> None:
    frame = frame_of(panel_runs / "broken", step=200)
    track, status = text_of(timeline.lines(frame, 101, 2, INK)).splitlines()
    assert abs(track.index("●") - 50) <= 1 and "!" in track and "paused" in status and "step 200 of 400" in status
    assert timeline.step_at(0, frame, 99) == 1 and timeline.step_at(98, frame, 99) == 400
    for step in range(1, 401):
        assert abs(timeline.step_at(timeline.column_of(step, frame, 99), frame, 99) - step) <= 3


def test_nothing_of_a_log_is_taken_for_markup_or_reaches_the_terminal_raw(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info(run=HOSTILE, devices=[HOSTILE], cwd=HOSTILE)
    files.event("attached", 0, START, pid=1, signals={HOSTILE: HOSTILE})
    files.parameters([HOSTILE, "[/]" * 30])
    for step in range(1, 9):
        files.step(step, loss=1.0)
        files.gradients(step, [1.0, 2.0])
    files.event("evaluation", 8, metric=HOSTILE, value=1.0, training=False)
    files.event("checkpoint", 8, path=HOSTILE, function=HOSTILE, metric=HOSTILE, value=1.0)
    files.machine_event("ended", START + 9, how="exception", message=HOSTILE)
    frame = frame_of(tmp_path / "run")
    where = Where(HOSTILE, 1, HOSTILE, (HOSTILE,), 1)
    evil = replace(
        FINDING, symptom=HOSTILE, cause=HOSTILE, summary=HOSTILE, where=where, fix=HOSTILE, evidence={HOSTILE: HOSTILE}
    )
    frame = with_findings(frame, evil)
    drawn = [text_of(panel.lines(frame, 90, 20, INK)) for panel in PANELS]
    drawn += [text_of(header.lines(frame, 90, INK)), details.body_of(evil, INK).plain]
    everything = "".join(drawn)
    assert all(c.isprintable() or c == "\n" for c in everything)
    assert "[bold]x[/]" in everything
    everything.encode()


def test_the_help_screen_lists_every_key() -> None:
    from rich.console import Console

    console = Console(width=100, file=StringIO(), record=True)
    console.print(help_screen.body_of(INK))
    shown = console.export_text()
    for key in KEYS:
        assert key.label in shown and key.tooltip.split()[0] in shown


def test_the_key_bar_and_the_tabs_fit_into_sixty_columns() -> None:
    for page in PAGES:
        bar = key_bar.lines(page, 60, INK)[0]
        assert bar.cell_length == 60 and "? help" in bar.text and "q quit" in bar.text
        assert all(str(n) in tabs.lines(page, PAGES, 60, INK)[0].text for n in range(1, 7))


def test_losses_and_norms_of_any_kind_can_be_drawn(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    files.parameters(["a", "b", "c"])
    odd = [0.0, -1.0, 1e38, -1e38, float("inf"), float("-inf"), float("nan"), 1e-300]
    for step, value in enumerate(odd * 3, 1):
        files.step(step, loss=value, gradient_norm=value, learning_rate=value)
        files.gradients(step, [float(np.float32(min(abs(value), 3e38))), 0.0, value if abs(value) < 3e38 else 1.0])
        if step % 4 == 0:
            files.event("evaluation", step, metric="m", value=value, training=None)
    frame = frame_of(tmp_path / "run")
    for log in (None, True, False):
        assert text_of(loss_chart.lines(frame, 80, 20, INK, loss_chart.View(log=log)))
    for panel in (gradient_table, heatmap, evaluations, best):
        assert text_of(panel.lines(frame, 80, 20, INK))


def test_the_axis_of_a_short_run_names_no_half_step() -> None:
    assert loss_chart.step_axis(1, 3, 60).split() == ["1", "2", "3"]
    assert loss_chart.step_axis(1, 2, 60).split() == ["1", "2"]
    assert loss_chart.step_axis(0, 1000, 60).split() == ["0", "200", "400", "600", "800", "1,000"]
