"""What a save call wrote: the path, and what is in it at its top level. Nothing is read back, no value is waited for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import torch

from .modules import named_parameters, parameters
from .where import in_working_directory

MOST_KEYS = 30
MOST_SCALARS = 12
_PROGRESS = re.compile(r"step|iter|epoch|loss|acc|metric|score|best|perplexity|ppl|auc|f1|error", re.IGNORECASE)
"""Names under which a loop keeps how far it was and how good."""


def path_of(target: object) -> str | None:
    """The file a save call wrote to; None for a buffer in memory. Addresses of other storage stay as they are."""
    name = target if isinstance(target, (str, os.PathLike)) else getattr(target, "name", None)
    if not isinstance(name, (str, os.PathLike)):
        return None
    path = os.fspath(name)
    path = path if isinstance(path, str) else os.fsdecode(path)
    return path if is_remote(path) else in_working_directory(path)


def is_remote(path: str) -> bool:
    return "://" in path


def contents_of(saved: object) -> dict[str, Any]:
    """`keys`, `has_weights`, `has_optimizer` (null where it cannot be told), `scalars` of the top level."""
    return {
        "keys": keys_of(saved),
        "has_weights": has_weights(saved),
        "has_optimizer": has_optimizer(saved),
        "scalars": scalars_of(saved),
    }


def keys_of(saved: object) -> list[str] | None:
    """Top-level keys of a saved dictionary, None for anything else."""
    return [str(key) for key in list(saved)[:MOST_KEYS]] if isinstance(saved, dict) else None


def has_optimizer(saved: object) -> bool | None:
    """Whether an optimizer's state is among the values; None when the object is no dictionary."""
    if not isinstance(saved, dict):
        return False if isinstance(saved, torch.nn.Module) else None
    return any(_is_optimizer_state(value) for value in [saved, *_values(saved)])


def _is_optimizer_state(value: Any) -> bool:
    if isinstance(value, (list, tuple)) and value:
        value = value[0]
    if isinstance(value, torch.optim.Optimizer):
        return True
    return isinstance(value, dict) and "param_groups" in value and "state" in value


def has_weights(saved: object) -> bool | None:
    """Whether there are a model's weights in it; None when the object is of a kind unknown to us."""
    if isinstance(saved, torch.nn.Module):
        return True
    return any(True for _ in weights_in(saved)) if isinstance(saved, dict) else None


def weights_in(saved: object) -> Iterator[dict[str, Any]]:
    """The state_dicts in a saved object, by name of parameter; an optimizer's, and states of random generators, are none."""
    if not isinstance(saved, (dict, torch.nn.Module)):
        return
    for value in [saved, *(_values(saved) if isinstance(saved, dict) else ())]:
        if isinstance(value, torch.nn.Module):
            yield _by_own_name(dict(named_parameters(value)))
        elif isinstance(value, dict) and not _is_optimizer_state(value) and any(map(_is_weight, _values(value))):
            yield _by_own_name(value)


def _by_own_name(weights: dict[Any, Any]) -> dict[str, Any]:
    """As the program's own model has them, also where it is one wrapped (DDP, an average of its weights) that was saved."""
    return {own_name(name): value for name, value in dict.items(weights) if isinstance(name, str)}


def _is_weight(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dim() > 0 and (value.is_floating_point() or value.is_complex())


def _values(saved: dict[Any, Any]) -> list[Any]:
    return list(dict.values(saved))[:MOST_KEYS]


def scalars_of(saved: object) -> dict[str, float]:
    """Numbers at the top level, by key: the step, the epoch, the metric as the loop keeps them."""
    found: dict[str, float] = {}
    for key, value in list(dict.items(saved))[:MOST_KEYS] if isinstance(saved, dict) else []:
        if _is_number_on_the_host(value):
            value = value.item()
        if type(value) in (int, float) and len(found) < MOST_SCALARS:
            found[str(key)[:100]] = value
    return found


def _is_number_on_the_host(value: Any) -> bool:
    if type(value) is torch.Tensor:
        return value.dim() == 0 and value.device.type == "cpu"
    return type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0


def tells_progress(scalars: dict[str, float], keys: list[str] | None) -> bool:
    """Whether a step, an epoch or a metric is kept beside the weights."""
    return any(_PROGRESS.search(key) for key in scalars) or any(key in ("trainer_state", "progress") for key in keys or [])


def own_name(name: str) -> str:
    """Of a parameter, without what DDP and torch.compile() put before it."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def holds(saved: object, root: torch.nn.Module | None) -> bool | None:
    """Whether the weights in it are those that `root` has now; False for a copy taken earlier, None where they cannot be compared."""
    if root is None or saved is root:
        return None if root is None else True
    for name, parameter in named_parameters(root):
        if parameter.requires_grad and 1 < parameter.numel() <= 1_000_000 and type(parameter.data) is torch.Tensor:
            name = own_name(name)
            same = [_same(weights[name], parameter) for weights in weights_in(saved) if name in weights]
            return True if True in same else None if not same or None in same else False
    return None


def runs_on_cpu(root: torch.nn.Module | None) -> bool:
    """Whether what is saved can be compared with the weights that `root` has now: those of a GPU would have to be waited for."""
    first = next(parameters(root), None) if root is not None else None
    return first is None or first.device.type == "cpu"


def _same(saved: Any, live: torch.Tensor) -> bool | None:
    if not isinstance(saved, torch.Tensor) or saved.device != live.device:
        return None  # brought to the host for saving, as most do
    if saved.shape != live.shape or saved.dtype != live.dtype:
        return None  # gathered, rounded, or of another model
    if saved.data_ptr() == live.data_ptr():
        return True
    # The values of a GPU cannot be compared without waiting for it.
    return torch.equal(saved.detach(), live.detach()) if live.device.type == "cpu" else False
