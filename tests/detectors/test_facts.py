"""The fold of fact events: times, stretches, keys, and nothing without bounds."""

from __future__ import annotations

from typing import Any

import pytest

from forgemon.detectors.facts import MOST_KEYS, Facts, evidence
from tests.detectors.runs import chunk, event

NAME = "clip-after-step"


def folded(*events: Any) -> Facts:
    facts = Facts([NAME])
    facts.feed(chunk(events=events))
    return facts


def fact(step: int, times: int, **fields: Any) -> Any:
    return event("fact", step, fact=NAME, times=times, **fields)


def test_times_are_those_of_the_longest_stretch() -> None:
    over = event("fact_gone", 90, fact=NAME, times=11, last_step=40)
    (seen,) = folded(fact(5, 1), fact(6, 2), fact(8, 4), fact(12, 8), over).of(NAME)
    assert (seen.first_step, seen.last_step, seen.times, seen.stands) == (5, 40, 11, False)
    (seen,) = folded(fact(5, 1), over, fact(100, 1)).of(NAME)
    assert (seen.first_step, seen.last_step, seen.times, seen.stands) == (5, 100, 11, True)


def test_the_step_is_the_one_that_was_judged() -> None:
    (seen,) = folded(fact(9, 1, at_step=4), fact(10, 2, at_step=-3)).of(NAME)
    assert (seen.first_step, seen.last_step) == (4, 10)


def test_keys_are_kept_apart_and_are_bounded() -> None:
    seen = folded(*[fact(i, 1, key=i % 1000) for i in range(5000)]).of(NAME)
    assert [s.key for s in seen] == list(range(MOST_KEYS)) and seen[0].last_step == 4000


@pytest.mark.parametrize("key", [None, True, 1.5, [1], {"a": 1}, 10**40])
def test_a_key_that_is_none_is_taken_for_no_key(key: object) -> None:
    (seen,) = folded(fact(1, 1, key=key)).of(NAME)
    assert seen.key is None


def test_the_optimizer_is_named_with_its_number_only_where_there_are_several() -> None:
    names = [event("optimizer", 0, index=i, **{"class": c}) for i, c in enumerate(["Adam", "SGD"])]
    one, two = folded(names[0], fact(1, 1, key=0)), folded(*names, fact(1, 1, key=1))
    assert one.optimizer(one.of(NAME)[0]) == "Adam"
    assert two.optimizer(two.of(NAME)[0]) == "SGD (optimizer 1)"


def test_evidence_is_what_is_there() -> None:
    given = event("fact", 1, a=True, b=0.5, c=3, d="text", e=["x", 1], f=None, g="nan", h={"no": 1})
    shown = evidence(given, *"abcdefgh", "missing")
    assert shown == {"a": "yes", "b": 0.5, "c": 3, "d": "text", "e": "x, 1", "g": "nan"}
