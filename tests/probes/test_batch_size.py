"""How many samples a batch has, by its tensors alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from probes.batch_data import first_size


def image(side: int = 8) -> torch.Tensor:
    return torch.zeros(3, side, side)


def target(boxes: int) -> dict[str, Any]:
    return {"boxes": torch.zeros(boxes, 4), "labels": torch.zeros(boxes)}


rows = torch.zeros(64, 5)

BATCHES: dict[str, tuple[Any, float]] = {
    "stacked": ((rows, torch.zeros(64)), 64),
    "two views and labels": (((rows, rows), torch.zeros(64)), 64),
    "two views, two labels": (((rows, rows), (torch.zeros(64), torch.zeros(64))), 64),
    "of two loaders": ([{"x": rows, "y": torch.zeros(64)}] * 2, 64),
    "nested": ({"inputs": {"ids": rows}, "more": {"ids": rows}}, 64),
    "zipped images and targets": ((tuple(image() for _ in range(8)), tuple(target(2) for _ in range(8))), 8),
    "zipped images of many sizes": ([[image(4), image(6), image(5)], [1, 0, 1]], 3),
    "dictionaries": ([{"image": image(), "file": "a.png"} for _ in range(5)], 5),
    "no tensor": (("a", "b"), math.nan),
}


@pytest.mark.parametrize("name", BATCHES)
def test_samples_are_counted_whether_stacked_or_not(name: str) -> None:
    batch, samples = BATCHES[name]
    assert first_size(batch) == pytest.approx(samples, nan_ok=True)
