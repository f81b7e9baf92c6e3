"""A table of the validation passes, the newest first."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.strip import Strip

from forgemon.telemetry import Evaluation
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import ScrolledPanel
from forgemon.tui.strips import Part, centred, strip, width_of

STEP_W, EPOCH_W, LOSS_W, BEST_W, MODE_W, GRAPHS_W = 9, 7, 11, 9, 10, 7
CHECKPOINT_W = 12
"""Other values than the validation loss are shown only where this much is left for the checkpoint."""


@dataclass(frozen=True)
class Columns:
    """What the width and the evaluations themselves decide."""

    value_w: int
    metric_w: int
    "0 where there is one metric only: then it is the heading of its column."
    others: tuple[str, ...]
    "Values logged beside it."


def columns(found: tuple[Evaluation, ...], width: int) -> Columns:
    recent = found[-50:]
    several = len({e.metric for e in found}) > 1
    longest = max(len(e.metric) for e in recent)
    metric_w = min(longest + 2, 18) if several else 0
    value_w = 12 if several else min(max(longest + 1, 10), 14)
    fixed = STEP_W + EPOCH_W + LOSS_W + value_w + BEST_W + MODE_W + GRAPHS_W + metric_w
    others = tuple(dict.fromkeys(name for e in recent for name in e.metrics))
    return Columns(value_w, metric_w, others[: max((width - fixed - CHECKPOINT_W) // LOSS_W, 0)])


def _mode(evaluation: Evaluation, ink: Ink) -> Part:
    if evaluation.mode_correct is None:
        return ("? unseen", ink.muted)
    return ("✓ eval()", ink.good) if evaluation.mode_correct else ("✗ train()", ink.alarm)


def _graphs(evaluation: Evaluation, ink: Ink) -> Part:
    if evaluation.grad_enabled is None:
        return ("?", ink.muted)
    return ("✗ on", ink.watch) if evaluation.grad_enabled else ("✓ off", ink.good)


def _value(evaluation: Evaluation, width: int, ink: Ink) -> Part:
    word = "NaN" if math.isnan(evaluation.value) else text.number(evaluation.value)
    return (text.fit(word, width, "right"), ink.text if math.isfinite(evaluation.value) else ink.alarm)


def _row(evaluation: Evaluation, shape: Columns, width: int, ink: Ink) -> Strip:
    mode, mode_style = _mode(evaluation, ink)
    graphs, graphs_style = _graphs(evaluation, ink)
    epoch = "–" if evaluation.epoch is None else text.count(evaluation.epoch)
    others = [text.number(evaluation.metrics.get(name, math.nan)) for name in shape.others]
    parts: list[Part] = [
        (text.fit(text.count(evaluation.step), STEP_W, "right"), ink.text),
        (text.fit(epoch, EPOCH_W, "right"), ink.text),
        (text.fit(text.number(evaluation.train_loss), LOSS_W, "right"), ink.train),
        _value(evaluation, shape.value_w, ink),
        *((text.fit(value, LOSS_W, "right"), ink.text) for value in others),
        (text.fit("  ★ best" if evaluation.is_best else "", BEST_W), ink.smooth),
        (text.fit(mode, MODE_W), mode_style),
        (text.fit(graphs, GRAPHS_W), graphs_style),
        (text.fit(text.plain(evaluation.metric), shape.metric_w), ink.muted),
    ]
    room = width - width_of(parts) - 1
    if room > 5 and evaluation.checkpoint:
        path = text.plain(evaluation.checkpoint)
        parts.append((path if len(path) <= room else text.shorten(path.rpartition("/")[2], room), ink.text))
    return strip(parts, width)


def _heading(found: tuple[Evaluation, ...], shape: Columns, width: int) -> str:
    label = "validation" if shape.metric_w else text.shorten(text.plain(found[-1].metric), shape.value_w - 1)
    words = [("step", STEP_W), ("epoch", EPOCH_W), ("train loss", LOSS_W), (label, shape.value_w)]
    words += [(text.shorten(text.plain(name), LOSS_W - 1), LOSS_W) for name in shape.others]
    heading = "".join(text.fit(word, size, "right") for word, size in words) + " " * BEST_W
    heading += text.fit("mode", MODE_W) + text.fit("graphs", GRAPHS_W) + text.fit("metric", shape.metric_w)
    return heading + ("checkpoint" if width - len(heading) > 10 else "")


def lines(frame: Frame, width: int, height: int, ink: Ink, top: int = 0) -> list[Strip]:
    found = frame.snapshot.evaluations
    if not found:
        message = "No evaluation has been seen yet" if len(frame.snapshot.steps) else "Nothing to show yet"
        return centred([(message, ink.muted)], width, height)
    shape = columns(found, width)
    rows = [_row(e, shape, width, ink) for e in found[::-1][top : top + height - 1]]
    return [strip([(_heading(found, shape, width), ink.muted)], width), *rows]


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
