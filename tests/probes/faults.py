"""Put before a script, after everything.py: attaches again and again within one process, and makes one place of ours fail each time.

A place is a function of ours by its qualified name, as the guard reports it. `visited` counts the calls of each.
"""

import collections
import functools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

config = json.loads(sys.argv[1])
visited: collections.Counter[str] = collections.Counter()
armed: set[str] = set()


def load() -> dict[str, Any]:
    """Our modules, loaded once; every session of theirs then is one attach."""
    namespace: dict[str, Any] = {"__name__": "_forgemon_bootstrap", "__file__": config["bootstrap"]}
    exec(compile(Path(config["bootstrap"]).read_text(), config["bootstrap"], "exec"), namespace)
    namespace["load"](os.path.dirname(config["bootstrap"]))
    return {name.rpartition(".")[2]: module for name, module in sys.modules.items() if name.startswith("_forgemon_probes.")}


def faulty(function: Callable[..., Any]) -> Callable[..., Any]:
    place = function.__qualname__

    @functools.wraps(function)
    def call(*values: Any, **named: Any) -> Any:
        visited[place] += 1
        if place in armed:
            raise ZeroDivisionError(place)
        return function(*values, **named)

    return call


class Modes:
    """A schedule that comes by every mode: observed steps, the loss alone, and steps asleep."""

    budget = 0.01

    def __init__(self, plan: Callable[[int, bool], Any]) -> None:
        self._plan = plan
        self._count = 0

    def after_observed(self, *_: Any) -> Any:
        self._count += 1
        return self._plan(0, False) if self._count % 4 else self._plan(1, True)

    def after_loss(self, *_: Any) -> Any:
        return self._plan(1, False)

    after_roused = after_rest = after_observed

    def is_overdrawn(self, *_: float) -> bool:
        return False


def make_places(ours: dict[str, Any]) -> None:
    """Every function of ours that is called from outside goes through `faulty`."""
    guard, submit = ours["guard"].Guard, ours["transfer"].Transfer.submit
    wrap = guard.__call__

    def wrapped(self: Any, callback: Any, *, light: Any = None, **others: Any) -> Any:
        return wrap(self, faulty(callback), light=None if light is None else faulty(light), **others)

    def submitted(self: Any, scalars: Any, deliver: Any, rare: bool = False) -> Any:
        return submit(self, scalars, faulty(deliver), rare)

    guard.__call__, ours["transfer"].Transfer.submit = wrapped, submitted
    guard.calibrate = ours["steps"].Steps.calibrate = lambda self, *_: None
    for module, kind, names in (
        ("rows", "Row", ["take"]),
        ("session", "Session", ["_prepare"]),
        ("uncaught", "Uncaught", ["_raised"]),
        ("run_folder", "RunFolder", ["write_info"]),
        ("period", "Period", ["passes"]),
        ("loop", "Loop", ["flush_evaluations"]),
        ("transfer", "Transfer", ["poll", "finish"]),
        ("steps", "Steps", ["wake_blind"]),
        ("writer", "Writer", ["_append", "_write_line"]),
    ):
        for name in names:
            owner = getattr(ours[module], kind)
            setattr(owner, name, faulty(getattr(owner, name)))


def attach(ours: dict[str, Any], name: str, every_mode: bool = True) -> Any:
    """`every_mode`: come by all of them; else observe every step."""
    run = {"run_dir": os.path.join(config["runs"], name), "mode": "attach", "forgemon": "test", "budget": 0.0}
    session = ours["session"].Session({**run, "probes_dir": os.path.dirname(config["bootstrap"])})
    if every_mode:
        session.steps.pace.schedule = Modes(ours["schedule"].Plan)
    probes = session.probes
    probes._listeners = {event: [(probe, faulty(hear)) for probe, hear in hears] for event, hears in probes._listeners.items()}
    for probe in probes.all:
        probes.arrange(probe)
        probe.install = faulty(probe.install)
        if probe in probes._with_columns:
            probe.columns = faulty(probe.columns)
    session.enter()
    return session


def gone(session: Any) -> None:
    """Until nothing of it runs."""
    while session._moment._actions:
        pass
    session.leave("asked to")
    session.writer._ended.acquire()


def events(session: Any, kind: str) -> list[dict[str, Any]]:
    with open(os.path.join(session.writer.directory, "events.jsonl")) as file:
        return [event for event in map(json.loads, file) if event["kind"] == kind]
