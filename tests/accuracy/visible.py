"""From which optimizer step on a fault shows in what a run recorded: delays are counted from there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event
from forgemon.journal import number


def visible_step(name: str, log: Chunk) -> int | None:
    """None where the fault never showed: then the configuration is no fault at all, and is listed as such."""
    return VISIBLE[name](log)


def next_pass(visible: int, log: Chunk) -> int | None:
    """Optimizer steps from `visible` to the end of the first validation pass after it."""
    return next((int(event["step"]) - visible for event in _evaluations(log) if int(event["step"]) > visible), None)


def _losses(log: Chunk) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    rows = log.steps[(log.steps["losses"] >= 1) & (log.steps["optimizer"] == 0)]
    return rows["step"], rows["loss"]


def _start(log: Chunk) -> int | None:
    return int(log.steps["step"][0]) if len(log.steps) else None


def _first(steps: npt.NDArray[np.int64], flags: npt.NDArray[np.bool_]) -> int | None:
    hits = np.flatnonzero(flags)
    return int(steps[hits[0]]) if len(hits) else None


def _not_finite(log: Chunk) -> int | None:
    """The first loss, or else the first gradient norm, that is not finite."""
    steps, loss = _losses(log)
    rows = log.steps[log.steps["gradients"] >= 1]
    found = [_first(steps, ~np.isfinite(loss)), _first(rows["step"], ~np.isfinite(rows["gradient_norm"]))]
    return min((step for step in found if step is not None), default=None)


def _blown_up(log: Chunk) -> int | None:
    """Ten losses in a row, or the rest of them, that are not finite or above twice the first one."""
    steps, loss = _losses(log)
    return _ten_above(steps, loss, 2 * float(loss[0])) if len(loss) and np.isfinite(loss[0]) else _not_finite(log)


def _diverged(log: Chunk) -> int | None:
    """The same, unless the loss came back by itself and ends (median of the last tenth) at less than half the first one."""
    _, loss = _losses(log)
    came_back = len(loss) > 0 and float(np.median(loss[-max(10, len(loss) // 10) :])) < 0.5 * float(loss[0])  # False for NaN
    return None if came_back else _blown_up(log)


def _left_level(log: Chunk) -> int | None:
    """Ten losses in a row, or the rest of them, that are not finite or above one and a half times the level before step 150."""
    steps, loss = _losses(log)
    before, after = (steps > 100) & (steps <= 150), steps > 150
    return _ten_above(steps[after], loss[after], 1.5 * float(np.median(loss[before]))) if before.any() else None


def _ten_above(steps: npt.NDArray[np.int64], loss: npt.NDArray[np.float64], level: float) -> int | None:
    with np.errstate(invalid="ignore"):
        high = ~(loss <= level)
    return next((int(steps[i]) for i in np.flatnonzero(high).tolist() if high[i : i + 10].all()), None)


def _evaluations(log: Chunk) -> list[Event]:
    return [event for event in log.events if event["kind"] == "evaluation"]


def _validation(log: Chunk) -> int | None:
    """The end of the first validation pass, wherever a pass can be told at all."""
    found = _evaluations(log)
    return int(found[0]["step"]) if found else _start(log)


def _overfits(log: Chunk) -> int | None:
    """The third pass of those that lie a tenth above the best one, which is behind them."""
    passes = [(int(event["step"]), number(event, "value")) for event in _evaluations(log)]
    if len(passes) < 4:
        return None
    best = min(range(len(passes)), key=lambda i: passes[i][1])
    later = [step for step, value in passes[best + 1 :] if value > 1.1 * passes[best][1]]
    return later[2] if len(later) > 2 else None


def _overwritten(log: Chunk) -> int | None:
    """The first save, after the best pass of all, of weights whose own pass was 5 % worse, and from which on all saved were."""
    saves = [int(event["step"]) for event in log.events if event["kind"] == "checkpoint"]
    passes = [(int(event["step"]), number(event, "value")) for event in _evaluations(log)]
    if not passes or not saves:
        return None
    best_step, best = min(passes, key=lambda p: p[1])
    held = [next((value for step, value in reversed(passes) if step <= save), best) for save in saves]
    kept = [save for save, value in zip(saves, held, strict=True) if value <= 1.05 * best]
    lost_after = max([best_step, *kept])
    return next((save for save in saves if save > lost_after), None)


def _saved(log: Chunk) -> int | None:
    return next((int(event["step"]) for event in log.events if event["kind"] == "checkpoint"), None)


def _weights_grown(log: Chunk) -> int | None:
    """All weights together are three times as large as at the first look."""
    for updates in log.updates:
        norm = np.sqrt(np.nansum(updates.rows["weight_norm"].astype(np.float64) ** 2, axis=1))
        if len(norm):
            return _first(updates.rows["step"], norm > 3 * norm[0])
    return None


def _spoilt(log: Chunk) -> int | None:
    """The step that trained on the batch of step 200, if its gradients stand out at all: three times the median of the 50 before, and
    half as high again as the highest of them."""
    rows = log.steps[log.steps["gradients"] >= 1]
    before, spoilt = (
        rows["gradient_norm"][(rows["step"] > 150) & (rows["step"] <= 200)],
        rows["gradient_norm"][rows["step"] == 201],
    )
    if not len(before) or not len(spoilt):
        return None
    return 200 if not spoilt[0] <= max(3 * float(np.median(before)), 1.5 * float(np.max(before))) else None


VISIBLE: dict[str, Callable[[Chunk], int | None]] = {
    "start": _start,
    "not finite": _not_finite,
    "blown up": _blown_up,
    "diverged": _diverged,
    "left its level": _left_level,
    "validation": _validation,
    "overfits": _overfits,
    "overwritten": _overwritten,
    "saved": _saved,
    "spoilt": _spoilt,
    "weights grown": _weights_grown,
}
