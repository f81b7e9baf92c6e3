"""Memory over time, of the process, the host and each GPU, with how busy and how hot the GPUs are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Size
from textual.strip import Strip

from forgemon.chunk import Rows
from forgemon.telemetry import Snapshot
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.raster import Scale, columns_of
from forgemon.tui.strips import Canvas, Part, centred, joined, spread, strip, width_of

Values = npt.NDArray[np.float64]
CHART_ROWS = 2
"""A curve lower than this says nothing: then there are numbers only."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One amount of memory over time."""

    label: str
    values: Values
    total: float
    "NaN where there is no fixed limit."
    numbers: str
    process: Values | None = None
    "The part of it that belongs to the watched process."

    @property
    def now(self) -> float:
        return float(self.values[-1]) if len(self.values) else math.nan


def times_of(snapshot: Snapshot) -> tuple[int, float]:
    """How many samples there are, and when the newest was taken."""
    rows = snapshot.machine
    return (0, 0.0) if rows is None or not len(rows) else (len(rows), float(rows["time"][-1]))


def _column(rows: Rows, name: str) -> Values:
    names = rows.dtype.names or ()
    return rows[name].astype(np.float64) if name in names else np.full(len(rows), np.nan)


def _last(rows: Rows, name: str) -> float:
    values = _column(rows, name)
    return float(values[-1]) if len(values) else math.nan


def _whole(value: float, unit: str) -> str:
    return f"{value:.0f} {unit}" if math.isfinite(value) else ""


def curves_of(snapshot: Snapshot) -> list[Curve]:
    """The process first, then the GPUs, then the host."""
    rows = snapshot.machine
    if rows is None or not len(rows):
        return []
    cpu = _whole(_last(rows, "process_cpu_percent"), "% CPU")
    found = [Curve("process", _column(rows, "process_rss_bytes"), math.nan, cpu)]
    i = 0
    while f"gpu{i}_used_bytes" in (rows.dtype.names or ()):
        name = snapshot.gpu_names[i] if i < len(snapshot.gpu_names) else ""
        said = [
            _whole(_last(rows, f"gpu{i}_utilisation_percent"), "% busy"),
            _whole(_last(rows, f"gpu{i}_power_w"), "W"),
            _whole(_last(rows, f"gpu{i}_temperature_c"), "°C"),
        ]
        used, mine = _column(rows, f"gpu{i}_used_bytes"), _column(rows, f"gpu{i}_process_bytes")
        label = f"GPU {i} {text.shorten(text.plain(name.removeprefix('NVIDIA ')), 20)}".strip()
        found.append(Curve(label, used, _last(rows, f"gpu{i}_total_bytes"), " · ".join(s for s in said if s), mine))
        i += 1
    host = _whole(_last(rows, "host_cpu_percent"), "% CPU")
    found.append(Curve("host", _column(rows, "host_used_bytes"), _last(rows, "host_total_bytes"), host))
    return found


def _amount(curve: Curve) -> str:
    now = text.size(curve.now)
    if not math.isfinite(curve.total):
        return now
    total = text.size(curve.total)
    if now.rpartition(" ")[2] == total.rpartition(" ")[2]:
        now = now.rpartition(" ")[0]
    return f"{now} of {total}"


def heading(curve: Curve, width: int, ink: Ink, spark: bool = False) -> Strip:
    """Label, how much of how much, and the numbers beside it; with `spark` its history in what room is left."""
    amount = _amount(curve)
    groups: list[list[Part]] = [[(curve.label, ink.muted)], [(amount, ink.strong)]]
    if curve.process is not None and len(curve.process) and math.isfinite(curve.process[-1]):
        groups.append([(f"process {text.size(float(curve.process[-1]))}", ink.smooth)])
    numbers = curve.numbers
    if width_of(groups[0] + groups[1]) + len(numbers) + 4 > width:
        groups[0] = [(curve.label[:5].strip() if curve.label.startswith("GPU") else curve.label, ink.muted)]
    while numbers and width_of(groups[0] + groups[1]) + len(numbers) + 4 > width:
        numbers = numbers.rpartition(" · ")[0]
    left = joined(groups, ("  ", ink.text), width - len(numbers) - 2)
    room = min(width - width_of(left) - len(numbers) - 4, 40)
    if spark and room >= 8:
        left += [("  ", ink.text), (sparkline(curve, room), _style(curve, ink))]
    return spread(left, [(numbers, ink.text)] if numbers else [], width, ink.text)


