"""TheDeepChecker's rules on gradients and weights.

Source: thedeepchecker/thedeepchecker at d0a2b3a, thresholds of deep_checker/config/settings.yaml (OverfitCheck.Gradient, .Weight and
.Bias, start=10, period=10), the rules as deep_checker/hooks.py applies them. An iteration is an optimizer step counted from the first
in the log, and a check due at a step that has no row is made at the next that has.

The rules are on means of absolute values, the log has 2-norms. The root mean square, norm / sqrt(n), stands for mean|x|: it is never
below it, and within a quarter of it for dense tensors. So a value called vanishing is one that the rule calls so too; one called
exploding might lie below the rule's bound by its sparseness. Weights are the tensors of two dimensions or more, biases the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.accuracy.peers.alarm import Alarm, entries, said_once
from tests.accuracy.peers.trace import Floats, Steps, Trace

TOOL = "TheDeepChecker"
PERIOD = 10
WINDOW = 5


def root_mean_square(norms: Floats, shapes: tuple[tuple[int, ...], ...]) -> Floats:
    return norms / np.sqrt([entries(shape) for shape in shapes])


def checked_rows(trace: Trace, steps: Steps, start: int = 10) -> Iterator[int]:
    """Places of the rows at which a check is made: the first of each period, from iteration `start` on."""
    iterations = steps - (int(trace.steps[0]) if len(trace.steps) else 0)
    periods = iterations // PERIOD
    for place in range(len(steps)):
        if iterations[place] >= start and (place == 0 or periods[place] != periods[place - 1]):
            yield place


def growth(steps: Steps, values: Floats, place: int) -> Floats:
    """Each of the WINDOW values (WINDOW, P) up to a row over the one before it; empty unless they are of neighbouring steps."""
    first = place - WINDOW + 1
    if first < 0 or steps[place] - steps[first] != WINDOW - 1:
        return np.empty((0, values.shape[1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        rates: Floats = values[first + 1 : place + 1] / values[first:place]
    return rates


def vanishing(trace: Trace) -> list[Alarm]:
    """Gradient.Vanishing: mean|g| of a weight is below mav_min_thresh=1e-6, or it fell to dec_rate_min_thresh=0.5 or less of the one
    before at each of window_size=5 neighbouring iterations."""
    found = []
    for table in trace.gradients:
        sizes = root_mean_square(table.norms, table.shapes)
        for place in checked_rows(trace, table.steps):
            rates = growth(table.steps, sizes, place)
            fell = (rates <= 0.5).all(axis=0) if len(rates) else np.zeros(sizes.shape[1], bool)
            for column in np.flatnonzero((sizes[place] < 1e-6) | fell):
                if len(table.shapes[column]) >= 2:
                    text = f"the gradient of {table.names[column]} is vanishing: {sizes[place, column]:.2g}"
                    step = int(table.steps[place])
                    found.append(Alarm(TOOL, "Vanishing", step, text, frozenset({"vanishing-gradients"})))
    return said_once(found)


def exploding(trace: Trace) -> list[Alarm]:
    """Gradient.Exploding: mean|g| of a weight is above mav_max_thresh=1e6, or it grew inc_rate_max_thresh=2 times or more at each of
    window_size=5 neighbouring iterations."""
    found = []
    for table in trace.gradients:
        sizes = root_mean_square(table.norms, table.shapes)
        for place in checked_rows(trace, table.steps):
            rates = growth(table.steps, sizes, place)
            grew = (rates >= 2).all(axis=0) if len(rates) else np.zeros(sizes.shape[1], bool)
            for column in np.flatnonzero(np.isfinite(sizes[place]) & ((sizes[place] > 1e6) | grew)):
                if len(table.shapes[column]) >= 2:
                    text = f"the gradient of {table.names[column]} is exploding: {sizes[place, column]:.2g}"
                    step = int(table.steps[place])
                    found.append(Alarm(TOOL, "Exploding", step, text, frozenset({"exploding-gradients"})))
    return said_once(found)


def gradient_not_finite(trace: Trace) -> list[Alarm]:
    """Gradient.Numerical_Instability: a gradient is NaN or infinite. Seen of the total norm."""
    found = []
    for steps, norms in trace.gradient_norm_series():
        for step, norm in zip(steps.tolist(), norms.tolist(), strict=True):
            if not np.isfinite(norm):
                symptoms = frozenset({"gradient-nonfinite"})
                found.append(Alarm(TOOL, "Gradient.Numerical_Instability", step, f"a gradient is {norm}", symptoms))
    return said_once(found)


def unstable_learning(trace: Trace) -> list[Alarm]:
    """Gradient.Unstable_Learning: log10 of mean|update| / mean|weight|, averaged over a period, is above high_updates_max_thresh=-1
    ("change too quickly"), below low_updates_min_thresh=-4 ("change too slowly"), or every update was zero ("untrained").

    Of the steps of a period those count that the log has updates of. The ratio is that of the 2-norms: the same where weights and
    updates are spread alike; Adam's first, even updates come out smaller by a tenth of a decade, in the rule's favour. As in the
    tool, a weight of zeros is passed over, and an update of zero counts as a logarithm of 0.
    """
    found = []
    for table in trace.updates:
        first = int(trace.steps[0]) if len(trace.steps) else 0
        periods = np.maximum(0, table.steps - first - 1) // PERIOD
        for period in np.unique(periods):
            rows = periods == period
            step = int(table.steps[rows][-1])
            for column in (i for i, shape in enumerate(table.shapes) if len(shape) >= 2):
                logarithm = _mean_logarithm(table.weight_norms[rows, column], table.update_norms[rows, column])
                found += _unstable(logarithm, table.names[column], step)
    return said_once(found)


def _mean_logarithm(weights: Floats, updates: Floats) -> float:
    """NaN where no ratio is known."""
    known = (weights > 0) & np.isfinite(updates)
    if not known.any():
        return float("nan")
    ratios = updates[known] / weights[known]
    return float(np.mean(np.log10(ratios, out=np.zeros_like(ratios), where=ratios > 0)))


def _unstable(logarithm: float, name: str, step: int) -> list[Alarm]:
    text = f"log10 of the update ratio of {name} is {logarithm:.2f}"
    stuck = frozenset({"loss-stuck"})
    if logarithm == 0:
        untrained = stuck | {"frozen-parameters", "optimizer-mismatch"}
        return [Alarm(TOOL, "Unstable_Learning", step, f"{name} is untrained", untrained)]
    if logarithm > -1:
        return [Alarm(TOOL, "Unstable_Learning", step, text, causes=frozenset({"learning-rate-too-high"}))]
    if logarithm < -4:
        return [Alarm(TOOL, "Unstable_Learning", step, text, stuck, frozenset({"learning-rate-too-low"}))]
    return []


def diverging_weights(trace: Trace) -> list[Alarm]:
    """Weight.Diverging and Bias.Diverging: mean|w| is above mav_max_thresh=1e8, or it grew inc_rate_max_thresh=2 times or more at each
    of window_size=5 neighbouring iterations. The log has weights of neighbouring steps only at its start."""
    found = []
    for table in trace.updates:
        sizes = root_mean_square(table.weight_norms, table.shapes)
        for place in checked_rows(trace, table.steps):
            rates = growth(table.steps, sizes, place)
            grew = (rates >= 2).all(axis=0) if len(rates) else np.zeros(sizes.shape[1], bool)
            for column in np.flatnonzero(np.isfinite(sizes[place]) & ((sizes[place] > 1e8) | grew)):
                text = f"{table.names[column]} is diverging: {sizes[place, column]:.2g}"
                rule = "Weight.Diverging" if len(table.shapes[column]) >= 2 else "Bias.Diverging"
                found.append(Alarm(TOOL, rule, int(table.steps[place]), text, frozenset({"weights-growing"})))
    return said_once(found)


RULES = (vanishing, exploding, gradient_not_finite, unstable_learning, diverging_weights)
