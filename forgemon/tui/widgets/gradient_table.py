"""One row per parameter: its gradient norm now, its recent history, and how that compares with its own past."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.style import Style
from textual.strip import Strip

from forgemon.tui import text
from forgemon.tui.frame import Frame, GradientTrend, trend_key
from forgemon.tui.ink import Ink
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.strips import Part, centred, strip

SORTS = ("model", "norm", "change", "name")
"""Orders of the rows: as in the model, largest norm first, furthest from its own past first, by name."""
BARS = "▁▂▃▄▅▆▇█"
UNUSUAL = 10.0
"""So many times its median, or its inverse, is worth a colour."""
FULL_UPDATE = 0.1
"""A step that changes a tenth of a parameter's norm is worth a colour; what is usual is about a thousandth."""
FLAT_DECADES = 1.0
"""A history that spans less than this many decades is drawn as a part of one, so that noise looks like noise."""


@dataclass(frozen=True)
class View:
    sort: str = "model"
    filter: str = ""


def order(trend: GradientTrend, view: View) -> npt.NDArray[np.intp]:
    """Indices of the parameters to show, in order; broken ones first where the order is by value."""
    chosen = np.arange(len(trend.names))
    if view.filter:
        wanted = view.filter.lower()
        chosen = np.array([i for i in chosen if wanted in trend.names[i].lower()], dtype=np.intp)
    if view.sort == "name":
        return np.array(sorted(chosen, key=lambda i: trend.names[i]), dtype=np.intp)
    if view.sort == "model" or not len(chosen):
        return chosen
    values = trend.current if view.sort == "norm" else _distance(trend)
    values = np.where(trend.broken, np.inf, np.where(np.isfinite(values), values, -np.inf))
    return chosen[np.argsort(-values[chosen], kind="stable")]


def _distance(trend: GradientTrend) -> npt.NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.abs(np.log10(trend.ratio))


