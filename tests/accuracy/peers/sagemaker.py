"""The built-in rules of Amazon SageMaker Debugger that our log can decide.

Source: "List of Debugger Built-in Rules" of the SageMaker developer guide (awsdocs/amazon-sagemaker-developer-guide,
doc_source/debugger-built-in-rules.md, the version before 1a9c31e); the rules' own code is not public. Thresholds are its defaults.
The configuration it ships (awslabs/sagemaker-debugger-rulesconfig, ruleConfigs.json) saves tensors every 500 steps, so each rule
exists twice: with every logged step saved, which the guide lets a user ask for, and with every 500th from the first on. Validation
passes are taken to be saved whole in both.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.accuracy.peers.alarm import Alarm, entries, said_once
from tests.accuracy.peers.trace import Floats, Steps, Trace

TOOL = "SageMaker Debugger"
AS_SHIPPED = "SageMaker Debugger (saving every 500 steps)"

Saved = Callable[[Trace, Steps], Steps]


def every_logged_step(trace: Trace, steps: Steps) -> Steps:
    """Places of the rows that are saved."""
    return np.arange(len(steps))


def every_500th_step(trace: Trace, steps: Steps) -> Steps:
    """The first step, and the first row at or after each 500 more."""
    if not len(trace.steps):
        return np.arange(0)
    return np.unique((steps - trace.steps[0]) // 500, return_index=True)[1]


def vanishing_gradient(trace: Trace, saved: Saved) -> list[Alarm]:
    """VanishingGradient: the mean of the absolute values of a gradient is below 1e-7.

    The log has 2-norms. ||g|| / sqrt(n) is never below mean|g|, so an alarm here is one that the rule raises too; a gradient
    whose mean lies below that bound by its sparseness is missed (a dense one lies within a quarter of it).
    """
    found = []
    for table in trace.gradients:
        places = saved(trace, table.steps)
        bound = table.norms[places] / np.sqrt([entries(shape) for shape in table.shapes])
        for row, column in np.argwhere(bound < 1e-7):
            text = f"mean |gradient| of {table.names[column]} is at most {bound[row, column]:.2g}, below 1e-07"
            step = int(table.steps[places[row]])
            found.append(Alarm(TOOL, "VanishingGradient", step, text, frozenset({"vanishing-gradients"})))
    return said_once(found)


def exploding_tensor(trace: Trace, saved: Saved) -> list[Alarm]:
    """ExplodingTensor: a tensor has a value that is NaN or infinite (only_nan=False).

    Seen of the loss and the total gradient norm; gradients that a GradScaler skipped are not counted, in the rule's favour.
    """
    found = []
    for series, what, symptom in (
        (trace.loss_series(), "loss", "loss-nonfinite"),
        (trace.gradient_norm_series(), "gradient", "gradient-nonfinite"),
    ):
        for steps, values in series:
            for place in saved(trace, steps):
                if not np.isfinite(values[place]):
                    text = f"the {what} is {values[place]}"
                    found.append(Alarm(TOOL, "ExplodingTensor", int(steps[place]), text, frozenset({symptom})))
    return said_once(found)


def weight_update_ratio(trace: Trace, saved: Saved) -> list[Alarm]:
    """WeightUpdateRatio: updates over weights, between neighbouring saved steps, above 10 or below 1e-8 (epsilon 1e-9).

    How a tensor's ratio is reduced to one number is not published; taken to be that of the 2-norms, at the steps where our log
    has updates. Weights that are zero throughout are left out, in the rule's favour: any first update of theirs is "too large".
    The causes are ours: the guide says only that large updates lead away from the optimum and small ones converge slowly.
    """
    found = []
    for table in trace.updates:
        weighty = [i for i, name in enumerate(table.names) if "weight" in name]  # the collection "weights" is this regex
        for row, column in ((row, column) for row in saved(trace, table.steps) for column in weighty):
            weight, update = table.weight_norms[row, column], table.update_norms[row, column]
            ratio = update / (weight + 1e-9) if 0 < weight < np.inf else np.nan
            if ratio > 10 or ratio < 1e-8:
                cause = "learning-rate-too-high" if ratio > 10 else "learning-rate-too-low"
                symptoms = frozenset() if ratio > 10 else frozenset({"loss-stuck"})
                text = f"update ratio of {table.names[column]} is {ratio:.2g}"
                found.append(Alarm(TOOL, "WeightUpdateRatio", int(table.steps[row]), text, symptoms, frozenset({cause})))
    return said_once(found)


def loss_not_decreasing(trace: Trace, saved: Saved) -> list[Alarm]:
    """LossNotDecreasing: every num_steps=10 the loss is compared with the one at least 10 steps before; it has to be lower by
    diff_percent=0.1 %, or, where it rose, higher by no more than increase_threshold_percent=5 %.

    The guide does not say whether a rise below 5 % is an alarm. Here it is none, in the rule's favour.
    """
    found = []
    for steps, losses in trace.loss_series():
        places = saved(trace, steps)
        for place, before in compared(steps[places], at_least=10):
            now, then = losses[places[place]], losses[places[before]]
            fell = 100 * (then - now) / abs(then) if then and np.isfinite([then, now]).all() else np.nan
            if 0 <= fell < 0.1 or fell < -5:
                text = f"the loss went from {then:.4g} to {now:.4g}, a decrease of {fell:.2f} %"
                step = int(steps[places[place]])
                found.append(Alarm(TOOL, "LossNotDecreasing", step, text, frozenset({"loss-stuck"})))
    return said_once(found)


def compared(steps: Steps, at_least: int) -> list[tuple[int, int]]:
    """Places of the steps at which the loss is looked at, each with that of the newest step at least so many before."""
    pairs, place = [], 0
    while place < len(steps):
        later = int(np.searchsorted(steps, steps[place] + at_least))
        if later < len(steps):
            pairs.append((later, int(np.searchsorted(steps, steps[later] - at_least, side="right")) - 1))
        place = later
    return pairs


def overfit(trace: Trace, saved: Saved) -> list[Alarm]:
    """Overfit: (mean validation loss - mean training loss) / mean training loss above ratio_threshold=0.1 for patience=1 step.

    A validation pass is one step, its mean against the mean training loss since the pass before.
    """
    found = []
    for evaluations in trace.evaluation_series():
        for evaluation in evaluations:
            train, value = evaluation.train_loss, evaluation.value
            if train > 0 and (value - train) / train > 0.1:
                text = f"validation loss {value:.4g} is {100 * (value - train) / train:.0f} % above training loss {train:.4g}"
                symptoms, causes = frozenset({"train-val-divergence"}), frozenset({"overfitting"})
                found.append(Alarm(TOOL, "Overfit", evaluation.step, text, symptoms, causes))
    return said_once(found)


def overtraining(trace: Trace, saved: Saved) -> list[Alarm]:
    """Overtraining: the training loss has not improved by delta=0.01 for patience_train=5 steps, and the validation loss has not
    for patience_validation=10 steps.

    Both have to hold at once, and a validation pass counts as one step: the readings that alarm least.
    """
    found = []
    for evaluations in trace.evaluation_series():
        values = np.array([evaluation.value for evaluation in evaluations])
        for steps, losses in trace.loss_series():
            places = saved(trace, steps)
            train_waits, validation_waits = _waiting(losses[places], 0.01), _waiting(values, 0.01)
            for wait, evaluation in zip(validation_waits, evaluations, strict=True):
                seen = int(np.searchsorted(steps[places], evaluation.step, side="right"))
                if wait >= 10 and seen and train_waits[seen - 1] >= 5:
                    text = f"no better validation loss for {wait} passes, no better training loss for {train_waits[seen - 1]} steps"
                    symptoms, causes = frozenset({"train-val-divergence"}), frozenset({"overfitting"})
                    found.append(Alarm(TOOL, "Overtraining", evaluation.step, text, symptoms, causes))
    return said_once(found)


def _waiting(values: Floats, delta: float) -> list[int]:
    """For each value, how many have come since the last that was better than the best before by `delta`."""
    best, wait, waits = np.inf, 0, []
    for value in values:
        best, wait = (value, 0) if value < best - delta else (best, wait + 1)
        waits.append(wait)
    return waits


def unchanged_tensor(trace: Trace, saved: Saved) -> list[Alarm]:
    """UnchangedTensor: numpy.allclose (rtol 1e-5, atol 1e-8) holds over num_steps=3 saved steps.

    It has no default collection; of its example's, the losses, our log has the values.
    """
    found = []
    for steps, losses in trace.loss_series():
        places = saved(trace, steps)
        for a, b, c in zip(places, places[1:], places[2:], strict=False):
            if np.allclose(losses[[a, b]], losses[c]):
                text = f"the loss stands at {losses[c]:.6g}"
                found.append(Alarm(TOOL, "UnchangedTensor", int(steps[c]), text, frozenset({"loss-stuck"})))
    return said_once(found)


def stalled_training(trace: Trace, saved: Saved) -> list[Alarm]:
    """StalledTrainingRule: no tensor was saved for threshold=1800 s."""
    places = saved(trace, trace.steps)
    found = []
    for place in places[1:][np.diff(trace.times[places]) > 1800]:
        text = "no tensor for more than 1800 s"
        found.append(Alarm(TOOL, "StalledTrainingRule", int(trace.steps[place]), text, frozenset({"stalled"})))
    return said_once(found)


RULES = (
    vanishing_gradient,
    exploding_tensor,
    weight_update_ratio,
    loss_not_decreasing,
    overfit,
    overtraining,
    unchanged_tensor,
    stalled_training,
)
