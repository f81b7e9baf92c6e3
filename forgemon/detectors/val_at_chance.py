"""val-at-chance: the training loss falls clearly, and no validation pass is ever better than an untrained model.

Ordinary overfitting is not this: there validation improves before it turns. What untrained means is known where the loss began at the
logarithm of the number of classes. A model that starts from weights that are good already, or a loss on another scale, began
elsewhere, and validation that stays where it began is then no chance level. Nor is it this where so few samples may have been learned by
heart: random labels, or too few samples to learn what they have in common, give the same curves.
"""

from __future__ import annotations

import itertools
import math
import re
from typing import ClassVar

import numpy as np

from forgemon.chunk import Chunk, Event
from forgemon.detectors.by_heart import ByHeart
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.facts import Facts
from forgemon.detectors.training_losses import TrainingLosses
from forgemon.findings import Level
from forgemon.journal import number, text

FEWEST = 4
"""Passes before anything is said."""
FAR, FEWEST_FAR = 1.5, 2
"""Times the loss of a guess: what overfits improves first and seldom comes to lie so far above it, so that fewer passes are enough if
the model learned in the first epoch."""
ABOVE, RISES = 1.05, 1.02
"""Times the loss of a guess, and times the first pass: fewer passes are enough as well where validation is worse than a guess and grows
worse, of a model that learned in the first epoch, in which it could learn no sample by heart."""
SETTLED = 50
"""Steps after which the running statistics of a BatchNorm are those of the data."""
NEAR_CHANCE = (0.75, 1.5)
"""Of ln(classes): where an untrained classifier begins."""
NO_BETTER = 0.92
"""Of the first training loss: a validation loss that was ever below it has learned something."""
COMPARABLE, COMPARABLE_CRITERION = 5.0, 20.0
"""Times the first training loss: a first pass that is further above is on another scale; the same of a metric in CRITERIA."""
CRITERIA = ("cross_entropy", "nll_loss")
"""Metrics of torch's own criteria, whose scale is that of a guess."""
FELL = 0.7
"""Of the first training loss: what training must have fallen to."""
FELL_AT_ONCE = 0.6
"""The same in the first epoch, in which every sample is new to the model, so that none can be learned by heart."""
STILL_HIGH = 0.95
"""Of the first training loss: classes that come one after the other let it jump back up to there."""
EARLY = 0.5
"""Of the first training loss: a pass after an interval of at least so much saw the model before it could overfit."""
FALLING = 6
"""Newest passes that all fall: validation of a slow average of the weights, which learns late."""
LATEST = 3
MOST_METRICS = 32
SURELY_ABOVE = 0.05
"""What an accuracy may lie above one and a half times chance and still be chance."""
ACCURACY = ("acc", "accuracy", "top1")
NO_LOSSES = frozenset("ppl perplexity err error errors mae rmse mape wer cer ter eer fid kid".split())
"""Words in the name of a metric that is on a scale of its own."""
SOON = 2.5
"""Times the first epoch: a first pass that comes later may have missed that validation improved before it turned."""
CAUSES = ("eval-in-train-mode", "missing-zero-grad")
"""Facts that explain it."""
MISALIGNED = "labels-misaligned"
"""The cause where no fact does."""