def history(values: npt.NDArray[np.float32], broken: npt.NDArray[np.bool_], width: int) -> list[str]:
    """`width` characters, newest last: height by log10 of the norm, `x` where it was not finite, blank where it was absent."""
    if not len(values):
        return [" "] * width
    if len(values) > width:
        starts = np.linspace(0, len(values), width + 1).astype(np.intp)[:-1]
        values, broken = np.fmax.reduceat(values, starts), np.logical_or.reduceat(broken, starts)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log10(values)
    finite = logs[np.isfinite(logs)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    spare = max(FLAT_DECADES - (high - low), 0.0) / 2
    low, high = low - spare, high + spare
    chars = []
    for value, bad in zip(logs.tolist(), broken.tolist(), strict=True):
        if bad:
            chars.append("x")
        elif math.isnan(value):
            chars.append(" ")
        else:  # a norm of exactly zero is the lowest bar
            share = 0.0 if math.isinf(value) else (value - low) / (high - low)
            chars.append(BARS[min(int(share * len(BARS)), len(BARS) - 1)])
    return [" "] * (width - len(chars)) + chars


def _history_parts(chars: list[str], ink: Ink) -> list[Part]:
    parts: list[Part] = []
    for char in chars:
        style = ink.alarm if char == "x" else ink.train
        if parts and parts[-1][1] is style:
            parts[-1] = (parts[-1][0] + char, style)
        else:
            parts.append((char, style))
    return parts


def _norm(trend: GradientTrend, i: int, ink: Ink) -> Part:
    value = float(trend.current[i])
    if trend.broken[i]:
        return ("NaN" if math.isnan(value) else "inf", ink.alarm)
    if math.isnan(value):
        return ("none", ink.faint)
    return (text.number(value, 3), ink.text)


def _change(trend: GradientTrend, i: int, ratio: float, ink: Ink) -> Part:
    if trend.broken[i]:
        return ("not finite", ink.alarm)
    if math.isnan(ratio):
        return ("", ink.faint)
    arrow = "▲" if ratio > 1.5 else "▼" if ratio < 1 / 1.5 else "·"
    style: Style = ink.watch if ratio > UNUSUAL or ratio < 1 / UNUSUAL else ink.muted
    return (f"{arrow} {text.ratio(ratio)}", style)


def _update(trend: GradientTrend, i: int, ink: Ink) -> Part:
    ratio = float(trend.update_ratio[i])
    if math.isnan(ratio):
        return ("", ink.faint)
    return (f"{ratio:.1e}", ink.watch if ratio > FULL_UPDATE else ink.muted)


def columns(width: int, longest_name: int, updates: bool = False) -> tuple[int, int, int, int, int]:
    """Widths of name, norm, update, history and change, together at most `width - 3`; that of update is 0 where there is no room."""
    norm, change, update = 9, 10, 9 if updates and width >= 66 else 0
    room = width - norm - update - change - 3
    name = max(min(longest_name, max(room - 20, min(28, room - 10))), 8)
    return name, norm, update, max(min(room - name, 64), 0), change


def lines(frame: Frame, width: int, height: int, ink: Ink, view: View | None = None, top: int = 0) -> list[Strip]:
    """A heading and as many rows as fit, from row `top` on."""
    view = view or View()
    trend = frame.gradients
    if trend is None:
        return centred([("No gradients have been seen yet", ink.muted)], width, height)
    rows = order(trend, view)
    if not len(rows):
        return centred([(f"No parameter's name contains “{text.plain(view.filter)}”", ink.muted)], width, height)
    known = bool(np.isfinite(trend.update_ratio).any())
    name_w, norm_w, update_w, past_w, change_w = columns(width, max(len(n) for n in trend.names), known)
    heading = (
        text.fit("parameter", name_w)
        + text.fit("norm", norm_w, "right")
        + text.fit("update", update_w, "right")
        + "  "
        + text.fit("history", past_w)
        + " "
        + text.fit("vs median", change_w)
    )
    strips = [strip([(heading, ink.muted)], width)]
    ratios = trend.ratio
    for i in rows[top : top + height - 1].tolist():
        norm, norm_style = _norm(trend, i, ink)
        update, update_style = _update(trend, i, ink)
        change, change_style = _change(trend, i, float(ratios[i]), ink)
        parts: list[Part] = [
            (text.fit(text.shorten(text.plain(trend.names[i]), name_w), name_w), ink.text),
            (text.fit(norm, norm_w, "right"), norm_style),
            (text.fit(update, update_w, "right"), update_style),
            ("  ", ink.text),
            *_history_parts(history(trend.history[i], trend.history_broken[i], past_w), ink),
            (" " + text.fit(change, change_w), change_style),
        ]
        strips.append(strip(parts, width))
    return strips


class GradientTable(ScrolledPanel):
    BORDER_TITLE = "gradients"

    view = View()

    def basis(self, frame: Frame) -> object:
        return trend_key(frame)

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink, self.view, self.top)

    def rows(self) -> int:
        trend = self.frame.gradients if self.frame else None
        return 0 if trend is None else len(order(trend, self.view))

    def page(self) -> int:
        return max(self.size.height - 1, 1)

    def note(self, frame: Frame) -> str:
        trend = frame.gradients
        if trend is None:
            return ""
        shown = len(order(trend, self.view)) if self.view.filter else len(trend.names)
        words = [f"{shown} of {len(trend.names)}" if self.view.filter else f"{shown} parameters"]
        if broken := int(trend.broken.sum()):
            words.append(f"{broken} not finite")
        if self.view.sort != "model":
            words.append(f"by {self.view.sort}")
        if self.view.filter:
            words.append(f"filter {text.plain(self.view.filter)}")
        return " · ".join(words)

    def look(self, view: View) -> None:
        self.view, self.top = view, 0
        self.note_and_repaint()
