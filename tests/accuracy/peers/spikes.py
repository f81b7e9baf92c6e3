"""Two rules against spikes in large language model training: ZClip on the gradient norm, KillLossSpike on the loss."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from tests.accuracy.peers.alarm import Alarm, said_once
from tests.accuracy.peers.trace import Floats, Steps, Trace

ZCLIP = "ZClip"
KILL_LOSS_SPIKE = "MosaicML KillLossSpike"


def zclip(trace: Trace) -> list[Alarm]:
    """ZClip: the total gradient norm lies more than z_thresh=2.5 standard deviations above its moving average (alpha=0.97,
    warmup_steps=25, eps=1e-6, mode zscore, clip_option adaptive_scaling).

    Source: bluorion-com/ZClip at 584ce4f, README.md and zclip/zclip.py. An outlier enters the averages as the value that it is
    clipped to. Clipping at that threshold is the alarm; clipping at the fixed max_grad_norm=1 is not. Norms are those before the
    loop's own clipping, which ZClip replaces. As in the tool, a NaN silences it for the rest of the run.
    """
    found = []
    for steps, norms in trace.gradient_norm_series():
        for step, norm, z in _clipped(steps, norms):
            text = f"gradient norm {norm:.4g} is {z:.1f} standard deviations above its average"
            found.append(Alarm(ZCLIP, "z-score", step, text, frozenset({"gradient-spike"})))
    return said_once(found)


def _clipped(steps: Steps, norms: Floats, alpha: float = 0.97, threshold: float = 2.5) -> list[tuple[int, float, float]]:
    if len(norms) < 25:
        return []
    mean, variance = float(np.mean(norms[:25])), float(np.var(norms[:25]))
    clipped = []
    for step, norm in zip(steps[25:].tolist(), norms[25:].tolist(), strict=True):
        deviation = math.sqrt(variance) if variance >= 0 else math.nan
        z = (norm - mean) / (deviation + 1e-6)
        if z > threshold:
            clipped.append((step, norm, z))
            norm = mean + threshold * deviation * threshold / z
        mean = alpha * mean + (1 - alpha) * norm
        variance = alpha * variance + (1 - alpha) * (norm - mean) ** 2
    return clipped


def kill_loss_spike(trace: Trace) -> list[Alarm]:
    """KillLossSpike: more than patience=4 losses in a row, each outlier_multiplier=2 times the mean of the window before it or more;
    or half of a window above the loss cap, which is the largest loss of the first window and 10 at most.

    Source: mosaicml/llm-foundry, llmfoundry/callbacks/kill_loss_spike_callback.py, the version with a window of 100 steps or a
    twentieth of the run, whichever is more, and the cap as its documentation defines it. The length of a run is that of its log.
    Its messages advise a lower learning rate, so that is taken as the cause it names.
    """
    found = []
    for steps, losses in trace.loss_series():
        window = max(100, round(0.05 * len(losses)))
        found += _spikes(steps, losses, window) + _high(steps, losses, window)
    return said_once(found)


def _spikes(steps: Steps, losses: Floats, window: int) -> list[Alarm]:
    found, outliers = [], 0
    recent = deque(losses[:window].tolist(), maxlen=window)
    for step, loss in zip(steps[window:].tolist(), losses[window:].tolist(), strict=True):
        mean = float(np.mean(recent))
        outliers = outliers + 1 if loss >= 2 * mean else 0
        if outliers > 4:
            found.append(_alarm("loss spike", step, f"{outliers} losses in a row at 2 times {mean:.4g} or more"))
        recent.append(loss)
    return found


def _high(steps: Steps, losses: Floats, window: int) -> list[Alarm]:
    if len(losses) <= window:
        return []
    cap = min(float(np.max(losses[:window])), 10.0)
    above = np.concatenate([[0], np.cumsum(losses > cap)])
    found = []
    for place in range(2 * window - 1, len(losses)):  # the window before it is the one looked at
        high = int(above[place] - above[place - window])
        if high >= window / 2:
            found.append(_alarm("high loss", int(steps[place]), f"{high} of {window} losses above {cap:.4g}"))
    return found


def _alarm(rule: str, step: int, text: str) -> Alarm:
    return Alarm(KILL_LOSS_SPIKE, rule, step, text, frozenset({"loss-climbs"}), frozenset({"learning-rate-too-high"}))
