"""Two lines at the top: which run, in what state and mode, at which step; how fast, where, and what watching costs."""

from __future__ import annotations

import math

from rich.style import Style
from textual.strip import Strip

from forgemon.telemetry import Snapshot
from forgemon.tui import text
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink
from forgemon.tui.panel import Panel
from forgemon.tui.strips import Part, joined, spread, width_of

SILENT_S = 5.0
"""A running loop that has said nothing for so long is shown with its silence."""


def state_badge(snapshot: Snapshot, ink: Ink) -> Part:
    """The state as a word on its colour; for a killed run with the signal."""
    styles: dict[str, Style] = {
        "running": ink.badge_good,
        "finished": ink.badge_info,
        "stalled": ink.badge_watch,
        "exception": ink.badge_alarm,
        "killed": ink.badge_alarm,
        "gone": ink.badge_alarm,
    }
    word = snapshot.state
    signal = next((w for w in text.plain(snapshot.state_detail).split() if w.startswith("SIG")), "").strip(".,;:()")
    label = f"killed by {signal}" if word == "killed" and signal else word
    return (f" {label} ", styles.get(word, ink.badge_plain))


def mode_badge(snapshot: Snapshot, ink: Ink) -> Part:
    if snapshot.mode == "unknown":
        return (" mode ? ", ink.muted)
    return (f" {snapshot.mode} ", ink.badge_plain if snapshot.mode == "TRAIN" else ink.badge_info)


def name_of(frame: Frame) -> str:
    return text.plain(str(frame.snapshot.info.get("run") or "run"))


def device_of(frame: Frame) -> str:
    devices = frame.snapshot.info.get("devices")
    names = [text.plain(str(d)) for d in devices] if isinstance(devices, (list, tuple)) else []
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


def newest_learning_rate(snapshot: Snapshot) -> float:
    return float(snapshot.steps["learning_rate"][-1]) if len(snapshot.steps) else math.nan


def counts_from_attach(snapshot: Snapshot) -> bool:
    """Whether nobody knows how many steps there were before: the process was attached to and its optimizer does not count."""
    return (
        snapshot.info.get("mode") == "attach"
        and bool(snapshot.optimizers)
        and all(optimizer.get("counted_from") == "attach" for optimizer in snapshot.optimizers)
    )


def _place(frame: Frame, ink: Ink) -> list[Part]:
    snapshot = frame.snapshot
    label = "steps since attach " if counts_from_attach(snapshot) else "step "
    parts: list[Part] = [(label, ink.muted), (text.count(snapshot.step), ink.strong)]
    if snapshot.epoch is not None:
        parts += [("  epoch ", ink.muted), (text.count(snapshot.epoch), ink.strong)]
    return [*parts, (" ", ink.text)]


def _first_line(frame: Frame, width: int, ink: Ink) -> Strip:
    left: list[Part] = [state_badge(frame.snapshot, ink), (" ", ink.text), mode_badge(frame.snapshot, ink), (" ", ink.text)]
    right = _place(frame, ink)
    room = max(width - width_of(left) - width_of(right) - 2, 8)
    return spread([*left, (text.shorten(name_of(frame), room), ink.strong)], right, width, ink.text)


def _numbers(frame: Frame, ink: Ink) -> list[list[Part]]:
    """The groups of the second line, the most important first."""
    snapshot = frame.snapshot
    rate = learning = math.nan
    if len(snapshot.steps):
        rate, learning = snapshot.steps_per_second, newest_learning_rate(snapshot)
    groups: list[list[Part]] = []
    told = text.plain(snapshot.state_detail) in state_badge(snapshot, ink)[0]
    if snapshot.state not in ("running", "waiting") and not told:
        style = ink.alarm if snapshot.state in ("exception", "killed", "gone") else ink.text
        groups.append([(text.fit(text.plain(snapshot.state_detail), 48).rstrip(), style)])
    elif frame.live and frame.following and snapshot.state == "running" and frame.silent_s > SILENT_S:
        groups.append([(f"nothing new for {text.duration(frame.silent_s)}", ink.watch)])
    groups.append([(text.rate(rate), ink.text)])
    groups.append([("lr ", ink.muted), (text.learning_rate(learning), ink.text)])
    if device := device_of(frame):
        groups.append([(text.shorten(device, 24), ink.text)])
    cost = text.percent(snapshot.probe_cost)
    groups.append([("probe ", ink.muted), (cost, ink.watch if snapshot.probe_cost > 0.01 else ink.text)])
    if snapshot.skipped_steps:
        groups.append([(f"{text.count(snapshot.skipped_steps)} steps skipped by the scaler", ink.muted)])
    if snapshot.dropped_rows:
        groups.append([(f"{text.count(snapshot.dropped_rows)} rows dropped", ink.watch)])
    if snapshot.problems:
        groups.append([(text.fit(text.plain(snapshot.problems[0]), 40).rstrip(), ink.watch)])
    return groups


def _clock(frame: Frame, ink: Ink) -> list[Part]:
    if frame.loading:
        return [("reading… ", ink.info)]
    if frame.seeking:
        return [("going there… ", ink.info)]
    if frame.live and frame.following:
        return [("● live ", ink.good)]
    return [(f"{text.clock(frame.snapshot.time)} ", ink.strong), (f"+{text.duration(frame.elapsed_s)} ", ink.muted)]


def lines(frame: Frame, width: int, ink: Ink) -> list[Strip]:
    """Both lines of the header."""
    right = _clock(frame, ink)
    left = joined(_numbers(frame, ink), (" · ", ink.faint), width - width_of(right) - 2)
    return [_first_line(frame, width, ink), spread([(" ", ink.text), *left], right, width, ink.text)]


class Header(Panel):
    def paint(self, frame: Frame, width: int, height: int, ink: Ink) -> list[Strip]:
        return lines(frame, width, ink)
