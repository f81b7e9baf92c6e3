"""Whether the program keeps a copy of its weights in memory. Looks through all objects: rarely, and off the loop's thread."""

from __future__ import annotations

import gc
from collections import OrderedDict
from typing import Any

import torch

from .modules import buffers, parameters

MOST_OTHERS = 20
"""Values looked at before a dictionary is taken to hold no tensors."""


def copy_in_memory(root: torch.nn.Module) -> bool:
    """A dictionary of tensors or a model of the same shapes as `root`, whose tensors are not its own.

    Lists are left out: an optimizer's step, which may run beside us, fills several with tensors of these shapes.
    """
    live = [p for p in parameters(root) if p.requires_grad]
    if not live:
        return False
    shapes = {tuple(p.shape) for p in live}
    own = {p.data_ptr() for p in [*parameters(root), *buffers(root)] if _is_plain(p)}
    kind, count = type(root), len(live)
    # At once, as the list of all keeps alive every tensor that the loop lets go of meanwhile.
    things = [one for one in gc.get_objects() if (found := type(one)) is dict or found is OrderedDict or found is kind]
    for thing in things:
        if type(thing) is kind:
            values = [] if thing is root else list(parameters(thing))
        elif len(thing) >= count:
            values = list(thing.values())
        else:
            continue
        if _is_copy(values, shapes, own, count):
            return True
    return False


def _is_copy(values: list[Any], shapes: set[tuple[int, ...]], own: set[int], count: int) -> bool:
    if not any(_is_plain(value) for value in values[: MOST_OTHERS + 1]):
        return False
    others = [value for value in values if _is_plain(value) and tuple(value.shape) in shapes]
    return sum(value.data_ptr() not in own for value in others) >= count


def _is_plain(value: Any) -> bool:
    return type(value) in (torch.Tensor, torch.nn.Parameter) and value.device.type != "meta" and value.layout is torch.strided
