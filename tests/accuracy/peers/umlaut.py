"""UMLAUT's rules at the end of an epoch that our log can decide.

Source: BerkeleyHCI/umlaut at 68c2a02, umlaut/heuristics.py. The end of an epoch is where the training loader was started again, each
held-out pass, and the end of the run; a loop that knows no epochs has those that its validation makes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from forgemon.chunk import Event
from tests.accuracy.peers.alarm import Alarm, said_once
from tests.accuracy.peers.trace import Trace

TOOL = "UMLAUT"


def epoch_ends(trace: Trace) -> list[int]:
    """Steps, in order; the run's last one among them."""
    if not len(trace.steps):
        return []
    ends = {step for step in trace.epochs if step > 0}
    if not ends:
        ends = {evaluation.step for evaluation in trace.evaluations if evaluation.step > 0}
    return sorted(ends | {int(trace.steps[-1])})


def learning_rate(trace: Trace) -> list[Alarm]:
    """LRHighError, LRLowError: the optimizer's learning rate is above 0.01, or below 1e-7."""
    found = []
    for end in epoch_ends(trace):
        place = int(np.searchsorted(trace.steps, end, side="right")) - 1
        rate = float(trace.learning_rates[place]) if place >= 0 else math.nan
        if rate > 0.01:
            causes = frozenset({"learning-rate-too-high"})
            found.append(Alarm(TOOL, "LRHigh", end, f"learning rate is {rate:.3g}", causes=causes))
        elif rate < 1e-7:
            causes = frozenset({"learning-rate-too-low"})
            found.append(Alarm(TOOL, "LRLow", end, f"learning rate is {rate:.3g}", causes=causes))
    return said_once(found)


def overfitting(trace: Trace) -> list[Alarm]:
    """OverfittingError: from one epoch to the next the validation loss rose while the training loss did not."""
    found = []
    for evaluations in trace.evaluation_series():
        for before, after in pairwise(evaluations):
            if after.value > before.value and after.train_loss <= before.train_loss:
                text = f"validation loss went from {before.value:.4g} to {after.value:.4g} while training loss did not rise"
                symptoms, causes = frozenset({"train-val-divergence"}), frozenset({"overfitting"})
                found.append(Alarm(TOOL, "Overfitting", after.step, text, symptoms, causes))
    return said_once(found)


def validation_accuracy(trace: Trace) -> list[Alarm]:
    """OverconfidentValAccuracy: from the fourth epoch on, validation accuracy is above 0.95, or above training accuracy by 0.05.

    Keras has both by itself; here they are what the loop logs or keeps under such names, as a share of 1. Its advice is to look for
    validation data among the training data.
    """
    found = []
    validation, train = _accuracies(trace, validation=True), _accuracies(trace, validation=False)
    for end in epoch_ends(trace)[3:]:
        seen, trained = _newest(trace, validation, end), _newest(trace, train, end)
        if seen > 1 or trained > 1:
            continue  # per cent
        if seen > 0.95 or seen - trained > 0.05:
            text = f"validation accuracy {seen:.3f}, training accuracy {trained:.3f}"
            symptoms = frozenset({"val-uses-train-data"})
            found.append(Alarm(TOOL, "OverconfidentValAccuracy", end, text, symptoms, symptoms))
    return said_once(found)


def _accuracies(trace: Trace, validation: bool) -> list[str]:
    held_out = ("val", "test", "eval")
    return [
        name for name in trace.metrics if "acc" in name.lower() and any(word in name.lower() for word in held_out) == validation
    ]


def _newest(trace: Trace, names: list[str], end: int) -> float:
    """The newest value up to a step of the first of the metrics that has one, else NaN."""
    for name in names:
        steps, values = trace.metrics[name]
        place = int(np.searchsorted(steps, end, side="right")) - 1
        if place >= 0:
            return float(values[place])
    return math.nan


def nan_in_input(trace: Trace) -> list[Alarm]:
    """NaNInInputError: an epoch's loss is NaN, and so is an entry of the input.

    The epoch's loss is NaN once one step's is. The input is what our log names as the first place that was not finite.
    """
    found = []
    for steps, losses in trace.loss_series():
        bad = steps[np.isnan(losses)]
        from_input = any(_from_input(event) for event in trace.nonfinite)
        if len(bad) and from_input:
            end = next(end for end in epoch_ends(trace) if end >= bad[0])
            symptoms, causes = frozenset({"loss-nonfinite"}), frozenset({"nonfinite-input"})
            found.append(Alarm(TOOL, "NaNInInput", end, "the loss is NaN and so is the input", symptoms, causes))
    return said_once(found)


def _from_input(event: Event) -> bool:
    first = event.get("first")
    return isinstance(first, Mapping) and first.get("stage") == "input"


RULES = (learning_rate, overfitting, validation_accuracy, nan_in_input)