BARS = "▁▂▃▄▅▆▇█"


def sparkline(curve: Curve, width: int) -> str:
    """The amount's history, from zero to the limit or to its own largest value; blank where it is not known."""
    values = curve.values
    if len(values) > width:
        values = np.fmax.reduceat(values, np.linspace(0, len(values), width + 1).astype(np.intp)[:-1])
    finite = values[np.isfinite(values)]
    top = curve.total if math.isfinite(curve.total) else float(finite.max()) * 1.1 if len(finite) else 1.0
    level = np.clip(np.nan_to_num(values, nan=-1.0) / (top or 1.0) * len(BARS), -1, len(BARS) - 1).astype(int)
    return "".join(" " if v < 0 else BARS[v] for v in level.tolist()).rjust(width)


def _chart(curve: Curve, times: Values, width: int, height: int, ink: Ink) -> list[Strip]:
    """The curve from zero to its limit, or to its own largest value."""
    margin = 11
    plot = max(width - margin, 2)
    start, end = float(times[0]), max(float(times[-1]), float(times[0]) + 1.0)
    columns = columns_of(times, curve.values, start, end, plot * 2)
    finite = curve.values[np.isfinite(curve.values)]
    most = float(finite.max()) if len(finite) else 1.0
    top = curve.total if math.isfinite(curve.total) and curve.total > 0 else most * 1.1 or 1.0
    scale = Scale(0.0, top)
    canvas = Canvas(plot, height, ink.text)
    canvas.curve(columns, scale, _style(curve, ink))
    if curve.process is not None:
        canvas.curve(columns_of(times, curve.process, start, end, plot * 2), scale, ink.smooth)
    labels = {0: text.size(top), height - 1: "0"}
    return [
        Strip(
            [
                Segment(text.fit(labels.get(row, ""), margin - 2, "right") + " ", ink.faint),
                Segment("│", ink.faint),
                *canvas.segments(row),
            ],
            width,
        )
        for row in range(height)
    ]


def _style(curve: Curve, ink: Ink) -> Style:
    return ink.smooth if curve.label == "process" else ink.validation if curve.label.startswith("GPU") else ink.train


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """A heading for each, and below it a curve where there is room for all of them."""
    snapshot = frame.snapshot
    found = curves_of(snapshot)
    absent = text.plain(snapshot.gpu_message)
    if not found:
        message = "No memory samples yet" if frame.live else "No memory samples in this recording"
        said: list[Part] = [(message, ink.muted)]
        return centred([*said, (absent, ink.faint)] if absent else said, width, height)
    footer = [strip([(absent, ink.muted)], width)] if absent else []
    each = (height - len(footer)) // len(found)
    assert snapshot.machine is not None
    times = np.maximum.accumulate(snapshot.machine["time"].astype(np.float64))
    strips: list[Strip] = []
    charts = each - 1 >= CHART_ROWS
    spare = height - len(footer) - each * len(found)
    for i, curve in enumerate(found):
        strips.append(heading(curve, width, ink, spark=not charts))
        if charts:
            strips += _chart(curve, times, width, each - 1 + (i < spare), ink)
    return [*strips[: height - len(footer)], *footer]


class Memory(Panel):
    BORDER_TITLE = "memory"

    def basis(self, frame: Frame) -> object:
        return times_of(frame.snapshot), frame.snapshot.gpu_names, frame.snapshot.gpu_message, frame.live

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are amounts, where the height is left to the content."""
        found = curves_of(self.frame.snapshot) if self.frame else []
        return max(len(found), 2) + bool(self.frame and self.frame.snapshot.gpu_message)

    def watch_frame(self) -> None:
        super().watch_frame()
        height = self.get_content_height(self.size, self.size, self.size.width)
        if height != self._wanted_height:  # the first sample, or a GPU, has appeared
            self._wanted_height = height
            self.refresh(layout=True)

    _wanted_height = 0
