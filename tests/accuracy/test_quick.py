"""A few loops of each family, healthy and with each fault: no alarm on the healthy ones, the right finding on the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.accuracy.configurations import all_configurations
from tests.accuracy.judging import Judged, judge
from tests.accuracy.quick import quick
from tests.accuracy.running import run_all

CHOSEN = quick([c for c in all_configurations() if c.half == "tuning"])

KNOWN_MISSES: dict[str, str] = {}
"""By fault: what the configuration chosen here shows of it, known and not hidden. A miss that is mended must leave this list."""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Judged]:
    jobs = [(c, c.seeds[0]) for c in CHOSEN]
    out: Path = tmp_path_factory.mktemp("accuracy")
    return {done.configuration.name: judge(done) for done in run_all(jobs, out, 2, 0.0)}


@pytest.mark.parametrize("name", [c.name for c in CHOSEN if c.fault is None])
def test_no_alarm_on_a_healthy_run(outcomes: dict[str, Judged], name: str) -> None:
    run = outcomes[name]
    assert run.status == 0 and run.last_step > 100 and run.probe_errors == []
    assert run.alarms == []


def _expected(name: str, fault: str) -> Any:
    marks = [pytest.mark.xfail(reason=KNOWN_MISSES[fault], strict=True)] if fault in KNOWN_MISSES else []
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", [_expected(c.name, c.fault.name) for c in CHOSEN if c.fault is not None])
def test_the_fault_is_found(outcomes: dict[str, Judged], name: str) -> None:
    run = outcomes[name]
    assert run.visible is not None and run.probe_errors == []
    if not run.detector:
        pytest.skip("no detector")
    assert run.found, run.findings
    assert run.cause_right, run.findings
    assert run.line_right is not False, run.findings
