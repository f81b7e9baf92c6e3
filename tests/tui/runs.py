"""Runs to look at, and frames of them built by the real feed without a screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textual.strip import Strip

from forgemon.tui.feed import Feed
from forgemon.tui.frame import Frame
from forgemon.tui.ink import Ink, ink_of
from tests.recorded import START, RunFiles

INK: Ink = ink_of({})
PARAMETERS = ("encoder.layer.0.weight", "encoder.layer.0.bias", "head.weight", "head.bias")


def training_run(
    run: Path, steps: int = 400, *, nan_from: int | None = None, reused_from: int | None = None, ended: str | None = "finished"
) -> RunFiles:
    """A classifier that learns: evaluations and best checkpoints four times, gradients of PARAMETERS, no GPU."""
    files = RunFiles(run)
    files.info(host="elsewhere", pid=1, created=START, script="/home/ada/train.py", devices=["cpu"], cwd="/home/ada")
    files.event("attached", 0, START, pid=1, signals={"loss": "seen"})
    files.event("optimizer", 0, START, index=0, **{"class": "SGD"}, learning_rate=0.1, hyperparameters={}, parameters=4)
    files.machine_event("started", START, pid=2, watches=[1], gpus=[], nvml="no NVIDIA GPU")
    files.parameters(PARAMETERS)
    for step in range(1, steps + 1):
        broken = nan_from is not None and step >= nan_from
        train_step(files, step, steps, broken, reused_from is not None and step >= reused_from)
        if step % (steps // 4) == 0 and not broken:
            evaluate(files, step, 2.0 / step + 0.1)
    if ended:
        files.machine_event("ended", START + steps + 2, how=ended, exit_code=0, signal="SIGKILL" if ended == "killed" else None)
    return files


def train_step(files: RunFiles, step: int, steps: int = 400, broken: bool = False, reused: bool = False) -> None:
    loss = math.nan if broken else 2.0 * math.exp(-4 * step / steps) + 0.05 + 0.01 * (step * 7 % 5)
    files.step(
        step,
        loss=loss,
        learning_rate=0.1,
        gradient_norm=math.nan if broken else 1.0,
        training=1,
        gradients_reused=float(reused),
        step_s=1.0,
        probe_s=0.004,
        batch_size=32,
        micro_batches=1,
    )
    files.gradients(step, [math.nan] * 4 if broken else [0.5, math.nan, 0.25 + step / steps, 1e-3])
    if step % 10 == 1:
        files.machine(START + step)


def evaluate(files: RunFiles, step: int, value: float) -> None:
    said: dict[str, Any] = {
        "metric": "val_loss",
        "value": value,
        "batches": 4,
        "samples": 128,
        "training": False,
        "grad_enabled": False,
    }
    files.event("evaluation", step, epoch=step // 100, duration_s=0.2, train_loss=value - 0.01, where=None, **said)
    files.event(
        "checkpoint", step, START + step + 0.6, path="/home/ada/best.pt", function="torch.save", metric="val_loss", value=value
    )


def quiet_feed(run: Path, live: bool = False, at_step: int | None = None, output: Path | None = None) -> Feed:
    """A feed that has read all there is and shows nobody."""
    feed = Feed(run, live=live, at_step=at_step, output=output, post=lambda _: None, failed=lambda _: None)
    read_all(feed)
    return feed


def read_all(feed: Feed) -> None:
    while feed.take_in():
        pass


def frame_of(run: Path, step: int | None = None, output: Path | None = None) -> Frame:
    """The picture at a step, or at the end."""
    feed = quiet_feed(run, live=step is None, at_step=step, output=output)
    return feed.frame()


def text_of(strips: Sequence[Strip]) -> str:
    return "\n".join(strip.text.rstrip() for strip in strips)
