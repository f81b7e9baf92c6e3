"""forgemon names what is wrong with each demo loop, attached by PID or watched from the start, and nothing in the healthy one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.demo_loops.demo_run import DEMO_LOOPS
from tests.demo_loops.expected import LONG_ENOUGH
from tests.demo_loops.fixes import words_followed

FORGEMON = (sys.executable, "-m", "forgemon")
EVERY_STEP = ("--budget", "0")
"""How many steps are looked at must not depend on what else this machine does."""
EXPECTED = {
    "goes_nan": {("loss-nonfinite", "learning-rate-too-high")},
    "oscillates": {("loss-oscillates", "learning-rate-too-high"), ("loss-climbs", "learning-rate-too-high")},
    "overfits": {("train-val-divergence", "overfitting")},
    "missing_zero_grad": {("missing-zero-grad", "missing-zero-grad")},
}
"""The one alarm of each faulty demo, as symptom and cause."""


def forgemon(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FORGEMON, *arguments], capture_output=True, text=True, timeout=200)


def attached(name: str, runs: Path) -> None:
    """A process that has trained for a while and is then attached to by its PID."""
    done = forgemon("demo", name, "--headless", *EVERY_STEP, "--", *LONG_ENOUGH[name])
    assert done.returncode == 0, done.stderr
    assert f"forgemon check {runs}" in done.stdout


def watched_from_the_start(name: str, runs: Path) -> None:
    script = str(DEMO_LOOPS / f"{name}.py")
    done = forgemon("run", "--headless", *EVERY_STEP, "--run-dir", str(runs), "--", sys.executable, script, *LONG_ENOUGH[name])
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("done: ")


def diagnose(runs: Path) -> dict[str, Any]:
    (run,) = (folder for folder in runs.iterdir() if folder.is_dir())
    checked = forgemon("check", str(run), "--json")
    assert checked.returncode in (0, 1), checked.stderr
    report: dict[str, Any] = json.loads(checked.stdout)
    return report


@pytest.fixture(params=[attached, watched_from_the_start], ids=["attached", "run"])
def record(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Record a demo one way or the other, and return what `forgemon check --json` says of it."""
    runs = tmp_path / "runs"
    monkeypatch.setenv("FORGEMON_RUNS", str(runs))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    way: Callable[[str, Path], None] = request.param

    def record_and_check(name: str) -> dict[str, Any]:
        way(name, runs)
        return diagnose(runs)

    return record_and_check


def told(report: dict[str, Any], *levels: str) -> set[tuple[str, str]]:
    return {(finding["symptom"], finding["cause"]) for finding in report["findings"] if finding["level"] in levels}


def answers(report: dict[str, Any]) -> dict[str, str]:
    return {check["id"]: check["answer"] for check in report["checklist"]}


def test_nothing_is_wrong_with_the_healthy_one(record: Callable[[str], dict[str, Any]]) -> None:
    report = record("healthy_classifier")
    assert told(report, "alarm", "watch") == set()
    assert "no" not in answers(report).values()
    assert report["steps"] == 600
    assert report["best_checkpoint"]["exists"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_fault_is_named(name: str, record: Callable[[str], dict[str, Any]]) -> None:
    report = record(name)
    alarms = told(report, "alarm")
    assert len(alarms) == 1 and alarms <= EXPECTED[name]
    assert {finding["fix"] for finding in report["findings"] if finding["level"] == "alarm"} == {words_followed(name)}
    assert answers(report)["gradients-zeroed"] == ("no" if name == "missing_zero_grad" else "yes")
    if name == "missing_zero_grad":
        assert_points_at_backward(report)


def assert_points_at_backward(report: dict[str, Any]) -> None:
    script = DEMO_LOOPS / "missing_zero_grad.py"
    lines = script.read_text().splitlines()
    (number,) = (i for i, line in enumerate(lines, start=1) if ".backward()" in line)
    (where,) = (finding["where"] for finding in report["findings"] if finding["symptom"] == "missing-zero-grad")
    assert (where["file"], where["line"]) == (str(script), number)
    assert lines[number - 1] in where["source"]
