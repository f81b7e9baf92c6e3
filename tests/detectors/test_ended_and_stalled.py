"""ended and stalled: what the sidecar and the probe saw of a run's end and of its pauses."""

from __future__ import annotations

from typing import Any

import pytest

from forgemon.chunk import Chunk
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.ended import Ended
from forgemon.detectors.stalled import Stalled
from tests.detectors.runs import START, chunk, event, machine_event, machine_rows, step_rows

STACK = [
    {
        "thread": "MainThread",
        "frames": [
            {"function": "wait", "file": "/usr/lib/python3.11/threading.py", "line": 320},
            {"function": "load", "file": "/home/ada/data.py", "line": 17},
        ],
    }
]


def ended(how: str, *events: Any, **fields: Any) -> Candidate:
    detector = Ended()
    detector.feed(chunk(step_rows([1.0] * 10), events, machine_events=[machine_event("ended", START + 20, how=how, **fields)]))
    (found,) = detector.candidates()
    return found


@pytest.mark.parametrize(
    ("how", "fields", "level", "said"),
    [
        ("finished", {"exit_code": 0}, "info", "came to its end in order after step 10"),
        ("killed", {"signal": "SIGKILL"}, "alarm", "killed after step 10: SIGKILL"),
        ("killed", {"signal": "SIGTERM"}, "info", "SIGTERM"),
        ("exited", {"exit_code": 3}, "watch", "exit code 3"),
        ("gone", {"message": "nobody saw how"}, "watch", "gone without a word after step 10: nobody saw how"),
    ],
)
def test_levels_and_words(how: str, fields: dict[str, Any], level: str, said: str) -> None:
    found = ended(how, **fields)
    assert (found.cause, found.level, found.first_step) == (how, level, 10)
    assert said in found.summary


def test_an_exception_is_named_with_its_last_line_and_place() -> None:
    where = {"file": "/home/ada/train.py", "line": 9, "function": "main", "source": ["raise E"], "source_first_line": 9}
    found = ended("exception", event("exception", 10, type="ValueError", message="bad batch\nmore", where=where))
    assert (found.level, found.cause) == ("alarm", "exception")
    assert "at /home/ada/train.py:9: ValueError: bad batch" in found.summary
    assert found.where is not None and found.where.text == "raise E"


def test_an_interrupted_run_was_asked_to_stop() -> None:
    assert ended("exception", event("exception", 10, type="KeyboardInterrupt", message="")).level == "info"


def test_a_run_that_goes_on_has_no_end() -> None:
    detector = Ended()
    detector.feed(chunk(step_rows([1.0] * 10), [event("attached", 0)]))
    assert detector.candidates() == []


def stall(at: float, since: float) -> dict[str, Any]:
    return dict(machine_event("stalled", START + at, since=START + since, usual_s=1.0, seconds=at - since, stack=STACK, pid=1))


def stalled(whole: Chunk) -> Candidate | None:
    detector = Stalled()
    detector.feed(whole)
    found = detector.candidates()
    return found[0] if found else None


def test_a_stall_becomes_an_alarm_as_the_machine_rows_go_on() -> None:
    rows, events = step_rows([1.0] * 10), [stall(22, 10)]
    found = stalled(chunk(rows, machine_events=events))
    assert found is not None and (found.level, found.first_step) == ("watch", 10)
    found = stalled(chunk(rows, machine_events=events, machine=machine_rows([START + 80])))
    assert found is not None and found.level == "alarm"
    assert "No step for 70 s after step 10" in found.summary and "waits in wait" in found.summary
    assert found.where is not None and found.where.location == "/home/ada/data.py:17"


def test_a_stall_that_is_over_is_worth_knowing() -> None:
    rows = step_rows([1.0] * 20)
    rows["time"][10:] += 40
    resumed = machine_event("resumed", START + 52, stalled_s=41.0)
    found = stalled(chunk(rows, machine_events=[stall(22, 10), resumed]))
    assert found is not None and (found.level, found.first_step, found.stands) == ("info", 10, False)
    assert "41 s after step 10" in found.summary
