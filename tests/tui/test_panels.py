"""Every panel as lines of text, drawn from real frames without an app."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forgemon.findings import Check, Finding, Where
from forgemon.tui.frame import Frame, Mark
from forgemon.tui.ink import ink_of
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
from tests.recorded import START, RunFiles, small_run
from tests.tui.runs import INK, PARAMETERS, frame_of, text_of, training_run
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


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    training_run(folder / "healthy")
    training_run(folder / "broken", nan_from=260, ended="killed")
    training_run(folder / "reused", reused_from=5)
    waiting: dict[str, Any] = {"for": "step", "message": "torch is loaded, no optimizer has stepped"}
    RunFiles(folder / "waiting").event("waiting", 0, **waiting)
    small_run(folder / "small")
    return folder


@pytest.fixture(scope="module")
def healthy(runs: Path) -> Frame:
    return frame_of(runs / "healthy")


@pytest.fixture(scope="module")
def broken(runs: Path) -> Frame:
    return frame_of(runs / "broken")


FINDING = Finding(
    symptom="missing-zero-grad",
    cause="missing-zero-grad",
    level="alarm",
    first_step=3,
    last_step=90,
    summary="step() applied gradients that its earlier step had already used, 88 times.",
    evidence={"share_reused": 1.0, "steps": 88},
    refute="a zero_grad() between step() and backward()",
    where=Where("/home/ada/train.py", 41, "train", ("    loss = f(x)", "    loss.backward()", "    optimizer.step()"), 40),
    fix="call optimizer.zero_grad() inside the batch loop, before backward()",
)


def with_findings(frame: Frame, *found: Finding) -> Frame:
    return replace(frame, report=replace(frame.report, findings=found))


@pytest.mark.parametrize("panel", PANELS, ids=lambda p: p.__name__.rpartition(".")[2])
@pytest.mark.parametrize("run", ["healthy", "broken", "reused", "waiting", "small"])
@settings(max_examples=15)
@given(width=st.integers(20, 220), height=st.integers(1, 60))
def test_no_size_makes_a_panel_draw_past_its_edges(runs: Path, panel: ModuleType, run: str, width: int, height: int) -> None:
    if (runs, run) not in FRAMES:
        FRAMES[runs, run] = frame_of(runs / run)
    frame = FRAMES[runs, run]
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


def test_a_silent_run_says_for_how_long(runs: Path) -> None:
    frame = frame_of(runs / "healthy")
    running = replace(frame, snapshot=replace(frame.snapshot, state="running"), live=True, following=True, silent_s=42.0)
    assert "nothing new for 42 s" in header.lines(running, 80, INK)[1].text
    assert "nothing new" not in header.lines(replace(running, silent_s=0.5), 80, INK)[1].text


def test_lost_rows_are_said(healthy: Frame) -> None:
    lossy = replace(healthy, snapshot=replace(healthy.snapshot, dropped_rows=1234))
    assert "1,234 rows dropped" in header.lines(lossy, 120, INK)[1].text


def test_the_loss_chart_shows_curves_axis_marks_and_values(healthy: Frame) -> None:
    shown = text_of(loss_chart.lines(healthy, 80, 20, INK))
    assert "train 0.0" in shown and "val_loss 0.105" in shown and "mean of 16" in shown and "log" in shown
    assert "◆" in shown and "400" in shown and "●" in shown
    assert any(0x2800 < ord(c) < 0x2900 for c in shown)


def test_a_nan_is_a_mark_and_no_line(broken: Frame) -> None:
    rows = text_of(loss_chart.lines(broken, 108, 20, INK)).splitlines()
    assert "train NaN" in rows[0]
    start = rows[1].index("×")
    assert rows[1].count("×") > 25
    for row in rows[2:17]:  # below the marks: nothing of the training curve
        assert not any(0x2800 < ord(c) < 0x2900 for c in row[start + 1 :])


def test_the_scale_can_be_chosen_and_the_newest_steps_alone_be_seen(healthy: Frame) -> None:
    linear = text_of(loss_chart.lines(healthy, 80, 20, INK, loss_chart.View(log=False)))
    assert linear.splitlines()[0].endswith("linear")
    newest = text_of(loss_chart.lines(healthy, 80, 20, INK, loss_chart.View(window=100)))
    assert "last 100 steps" in newest and "340" in newest.splitlines()[-1] and " 100" not in newest.splitlines()[-1]


def test_a_run_without_a_step_says_what_it_waits_for(runs: Path) -> None:
    frame = replace(frame_of(runs / "waiting"), live=True)
    shown = text_of(loss_chart.lines(frame, 80, 20, INK))
    assert "Waiting for the first optimizer step" in shown and "no optimizer has stepped" in shown


def test_each_parameter_has_its_norm_and_how_it_compares(healthy: Frame) -> None:
    rows = text_of(gradient_table.lines(healthy, 80, 10, INK)).splitlines()
    assert len(rows) == 1 + len(PARAMETERS)
    assert rows[1].startswith("encoder.layer.0.weight") and "0.500" in rows[1] and "1.00×" in rows[1]
    assert "none" in rows[2]
    assert "▲" in rows[3]


def test_a_gradient_that_is_not_finite_says_so_in_words(broken: Frame) -> None:
    rows = text_of(gradient_table.lines(broken, 80, 10, INK)).splitlines()
    assert "NaN" in rows[1] and "not finite" in rows[1] and "x" in rows[1]
    assert "none" in rows[2] and "NaN" not in rows[2]


def test_rows_can_be_sorted_filtered_and_scrolled(healthy: Frame) -> None:
    def names(view: gradient_table.View, top: int = 0) -> list[str]:
        rows = text_of(gradient_table.lines(healthy, 80, 10, INK, view, top)).splitlines()[1:]
        return [row.split()[0] for row in rows]

    assert names(gradient_table.View("norm"))[0] == "head.weight"
    assert names(gradient_table.View("change"))[0] == "head.weight"
    assert names(gradient_table.View("name")) == sorted(PARAMETERS)
    assert names(gradient_table.View(filter="HEAD")) == ["head.weight", "head.bias"]
    assert names(gradient_table.View(), top=3) == ["head.bias"]
    nothing = text_of(gradient_table.lines(healthy, 80, 10, INK, gradient_table.View(filter="[x]")))
    assert "No parameter's name contains “[x]”" in nothing


def test_the_heatmap_has_a_line_a_parameter_and_a_scale(healthy: Frame, broken: Frame) -> None:
    rows = text_of(heatmap.lines(healthy, 100, 20, INK)).splitlines()
    assert [r.split()[0] for r in rows[:4]] == list(PARAMETERS) and "steps 1 – 400" in rows[4]
    assert rows[1].strip() == PARAMETERS[1]  # absent is blank
    bad = text_of(heatmap.lines(broken, 100, 20, INK)).splitlines()
    assert bad[0].endswith("xxx") and "x" not in bad[1].removeprefix(PARAMETERS[1])


def test_without_colour_the_heatmap_is_shaded(healthy: Frame) -> None:
    rows = text_of(heatmap.lines(healthy, 100, 20, ink_of({}, monochrome=True))).splitlines()
    assert "█" in rows[0] and "·" in rows[3] and "▀" not in "".join(rows)


def test_more_parameters_than_lines_share_them_under_their_module() -> None:
    names = tuple(f"blocks.{i // 10}.part{i % 10}.weight" for i in range(100))
    assert heatmap.labels(names, 20, 30)[:4] == ["blocks.0", "", "blocks.1", ""]
    assert heatmap.labels(names, 5, 30) == ["blocks", "", "", "", ""]


def test_memory_without_a_gpu_says_so(healthy: Frame) -> None:
    shown = text_of(memory.lines(healthy, 60, 12, INK))
    assert "no NVIDIA GPU" in shown and "process" in shown and "host" in shown and "GPU 0" not in shown


def test_memory_with_gpus_shows_each_with_its_numbers(tmp_path: Path) -> None:
    files = RunFiles(tmp_path / "run")
    files.info()
    files.machine_event("started", START, pid=2, watches=[1], gpus=["NVIDIA H100 80GB HBM3", HOSTILE], nvml=None)
    for second in range(5):
        files.machine(START + second, gpus=2)
    shown = text_of(memory.lines(frame_of(tmp_path / "run"), 100, 30, INK))
    assert "GPU 0 H100 80GB HBM3" in shown and "GPU 1" in shown and "2 W" in shown and "2 °C" in shown and "\x1b" not in shown


def test_the_best_checkpoint_and_whether_it_is_there(healthy: Frame) -> None:
    shown = text_of(best.lines(healthy, 60, 3, INK))
    assert "val_loss 0.1050 at step 400" in shown and "/home/ada/best.pt" in shown and "missing on this host" in shown
    assert "on disk" in text_of(best.lines(replace(healthy, best_exists=True), 60, 3, INK))
    held = healthy.snapshot.best
    assert held is not None
    nowhere = replace(healthy, snapshot=replace(healthy.snapshot, best=replace(held, path=None)))
    assert "no file holds it" in text_of(best.lines(nowhere, 60, 3, INK))


def test_evaluations_are_listed_newest_first_with_mode_best_and_checkpoint(healthy: Frame) -> None:
    rows = text_of(evaluations.lines(healthy, 110, 10, INK)).splitlines()
    assert [row.split()[0] for row in rows] == ["step", "400", "300", "200", "100"]
    assert "★ best" in rows[1] and "✓ eval()" in rows[1] and "✓ off" in rows[1] and "/home/ada/best.pt" in rows[1]
    wrong = replace(healthy.snapshot.evaluations[-1], mode_correct=False, grad_enabled=True, is_best=False)
    frame = replace(healthy, snapshot=replace(healthy.snapshot, evaluations=(wrong,)))
    row = text_of(evaluations.lines(frame, 110, 10, INK)).splitlines()[1]
    assert "✗ train()" in row and "✗ on" in row and "best " not in row


def test_a_finding_says_level_symptom_line_reason_and_fix(healthy: Frame) -> None:
    shown = text_of(findings.lines(with_findings(healthy, FINDING), 70, 12, INK))
    for part in (
        "ALARM",
        "missing-zero-grad",
        "since step 3",
        "train.py:41  loss.backward()",
        "already used, 88",
        "fix  call optimizer",
    ):
        assert part in shown, part


def test_the_selected_finding_is_always_on_the_screen(healthy: Frame) -> None:
    many = with_findings(healthy, *(replace(FINDING, symptom=f"symptom-{i}") for i in range(12)))
    for i in range(12):
        assert f"symptom-{i}" in text_of(findings.lines(many, 60, 9, INK, i, True))


def test_no_finding_is_not_called_fine(healthy: Frame, runs: Path) -> None:
    assert "No findings so far" in text_of(findings.lines(with_findings(healthy), 60, 9, INK))
    assert "not visible" in text_of(findings.lines(with_findings(healthy), 60, 9, INK))
    assert "Nothing to judge yet" in text_of(findings.lines(frame_of(runs / "waiting"), 60, 9, INK))


def test_before_a_finding_the_replay_says_that_one_is_coming(runs: Path) -> None:
    early = frame_of(runs / "broken", step=20)
    assert "press n" in text_of(findings.lines(early, 60, 9, INK))
    assert "ahead" in text_of(timeline.lines(early, 80, 2, INK))
    assert "press n" in text_of(verdict.lines(early, 100, 1, INK))


def test_where_a_finding_begins_that_only_later_steps_show_the_replay_says_so(healthy: Frame) -> None:
    mark = Mark(healthy.cursor, "finding", "alarm", "loss-climbs")
    here = replace(with_findings(healthy), following=False, marks=(mark,))
    assert "loss-climbs begins here" in text_of(findings.lines(here, 60, 9, INK))
    assert "loss-climbs begins here" in text_of(verdict.lines(here, 80, 1, INK))
    assert "begins here" not in text_of(findings.lines(replace(here, cursor=here.cursor + 1), 60, 9, INK))


@pytest.mark.parametrize("height", [1, 3])
def test_the_verdict_names_the_worst_finding_and_its_line(healthy: Frame, height: int) -> None:
    shown = text_of(verdict.lines(with_findings(healthy, FINDING, FINDING), 80, height, INK))
    assert "ALARM" in shown and "missing-zero-grad" in shown and "since step 3" in shown and "train.py:41" in shown
    assert "+1 more" in shown and ("fix" in shown or height == 1)


def test_the_checklist_answers_in_words(healthy: Frame) -> None:
    checks = (
        Check("zeroed", "Are gradients zeroed?", "no", 3, "88 steps reused theirs"),
        Check("train-mode", "Is train() on?", "yes", 1, ""),
        Check("data-apart", "Is validation data apart?", "not visible", None, "samples were not compared"),
    )
    frame = replace(healthy, report=replace(healthy.report, checklist=checks))
    rows = text_of(checklist.lines(frame, 40, 3, INK)).splitlines()
    assert rows[0].startswith("✗ Are gradients zeroed?") and rows[0].endswith("no")
    assert rows[1].startswith("✓") and rows[1].endswith("yes") and rows[2].startswith("?") and rows[2].endswith("not visible")
    assert "88 steps reused theirs" in text_of(checklist.lines(frame, 80, 12, INK))
    brief = text_of(checklist.brief(frame, 80, 2, INK)).splitlines()
    assert "1 no" in brief[0] and "1 not visible" in brief[0] and brief[1].split()[:2] == ["✗", "zeroed"]


def test_the_timeline_stands_where_the_cursor_is(runs: Path) -> None:
    frame = frame_of(runs / "broken", step=200)
    track, status = text_of(timeline.lines(frame, 101, 2, INK)).splitlines()
    assert abs(track.index("●") - 50) <= 1 and "!" in track and "paused" in status and "step 200 of 400" in status
    assert timeline.step_at(0, frame, 99) == 1 and timeline.step_at(98, frame, 99) == 400
    for step in range(1, 401):
        assert abs(timeline.step_at(timeline.column_of(step, frame, 99), frame, 99) - step) <= 3


def test_details_hold_everything_known_of_a_finding() -> None:
    shown = details.body_of(FINDING, INK).plain
    for part in ("ALARM", "88 times", "/home/ada/train.py:41", "in train", "→    41", "loss.backward()", "optimizer.step()"):
        assert part in shown, part
    assert "share_reused" in shown and "1.000" in shown and "a zero_grad() between" in shown and FINDING.fix in shown


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


def test_a_finding_that_is_over_says_until_when_it_stood() -> None:
    assert findings.since(replace(FINDING, first_step=3, last_step=1200, stands=False)) == "steps 3 to 1,200, no longer"


def test_the_note_gives_each_answer_beside_its_label_and_one_paragraph_where_that_does_not_fit(healthy: Frame) -> None:
    wide = text_of(loop_note.lines(healthy, 80, 30, INK))
    labels = ("best checkpoint", "curves", "first failure", "✓ stable enough")
    assert [line[:17].strip() for line in wide.splitlines() if line[:17].strip()] == list(labels)
    narrow = text_of(loop_note.lines(healthy, 40, 30, INK))
    assert narrow.startswith("Best ") and not any(label in narrow for label in labels[1:])
