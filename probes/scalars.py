"""A number of the loop's as a float, without running code of its own and without waiting for a device."""

from __future__ import annotations

import sys
from typing import Any

import torch

from .losses import plain_tensor

_NUMPY = "float64 float32 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8".split()
_known: set[int] = {id(float), id(int)}
"""Identities of the types that are numbers; a type's own hash or equality may be the program's."""
_tensors = {id(torch.Tensor), id(torch.nn.Parameter)}
_numpy_is_known = False


def host_number(value: Any) -> float | None:
    """The value of an exact int, float or numpy scalar, or of a tensor of one element on the CPU; None for anything else."""
    kind = id(type(value))
    if kind in _known:
        try:
            return float(value)
        except OverflowError:  # an int beyond a float
            return None
    if kind in _tensors:
        return float(value.detach()) if is_scalar_tensor(value) and value.device.type == "cpu" else None
    if not _numpy_is_known and "numpy" in sys.modules and _learn_numpy():
        return host_number(value)
    return None


def is_scalar_tensor(value: Any) -> bool:
    """Whether it is a plain tensor that holds one real number."""
    return (
        plain_tensor(value)
        and value.layout == torch.strided
        and value.numel() == 1
        and (value.dtype.is_floating_point or value.dtype in (torch.int64, torch.int32))
    )


def _learn_numpy() -> bool:
    global _numpy_is_known
    numpy = sys.modules["numpy"]
    kinds = [vars(numpy).get(name) for name in _NUMPY]
    if None in kinds:  # not imported to its end
        return False
    _known.update(map(id, kinds))
    _numpy_is_known = True
    return True
