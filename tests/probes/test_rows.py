"""A row once its numbers have arrived: numbers alone, in the order of the columns."""

from __future__ import annotations

import math

import pytest
import torch

from probes.losses import Loss, are_shares, undivided
from probes.record import STEP_COLUMNS
from probes.reuse import Reuse
from probes.rows import GradientRow, Row
from probes.window import Window


def test_a_row_that_waits_to_be_written_keeps_no_tensor_alive() -> None:
    window = Window()
    window.backwards, window.samples, window.training = 2, 8.0, True
    window.losses = [Loss(torch.tensor(1.0), torch.tensor(2.0)), Loss(torch.tensor(3.0), torch.tensor(6.0))]
    window.clipped_norm = torch.tensor(7.0)
    row = Row(5, 1.5, 0, 0.1, window, Reuse(4, 1, torch.nn.Parameter(torch.ones(2)), None), {"step_s": 0.25}, passes=(2,))
    assert len(row.scalars) == 5
    row.take([3.0, 4.0], [t.item() for t in row.scalars])
    held = [value for value in vars(row).values() if isinstance(value, (torch.Tensor, Window, Reuse))]
    assert held == [] and row.scalars == []
    found = dict(zip([column[0] for column in STEP_COLUMNS], row, strict=True))
    assert (found["step"], found["loss"], found["gradient_norm"], found["gradient_norm_before_clip"]) == (5, 4.0, 5.0, 7.0)
    assert (found["micro_batches"], found["batch_size"], found["training"], found["gradients_reused"]) == (2, 8, 1, 0.25)
    assert found["step_s"] == 0.25 and math.isnan(found["loss_scale"])


def test_a_parameter_without_a_gradient_is_absent_from_its_row() -> None:
    values = list(GradientRow(3, 4, (1, 2, 3), [0, 2], [0.5, 0.25]))
    assert values[0] == 3 and values[2] == 0.5 and values[4] == 0.25
    assert math.isnan(values[1]) and math.isnan(values[3])


@pytest.mark.parametrize(
    ("pairs", "passes", "divisor", "expected"),
    [
        ([(0.5, 2.0), (0.0, 0.0)], (1, 4), 1, [2.0, 0.0]),
        ([(0.5, 2.0)], (1, 3), 1, [0.5]),  # whoever divides by another number means it: a sum over items, the half of a square
        ([(1.0, 2.0), (3.0, 3.0)], (2,), 1, [1.0, 3.0]),  # and whoever weighs one loss of two
        ([(0.5, 16.0)], (4,), 4, [2.0]),
        ([(math.nan, 2.0)], (4,), 1, [math.nan]),
        ([(0.0, 2.0)], (4,), 1, [0.0]),
    ],
)
def test_only_a_division_of_all_by_the_number_of_backward_passes_is_undone(
    pairs: list[tuple[float, float]], passes: tuple[int, ...], divisor: int, expected: list[float]
) -> None:
    assert undivided(pairs, passes, [divisor] * len(pairs)) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("divisors", "summed", "expected"),
    [
        ([40, 40], [20, 20], True),
        ([30, 30], [20, 20], True),  # a quarter is padding
        ([70, 70, 70, 70], [20, 20, 20, 20], True),
        ([20, 20], [20, 20], False),  # means, each of its own
        ([10, 10], [20, 20], False),
        ([40, 30], [20, 20], False),  # not one divisor
        ([60, 60], [20, 20], False),  # more than there are
        ([40], [20], False),
        ([40, 40], [20, math.nan], False),
        ([math.nan, math.nan], [20, 20], False),
        ([math.inf, math.inf], [20, 20], False),
    ],
)
def test_sums_divided_by_all_items_of_the_step_are_shares(divisors: list[float], summed: list[float], expected: bool) -> None:
    pairs = [(2.0 * items / by, 2.0 * items) for by, items in zip(divisors, summed, strict=True)]
    assert are_shares(pairs, summed) is expected
    if expected:
        assert sum(undivided(pairs, (2,), [1] * len(pairs), True)) / len(pairs) == pytest.approx(sum(root for root, _ in pairs))


def test_a_step_counts_from_where_its_gradients_were_cleared() -> None:
    window = Window()
    window.data_s = 0.5
    for loss, norm in ((1.0, 3.0), (2.0, 4.0)):
        window.went_backward(Loss(torch.tensor(loss), None))
        window.backward_took(0.1)
        window.clipped(torch.tensor(norm))
        window.cleared(frozenset((1, 2, 3)))
    assert window.of((1, 2)) is window  # nothing went backward since: a step without gradients
    window.went_backward(Loss(torch.tensor(5.0), None))
    window.clipped(torch.tensor(6.0))
    found = window.of((1, 2))
    assert (found.backwards, [loss.root.item() for loss in found.losses], found.data_s) == (1, [5.0], 0.5)
    assert found.clipped_norm == 6.0 and window.clipped_norm is None
    assert window.of((1, 4)) is window  # it holds others, which were not cleared


@pytest.mark.parametrize("clearings", [(3, 2), (2, 3), (3, 2, 3)])
def test_of_several_clearings_the_newest_counts(clearings: tuple[int, ...]) -> None:
    """Of a model with three parameters and of an optimizer of two of them."""
    window = Window()
    for parameters in (frozenset(range(1, count + 1)) for count in clearings):
        window.went_backward(Loss(torch.tensor(1.0), None))
        window.cleared(parameters)
    window.went_backward(Loss(torch.tensor(5.0), None))
    assert [loss.root.item() for loss in window.of((1, 2)).losses] == [5.0]
