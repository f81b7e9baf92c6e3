"""The largest absolute values of tensors, in which a NaN or an infinity shows."""

from __future__ import annotations

import math

import pytest
import torch

from probes.extremes import first_bad, largest, largest_of_each_row

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_row_that_is_not_finite_is_found_in_the_dtype_of_the_batch(dtype: torch.dtype, bad: float) -> None:
    batch = torch.ones(4, 3, 2, dtype=dtype)
    batch[2, 1, 0] = bad
    rows = largest_of_each_row(batch)
    assert rows.dtype == dtype  # no copy of the batch was made to look at it
    assert first_bad(rows.tolist()) == 2
    assert not math.isfinite(largest([batch])[0].item())


def test_of_finite_ones_it_is_the_largest() -> None:
    assert largest_of_each_row(torch.tensor([[1.0, -3.0], [2.0, 0.5]])).tolist() == [3.0, 2.0]
    assert [value.item() for value in largest([torch.tensor([1.0, -4.0]), torch.zeros(0)])] == [4.0, 0.0]
