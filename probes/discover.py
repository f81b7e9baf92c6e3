"""Find the optimizers and models of a process that did not tell us of them, and name their parameters."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterable
from typing import Any

import torch

from .modules import children, named_parameters, own_attributes, parameters
from .threads import frames_of_threads

WALK_LIMIT = 200_000
_PLAIN = (int, float, str, bool, type(None))
"""To write down a tensor of a GPU would be to wait for it."""


def live_objects() -> tuple[list[torch.optim.Optimizer], list[torch.nn.Module]]:
    """Every optimizer and every root module (no module's child) that has parameters."""
    optimizers, modules = _sort(gc.get_objects())
    if not optimizers and not modules:
        optimizers, modules = _sort(_reachable(frames_of_threads()))  # after gc.freeze() the collector lists nothing
    inner = {id(child) for module in modules.values() for _, child in children(module)}
    roots = [m for identity, m in modules.items() if identity not in inner and next(parameters(m), None) is not None]
    return optimizers, [root for root in roots if not isinstance(root, torch.nn.modules.loss._Loss)]


def _sort(objects: Iterable[Any]) -> tuple[list[torch.optim.Optimizer], dict[int, torch.nn.Module]]:
    optimizers: list[torch.optim.Optimizer] = []
    modules: dict[int, torch.nn.Module] = {}
    for found in objects:
        kind = type(found)  # isinstance() would run the user's code behind __class__ of lazy proxies
        if issubclass(kind, torch.optim.Optimizer):
            optimizers.append(found)
        elif issubclass(kind, torch.nn.Module) and "_parameters" in own_attributes(found):
            modules[id(found)] = found
    return optimizers, modules


def _reachable(frames: list[types.FrameType]) -> Iterable[Any]:
    """What the main module and the frames' globals refer to, directly or through containers."""
    todo: list[Any] = [module.__dict__ for name, module in list(sys.modules.items()) if name == "__main__"]
    for frame in frames:
        walk: types.FrameType | None = frame
        while walk is not None:
            todo.append(walk.f_globals)
            walk = walk.f_back
    # A function's local variables are reached through its frame's referents, not through f_locals, which would write to it.
    todo += frames
    seen: set[int] = set()
    skip = (str, bytes, int, float, types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, torch.Tensor)
    while todo and len(seen) < WALK_LIMIT:
        found = todo.pop()
        if id(found) in seen or issubclass(type(found), skip):
            continue
        seen.add(id(found))
        yield found
        todo.extend(gc.get_referents(found))


def parameter_names(roots: list[torch.nn.Module]) -> dict[int, str]:
    """id of a parameter -> its name as the model's state_dict has it, without the wrappers of torch.compile and DDP."""
    names: dict[int, str] = {}
    for root in roots:
        prefix = f"{type(root).__name__}." if len(roots) > 1 else ""
        for name, parameter in named_parameters(root):
            names.setdefault(id(parameter), prefix + plain_name(name))
    return names


def plain_name(name: str) -> str:
    name = name.replace("_orig_mod.", "").replace("_fsdp_wrapped_module.", "")
    return name[len("module.") :] if name.startswith("module.") else name


def hyperparameters(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """The plain numbers and flags of the first parameter group."""
    group = optimizer.param_groups[0] if optimizer.param_groups else {}
    return {
        str(k): list(v) if isinstance(v, tuple) else v
        for k, v in group.items()
        if k != "params" and all(isinstance(one, _PLAIN) for one in (v if isinstance(v, tuple) else (v,)))
    }


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """Of the first group; NaN where it lives on a GPU, which would have to be waited for."""
    value = optimizer.param_groups[0].get("lr") if optimizer.param_groups else None
    if isinstance(value, torch.Tensor):
        return float(value) if value.device.type == "cpu" and value.numel() == 1 else float("nan")
    return float(value) if isinstance(value, (int, float)) else float("nan")


def own_step_count(optimizer: torch.optim.Optimizer) -> int | None:
    """How many steps the optimizer itself has counted (Adam and its kin); None where it does not, or counts on a GPU."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            count = optimizer.state[parameter].get("step") if parameter in optimizer.state else None
            if isinstance(count, torch.Tensor):
                return int(count) if count.device.type == "cpu" and count.numel() == 1 else None
            if isinstance(count, (int, float)):
                return int(count)
    return None
