"""Each demo loop, in its short form, truly shows what its docstring promises."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
import torch

from tests.demo_loops.demo_run import SHORT, run_demo


def blocks(values: list[float], size: int = 4) -> list[float]:
    """Medians of blocks; four printed values stand for a hundred steps."""
    return [median(values[i : i + size]) for i in range(0, len(values) - size + 1, size)]


def test_the_healthy_one_learns_and_generalises(tmp_path: Path) -> None:
    run = run_demo("healthy_classifier", tmp_path, *SHORT["healthy_classifier"])
    train, val = run.curve("train loss"), run.curve("val loss")
    assert len(train) == len(val) == 6
    assert train == sorted(train, reverse=True)
    assert val[-1] < 0.5 * val[0]
    assert all(later < 1.1 * min(val[: i + 1]) for i, later in enumerate(val[1:]))
    assert run.curve("val accuracy")[-1] > 0.75

    checkpoint = run.checkpoint()
    assert set(checkpoint) == {"model", "optimizer", "schedule", "step", "val_loss"}
    assert checkpoint["val_loss"] == pytest.approx(min(val), abs=1e-4)


def test_goes_nan_learns_first_and_keeps_what_it_had(tmp_path: Path) -> None:
    run = run_demo("goes_nan", tmp_path, *SHORT["goes_nan"])
    loss, val = run.curve("loss"), run.curve("val loss")
    first_bad = next(i for i, value in enumerate(loss) if not math.isfinite(value))
    assert first_bad >= 3
    assert min(loss[:first_bad]) < 0.2 * loss[0]
    assert not any(math.isfinite(value) for value in loss[first_bad:])

    checkpoint = run.checkpoint()
    assert checkpoint["val_loss"] == pytest.approx(min(v for v in val if math.isfinite(v)), rel=1e-4)
    assert all(torch.isfinite(weight).all() for weight in checkpoint["model"].values())


def test_goes_nan_because_of_its_learning_rate_alone(tmp_path: Path) -> None:
    run = run_demo("goes_nan", tmp_path, "--steps", "160", "--lr", "0.2")
    loss = run.curve("loss")
    assert loss[-1] < 0.1 * loss[0]


def test_oscillates_learns_then_zig_zags_and_climbs(tmp_path: Path) -> None:
    run = run_demo("oscillates", tmp_path, *SHORT["oscillates"])
    loss = run.curve("loss")
    assert all(math.isfinite(value) for value in loss)
    levels = blocks(loss)
    best = min(levels)
    assert best < 0.5 * loss[0]
    assert all(level > 20 * best for level in levels[-3:])

    last_half = loss[len(loss) // 2 :]
    rises = [b > a for a, b in pairwise(last_half)]
    turns = sum(a != b for a, b in pairwise(rises))
    assert turns >= 6
    assert max(last_half) - min(last_half) > 50 * best


def test_oscillates_because_of_its_learning_rate_alone(tmp_path: Path) -> None:
    run = run_demo("oscillates", tmp_path, "--steps", "400", "--lr", "0.1")
    levels = blocks(run.curve("loss"))
    assert levels[-1] < 1.5 * min(levels) < 0.5 * levels[0]


def test_overfits_and_saves_the_best(tmp_path: Path) -> None:
    run = run_demo("overfits", tmp_path, *SHORT["overfits"])
    train, val = run.curve("train loss"), run.curve("val loss")
    best = val.index(min(val))
    assert train[-1] < 0.5 * train[best] < 0.5 * train[0]
    assert len(val) - best > 8
    assert all(value > 1.02 * val[best] for value in val[-8:])
    assert val[-1] == max(val[best:])

    checkpoint = run.checkpoint()
    assert checkpoint["val_loss"] == pytest.approx(val[best], abs=1e-4)
    assert checkpoint["step"] == run.curve("step")[best]


def test_missing_zero_grad_learns_a_bit_then_suffers(tmp_path: Path) -> None:
    out = tmp_path / "here" / "it goes"
    run = run_demo("missing_zero_grad", tmp_path, *SHORT["missing_zero_grad"], "--out", str(out))
    assert run.folder == out
    for curve in (run.curve("train loss"), run.curve("val loss")):
        assert min(curve) < 0.8 * curve[0]
        assert curve[-1] > 1.2 * min(curve)
    assert run.checkpoint()["val_loss"] == pytest.approx(min(run.curve("val loss")), abs=1e-4)


def test_same_seed_same_curve_in_a_directory_of_its_own(tmp_path: Path) -> None:
    first, second = (run_demo("overfits", tmp_path, "--epochs", "2", "--seed", "3") for _ in range(2))
    assert first.curve("val loss") == second.curve("val loss")
    assert first.folder != second.folder
    assert first.folder.parent == second.folder.parent == tmp_path
