"""The line of a program that keeps something: that adds to a container, or sums up."""

from __future__ import annotations

import dis
import types
from collections.abc import Collection, Sequence
from typing import Any

import torch

from .frames import variables
from .graph_marks import down_the_scalings
from .loader_description import attributes
from .program import only_line
from .where import Line

ADDING = frozenset("append appendleft add insert extend setdefault update".split())
MOST_ATTRIBUTES = 200


def names_of(container: object, frame: types.FrameType) -> set[str]:
    """Variables of the frame, and attributes of what stands in them, that hold the container."""
    found = set()
    for name, value in variables(frame).items():
        if value is container:
            found.add(name)
            continue
        inside = attributes(value)
        if len(inside) <= MOST_ATTRIBUTES:
            found.update(key for key, held in inside.items() if held is container)
    return found


def adds_to(names: Collection[str], frames: Sequence[types.FrameType]) -> Line | None:
    """The only line that adds to the container that bears the names; None where there are several, or none is found."""

    def adds(instructions: Sequence[dis.Instruction]) -> bool:
        loaded = {i.argval for i in instructions if i.opname.startswith("LOAD_") and i.opname != "LOAD_CONST"}
        how = not ADDING.isdisjoint(loaded) or any(i.opname == "STORE_SUBSCR" for i in instructions)
        return how and not loaded.isdisjoint(names)

    return only_line(frames, adds)


def sums_up(newest: object, key: str, frames: Sequence[types.FrameType]) -> Line | None:
    """The only line that adds to the tensor that was summed up from the node whose metadata have the mark `newest` under `key`."""
    names = {name for frame in frames for name, value in variables(frame).items() if _is_sum_with(value, newest, key)}

    def adds(instructions: Sequence[dis.Instruction]) -> bool:
        stored = {i.argval for i in instructions if i.opname.startswith("STORE_")}
        return any(i.opname.startswith(("BINARY_", "INPLACE_")) for i in instructions) and not stored.isdisjoint(names)

    return only_line(frames, adds) if names else None


def _is_sum_with(value: Any, mark: object, key: str) -> bool:
    if type(value) is not torch.Tensor or value.grad_fn is None or value.dim():
        return False
    node: Any = value.grad_fn
    following = [behind for behind, _ in node.next_functions if behind is not None]
    return len(following) > 1 and any(n.metadata.get(key) is mark for behind in following for n in down_the_scalings(behind))
