"""The smoothed loss and the gradients' comparison with their past."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from forgemon.recording import STEP_ROW
from forgemon.tui.trends import LossHistory, broken_norms, trailing_mean
from forgemon.tui.widgets import gradient_table
from tests.tui.runs import INK, PARAMETERS, frame_of, training_run

losses = st.integers(1, 200).flatmap(
    lambda n: arrays.arrays(np.float64, n, elements=st.one_of(st.floats(-1e3, 1e3), st.just(math.nan), st.just(math.inf)))
)


@given(losses, st.sampled_from([1, 2, 8, 16]))
def test_up_to_sixteen_values_the_mean_is_that_of_the_last_finite_ones(values: np.ndarray, window: int) -> None:
    at, mean = trailing_mean(values, window)
    assert at.tolist() == list(range(len(values)))
    for i in range(len(values)):
        if not math.isfinite(values[i]):
            assert math.isnan(mean[i])
        else:
            last = values[max(i - window + 1, 0) : i + 1]
            assert math.isclose(mean[i], last[np.isfinite(last)].mean(), rel_tol=1e-9, abs_tol=1e-9)


def test_a_long_window_is_taken_at_block_ends_and_one_huge_loss_does_not_spoil_what_follows() -> None:
    values = np.full(10_000, 0.25)
    values[5_000] = 1e300
    at, mean = trailing_mean(values, 128)
    assert at[-1] == 9_999 and np.all(np.diff(at) > 0) and len(at) == 10_000 / 8
    assert mean[-1] == 0.25 and mean[0] == 0.25


def rows_of(values: list[float], first: int = 1, losses_behind: float = 1) -> np.ndarray:
    rows = np.zeros(len(values), STEP_ROW)
    rows["step"], rows["loss"] = np.arange(first, first + len(values)), values
    rows["gradient_norm"] = math.nan
    rows["losses"] = losses_behind
    return rows


@given(losses, st.integers(1, 50))
def test_the_history_is_the_same_for_any_chunks(values: np.ndarray, size: int) -> None:
    whole, pieces = LossHistory(), LossHistory()
    rows = rows_of(values.tolist())
    whole.extend(rows)
    for start in range(0, len(rows), size):
        pieces.extend(rows[start : start + size])
    a, b = whole.curves(len(rows)), pieces.curves(len(rows))
    np.testing.assert_array_equal(a.loss, b.loss)
    np.testing.assert_array_equal(a.smoothed, b.smoothed)
    assert whole.first_nonfinite == pieces.first_nonfinite


def test_a_loss_that_is_not_visible_is_missing_and_not_broken() -> None:
    history = LossHistory()
    history.extend(rows_of([math.nan] * 5, losses_behind=math.nan))
    assert history.first_nonfinite is None and not len(history.curves(5).loss)
    seen = rows_of([1.0, math.nan, 2.0], first=6)
    seen["losses"] = [1.0, math.nan, 1.0]
    history.extend(seen)
    assert history.first_nonfinite is None and history.curves(8).step.tolist() == [6, 8]
    history.extend(rows_of([math.nan, math.inf], first=9))
    assert history.first_nonfinite == 9 and history.curves(10).step.tolist() == [6, 8, 9, 10]
    assert history.curves(6).step.tolist() == [6]


def test_an_absent_gradient_is_not_a_broken_one() -> None:
    rows = rows_of([1.0, 1.0, math.nan])
    rows["gradient_norm"] = [1.0, 1.0, math.nan]
    norms = np.array([[1, np.nan, 2], [1, np.nan, np.inf], [np.nan, np.nan, np.nan]], dtype=np.float32)
    found = broken_norms(norms, np.array([1, 2, 3]), rows)
    assert found.tolist() == [[False, False, False], [False, False, True], [True, False, True]]


def test_each_parameter_is_compared_with_its_own_median(tmp_path: Path) -> None:
    training_run(tmp_path / "run")
    trend = frame_of(tmp_path / "run").gradients
    assert trend is not None and trend.names == PARAMETERS and trend.step == 400
    ratio = trend.ratio
    assert ratio[0] == 1.0 and math.isnan(ratio[1]) and 1.5 < ratio[2] < 1.8 and math.isclose(ratio[3], 1.0)
    assert not trend.broken.any()
    assert trend.updates_at == -1 and np.isnan(trend.update_ratio).all()


def test_the_newest_known_update_of_each_parameter_beside_its_gradient(tmp_path: Path) -> None:
    files = training_run(tmp_path / "run")
    files.updates(390, [2.0, 2.0, 4.0, 0.0], [1.0, 1.0, 0.004, 0.0])
    files.updates(400, [math.nan, 2.0, 4.0, 0.0], [math.nan, math.nan, 0.008, 0.0])
    frame = frame_of(tmp_path / "run")
    trend = frame.gradients
    assert trend is not None and trend.updates_at == 400
    assert trend.update_ratio == pytest.approx([0.5, 0.5, 0.002, math.nan], nan_ok=True)
    table = [row.text for row in gradient_table.lines(frame, 90, 6, INK)]
    assert table[0].split()[:3] == ["parameter", "norm", "update"] and "2.0e-03" in table[3]
    narrow = [row.text for row in gradient_table.lines(frame, 60, 6, INK)]
    assert "update" not in narrow[0] and "2.0e-03" not in narrow[3]
