"""One training forward in which every module's output is looked at, to name the first that is not finite though what goes in is."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.modules import module as torch_module
from torch.nn.modules.module import register_module_forward_hook

from . import dynamo
from .batch_inputs import Entry
from .extremes import INFINITY, float_tensors, largest
from .modules import named_modules

if TYPE_CHECKING:
    from .session import Session

MOST_CALLS = 4000
"""Module calls in one forward; of a longer one the rest is not looked at."""


class Call(NamedTuple):
    name: str
    dtype: str
    inputs_seen: bool


class LayerOutputs:
    """Hooks all modules from `begin` until the root's next training forward is over; `done(entries)` gets what was found."""

    def __init__(self, session: Session, done: Callable[[list[Entry]], None]) -> None:
        self._session = session
        self._done = done
        self._handle: Any = None
        self._sees_kwargs = True
        self._root: weakref.ref[torch.nn.Module] | None = None
        self._names: dict[int, str] = {}
        self._calls: list[Call] = []
        self._scalars: list[torch.Tensor] = []

    def begin(self, root: torch.nn.Module | None) -> None:
        """Does nothing where a compiler has read the modules' code: it would do so again."""
        self.end()
        if root is None or dynamo.has_compiled_frames() or getattr(root, "_compiled_call_impl", None) is not None:
            return
        self._root = weakref.ref(root)
        self._names = {id(module): name for name, module in named_modules(root)}
        hook = self._session.guard(self._called, always=True)
        try:
            self._handle, self._sees_kwargs = register_module_forward_hook(hook, with_kwargs=True), True
        except TypeError:  # an older torch, whose global hooks are not told of arguments by name
            self._handle, self._sees_kwargs = register_module_forward_hook(hook), False

    def end(self) -> None:
        """Take the hook out."""
        handle = self._handle
        if handle is not None:
            handle.remove()
            getattr(torch_module, "_global_forward_hooks_with_kwargs", {}).pop(handle.id, None)  # the handle leaves it behind
            self._handle = None
        self._root, self._names, self._calls, self._scalars = None, {}, [], []

    def _called(self, module: torch.nn.Module, *values: Any) -> None:
        if self._handle is None or not torch.is_grad_enabled() or torch._C._get_tracing_state() is not None:
            return
        name = self._names.get(id(module))
        if name is None:
            return
        if len(self._calls) < MOST_CALLS:
            self._look(name, module, float_tensors(values[:-1]), float_tensors(values[-1]))
        if self._root is not None and module is self._root():
            self._finish()

    def _look(self, name: str, module: torch.nn.Module, inputs: list[torch.Tensor], outputs: list[torch.Tensor]) -> None:
        if not outputs:
            return
        weights: list[torch.Tensor] = [p for p in module._parameters.values() if p is not None and p.is_floating_point()]
        dtype = str(outputs[0].dtype).replace("torch.", "")
        label = f"{name} ({type(module).__name__})" if name else type(module).__name__
        self._calls.append(Call(label, dtype, bool(inputs) or self._sees_kwargs))
        # Of each group of tensors one number: a NaN or inf in any of them shows in the sum.
        self._scalars += [_total(group, outputs[0]) for group in (outputs, inputs, weights)]

    def _finish(self) -> None:
        calls, scalars, done = self._calls, self._scalars, self._done
        self.end()
        if calls:
            self._session.transfer.submit(scalars, lambda values: done(origin(calls, values)), rare=True)


def _total(tensors: list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
    if not tensors:
        return torch.zeros((), device=like.device)
    return torch.stack([one.to(like.device, torch.float64, non_blocking=True) for one in largest(tensors)]).sum()


def origin(calls: list[Call], values: list[float]) -> list[Entry]:
    """The first call, in the order of their ends, that made something non-finite of finite inputs and weights, and the last one
    before all that are not finite. What arises between two modules is their parent's. Nothing where weights were not finite."""
    before, any_bad = None, False
    for number, call in enumerate(calls):
        output, inputs, weights = (abs(value) < INFINITY for value in values[3 * number : 3 * number + 3])
        if not output and not weights:
            return []
        if not output and inputs and call.inputs_seen:
            found: Entry = {"stage": "layer", "name": call.name, "finite": False, "dtype": call.dtype}
            earlier: list[Entry] = [] if before is None else [{"stage": "layer", "name": before.name, "finite": True}]
            return [*earlier, found]
        if output and not any_bad:
            before = call
        any_bad = any_bad or not output
    return []
