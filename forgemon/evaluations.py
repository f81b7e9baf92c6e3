"""Validation passes and checkpoints of a run, tied to each other: which result was best, and which file still holds it."""

from __future__ import annotations

import math
import os
from collections import defaultdict
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from forgemon.chunk import Event, Rows
from forgemon.growing import GrowingRows
from forgemon.journal import flag, number, text, where_of, whole
from forgemon.snapshot import BestCheckpoint, Checkpoint, Evaluation

COMPARABLE = 1.5
"""Passes over numbers of samples further apart than this factor are not compared: sanity checks, quick evaluations."""
ON_TRAINING_DATA = " (training data)"
"""How the probe ends the name of a metric that was taken over the training loader."""
PARTS = " (part of the loss)", " (share of this rank)"
"""And of one that is not all of the validation loss: by it no checkpoint is called the best."""


class Series(NamedTuple):
    """Passes that are compared with each other: of one model and metric, over about as many samples."""

    model: int
    metric: str
    place: int


class Evaluations:
    """Feed it evaluation and checkpoint events and metric rows in the order of their files; any split gives the same."""

    def __init__(self) -> None:
        self._evaluations: list[Evaluation] = []
        self._checkpoints: list[Checkpoint] = []
        self._at_step: dict[int, list[int]] = defaultdict(list)
        "Indices of the evaluations at a step."
        self._saved_after: dict[int, list[int]] = defaultdict(list)
        "Evaluation index -> indices of the checkpoints that count as its own."
        self._saved_at: dict[int, list[int]] = defaultdict(list)
        "Step -> indices of the checkpoints saved at it: they all hold the same weights."
        self._latest_of_path: dict[str, int] = {}
        self._metrics: dict[str, GrowingRows] = {}
        self._best: dict[Series, int] = {}
        "Best so far of each."
        self._count: dict[Series, int] = defaultdict(int)
        self._lengths: dict[tuple[int, str], list[int]] = defaultdict(list)
        "Of the series of a model and metric, numbers of samples."
        self._began: dict[int, int] = {}
        "Step of the first evaluation of each model."
        self._changed: set[int] = set()

    def add_evaluation(self, event: Event) -> None:
        index, metric, value = len(self._evaluations), text(event, "metric") or "validation loss", number(event, "value")
        training, model = flag(event, "training"), whole(event, "model") or 0
        series = self._series(model, metric, whole(event, "samples") or 0)
        self._began.setdefault(model, event["step"])
        best = self._best.get(series)
        # What was evaluated before the first step is not what training made.
        untrained = best is not None and event["step"] > 0 == self._evaluations[best].step
        is_best = math.isfinite(value) and (best is None or untrained or value < self._evaluations[best].value)
        self._evaluations.append(
            Evaluation(
                step=event["step"],
                time=event["time"],
                epoch=whole(event, "epoch"),
                metric=metric,
                value=value,
                train_loss=number(event, "train_loss"),
                batches=whole(event, "batches") or 0,
                samples=whole(event, "samples") or 0,
                mode_correct=None if training is None else not training,
                grad_enabled=flag(event, "grad_enabled"),
                duration_s=number(event, "duration_s"),
                is_best=is_best and not metric.endswith((ON_TRAINING_DATA, *PARTS)),
                checkpoint=None,
                metrics={},
                where=where_of(event),
                model=model,
            )
        )
        self._at_step[event["step"]].append(index)
        self._changed.add(index)
        self._count[series] += 1
        if is_best:
            self._best[series] = index

    def _series(self, model: int, metric: str, samples: int) -> Series:
        """Which passes this one is compared with."""
        lengths = self._lengths[model, metric]
        for place, length in enumerate(lengths):
            if max(length, samples) <= COMPARABLE * max(1, min(length, samples)) or not (length and samples):
                return Series(model, metric, place)
        lengths.append(samples)
        return Series(model, metric, len(lengths) - 1)

    def add_checkpoint(self, event: Event) -> None:
        path = text(event, "path")
        if not path:
            return
        if event["kind"] == "checkpoint_deleted":
            self._lose(os.path.normpath(path))
            return
        index, step = len(self._checkpoints), event["step"]
        evaluation_step = whole(event, "evaluation_step")
        self._checkpoints.append(
            Checkpoint(
                step=step,
                time=event["time"],
                path=path,
                function=text(event, "function"),
                metric=text(event, "metric") or None,
                value=number(event, "value"),
                evaluation_step=evaluation_step,
                has_optimizer=flag(event, "has_optimizer"),
                overwritten=False,
                where=where_of(event),
                has_weights=flag(event, "has_weights"),
            )
        )
        self._lose(os.path.normpath(path), by=index)
        self._latest_of_path[os.path.normpath(path)] = index
        holds = whole(event, "holds_step") if "holds_step" in event else step
        if holds is None or flag(event, "has_weights") is False:
            return  # an optimizer's state alone, or weights of nobody knows which step
        self._saved_at[holds].append(index)
        for evaluation in self._latest_of_each_metric(holds):
            self._saved_after[evaluation].append(index)
        self._changed.update(self._at_step.get(holds, ()))

    def _lose(self, path: str, by: int | None = None) -> None:
        """What was saved to `path` is there no more: overwritten by a later save, or deleted."""
        earlier = self._latest_of_path.pop(path, None)
        if earlier is not None:
            lost = replace(self._checkpoints[earlier], overwritten=by is not None, deleted=by is None)
            self._checkpoints[earlier] = lost
            self._changed.update(self._at_step.get(lost.step, ()))

    def _latest_of_each_metric(self, step: int) -> list[int]:
        """The evaluations no training step and no other evaluation of the same metric came after, as of now."""
        return list({self._evaluations[i].metric: i for i in self._at_step.get(step, ())}.values())

    def add_metric(self, name: str, rows: Rows) -> None:
        """New rows of a logged value; those at the step of an evaluation belong to it."""
        self._metrics.setdefault(name, GrowingRows(rows.dtype, 64)).extend(rows)
        if self._at_step:
            steps = np.fromiter(self._at_step, np.int64)
            for step in np.intersect1d(rows["step"], steps):
                self._changed.update(self._at_step[int(step)])

    def metrics(self) -> dict[str, Rows]:
        return {name: rows.view() for name, rows in sorted(self._metrics.items())}

    def evaluations(self) -> tuple[Evaluation, ...]:
        for index in self._changed:
            evaluation = self._evaluations[index]
            saved = self._saved_with(index)
            kept = [i for i in saved if self._checkpoints[i].is_there] or saved
            path = self._checkpoints[kept[0]].path if kept else None
            self._evaluations[index] = replace(evaluation, checkpoint=path, metrics=self._metrics_at(evaluation))
        self._changed.clear()
        return tuple(self._evaluations)

    def _metrics_at(self, evaluation: Evaluation) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, rows in sorted(self._metrics.items()):
            steps = rows.view()["step"]
            last = int(np.searchsorted(steps, evaluation.step, side="right")) - 1
            if name != evaluation.metric and last >= 0 and steps[last] == evaluation.step:
                found[name] = float(rows.view()["value"][last])
        return found

    def _saved_with(self, index: int) -> list[int]:
        """Checkpoints with the weights of an evaluation: those saved after it first, then those saved just before it, with no
        training step between."""
        return self._saved_after.get(index, []) + self._saved_at.get(self._evaluations[index].step, [])

    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return tuple(self._checkpoints)

    @property
    def why_no_best(self) -> str:
        if self._best:
            return "of the validation loss only parts were seen"
        return "no validation pass was seen"

    def best(self) -> BestCheckpoint | None:
        """The lowest value so far of the held-out metric of the newest model that was evaluated most often, and a file that holds those
        weights still. Where none does, but a better one of a model before it was saved since (the best of a search), that one."""
        series = self.newest()
        if series is None:
            return None
        best = self._best_of(series)
        if best.path is None:
            began = self._began[series.model]
            keys = [key for key in self._best if key.metric == series.metric and key.model != series.model]
            earlier = [self._best_of(key, since=began) for key in keys]
            return min((one for one in earlier if one.path and one.value < best.value), key=lambda one: one.value, default=best)
        return best

    def newest(self) -> Series | None:
        """The passes of the newest model by which its checkpoints are judged."""
        return max((key for key in self._best if not key.metric.endswith(PARTS)), key=self._weight, default=None)

    def _best_of(self, series: Series, since: int = 0) -> BestCheckpoint:
        """By the files that were saved from step `since` on."""
        evaluation = self._evaluations[self._best[series]]
        saved = [one for one in (self._checkpoints[i] for i in self._saved_with(self._best[series])) if one.step >= since]
        kept = [checkpoint.path for checkpoint in saved if checkpoint.is_there]
        lost = [checkpoint.path for checkpoint in saved if not checkpoint.is_there]
        return BestCheckpoint(
            series.metric,
            evaluation.value,
            evaluation.step,
            kept[0] if kept else None,
            lost=lost[0] if lost and not kept else None,
            model=series.model,
            models=max(key.model for key in self._best) + 1,
        )

    def _weight(self, series: Series) -> tuple[bool, int, int, int]:
        """Of the one by which a checkpoint is called the best: of the newest model, and evaluated most often."""
        samples = self._lengths[series.model, series.metric][series.place]
        return not series.metric.endswith(ON_TRAINING_DATA), series.model, self._count[series], samples
