"""Gathers a run's chunks into snapshots: what the dashboard, the check and the replay show as of some step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event, Rows
from forgemon.evaluations import Evaluations
from forgemon.gradient_history import GradientHistory, UpdateHistory
from forgemon.growing import GrowingRows
from forgemon.journal import text, texts, whole
from forgemon.recording import STEP_ROW
from forgemon.snapshot import BestCheckpoint, Checkpoint, Evaluation, Mode, Snapshot, State
from forgemon.state import ModeBadge, RunState

__all__ = ["BestCheckpoint", "Checkpoint", "Evaluation", "Mode", "Snapshot", "State", "Telemetry"]

MARKED_EVENTS = frozenset({"mode", "exception", "detached", "stalled", "resumed", "dropped", "probe_error"})
MAX_MARKED_EVENTS = 10_000
SPEED_WINDOW_S = 10.0
SPEED_WINDOW_ROWS = 50_000
LOSS_ROWS = 50
COST_WINDOW_ROWS = 1_000
MAX_ORDERS = 256


class Telemetry:
    """Feed it every chunk of one rank; any split of a run ends in the same snapshot. Snapshots stay as they were taken."""

    def __init__(self) -> None:
        self._steps = GrowingRows(STEP_ROW)
        self._machine: GrowingRows | None = None
        self._memory: GrowingRows | None = None
        self._gradients = GradientHistory()
        self._updates = UpdateHistory()
        self._evaluations = Evaluations()
        self._state = RunState()
        self._mode = ModeBadge()
        self._optimizers: dict[int, Event] = {}
        self._signals: dict[str, str] = {}
        self._calls: dict[int, tuple[str, ...]] = {}
        self._newest_calls = -1
        self._skipped = 0.0
        self._epoch: int | None = None
        self._started: Event | None = None
        self._dropped = 0
        self._marked: tuple[deque[Event], deque[Event]] = (deque(maxlen=MAX_MARKED_EVENTS), deque(maxlen=MAX_MARKED_EVENTS))
        self._step = 0
        self._time = -math.inf

    def feed(self, chunk: Chunk) -> None:
        if len(chunk.steps):
            self._steps.extend(chunk.steps)
            self._skipped += float(np.nansum(chunk.steps["skipped_steps"]))
            known = chunk.steps["ribbon"][np.isfinite(chunk.steps["ribbon"])]
            self._newest_calls = int(known[-1]) if len(known) else self._newest_calls
            self._reach(int(chunk.steps["step"].max()), chunk.steps["time"].max())
        for gradients in chunk.gradients:
            self._gradients.add(gradients.table, gradients.rows)
        for updates in chunk.updates:
            self._updates.add(updates.table, updates.rows)
        for name, rows in chunk.metrics.items():
            self._evaluations.add_metric(name, rows)
            self._reach(0, rows["time"].max())
        for event in chunk.events:
            self._add(event)
        if chunk.machine is not None and len(chunk.machine):
            self._machine = self._machine or GrowingRows(chunk.machine.dtype)
            self._machine.extend(chunk.machine)
            self._reach(0, chunk.machine["time"].max())
        if chunk.memory is not None and len(chunk.memory):
            self._memory = self._memory or GrowingRows(chunk.memory.dtype)
            self._memory.extend(chunk.memory)
            self._reach(int(chunk.memory["step"].max()), chunk.memory["time"].max())
        for event in chunk.machine_events:
            self._add_machine(event)

    def _reach(self, step: int, time: float) -> None:
        self._step = max(self._step, step)
        self._time = max(self._time, float(time))

    def _add(self, event: Event) -> None:
        kind = event["kind"]
        self._reach(event["step"], event["time"])
        self._state.add(event)
        self._mode.add(event)
        if kind in MARKED_EVENTS:
            self._marked[0].append(event)
        if kind == "evaluation":
            self._evaluations.add_evaluation(event)
        elif kind in ("checkpoint", "checkpoint_deleted"):
            self._evaluations.add_checkpoint(event)
        elif kind == "epoch":
            self._epoch = whole(event, "epoch")
        elif kind == "optimizer":
            index = whole(event, "index")
            self._optimizers[len(self._optimizers) if index is None else index] = event
        elif kind == "ribbon" and len(self._calls) < MAX_ORDERS:
            self._calls[-1 if (index := whole(event, "index")) is None else index] = texts(event, "calls")
        elif kind in ("attached", "signals"):
            self._add_signals(event)
        elif kind == "dropped":
            self._dropped += max(0, whole(event, "rows") or 0)

    def _add_signals(self, event: Event) -> None:
        signals = event.get("signals")
        if isinstance(signals, Mapping):
            self._signals.update({str(name): text(signals, name) for name in signals if text(signals, name)})

    def _add_machine(self, event: Event) -> None:
        self._reach(0, event["time"])
        self._state.add_machine(event)
        if event["kind"] in MARKED_EVENTS:
            self._marked[1].append(event)
        elif event["kind"] == "started":
            self._started = event

    def snapshot(self, info: Mapping[str, Any], problems: Iterable[str] = ()) -> Snapshot:
        """Everything known as of what was fed. Costs the same for a long run as for a short one."""
        steps = self._steps.view()
        newest = steps[-1] if len(steps) else None
        step_time = -math.inf if newest is None else float(newest["time"])
        state, detail, stack = self._state.state(step_time, self._time)
        gradient_steps, gradient_norms = self._gradients.rows()
        update_steps, update_ratios = self._updates.rows()
        started = self._started or {}
        gpus = texts(started, "gpus")
        return Snapshot(
            info=info,
            state=state,
            state_detail=detail,
            mode=self._mode.mode(step_time, math.nan if newest is None else float(newest["training"])),
            step=self._step,
            time=self._time if math.isfinite(self._time) else math.nan,
            epoch=self._epoch,
            steps=steps,
            optimizers=tuple(event for _, event in sorted(self._optimizers.items())),
            table=self._gradients.table,
            gradient_steps=gradient_steps,
            gradient_norms=gradient_norms,
            update_table=self._updates.table,
            update_steps=update_steps,
            update_ratios=update_ratios,
            evaluations=self._evaluations.evaluations(),
            checkpoints=self._evaluations.checkpoints(),
            best=self._evaluations.best(),
            machine=None if self._machine is None else self._machine.view(),
            memory=None if self._memory is None else self._memory.view(),
            gpu_names=gpus,
            gpu_message="" if gpus or not started else text(started, "nvml") or "no NVIDIA GPU",
            metrics=self._evaluations.metrics(),
            signals=dict(self._signals),
            calls=self._calls.get(self._newest_calls, ()),
            skipped_steps=int(self._skipped),
            steps_per_second=steps_per_second(steps),
            probe_cost=probe_cost(steps),
            dropped_rows=self._dropped,
            problems=tuple(problems),
            events=tuple(sorted((*self._marked[0], *self._marked[1]), key=_event_time)),
            stack=stack,
        )


def _event_time(event: Event) -> float:
    return float(event["time"])


def steps_per_second(steps: Rows) -> float:
    """Over the last ten seconds of the rows, or their last two where steps are slower; steps without a row count too."""
    recent = steps[-SPEED_WINDOW_ROWS:]
    if len(recent) < 2:
        return math.nan
    times = recent["time"]
    inside = int(np.count_nonzero(times >= times[-1] - SPEED_WINDOW_S))
    first = recent[-max(2, inside)]
    seconds = float(times[-1] - first["time"])
    done = float(recent["step"].max() - first["step"])
    return done / seconds if seconds > 0 else math.nan


def probe_cost(steps: Rows) -> float:
    """Share of recent time spent in the probes. `probe_s` is a mean over the steps since the row before, so each row weighs as many
    steps as it stands for. What validation passes and saves between the two cost is in it, and their time on the clock."""
    recent = steps[-COST_WINDOW_ROWS * LOSS_ROWS :]
    # Rows with the loss alone come between those that say what the probes took; so does the first one of a new count.
    recent = recent[np.isfinite(recent["optimizer_s"]) | np.isfinite(recent["probe_s"])]
    recent = recent[_of_one_count(recent["optimizer"])][-COST_WINDOW_ROWS:]
    stands_for = np.maximum(1, np.diff(recent["step"])).astype(np.float64)
    spent = recent["probe_s"][1:] * stands_for
    passed = np.diff(recent["time"])
    lasted = np.where(passed > 0, passed, recent["step_s"][1:] * stands_for)
    known = np.isfinite(spent) & np.isfinite(lasted)
    total = float(lasted[known].sum())
    return float(spent[known].sum()) / total if total > 0 else math.nan


def _of_one_count(optimizers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Which rows follow each other: all where one optimizer comes after the other is done, else those of the most frequent one."""
    turns = 1 + int(np.count_nonzero(np.diff(optimizers)))
    if turns == len(np.unique(optimizers)):
        return np.ones(len(optimizers), dtype=np.bool_)
    return np.asarray(optimizers == _most_frequent(optimizers), dtype=np.bool_)


def _most_frequent(values: npt.NDArray[np.int64]) -> int:
    counts: npt.NDArray[np.int64] = np.bincount(np.maximum(values, 0), minlength=1)
    return int(counts.argmax())
