"""sys.monitoring, from 3.12 on: of its six tool ids ours is one that nobody else wants, and all that we set for it goes with us."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from probes.observe import new_observer
from tests.probes.common_script import COMMON, TRAIN
from tests.probes.watched import ATTACH, attach_argument, column, read, run_script

pytestmark = pytest.mark.skipif(sys.version_info < (3, 12), reason="comes with 3.12")
monitoring: Any = getattr(sys, "monitoring", None)

LOOP = (
    COMMON
    + ATTACH
    + TRAIN
    + """
import cProfile
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
BEFORE
session = attach()
train(4)
AFTER
train(4)
print(model.weight.sum().item())
"""
)
TAKE = "for tool in range(5): sys.monitoring.use_tool_id(tool, 'theirs')"


def _same(before: str, after: str, folder: Path) -> None:
    source = LOOP.replace("BEFORE", before).replace("AFTER", after)
    plain = run_script(source, folder, "{}", watched=False)
    watched = run_script(source, folder, attach_argument(folder), watched=False)
    assert (watched.stdout, watched.stderr) == (plain.stdout, plain.stderr)
    assert len(column(read(folder), "step")) == 8


def test_tools_of_the_program_find_theirs_after_us(tmp_path: Path) -> None:
    profile = "sys.monitoring.free_tool_id(2)\ncProfile.Profile().runcall(print, 'profiled')"
    _same("pass", f"{TAKE}\n{profile}", tmp_path)


def test_the_last_one_that_is_free_is_enough(tmp_path: Path) -> None:
    _same(TAKE, "pass", tmp_path)


def test_who_holds_the_ids_is_said_where_none_is_left() -> None:
    taken = [tool for tool in (3, 4, 5) if monitoring.get_tool(tool) is None]
    for tool in taken:
        monitoring.use_tool_id(tool, "theirs")
    try:
        with pytest.raises(RuntimeError, match=r"theirs.*end one of them, then attach again"):
            new_observer()
    finally:
        for tool in taken:
            monitoring.free_tool_id(tool)


def test_what_is_set_goes_with_us_where_the_program_has_freed_our_id() -> None:
    seen: list[Any] = []

    def function(a: int) -> int:
        return a

    before = [monitoring.get_tool(tool) for tool in range(6)]
    observer = new_observer()
    (ours,) = [tool for tool in range(6) if monitoring.get_tool(tool) != before[tool]]
    assert observer.observe(function, seen.append)
    monitoring.free_tool_id(ours)
    observer.remove()
    function(1)
    assert seen == [] and [monitoring.get_tool(tool) for tool in range(6)] == before
    monitoring.use_tool_id(ours, "theirs")
    try:
        assert monitoring.get_local_events(ours, function.__code__) == 0
    finally:
        monitoring.free_tool_id(ours)
