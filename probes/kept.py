"""Scalar variables of the frames that lead to the optimizer's step: losses and metrics that the loop keeps by name."""

from __future__ import annotations

import time
import types
from typing import TYPE_CHECKING, Any

import torch

from .counters import EPOCHS, STEPS, Counters, epoch_among, epoch_of_loop
from .directions import better, words
from .frames import variables
from .scalars import host_number
from .series import AllSeries, Series
from .where import Line

if TYPE_CHECKING:
    from .session import Session

MOST_NAMES = 64
MOST_WITHOUT_DIRECTION = 32
"""Of those names; so that sums and temporaries leave room for losses and metrics."""
MOST_SCOPES = 64
MOST_IN_SCOPE = 500
TIMES = frozenset(
    (
        "time start started begin began end ended stop elapsed tic toc tick t0 t1 t2 now dt duration timestamp clock seconds secs "
        "ms eta"
    ).split()
)
NEAR_NOW_S = 1e8
"""A number so near to the clock's is a time, whatever it is called."""

_NO_NUMBERS = frozenset(
    map(id, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type, str, dict, list, tuple, type(None)))
)
"""Identities of the types of what most names of a module stand for."""

Scope = tuple[str, str, int]
"""File, function and first line of it."""
Seen = tuple[float, int]
"""Value and step of a look."""


class Kept:
    """Looks at the variables when told to, and records those that changed since."""

    def __init__(self, session: Session, series: AllSeries) -> None:
        self._session = session
        self._series = series
        self._counters = Counters(session)
        self._scopes: dict[Scope, dict[str, float]] = {}
        self._first: dict[tuple[Scope, str], Seen] = {}
        "What stood when a scope was first looked at: recorded once it changes, since most of it are constants."
        self._by_variable: dict[tuple[Scope, str], Series | None] = {}
        self._with_direction = self._without = 0
        self._main: Scope = ("", "", 0)
        "The main module's, once its frame led to a step."
        self._epoch: tuple[int, int | None] = (-1, None)
        "A step and the epoch that it was part of: when a result shows in a variable, the next epoch may have begun."

    def look(self, training_step: int) -> None:
        """`training_step` is the step that numbers of training belong to; those of validation belong to the steps done."""
        frames = list(self._session.lines.frames())
        self._main = next((_scope_of(frame.f_code) for frame in frames if _is_main(frame)), self._main)
        found = [(_scope_of(frame.f_code), variables(frame)) for frame in frames]
        for scope, values in found:
            if scope in self._scopes or len(self._scopes) < MOST_SCOPES:
                self._look_at(scope, values, training_step)
        self._note_epoch(training_step, epoch_among(values for _, values in found))

    def validation_begins(self) -> None:
        """The epoch is still that of the training before."""
        if self._epoch[0] != self._session.step_now():
            self._note_epoch(self._session.step_now(), epoch_of_loop(self._session))

    def _note_epoch(self, step: int, named: int | None) -> None:
        if self._epoch[0] != step:
            self._epoch = (step, self._session.steps.validation.epoch_or_passes(named))

    def look_at_module(self, module: types.ModuleType | None) -> None:
        """At the end, when no frame of the program is left."""
        if module is not None and self._main in self._scopes:  # it has no __file__ any more
            self._look_at(self._main, dict(vars(module)), self._session.step_now())

    def _look_at(self, scope: Scope, values: dict[str, Any], training_step: int) -> None:
        is_new = scope not in self._scopes
        known = self._scopes.setdefault(scope, {})
        for name, value in values.items():
            if id(type(value)) in _NO_NUMBERS or _is_trained(value):
                continue
            number = host_number(value)
            if number is None:
                continue
            if type(value) is int and name in STEPS:
                self._counters.look(scope, name, value, training_step)
            before = known.get(name)
            if number == before or (number != number and before is not None and before != before):
                continue
            if before is None and len(known) >= MOST_IN_SCOPE:
                continue
            known[name] = number
            if is_new:
                self._first[scope, name] = (number, training_step)
            elif type(value) is not int or better(name) is not None:
                self._changed(scope, name, (number, training_step))

    def _changed(self, scope: Scope, name: str, now: Seen) -> None:
        if (scope, name) not in self._by_variable:
            self._by_variable[scope, name] = self._new_series(scope, name, now[0])
        series = self._by_variable[scope, name]
        if series is None:
            return
        first = self._first.pop((scope, name), None)
        done = self._session.step_now()
        if first is not None:
            self._series.offer(series, first[0], min(first[1], done), every=False)
        self._series.offer(series, now[0], done if series.is_validation else now[1], every=False)
        self._series.result(series, now[0], done, None, self._epoch[1] if self._epoch[0] == done else None)

    def _new_series(self, scope: Scope, name: str, value: float) -> Series | None:
        """None for names that are no measure, and beyond the bounds."""
        has_direction = better(name) is not None
        if name.startswith("_") or name in EPOCHS or (not has_direction and _is_a_time(name, value)):
            return None
        if has_direction:
            self._with_direction += 1
        else:
            self._without += 1
        if self._with_direction + self._without > MOST_NAMES or (self._without > MOST_WITHOUT_DIRECTION and not has_direction):
            return None
        others = any(known == name and series is not None for (_, known), series in self._by_variable.items())
        own_name = f"{name} ({scope[1]})" if others else name
        return self._series.find("local", own_name, Line(scope[0], scope[2], scope[1]))


def _scope_of(code: types.CodeType) -> Scope:
    return code.co_filename, code.co_name, code.co_firstlineno


def _is_main(frame: types.FrameType) -> bool:
    return frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") == "__main__"


def _is_trained(value: Any) -> bool:
    """A parameter, or what gradients are gathered for as if it were one: it changes with every step, and measures nothing."""
    if type(value) is torch.nn.Parameter:
        return True
    return type(value) is torch.Tensor and value.requires_grad and value.is_leaf


def _is_a_time(name: str, value: float) -> bool:
    return not TIMES.isdisjoint(words(name)) or abs(value - time.time()) < NEAR_NOW_S
