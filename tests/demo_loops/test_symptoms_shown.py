"""Each faulty demo loop is named with its symptom and line, and of each healthy one nothing is said."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from forgemon.demos import symptom_shown
from forgemon.detectors import DETECTED
from tests.demo_loops.demo_run import DEMO_LOOPS
from tests.demo_loops.expected import FAULTY, HEALTHY, NOT_ON_EVERY_MACHINE
from tests.demo_loops.fixes import words_followed
from tests.demo_loops.watched_demo import Watched, watched

ONE_EPOCH = ("--epochs", "1")


def trained(name: str, folder: Path, arguments: tuple[str, ...]) -> Watched:
    run = watched(DEMO_LOOPS / f"{name}.py", folder, arguments)
    assert run.status == 0, run.output[-2000:]
    assert run.output.splitlines()[-1].startswith("done: ")
    assert re.search(r"^epoch +1  train loss \S+  val loss \S+", run.output, re.MULTILINE)
    (checkpoints,) = (path for path in folder.iterdir() if path.name.startswith(f"{name}-"))
    assert len(os.listdir(checkpoints)) == 1
    return run


@pytest.mark.parametrize("name", FAULTY)
def test_a_faulty_one_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    expected, symptom = FAULTY[name], symptom_shown(name.replace("_", "-"))
    shows = symptom in DETECTED and name not in NOT_ON_EVERY_MACHINE
    run = trained(name, tmp_path, expected.arguments if shows else ONE_EPOCH)
    assert run.symptoms("alarm") <= {symptom}, run.findings
    if name in NOT_ON_EVERY_MACHINE:
        return
    if symptom not in DETECTED:
        pytest.skip(f"there is no detector for {symptom} yet")
    found = run.of(symptom)
    assert found is not None, run.findings
    assert found.fix == words_followed(name)
    assert (found.where is not None) == (expected.line != "")
    if found.where is not None:
        assert expected.line in (DEMO_LOOPS / f"{name}.py").read_text().splitlines()[found.where.line - 1]


@pytest.mark.parametrize("name", HEALTHY)
def test_nothing_is_said_of_a_healthy_one(name: str, tmp_path: Path) -> None:
    run = trained(name, tmp_path, HEALTHY[name].arguments)
    assert run.symptoms("alarm", "watch") == set(), run.findings
    assert "no" not in {check.answer for check in run.checked.report.checklist}
