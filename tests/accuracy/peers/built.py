"""Builds traces from plain lists for the tests of the rules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from forgemon.snapshot import Evaluation
from tests.accuracy.peers.trace import Gradients, Trace, Updates

Values = Sequence[float] | npt.NDArray[Any]
NOISE = np.random.default_rng(0)


def built(losses: Values = (), **fields: Any) -> Trace:
    """Steps from 1 on, one second apart, with learning rate 1e-3; `norms` are total gradient norms."""
    norms = fields.pop("norms", None)
    count = len(losses) if norms is None else len(norms)
    steps = np.arange(1, count + 1)
    nothing = np.full(count, np.nan)
    common: dict[str, Any] = {
        "steps": steps,
        "times": steps.astype(float),
        "optimizers": np.zeros(count, np.int64),
        "losses": np.asarray(losses, float) if len(losses) else nothing,
        "loss_known": np.full(count, len(losses) > 0),
        "learning_rates": np.full(count, 1e-3),
        "gradient_norms": nothing if norms is None else np.asarray(norms, float),
        "gradient_known": np.full(count, norms is not None),
    }
    return Trace(**{**common, **fields})


def gradients(norms: Any, name: str = "fc.weight", shape: tuple[int, ...] = (10, 10)) -> tuple[Gradients, ...]:
    """One parameter's gradient norms at steps 1, 2, 3, ..."""
    values = np.asarray(norms, float)[:, None]
    return (Gradients((name,), (shape,), np.arange(1, len(values) + 1), values),)


def updates(weights: Any, changes: Any, name: str = "fc.weight", shape: tuple[int, ...] = (10, 10)) -> tuple[Updates, ...]:
    """One parameter's weight and update norms at steps 1, 2, 3, ..."""
    before, changed = np.asarray(weights, float)[:, None], np.asarray(changes, float)[:, None]
    return (Updates((name,), (shape,), np.arange(1, len(before) + 1), before, changed),)


def evaluations(values: Values, train: Values, every: int = 10) -> tuple[Evaluation, ...]:
    """One held-out pass every `every` steps."""
    return tuple(
        Evaluation(
            step=every * (i + 1),
            time=float(i),
            epoch=i,
            metric="cross_entropy",
            value=float(value),
            train_loss=float(train[i]),
            batches=1,
            samples=1,
            mode_correct=True,
            grad_enabled=False,
            duration_s=math.nan,
            is_best=False,
            checkpoint=None,
            metrics={},
            where=None,
        )
        for i, value in enumerate(values)
    )
