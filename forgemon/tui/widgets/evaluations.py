"""A table of the validation passes, the newest first."""

from __future__ import annotations

import math

from textual.strip import Strip

from forgemon.telemetry import Evaluation
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.strips import Part, centred, strip

MODE_W, GRAD_W, BEST_W, VALUE_W = 10, 7, 6, 14


def _mode(evaluation: Evaluation, ink: Ink) -> Part:
    if evaluation.mode_correct is None:
        return ("? unseen", ink.muted)
    return ("✓ eval()", ink.good) if evaluation.mode_correct else ("✗ train()", ink.alarm)


def _graphs(evaluation: Evaluation, ink: Ink) -> Part:
    if evaluation.grad_enabled is None:
        return ("?", ink.muted)
    return ("✗ on", ink.watch) if evaluation.grad_enabled else ("✓ off", ink.good)


def _others(evaluation: Evaluation, names: tuple[str, ...], ink: Ink) -> list[Part]:
    return [(text.fit(text.number(evaluation.metrics.get(name, math.nan)), 11, "right"), ink.text) for name in names]


def _value(evaluation: Evaluation, ink: Ink) -> Part:
    word = "NaN" if math.isnan(evaluation.value) else text.number(evaluation.value)
    return (text.fit(word, VALUE_W, "right"), ink.text if math.isfinite(evaluation.value) else ink.alarm)


def _row(evaluation: Evaluation, names: tuple[str, ...], width: int, ink: Ink, metric_w: int) -> Strip:
    mode, mode_style = _mode(evaluation, ink)
    graphs, graphs_style = _graphs(evaluation, ink)
    epoch = "–" if evaluation.epoch is None else text.count(evaluation.epoch)
    parts: list[Part] = [
        (text.fit(text.count(evaluation.step), 9, "right"), ink.text),
        (text.fit(epoch, 7, "right"), ink.text),
        (text.fit(text.number(evaluation.train_loss), 11, "right"), ink.train),
        _value(evaluation, ink),
        *_others(evaluation, names, ink),
        ("  " + text.fit("★ best" if evaluation.is_best else "", BEST_W + 1), ink.smooth),
        (text.fit(mode, MODE_W), mode_style),
        (text.fit(graphs, GRAD_W), graphs_style),
    ]
    if metric_w:
        parts.append((text.fit(text.plain(evaluation.metric), metric_w), ink.muted))
    room = width - sum(len(t) for t, _ in parts) - 1
    if room > 6 and evaluation.checkpoint:
        path = text.plain(evaluation.checkpoint)
        parts.append((path if len(path) <= room else text.shorten(path.rpartition("/")[2], room), ink.text))
    return strip(parts, width)


def lines(frame: Frame, width: int, height: int, ink: Ink, top: int = 0) -> list[Strip]:
    found = frame.snapshot.evaluations
    if not found:
        message = "No evaluation has been seen yet" if len(frame.snapshot.steps) else "Nothing to show yet"
        return centred([(message, ink.muted)], width, height)
    shown = tuple(dict.fromkeys(name for e in found[-50:] for name in e.metrics))
    metric_w = min(max(len(e.metric) for e in found[-50:]) + 2, 18) if len({e.metric for e in found}) > 1 else 0
    fixed = 9 + 7 + 11 + VALUE_W + 2 + BEST_W + 1 + MODE_W + GRAD_W + metric_w
    names = shown[: max((width - fixed - 12) // 11, 0)]
    label = "validation" if metric_w else text.shorten(text.plain(found[-1].metric), VALUE_W - 1)
    heading = f"{'step':>9}{'epoch':>7}{'train loss':>11}{label:>{VALUE_W}}"
    heading += "".join(text.fit(text.shorten(text.plain(n), 10), 11, "right") for n in names)
    heading += "  " + " " * (BEST_W + 1) + text.fit("mode", MODE_W) + text.fit("graphs", GRAD_W) + text.fit("metric", metric_w)
    if width - len(heading) > 10:
        heading += "checkpoint"
    newest_first = found[::-1][top : top + height - 1]
    return [strip([(heading, ink.muted)], width), *(_row(e, names, width, ink, metric_w) for e in newest_first)]


class Evaluations(ScrolledPanel):
    BORDER_TITLE = "evaluations"

    def basis(self, frame: Frame) -> object:
        return frame.snapshot.evaluations, len(frame.snapshot.steps) > 0

    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, height, ink, self.top)

    def rows(self) -> int:
        return len(self.frame.snapshot.evaluations) if self.frame else 0

    def page(self) -> int:
        return max(self.size.height - 1, 1)

    def note(self, frame: Frame) -> str:
        number = len(frame.snapshot.evaluations)
        return f"{number} so far" if number else ""
