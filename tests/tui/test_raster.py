"""Charts keep the extremes of every pixel column, and no line crosses a value that is not finite."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from forgemon.tui.raster import Columns, Scale, cells, columns_of, cut, draw, scale_of

finite = st.floats(-1e6, 1e6, allow_nan=False)
any_loss = st.floats(allow_nan=True, allow_infinity=True, width=32)
series = st.integers(1, 300).flatmap(lambda n: arrays.arrays(np.float64, n, elements=any_loss))


def reduced(values: np.ndarray, columns: int) -> Columns:
    steps = np.arange(1, len(values) + 1)
    return columns_of(steps, values, 1.0, float(max(len(values), 2)), columns)


def dots_of(columns: Columns, scale: Scale, rows: int) -> npt.NDArray[np.bool_]:
    dots = np.zeros((rows, len(columns.low)), dtype=np.bool_)
    draw(dots, columns, scale)
    return dots


def drawn_columns(dots: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.logical_or.reduce(dots, axis=0), dtype=np.bool_)


@given(series, st.integers(2, 120))
def test_each_column_keeps_its_lowest_and_highest_value(values: np.ndarray, columns: int) -> None:
    result = reduced(values, columns)
    bounds = cut(np.arange(1, len(values) + 1), 1.0, float(max(len(values), 2)), columns)
    assert bounds[0] == 0 and bounds[-1] == len(values)
    for i in range(columns):
        part = values[bounds[i] : bounds[i + 1]]
        known = part[np.isfinite(part)]
        assert bool(result.broken[i]) == (len(known) < len(part))
        if len(known):
            assert result.low[i] == known.min() and result.high[i] == known.max()
        else:
            assert math.isnan(result.low[i]) and math.isnan(result.high[i])


@given(series, st.integers(2, 60), st.integers(4, 40))
def test_the_extremes_of_a_column_are_dots_and_a_column_without_a_value_has_none_beside_a_break(
    values: np.ndarray, columns: int, rows: int
) -> None:
    result = reduced(values, columns)
    scale = scale_of([result], log=False)
    dots = dots_of(result, scale, rows)
    top = ((1 - scale.fraction(result.high)) * (rows - 1)).round()
    bottom = ((1 - scale.fraction(result.low)) * (rows - 1)).round()
    for i in range(columns):
        if math.isfinite(result.low[i]):
            assert dots[int(top[i]), i] and dots[int(bottom[i]), i]
        elif result.broken[i]:
            assert not dots[:, i].any()


def test_a_nan_leaves_a_gap_where_a_line_would_have_been() -> None:
    values = np.full(100, 1.0)
    whole = dots_of(reduced(values, 50), Scale(0, 2), 8)
    assert whole.any(axis=0).all()
    values[40:60] = np.nan
    result = reduced(values, 50)
    drawn = drawn_columns(dots_of(result, Scale(0, 2), 8))
    assert not drawn[21:29].any() and drawn[:19].all() and drawn[31:].all()


def test_a_single_nan_among_few_points_is_not_bridged() -> None:
    result = reduced(np.array([1.0, 1.0, np.nan, 1.0, 1.0]), 41)
    drawn = drawn_columns(dots_of(result, Scale(0, 2), 8))
    assert drawn[:11].all() and drawn[30:].all() and not drawn[11:30].any()


def test_few_points_are_joined_by_straight_lines() -> None:
    dots = dots_of(reduced(np.array([0.0, 1.0]), 40), Scale(0, 1), 40)
    assert dots[39, 0] and dots[0, 39] and dots.any(axis=0).all()
    assert dots.sum(axis=0).max() <= 2


@pytest.mark.parametrize("values", [np.empty(0), np.array([np.nan, np.inf, -np.inf])])
def test_nothing_finite_draws_nothing(values: np.ndarray) -> None:
    result = reduced(values, 30)
    assert not dots_of(result, scale_of([result]), 12).any()


def test_one_point_is_one_dot() -> None:
    result = columns_of(np.array([7]), np.array([3.0]), 7.0, 8.0, 30)
    dots = dots_of(result, scale_of([result]), 12)
    assert dots.sum() == 1 and dots[:, 0].any()


def test_a_constant_is_a_flat_line_within_the_scale() -> None:
    result = reduced(np.full(500, 0.125), 30)
    scale = scale_of([result])
    assert scale.low < 0.125 < scale.high and not scale.log
    assert (dots_of(result, scale, 12).sum(axis=0) == 1).all()


def test_the_scale_is_logarithmic_only_for_positive_values_over_more_than_a_decade() -> None:
    assert scale_of([reduced(np.array([0.1, 5.0]), 10)]).log
    assert not scale_of([reduced(np.array([1.0, 5.0]), 10)]).log
    assert not scale_of([reduced(np.array([-1.0, 50.0]), 10)]).log
    assert not scale_of([reduced(np.array([0.0, 50.0]), 10)]).log


def test_on_a_log_scale_what_is_not_positive_lies_at_the_bottom_and_does_not_set_the_range() -> None:
    scale = scale_of([reduced(np.array([-3.0, 0.0, 0.01, 100.0]), 40)], log=True)
    assert scale.log and 0.005 < scale.low < 0.01
    assert scale.fraction(np.array([-3.0, 0.0])).tolist() == [0.0, 0.0]
    assert math.isnan(scale.fraction(np.array([np.nan]))[0])


def test_a_log_scale_that_was_asked_for_without_any_positive_value_is_linear() -> None:
    assert not scale_of([reduced(np.array([-3.0, -1.0]), 40)], log=True).log


@given(finite, finite, st.booleans())
def test_ticks_lie_within_the_scale_and_rise(a: float, b: float, log: bool) -> None:
    scale = scale_of([reduced(np.array([a, b]), 10)], log=log)
    ticks = scale.ticks(6)
    assert ticks == sorted(set(ticks)) and len(ticks) <= 20
    slack = (scale.high - scale.low) * 1e-6
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)


def test_dots_become_the_braille_pattern_with_the_same_dots() -> None:
    dots = np.zeros((4, 4), dtype=np.bool_)
    dots[0, 0] = dots[3, 1] = dots[1, 2] = True
    assert cells(dots).tolist() == [[0x81, 0x02]]
