"""What stands around a value that is not finite, as entries of the `nonfinite` event, and which of it was the first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Entry = dict[str, Any]

CAUSAL = ("input", "layer", "loss", "gradient")


def of_losses(criterion: str | None, values: Sequence[float]) -> list[Entry]:
    """Of what went into each backward() of the step; the first that is not finite, else the last."""
    if not values:
        return []
    number = next((n for n, value in enumerate(values) if not math.isfinite(value)), len(values) - 1)
    entry: Entry = {"stage": "loss", "name": criterion or "loss", "finite": math.isfinite(values[number])}
    return [{**entry, "value": values[number], "micro_batch": number}]


def of_gradients(names: Sequence[str], values: Sequence[float]) -> list[Entry]:
    """Backwards from the loss: backward() reaches the last parameters first. The first that is not finite, and the finite one before."""
    bad = [n for n, value in enumerate(values) if not math.isfinite(value)]
    if not bad:
        return [_all("gradient", values)] if values else []
    found = [_broken("gradient", names[bad[-1]], values[bad[-1]], len(bad), len(values))]
    if bad[-1] + 1 < len(values):
        found.insert(0, {"stage": "gradient", "name": names[bad[-1] + 1], "finite": True})
    return found


def of_weights(names: Sequence[str], values: Sequence[float], after_step: bool) -> list[Entry]:
    """Forwards from the input. `after_step`: as the step or a later one left them, which says nothing of what came first."""
    bad = [n for n, value in enumerate(values) if not math.isfinite(value)]
    if not bad:
        found = [_all("weight", values)] if values else []
    else:
        found = [_broken("weight", names[bad[0]], values[bad[0]], len(bad), len(values))]
        if bad[0]:
            found.insert(0, {"stage": "weight", "name": names[bad[0] - 1], "finite": True})
    return [{**entry, "after_step": True} for entry in found] if after_step else found


def _all(stage: str, values: Sequence[float]) -> Entry:
    return {"stage": stage, "name": f"all {len(values)}", "finite": True}


def _broken(stage: str, name: str, value: float, nonfinite: int, of: int) -> Entry:
    return {"stage": stage, "name": name, "finite": False, "value": value, "nonfinite": nonfinite, "of": of}


def first_of(order: Sequence[Entry]) -> Entry | None:
    """The entry at which it began: weights that were broken before the step came before all that it did."""
    bad = [entry for entry in order if not entry["finite"]]
    before = [entry for entry in bad if entry["stage"] == "weight" and not entry.get("after_step")]
    return next(iter(before), None) or next((entry for stage in CAUSAL for entry in bad if entry["stage"] == stage), None)


def broken_at(order: Sequence[Entry], stage: str) -> bool:
    return any(entry["stage"] == stage and not entry["finite"] for entry in order)
