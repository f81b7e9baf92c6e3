"""A model's modules, parameters and buffers, in the order and with the names that torch gives them, read where torch keeps them.

None of a model's own methods is called and no attribute of it is looked up: it may have overridden parameters(), named_modules(),
__getattr__ and all the rest, and what it has put there may print, count, be slow or fail. So what an override adds or leaves out is
unknown to us: a parameter is one of a model if it is registered there, as for state_dict() and for the model's move to a device.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, cast

import torch

Named = Iterator[tuple[str, torch.Tensor]]


def own_attributes(module: torch.nn.Module) -> dict[str, Any]:
    """What is kept in the instance itself; not through a __getattribute__ of the program's."""
    return cast(dict[str, Any], object.__getattribute__(module, "__dict__"))


def children(module: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    """By name; one that is there under two names twice, as in torch's `_modules`."""
    return [(name, child) for name, child in _entries(module, "_modules") if issubclass(type(child), torch.nn.Module)]


def named_modules(root: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Itself, by the empty name, and all within; one that is shared once, under its first name."""
    seen: dict[int, torch.nn.Module] = {}
    todo = [("", root)]
    while todo:
        name, module = todo.pop()
        if id(module) in seen:
            continue
        seen[id(module)] = module  # kept, so that its id stays its own
        yield name, module
        todo += reversed([(_joined(name, child), inner) for child, inner in children(module)])


def named_parameters(root: torch.nn.Module) -> Named:
    """Each once, under its first name."""
    return _named_tensors(root, "_parameters")


def parameters(root: torch.nn.Module) -> Iterator[torch.Tensor]:
    return (parameter for _, parameter in named_parameters(root))


def buffers(root: torch.nn.Module) -> Iterator[torch.Tensor]:
    return (buffer for _, buffer in _named_tensors(root, "_buffers"))


def _named_tensors(root: torch.nn.Module, kind: str) -> Named:
    seen: dict[int, torch.Tensor] = {}
    for prefix, module in named_modules(root):
        for name, tensor in _entries(module, kind):
            if tensor is not None and id(tensor) not in seen:
                seen[id(tensor)] = tensor
                yield _joined(prefix, name), tensor


def _entries(module: torch.nn.Module, kind: str) -> list[tuple[str, Any]]:
    """As they are now, at once: the program may change them meanwhile. Of a module that is only being built there may be none."""
    found: Any = own_attributes(module).get(kind)
    if isinstance(found, OrderedDict):
        return list(OrderedDict.items(found))
    if isinstance(found, dict):
        return list(dict.items(found))  # sharded training fetches a parameter that its own kind of dictionary is asked for
    return list(found.items()) if type(found).__module__.startswith("torch.jit.") else []


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
