"""Where a forward cuts parameters off from their gradients: a detach() of what was computed from them, or a no_grad() around their
module.

No hook of torch's tells of a detach(), which is a method written in C. So for once the interpreter is asked to tell of all calls of
the thread, from one step to the next, by a profile function, and of so many calls at most; not where the program has
a profile function of its own, nor where a compiler has read its code.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from . import dynamo
from .frames import variables
from .losses import plain_tensor
from .where import MODULE_CALLS, Line, UserLines

MOST_CALLS = 200_000
"""Calls and returns: some tens of milliseconds."""
MOST_NODES = 50_000
"""Of autograd's graphs that are walked through, in all."""
DETACH, NO_GRAD = "detach()", "no_grad()"


class Cut(NamedTuple):
    """What cuts a parameter off, and the line."""

    by: str
    where: Line | None


class CutGraph:
    """One look, from `begin` to `end`."""

    def __init__(self, lines: UserLines) -> None:
        self._lines = lines
        self._wanted: Mapping[int, int] = {}
        self._found: dict[int, Cut] = {}
        self._with_gradient: set[int] = set()
        "Positions of parameters whose module ran where gradients are made."
        self._calls_left = self._nodes_left = 0
        self._pid = os.getpid()
        self._looks = False

    def begin(self, wanted: Mapping[int, int]) -> None:
        """`wanted`: positions of the parameters to look for, by their identity."""
        self.end()
        if sys.getprofile() is not None or dynamo.has_compiled_frames():
            return
        self._wanted, self._found, self._with_gradient = wanted, {}, set()
        self._calls_left, self._nodes_left = MOST_CALLS, MOST_NODES
        self._looks = True
        sys.setprofile(self._event)

    def end(self) -> dict[int, Cut]:
        """What was found, by position; nothing where there were too many calls to see all."""
        if not self._looks:
            return {}
        self._stop()
        found, self._found = self._found, {}
        return {i: cut for i, cut in found.items() if cut.by == DETACH or i not in self._with_gradient}

    def _stop(self) -> None:
        self._looks = False
        if sys.getprofile() == self._event:
            sys.setprofile(None)

    def _event(self, frame: types.FrameType, event: str, function: Any) -> None:
        try:
            self._calls_left -= 1
            if not self._looks:  # taken out on another thread, or put in again by what keeps and restores profile functions
                sys.setprofile(None)
            elif self._calls_left < 0 or os.getpid() != self._pid:
                self._found = {}
                self._stop()
            elif event == "c_call":
                if getattr(function, "__name__", None) == "detach":
                    self._detached(getattr(function, "__self__", None), frame)
            elif event == "call" and frame.f_code.co_name in MODULE_CALLS:
                self._module_called(variables(frame, ("self",)).get("self"), frame)
        except Exception:  # it would reach the program
            self._found = {}
            self._stop()

    def _detached(self, tensor: Any, frame: types.FrameType) -> None:
        if not isinstance(tensor, torch.Tensor) or not plain_tensor(tensor) or tensor.grad_fn is None:
            return
        for position in self._computed_from(tensor.grad_fn):
            self._found[position] = Cut(DETACH, self._lines.here(frame))

    def _computed_from(self, start: Any) -> list[int]:
        """Positions of the wanted parameters in a graph."""
        met, todo, found = {start}, [start], []
        while todo and self._nodes_left > 0:
            self._nodes_left -= 1
            node = todo.pop()
            position = self._wanted.get(id(getattr(node, "variable", None)))
            if position is not None:
                found.append(position)
            new = {following for following, _ in node.next_functions if following is not None} - met
            met |= new
            todo += new
        return found

    def _module_called(self, module: Any, frame: types.FrameType) -> None:
        if not isinstance(module, torch.nn.Module) or not module.training:
            return
        mine = [i for p in module._parameters.values() if (i := self._wanted.get(id(p))) is not None]
        if mine and torch.is_grad_enabled():
            self._with_gradient.update(mine)
        elif mine:
            self._found.update(dict.fromkeys(mine, Cut(NO_GRAD, self._lines.here(frame))))