class _Passes:
    """What is kept of one metric."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.count = 0
        self.first = self.best = self.newest = math.nan
        self.first_step = self.best_step = self.last_step = -1
        self.highest_train_loss = -math.inf
        "Means of the training loss between passes."
        self.latest_train: list[float] = []
        self._newest_values: list[float] = []

    def feed(self, event: Event) -> None:
        step, value, train = int(event["step"]), number(event, "value"), number(event, "train_loss")
        if not math.isfinite(value):
            return
        if not self.count:
            self.first, self.first_step = value, step
        if not self.count or value < self.best:
            self.best, self.best_step = value, step
        self.count += 1
        self.newest, self.last_step = value, step
        self._newest_values = [*self._newest_values, value][-FALLING:]
        if math.isfinite(train):
            self.highest_train_loss = max(self.highest_train_loss, train)
            self.latest_train = [*self.latest_train, train][-LATEST:]

    @property
    def falls(self) -> bool:
        newest = self._newest_values
        falls = all(later < earlier for earlier, later in itertools.pairwise(newest))
        return len(newest) >= FEWEST and falls and newest[-1] <= self.best  # and is not on its way back from far above


class ValAtChance:
    """Statistical: two lines are the training loss and the chance level. Off with several optimizers and losses below zero."""

    symptoms: ClassVar[tuple[str, ...]] = ("val-at-chance",)

    def __init__(self) -> None:
        self._optimizers: set[int] = set()
        self._train = TrainingLosses()
        self._passes: dict[str, _Passes] = {}
        self._accuracy: dict[str, float] = {}
        self._classes: tuple[int, int] = (-1, 0)
        self._facts = Facts(CAUSES)
        self._by_heart = ByHeart()

    def feed(self, chunk: Chunk) -> None:
        self._facts.feed(chunk)
        self._train.feed(chunk)
        self._by_heart.feed(chunk)
        if len(self._optimizers) < 2:
            self._optimizers.update(np.unique(chunk.steps["optimizer"]).tolist())
        for gradients in chunk.gradients:
            table = gradients.table
            weights = [shape for shape in table.shapes if len(shape) == 2]
            if table.table > self._classes[0] and weights:
                self._classes = (table.table, weights[-1][0])
        for name, rows in chunk.metrics.items():
            values = rows["value"][np.isfinite(rows["value"])]
            known = name in self._accuracy or len(self._accuracy) < MOST_METRICS
            if len(values) and known and _is_validation_accuracy(name):
                self._accuracy[name] = max(self._accuracy.get(name, -math.inf), float(values.max()))
        for event in chunk.events:
            if event["kind"] == "evaluation" and not text(event, "metric").endswith("(training data)"):
                metric = text(event, "metric")
                if metric in self._passes or len(self._passes) < MOST_METRICS:
                    self._passes.setdefault(metric, _Passes(metric)).feed(event)

    def candidates(self) -> list[Candidate]:
        began = self._train.first_level
        if len(self._optimizers) > 1 or self._train.any_negative or not began > 0:
            return []
        if any(self._learned(passes, began) for passes in self._passes.values()) or self._accuracy_above_chance():
            return []
        found = (self._judge(passes, began) for passes in self._passes.values())
        return [candidate for candidate in found if candidate is not None][:1]

    def _learned(self, passes: _Passes, began: float) -> bool:
        # The first rows seen may have learned already. What began near a guess began at one.
        near = NEAR_CHANCE[0] * self._chance <= began
        return passes.best < NO_BETTER * (max(began, self._chance) if near else began)

    @property
    def _chance(self) -> float:
        """The loss of a guess; NaN where the number of classes is not known."""
        classes = self._classes[1]
        return math.log(max(2, classes)) if classes > 0 else math.nan

    def _accuracy_above_chance(self) -> bool:
        chance = 1 / max(2, self._classes[1])
        limit = 1.5 * chance + SURELY_ABOVE
        return any((value / 100 if value > 1 else value) > limit for value in self._accuracy.values())

    def _judge(self, passes: _Passes, began: float) -> Candidate | None:
        far = passes.best > FAR * self._chance
        worse = passes.best > ABOVE * self._chance and passes.newest > RISES * passes.first
        if passes.count < (FEWEST_FAR if far or worse else FEWEST) or passes.falls:
            return None
        if passes.first > (COMPARABLE_CRITERION if passes.metric in CRITERIA else COMPARABLE) * began:
            return None
        if not NO_LOSSES.isdisjoint(_words(passes.metric)):
            return None
        train = float(np.median(passes.latest_train)) if passes.latest_train else self._train.newest
        if not train < FELL * began or self._train.newest_high > STILL_HIGH * began:
            return None
        # The first row alone is noisy: it counts beside a validation that is far from what any guess would give.
        untrained = max(began, self._train.first) if far else began
        is_chance = NEAR_CHANCE[0] * self._chance <= untrained <= NEAR_CHANCE[1] * self._chance
        soon = passes.first_step <= SOON * self._train.first_epoch_steps
        at_once = soon and self._train.end_of_first_epoch < FELL_AT_ONCE * began
        early = passes.highest_train_loss >= EARLY * began
        if not at_once and self._may_be_by_heart(began):
            return None
        if passes.count < FEWEST and not (is_chance and at_once and passes.last_step >= SETTLED):
            return None
        if is_chance and (at_once or early or far):
            return self._candidate(passes, began, train, "alarm", at_once)
        return self._candidate(passes, began, train, "watch", at_once) if is_chance or at_once else None

    def _may_be_by_heart(self, began: float) -> bool | None:
        """None where nobody can know."""
        return self._by_heart.is_possible(self._train, min(began, self._chance)) if self._cause == MISALIGNED else False

    def _doubt(self, began: float, at_once: bool) -> str:
        """What else it may be, in words."""
        if self._cause != MISALIGNED:
            return ""
        doubt = " Curves alone cannot tell labels that do not match from training data that give the answer away (data-leak)"
        if not at_once and self._may_be_by_heart(began) is None:
            doubt += ", nor, where no DataLoader says how many samples there are, from few samples learned by heart"
        return doubt + "."

    @property
    def _cause(self) -> str:
        return next((name for name in CAUSES if any(seen.stands for seen in self._facts.of(name))), MISALIGNED)

    def _candidate(self, passes: _Passes, began: float, train: float, level: Level, at_once: bool) -> Candidate:
        cause = self._cause
        accuracy = max(self._accuracy.values(), default=math.nan)
        learned = (
            f" Already at the end of the first epoch, in which every sample was new, the training loss was "
            f"{figure(self._train.end_of_first_epoch)}: the model learns, but not what validation asks."
            if at_once
            else ""
        )
        evidence: dict[str, float | int | str] = {
            "metric": passes.metric,
            "passes": passes.count,
            "best_value": passes.best,
            "best_step": passes.best_step,
            "newest_value": passes.newest,
            "first_train_loss": began,
            "train_loss": train,
        }
        if math.isfinite(self._chance):
            evidence["loss_of_a_guess"] = self._chance
        if math.isfinite(accuracy):
            evidence["best_accuracy"] = accuracy
        return Candidate(
            symptom="val-at-chance",
            cause=cause,
            level=level,
            first_step=passes.first_step,
            last_step=passes.last_step,
            summary=f"The training loss fell from {figure(began)} to {figure(train)}, but in {passes.count} validation passes "
            f"({passes.metric}) the best was {figure(passes.best)}, no better than untrained; the newest is {figure(passes.newest)}."
            f"{learned}{self._doubt(began, at_once)}",
            refute="A pass over some training batches in evaluation mode: if its loss is as high, the model and not the validation data "
            "is at fault; if it is low, compare the labels and the preparation of both sets.",
            evidence=evidence,
        )


def _is_validation_accuracy(name: str) -> bool:
    words = _words(name)
    taken = any(word.startswith(("val", "test", "eval")) for word in words)
    return taken and any(word.endswith(ACCURACY) for word in words)


def _words(name: str) -> list[str]:
    return re.split(r"[^a-z0-9]+", name.lower())
