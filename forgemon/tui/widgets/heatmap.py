"""Gradient norms of all parameters over time as colours, two parameters a line; shades where there is no colour."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame, GradientTrend, trend_key
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, centred, spread

ANCHORS = ((24, 22, 48), (86, 30, 104), (170, 52, 92), (232, 104, 62), (250, 178, 72), (252, 246, 190))
LEVELS = 24
SHADES = "·░▒▓█"
ABSENT, BROKEN = -1, -2

Pixels = npt.NDArray[np.int16]


@lru_cache(maxsize=1)
def palette() -> tuple[Color, ...]:
    """LEVELS colours from cold to hot."""
    anchors = np.array(ANCHORS, dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, LEVELS)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, i]).round().astype(int).tolist() for i in range(3)]
    return tuple(Color.from_rgb(r, g, b) for r, g, b in zip(*channels, strict=True))


@lru_cache(maxsize=4096)
def _cell(upper: int, lower: int, broken: Style) -> tuple[str, Style]:
    """The character and style of two pixels, one above the other."""
    if BROKEN in (upper, lower):
        return "x", broken
    colours = palette()
    if upper == ABSENT and lower == ABSENT:
        return " ", Style()
    if upper == ABSENT:
        return "▄", Style(color=colours[lower])
    if lower == ABSENT:
        return "▀", Style(color=colours[upper])
    return "▀", Style(color=colours[upper], bgcolor=colours[lower])


def pixels(trend: GradientTrend, rows: int, columns: int) -> tuple[Pixels, float, float]:
    """(rows, columns) levels, ABSENT or BROKEN, and the norms that the coldest and hottest colour stand for.

    Neighbouring parameters or steps that share a pixel give it their largest norm.
    """
    values, broken = trend.history, trend.history_broken
    if values.shape[0] > rows:
        starts = np.linspace(0, values.shape[0], rows + 1).astype(np.intp)[:-1]
        values = np.fmax.reduceat(values, starts, axis=0)
        broken = np.logical_or.reduceat(broken, starts, axis=0)
    bins = values.shape[1]
    if bins > columns:
        starts = np.linspace(0, bins, columns + 1).astype(np.intp)[:-1]
        values = np.fmax.reduceat(values, starts, axis=1)
        broken = np.logical_or.reduceat(broken, starts, axis=1)
    elif bins < columns:
        chosen = (np.arange(columns) * bins // columns).astype(np.intp)
        values, broken = values[:, chosen], broken[:, chosen]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    finite = logs[np.isfinite(logs)]
    low, high = (float(np.quantile(finite, 0.01)), float(finite.max())) if len(finite) else (0.0, 1.0)
    high = max(high, low + 0.5)
    share = np.clip((logs - low) / (high - low), 0, 1)
    levels = np.where(np.isnan(share), ABSENT, (np.nan_to_num(share) * (LEVELS - 1)).round()).astype(np.int16)
    levels[broken] = BROKEN
    return levels, 10**low, 10**high


def _coloured(levels: Pixels, line: int, ink: Ink) -> list[Segment]:
    upper = levels[2 * line]
    lower = levels[2 * line + 1] if 2 * line + 1 < len(levels) else np.full_like(upper, ABSENT)
    both = upper.astype(np.int32) * 64 + lower
    cuts = (np.flatnonzero(np.diff(both)) + 1).tolist()
    segments = []
    for begin, end in zip([0, *cuts], [*cuts, len(both)], strict=True):
        char, style = _cell(int(upper[begin]), int(lower[begin]), ink.alarm)
        segments.append(Segment(char * (end - begin), style))
    return segments


def _shaded(levels: Pixels, line: int, ink: Ink) -> list[Segment]:
    """One parameter a line, as the density of a character."""
    chars = ["x" if v == BROKEN else " " if v == ABSENT else SHADES[v * len(SHADES) // LEVELS] for v in levels[line].tolist()]
    return [Segment("".join(chars), ink.text)]


def _scale(low: float, high: float, ink: Ink) -> list[Part]:
    if ink.monochrome:
        bar: list[Part] = [(SHADES, ink.text)]
    else:
        colours = palette()
        bar = [("█", Style(color=colours[i])) for i in np.linspace(0, LEVELS - 1, 10).astype(int).tolist()]
    return [(f"{text.number(low, 2)} ", ink.muted), *bar, (f" {text.number(high, 2)} ", ink.muted)]


def labels(names: tuple[str, ...], shown: int, width: int) -> list[str]:
    """What each line begins with: the parameter, or where several share a line its module, written once."""
    firsts = [names[line * len(names) // shown] for line in range(shown)]
    depth = None if shown >= len(names) else module_depth(names, shown * 3 // 2)
    made: list[str] = []
    before = ""
    for name in firsts:
        label = text.plain(".".join(name.split(".")[:depth]))
        made.append(text.shorten(label, width) if label != before else "")
        before = label
    return made


def module_depth(names: tuple[str, ...], most: int) -> int:
    """How many parts of the dotted names tell apart at most `most` groups of them; at least one."""
    parts = [name.split(".") for name in names]
    depth = 1
    while depth < max(map(len, parts)) and len({tuple(p[: depth + 1]) for p in parts}) <= most:
        depth += 1
    return depth


def lines(frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
    """A line a parameter (two where there are many), first parameter on top, and a line with the colour scale."""
    trend = frame.gradients
    if trend is None or height < 2:
        return centred([("No gradients have been seen yet", ink.muted)], width, height)
    count, room = len(trend.names), height - 1
    doubled = not ink.monochrome and count > room
    name_w = min(max(len(n) for n in trend.names) + 1, max(width // 3, 8), 30)
    levels, low, high = pixels(trend, min(count, room * 2 if doubled else room), max(width - name_w, 1))
    if not doubled and not ink.monochrome:  # one parameter a line: both halves of the cell
        levels = np.repeat(levels, 2, axis=0)
    strips = []
    shown = len(levels) if ink.monochrome else -(-len(levels) // 2)
    for line, name in enumerate(labels(trend.names, shown, name_w - 1)):
        segments = _shaded(levels, line, ink) if ink.monochrome else _coloured(levels, line, ink)
        strips.append(Strip([Segment(text.fit(name, name_w), ink.muted), *segments], width))
    span = f"steps {text.count(trend.bins[0])} – {text.count(trend.step)}"
    return [*strips, spread([(" " * name_w + span, ink.muted)], _scale(low, high, ink), width, ink.text)]


class Heatmap(Panel):
    BORDER_TITLE = "gradient norms over time"

    def basis(self, frame: Frame) -> object:
        return trend_key(frame)

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink)
