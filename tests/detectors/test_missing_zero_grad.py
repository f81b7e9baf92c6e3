"""missing-zero-grad: rows and facts in, one alarm with its line out."""

from __future__ import annotations

import numpy as np

from forgemon.chunk import Event
from forgemon.detectors.missing_zero_grad import MissingZeroGrad
from tests.detectors.runs import chunk, event, step_rows

NAN = float("nan")
WHERE = {
    "file": "/home/ada/train.py",
    "line": 42,
    "function": "<module>",
    "source": ["loss = f()", "loss.backward()", "opt.step()"],
    "source_first_line": 41,
}


def fact(step: int, times: int = 1, optimizer: int = 0) -> Event:
    return event(
        "fact",
        step,
        fact="missing-zero-grad",
        optimizer=optimizer,
        parameters_checked=11,
        parameters_reused=11,
        parameter="fc1.weight",
        previous_step=step - 1,
        times=times,
        where=WHERE,
    )


def test_names_step_line_and_numbers() -> None:
    detector = MissingZeroGrad()
    rows = step_rows([1.0] * 5, steps=[810, 811, 812, 813, 814], gradients_reused=[NAN, 0, 1, 1, 1])
    detector.feed(chunk(rows, [event("optimizer", 0, index=0, **{"class": "SGD"}), fact(812)]))
    (found,) = detector.candidates()
    assert (found.level, found.first_step, found.last_step, found.stands) == ("alarm", 812, 814, True)
    assert "step 812 SGD applied" in found.summary and "11 of 11 parameters checked, fc1.weight first" in found.summary
    assert found.where is not None and found.where.location == "/home/ada/train.py:42"
    assert found.where.text == "loss.backward()"
    assert found.evidence["steps_with_used_gradients"] == 3


def test_one_row_alone_is_no_alarm() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(step_rows([1.0] * 4, gradients_reused=[0, 1, 0, 0])))
    assert detector.candidates() == []


def test_less_than_half_of_the_parameters_is_no_alarm() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(step_rows([1.0] * 50, gradients_reused=0.4)))
    assert detector.candidates() == []


def test_rows_that_were_not_checked_neither_count_nor_interrupt() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(step_rows([1.0] * 4, gradients_reused=[0, 1, NAN, 1])))
    (found,) = detector.candidates()
    assert (found.first_step, found.last_step) == (2, 4)


def test_a_loop_mended_in_mid_run_says_until_when_it_stood() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(step_rows([1.0] * 9, gradients_reused=[NAN, 1, 1, 1, 1, 0, 0, 0, 0])))
    (found,) = detector.candidates()
    assert (found.first_step, found.last_step, found.stands) == (2, 5, False)
    assert found.summary.endswith("It stood until step 5.")


def test_only_the_optimizer_at_fault_is_named() -> None:
    rows = step_rows([1.0] * 10, optimizer=np.arange(10) % 2, gradients_reused=np.arange(10) % 2)
    detector = MissingZeroGrad()
    names = [event("optimizer", 0, index=i, **{"class": c}) for i, c in enumerate(["Adam", "SGD"])]
    detector.feed(chunk(rows, [*names, fact(4, optimizer=1)]))
    (found,) = detector.candidates()
    assert found.evidence["optimizer"] == 1 and "SGD (optimizer 1)" in found.summary


def test_facts_speak_where_no_row_was_observed() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(None, [fact(33), fact(34, times=2)]))
    (found,) = detector.candidates()
    assert (found.first_step, found.last_step) == (33, 34)


def test_two_facts_far_apart_are_an_accident_until_there_are_more() -> None:
    detector = MissingZeroGrad()
    detector.feed(chunk(None, [fact(33), fact(900, times=2)]))
    assert detector.candidates() == []
    detector.feed(chunk(None, [fact(2000, times=4)]))
    assert len(detector.candidates()) == 1
