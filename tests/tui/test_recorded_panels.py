"""The panels that show what was recorded, as lines of text: loss, gradients, heatmap, memory, best checkpoint, evaluations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from forgemon.tui.frame import Frame
from forgemon.tui.ink import ink_of
from forgemon.tui.widgets import best, evaluations, gradient_table, heatmap, loss_chart, memory
from tests.recorded import START, RunFiles
from tests.tui.runs import INK, PARAMETERS, frame_of, text_of
from tests.tui.test_text import HOSTILE


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


def test_a_run_without_a_step_says_what_it_waits_for(panel_runs: Path) -> None:
    frame = replace(frame_of(panel_runs / "waiting"), live=True)
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
