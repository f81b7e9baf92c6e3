"""Hashes of some rows (input and target together) of a batch on the CPU, the same rows wherever they come again.

Which rows are hashed follows from their content, not from their place: two passes over the same samples in different order hash
mostly the same ones, so that a small share of the rows is enough to see that two loaders give the same data.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch

from .loader_description import attributes
from .losses import plain_tensor

BYTES_A_BATCH = 65_536
MOST_ROWS_A_BATCH = 16
LARGEST_ROW_BYTES = 65_536
EMPTY_SHARE = 0.97
"""A row cut down to a sample of its elements says nothing when that much of it is zero bytes."""
KEY_ELEMENTS = 16
MOST_TENSORS = 64


def tensors_of(data: Any, depth: int = 0) -> Iterator[torch.Tensor]:
    """The tensors in a batch, however it is nested, in their order. Classes of the program's are not asked."""
    kind = type(data)
    if plain_tensor(data):
        yield data
    elif depth < 4:
        if kind.__name__ in ("BatchEncoding", "BatchFeature", "UserDict"):
            data = attributes(data).get("data")
            kind = type(data)
        inside: Any = ()
        if issubclass(kind, dict):
            inside = dict.values(data)
        elif issubclass(kind, (list, tuple)):
            inside = (list if issubclass(kind, list) else tuple).__iter__(data)
        for number, item in enumerate(inside):
            if number == MOST_TENSORS:
                return
            yield from tensors_of(item, depth + 1)


def batch_bytes(data: Any) -> int:
    """Bytes of a batch's tensors in host memory."""
    return sum(t.numel() * t.element_size() for t in tensors_of(data) if t.device.type == "cpu")


def hash_rows(data: Any) -> tuple[int, list[tuple[int, int]]]:
    """Number of rows, and (place in the batch, hash) of some of them; none where they are not on the CPU, alike and readable."""
    columns = [t for t in tensors_of(data) if t.dim() and t.numel()]
    if not columns or torch._C._len_torch_dispatch_stack():
        return 0, []
    count = columns[0].shape[0]
    columns = [t for t in columns if t.shape[0] == count]
    if count < 2 or not all(_readable(t) for t in columns):
        return 0, []
    # No mode of the program's (a default device, a mode of its own) sees what is done here.
    with torch._C.DisableTorchFunction(), torch.no_grad():
        flat = [t.detach().reshape(count, -1) for t in columns]
        sizes = [t.shape[1] * t.element_size() for t in flat]
        total = min(sum(sizes), LARGEST_ROW_BYTES)
        rows = min(count, MOST_ROWS_A_BATCH, max(1, BYTES_A_BATCH // total))
        largest = flat[sizes.index(max(sizes))]
        chosen = torch.arange(count, device="cpu") if rows == count else _keys(largest).topk(rows, largest=False).indices
        limit = LARGEST_ROW_BYTES // len(flat)
        parts = [_row_bytes(t, chosen, limit) for t in flat]
        places = chosen.tolist()
    whole = sum(sizes) <= LARGEST_ROW_BYTES
    main = sizes.index(max(sizes))
    return count, [
        (place, hash(b"".join(part[i] for part in parts)))
        for i, place in enumerate(places)
        if _says_something(parts[main][i], largest.element_size(), whole)
    ]


def _readable(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.layout is torch.strided and not (tensor.is_quantized or tensor.is_complex())


def _keys(flat: torch.Tensor) -> torch.Tensor:
    """One number a row, from a few of its elements."""
    width = flat.shape[1]
    few = flat[:, :: -(-width // KEY_ELEMENTS)].contiguous().view(torch.uint8).to(torch.int64)
    return ((few * _weights(few.shape[1])).sum(1) * 0x9E3779B97F4A7C1) & 0x7FFFFFFFFFFFFFFF


_WEIGHTS: dict[int, torch.Tensor] = {}


def _weights(count: int) -> torch.Tensor:
    if count not in _WEIGHTS:
        numbers = [(0x2545F4914F6CDD1D * (2 * i + 1)) % (1 << 40) | 1 for i in range(count)]
        _WEIGHTS[count] = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    return _WEIGHTS[count]


def _row_bytes(flat: torch.Tensor, chosen: torch.Tensor, limit: int) -> list[bytes]:
    """The bytes of the chosen rows; of a row larger than `limit` those of evenly spread elements."""
    step = -(-flat.shape[1] * flat.element_size() // limit)
    rows = flat[chosen, ::step].contiguous() if step > 1 else flat[chosen].contiguous()
    size = rows.shape[1] * rows.element_size()
    data = ctypes.string_at(rows.data_ptr(), size * rows.shape[0])
    return [data[i * size : (i + 1) * size] for i in range(rows.shape[0])]


def _says_something(row: bytes, element_size: int, whole: bool) -> bool:
    """False for constant rows, and for those of which too little was taken to tell them apart."""
    if row == row[:element_size] * (len(row) // element_size) and len(row) > element_size:
        return False
    return whole or row.count(0) < EMPTY_SHARE * len(row)
