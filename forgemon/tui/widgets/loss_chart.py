"""The loss over the steps: training as a band, its mean as a line, validation as points, and what happened when."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip

from forgemon.telemetry import Evaluation, Snapshot
from forgemon.tui import text
from forgemon.tui.frame import Frame, Mark
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.raster import Columns, Floats, Scale, columns_of, scale_of
from forgemon.tui.strips import Canvas, Part, centred, joined, spread, strip, width_of

LEAST_WINDOW = 4
"""A mean of fewer losses is as noisy as they are."""
MARGIN = 8
"""Cells for the labels of the vertical axis."""
WINDOWS = (0, 10_000, 1_000, 100)
"""Steps shown, newest last; 0 for all."""


@dataclass(frozen=True)
class View:
    """How the person wants to see it."""

    log: bool | None = None
    "None chooses by the data."
    window: int = 0


def shown_metric(snapshot: Snapshot) -> str | None:
    """The validation metric that is drawn: that of the best checkpoint, else the newest."""
    if snapshot.best is not None:
        return snapshot.best.metric
    return snapshot.evaluations[-1].metric if snapshot.evaluations else None


def evaluations_of(snapshot: Snapshot) -> list[Evaluation]:
    metric = shown_metric(snapshot)
    return [e for e in snapshot.evaluations if e.metric == metric]


def span(frame: Frame, view: View) -> tuple[float, float]:
    """First and last step of the horizontal axis: the whole recording, wherever the cursor is, unless a window is set."""
    first, last = frame.first_step, max(frame.end_step, frame.first_step + 1)
    if view.window and frame.cursor - view.window > first:
        return float(frame.cursor - view.window), float(max(frame.cursor, 1))
    return float(first), float(last)


@dataclass(frozen=True, eq=False)
class Series:
    """The three curves cut into pixel columns."""

    train: Columns
    smoothed: Columns
    validation: Columns
    x_min: float
    x_max: float

    @property
    def drawn(self) -> list[Columns]:
        return [self.train, self.smoothed, self.validation]


def series_of(frame: Frame, view: View, pixels: int) -> Series:
    x_min, x_max = span(frame, view)
    found = evaluations_of(frame.snapshot)
    steps: Floats = np.array([e.step for e in found], dtype=np.float64)
    values: Floats = np.array([e.value for e in found], dtype=np.float64)
    curves = frame.curves
    train = columns_of(curves.step, curves.loss, x_min, x_max, pixels)
    smoothed = columns_of(curves.smooth_step, curves.smoothed, x_min, x_max, pixels) if curves.window >= LEAST_WINDOW else train
    return Series(train, smoothed, columns_of(steps, values, x_min, x_max, pixels), x_min, x_max)


def _newest(values: Floats) -> str:
    if not len(values):
        return "–"
    value = float(values[-1])
    return "NaN" if math.isnan(value) else text.number(value)


def legend(frame: Frame, scale: Scale, view: View, width: int, ink: Ink) -> Strip:
    curves, found = frame.curves, evaluations_of(frame.snapshot)
    broken = len(curves.loss) > 0 and not math.isfinite(curves.loss[-1])
    train: list[Part] = [("⣿ ", ink.train), ("train ", ink.muted), (_newest(curves.loss), ink.alarm if broken else ink.text)]
    groups: list[list[Part]] = [train]
    if found:
        label = text.shorten(text.plain(found[-1].metric), 20)
        last = number_or_nan(found[-1].value)
        groups.append([("● ", ink.validation), (f"{label} ", ink.muted), (last, ink.text)])
    if curves.window >= LEAST_WINDOW:
        groups.append([("━ ", ink.smooth), (f"mean of {curves.window} ", ink.muted), (_newest(curves.smoothed), ink.text)])
    words = ["log" if scale.log else "linear"]
    if view.window:
        words.insert(0, f"last {text.count(view.window)} steps")
    right: list[Part] = [(" · ".join(words) + " ", ink.muted)]
    return spread([(" ", ink.text), *joined(groups, ("   ", ink.text), width - width_of(right) - 3)], right, width, ink.text)


def number_or_nan(value: float) -> str:
    return "NaN" if math.isnan(value) else text.number(value)


def _tick_label(value: float, step: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        mantissa, _, power = f"{value:.1e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step > 0 else 3
    return f"{value:.{min(decimals + (step * 10**decimals % 1 > 1e-6), 6)}f}"


def axis_labels(scale: Scale, rows: int) -> dict[int, str]:
    """Row of the plot -> label."""
    ticks = scale.ticks(max(rows // 3, 2) if scale.log else min(max(rows // 2, 2), 8))
    if not ticks:
        ticks = [scale.low + (scale.high - scale.low) / 2]
    labels: dict[int, str] = {}
    for value in ticks:
        step = value if scale.log else (ticks[1] - ticks[0] if len(ticks) > 1 else abs(value) / 100)
        row = round((1 - float(scale.fraction(np.array([value]))[0])) * (rows * 4 - 1)) // 4
        labels.setdefault(row, _tick_label(value, step))
    return labels


GLYPHS = {"evaluation": "┴", "checkpoint": "◆", "nonfinite": "×", "finding": "!"}
"""Marks below the plot; where several fall in one column the later kind of this list is shown."""


def _mark_column(step: float, series: Series, plot: int) -> int | None:
    if not series.x_min <= step <= series.x_max:
        return None
    return round((step - series.x_min) / (series.x_max - series.x_min) * (plot * 2 - 1)) // 2


def _marks(frame: Frame, series: Series, plot: int) -> dict[int, Mark]:
    order = list(GLYPHS)
    placed: dict[int, Mark] = {}
    for mark in frame.marks:
        column = None if mark.step > frame.cursor else _mark_column(mark.step, series, plot)
        if column is None:
            continue
        before = placed.get(column)
        if before is None or order.index(mark.kind) >= order.index(before.kind):
            placed[column] = mark
    return placed


def _baseline(marks: dict[int, Mark], plot: int, ink: Ink) -> list[Segment]:
    segments = [Segment(" " * (MARGIN - 1), ink.text), Segment("└", ink.faint)]
    for column in range(plot):
        mark = marks.get(column)
        if mark is None:
            segments.append(Segment("─", ink.faint))
        else:
            style = {"checkpoint": ink.good, "evaluation": ink.validation}.get(mark.kind, ink.level(mark.level))
            segments.append(Segment(GLYPHS[mark.kind], style))
    return segments


def step_axis(x_min: float, x_max: float, plot: int) -> str:
    """Round step numbers under their columns, the last one at the right edge."""
    end = text.count(x_max)
    line = [" "] * plot
    line[max(plot - len(end), 0) :] = end[:plot]
    for value in Scale(x_min, x_max).ticks(max(plot // 11, 2)):
        if value != round(value):
            continue  # there is no half step
        label = text.count(value)
        at = round((value - x_min) / (x_max - x_min) * (plot - 1)) - len(label) // 2
        at = max(at, 0)
        if at + len(label) <= plot - len(end) - 2 and all(c == " " for c in line[max(at - 2, 0) : at + len(label) + 1]):
            line[at : at + len(label)] = label
    return "".join(line)


def _plot(frame: Frame, series: Series, scale: Scale, plot: int, rows: int, ink: Ink) -> tuple[Canvas, dict[int, Mark]]:
    canvas = Canvas(plot, rows, ink.text)
    canvas.curve(series.train, scale, ink.train)
    if series.smoothed is not series.train:
        canvas.curve(series.smoothed, scale, ink.smooth)
    canvas.curve(series.validation, scale, ink.validation)
    if np.isfinite(series.validation.last).sum() <= plot // 3:
        canvas.points(series.validation, scale, "●", ink.validation)
    marks = _marks(frame, series, plot)
    for column, mark in marks.items():
        if mark.kind == "finding" and mark.level != "info":
            canvas.column(column, "┊", ink.level(mark.level))
    broken = np.flatnonzero(series.train.broken | series.validation.broken)
    if len(broken):
        canvas.row(0, np.unique(broken // 2), "×", ink.alarm)
    return canvas, marks


def lines(frame: Frame, width: int, height: int, ink: Ink, view: View | None = None) -> list[Strip]:
    """The whole chart: legend, plot, marks and step axis."""
    view = view or View()
    if not len(frame.snapshot.steps) and not frame.snapshot.evaluations:
        return centred(waiting(frame, ink, width), width, height)
    plot, rows = width - MARGIN, height - 3
    if plot < 4 or rows < 2:
        return [legend(frame, Scale(0, 1), view, width, ink)]
    series = series_of(frame, view, plot * 2)
    scale = scale_of(series.drawn, view.log)
    canvas, marks = _plot(frame, series, scale, plot, rows, ink)
    labels = axis_labels(scale, rows)
    strips = [legend(frame, scale, view, width, ink)]
    for row in range(rows):
        label = labels.get(row, "")
        axis = Segment("┤" if label else "│", ink.faint)
        strips.append(Strip([Segment(f"{label:>{MARGIN - 1}}", ink.muted), axis, *canvas.segments(row)], width))
    strips.append(Strip(_baseline(marks, plot, ink), width).simplify())
    axis_text = " " * MARGIN + step_axis(series.x_min, series.x_max, plot)
    return [*strips, strip([(axis_text, ink.muted)], width)]


def waiting(frame: Frame, ink: Ink, width: int) -> list[Part]:
    """What there is to say while no step has been seen."""
    if frame.loading:
        return [("Reading the recording…", ink.strong)]
    snapshot = frame.snapshot
    detail = text.plain(snapshot.state_detail)
    if frame.live and snapshot.state in ("waiting", "running", "stalled"):
        first, hint = "Waiting for the first optimizer step", "The picture begins when the loop calls optimizer.step()."
    else:
        first, hint = "No optimizer step was recorded", f"State of the run: {snapshot.state}."
        if frame.output:
            hint += " What it printed is on page 6."
    said: list[Part] = [(first, ink.strong), ("", ink.text)]
    said += [(line, ink.text) for line in text.wrap(detail, max(width - 8, 20), 3)]
    return [*said, (text.fit(hint, width).rstrip(), ink.muted)]


class LossChart(Panel):
    BORDER_TITLE = "loss"

    view = View()

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink, self.view)

    def draw(self, size: Size, ink: Ink) -> list[Strip]:
        if self.frame is None:
            return centred([("Opening the run…", ink.muted)], size.width, size.height)
        return super().draw(size, ink)

    def toggle_log(self) -> None:
        """From what was chosen by the data to the other, and back."""
        if self.frame is None:
            return
        now = self.view.log
        if now is None:
            now = scale_of(series_of(self.frame, self.view, 64).drawn).log
        self.view = replace(self.view, log=not now)
        self.repaint()

    def next_window(self) -> None:
        index = WINDOWS.index(self.view.window)
        self.view = replace(self.view, window=WINDOWS[(index + 1) % len(WINDOWS)])
        self.repaint()
