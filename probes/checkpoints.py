"""What a save call wrote: the path, and whether an optimizer's state is in it. Nothing is read back."""

from __future__ import annotations

import os
from typing import Any

MOST_KEYS = 30


def path_of(target: object) -> str | None:
    """The file a save call wrote to; None for a buffer in memory."""
    name = target if isinstance(target, (str, os.PathLike)) else getattr(target, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        return None
    path = os.fspath(name)
    return os.path.abspath(path) if isinstance(path, str) else os.path.abspath(os.fsdecode(path))


def keys_of(saved: object) -> list[str] | None:
    """Top-level keys of a saved dictionary, None for anything else."""
    return [str(key) for key in list(saved)[:MOST_KEYS]] if isinstance(saved, dict) else None


def has_optimizer(saved: object) -> bool | None:
    """Whether an optimizer's state_dict is among the values; None when the object is no dictionary."""
    if not isinstance(saved, dict):
        return None
    return any(_is_optimizer_state(value) for value in [saved, *list(saved.values())[:MOST_KEYS]])


def _is_optimizer_state(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    return isinstance(value, dict) and "param_groups" in value and "state" in value
