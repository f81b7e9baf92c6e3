"""What keeps an old loss alive: found once, on suspicion, by asking the garbage collector. Takes tens of milliseconds."""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .cuts import only_grows
from .keeping import adds_to, names_of, sums_up
from .where import Line

MOST_LEVELS = 3
MOST_HOPS = 4
MOST_TENSORS = 5000
FEW = 16
"""Items of a container that is a part of something larger, such as a (step, loss) pair."""


class Holder(NamedTuple):
    """Where old losses are kept."""

    kind: str
    "list, dict, set, deque, running sum, or unknown."
    length: int | None
    limit: int | None
    "Of a container that lets go of its oldest: most items it holds."
    only_grows: bool = False
    "Whether the program has no code that takes anything out of it again."
    where: Line | None = None
    "The line that keeps them, where there is but one."


def find_holder(
    tensor: torch.Tensor | None,
    mark: object,
    newest: object,
    key: str,
    frames: Sequence[types.FrameType],
    few: int | None = None,
) -> Holder:
    """Who holds the loss `tensor`, or what was computed from it when it is gone itself; its graph bears `mark` under `key`, that of
    the newest loss `newest`.

    `frames`: the program's own that are running; `few`: items at least of a container that counts."""
    if tensor is None:
        tensor = _computed_from(mark, key)
    if tensor is None:
        return Holder("running sum", None, None, only_grows=True, where=sums_up(newest, key, frames))
    level: list[Any] = [tensor]
    seen: list[Any] = [level]
    for _ in range(MOST_LEVELS):
        ours = {id(found) for found in seen}
        above = [
            f for f in gc.get_referrers(*level) if id(f) not in ours and not isinstance(f, _PASSING) and not _is_namespace(f)
        ]
        best = [(holder, one) for one in above if (holder := _container(one, FEW if few is None else few)) is not None]
        if best:
            holder, container = min(best, key=lambda entry: entry[0].limit is None)
            grows = holder.limit is None and only_grows(container, frames)
            names = {name for frame in frames for name in names_of(container, frame)}
            return holder._replace(only_grows=grows, where=adds_to(names, frames))
        level = above[:FEW]
        seen += [above, level, *above]
        if not level:
            break
    return Holder("unknown", None, None)


_KINDS: tuple[Any, ...] = (list, dict, set)
_PASSING = (types.FrameType, types.ModuleType, types.FunctionType, types.CellType, types.GeneratorType, type)


def _container(found: Any, few: int) -> Holder | None:
    """By the methods of the built-in types: a subclass may have its own."""
    if isinstance(found, deque):
        descriptor: Any = vars(deque)["maxlen"]
        return Holder("deque", deque.__len__(found), descriptor.__get__(found))
    for kind in _KINDS:
        if isinstance(found, kind):
            length = kind.__len__(found)
            return Holder(kind.__name__, length, None) if length >= few else None
    return None


def _is_namespace(found: Any) -> bool:
    """The variables of a module."""
    modules = [m for m in list(sys.modules.values()) if issubclass(type(m), types.ModuleType)]
    return isinstance(found, dict) and any(vars(module) is found for module in modules)


def _computed_from(mark: object, key: str) -> torch.Tensor | None:
    """A tensor a few operations behind the marked node: `loss / 4` for example. A running sum is further away."""
    asked = 0
    for found in gc.get_objects():
        if type(found) is not torch.Tensor or found.grad_fn is None:
            continue
        asked += 1
        if asked > MOST_TENSORS:
            break
        node: Any = found.grad_fn
        for _ in range(MOST_HOPS):
            if node.metadata.get(key) is mark:
                return found
            inputs = [following for following, _ in node.next_functions if following is not None]
            if len(inputs) != 1:
                break
            node = inputs[0]
    return None
