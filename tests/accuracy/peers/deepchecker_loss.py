"""TheDeepChecker's rules on the loss curve.

Source: thedeepchecker/thedeepchecker at d0a2b3a, thresholds of deep_checker/config/settings.yaml (OverfitCheck.Loss), the rules
as deep_checker/hooks.py and metrics.py apply them. A check every period=10 iterations looks at the means of the loss over each
period so far, the first of which is the first iteration alone.

They are made for a network that is to learn one fixed batch by heart; on a run's own mini-batches they are outside what their
authors claim, and the comparison has to say so. It is what the rules answer to the question that our detectors answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.accuracy.peers.alarm import Alarm, said_once
from tests.accuracy.peers.trace import Floats, Steps, Trace

TOOL = "TheDeepChecker"
PERIOD = 10
WINDOW = 5


def checks(steps: Steps, losses: Floats) -> Iterator[tuple[int, Floats]]:
    """The steps at which the curve is looked at, with the means of the periods up to it. Nothing is checked at a loss that is not
    finite, but its period's mean is lost with it."""
    means: list[float] = []
    period: list[float] = []
    due = int(steps[0]) if len(steps) else 0
    for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
        period.append(loss)
        if step >= due and np.isfinite(loss):
            means.append(float(np.mean(period)))
            period = []
            due = int(steps[0]) + PERIOD * ((step - int(steps[0])) // PERIOD + 1)
            yield step, np.array(means)


def rates(means: Floats) -> Floats:
    """Each of the last WINDOW means over the one before it, oldest first; empty while there are fewer."""
    if len(means) < WINDOW:
        return np.empty(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return means[-WINDOW + 1 :] / means[-WINDOW:-1]


def non_decreasing(trace: Trace) -> list[Alarm]:
    """Loss.NonDecreasing: in none of the last window_size=5 checks did the mean loss fall by decr_percentage=5 % of the one before."""
    found = []
    for steps, losses in trace.loss_series():
        for step, means in checks(steps, losses):
            fell = 1 - rates(means)
            if len(fell) and (fell < 0.05).all():
                text = f"the loss fell by {100 * fell.max():.1f} % at most in each of {WINDOW - 1} periods"
                found.append(Alarm(TOOL, "NonDecreasing", step, text, frozenset({"loss-stuck"})))
    return said_once(found)


def diverging(trace: Trace) -> list[Alarm]:
    """Loss.Diverging: over window_size=5 checks the mean loss, in units of the least so far, grew by incr_abs_rate_max_thresh=2 from
    each to the next. The unit cancels in the tool's own code, and does so here."""
    found = []
    for steps, losses in trace.loss_series():
        for step, means in checks(steps, losses):
            grew = rates(means)
            if len(grew) and (grew >= 2).all():
                text = f"the loss grew at least {grew.min():.1f} times in each of {WINDOW - 1} periods"
                found.append(Alarm(TOOL, "Diverging", step, text, frozenset({"loss-climbs"})))
    return said_once(found)


def fluctuating(trace: Trace) -> list[Alarm]:
    """Loss.Fluctuating: of the last window_size=50 checked means, the share at which the curve did not turn from falling to rising or
    back is below smoothness_ratio_min_thresh=0.5."""
    found = []
    for steps, losses in trace.loss_series():
        for step, means in checks(steps, losses):
            last = means[-50:]
            with np.errstate(divide="ignore", invalid="ignore"):
                rising = last[1:] / last[:-1] > 1
            smoothness = 1 - np.count_nonzero(rising[1:] != rising[:-1]) / len(last)
            if smoothness < 0.5:
                text = f"the loss turned in {100 * (1 - smoothness):.0f} % of {len(last)} periods"
                found.append(Alarm(TOOL, "Fluctuating", step, text, frozenset({"loss-oscillates"})))
    return said_once(found)


def loss_not_finite(trace: Trace) -> list[Alarm]:
    """Loss.Numerical_Instability: the loss of an iteration is NaN or infinite."""
    found = []
    for steps, losses in trace.loss_series():
        for step, loss in zip(steps.tolist(), losses.tolist(), strict=True):
            if not np.isfinite(loss):
                found.append(
                    Alarm(TOOL, "Loss.Numerical_Instability", step, f"the loss is {loss}", frozenset({"loss-nonfinite"}))
                )
    return said_once(found)


RULES = (non_decreasing, diverging, fluctuating, loss_not_finite)
