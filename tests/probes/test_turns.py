"""When the optimizer that paces the probes is taken to rest."""

from __future__ import annotations

from probes.turns import MANY_OTHERS, MOST_OTHERS, Turns


def stepped(turns: Turns, others: list[int], living: int) -> int:
    """How many of these steps of others, one after the other, it takes."""
    for number, other in enumerate(others, 1):
        turns.stepped(other)
        if turns.main_rests(living):
            return number
    return 0


def test_of_a_few_the_main_one_rests_when_others_step_for_long() -> None:
    assert stepped(Turns(), [1] * 100, 2) == MOST_OTHERS
    assert stepped(Turns(), [1, 2] * 100, 3) == MOST_OTHERS


def test_of_many_it_waits_for_its_turn() -> None:
    assert stepped(Turns(), list(range(1, 200)), 200) == 0
    assert stepped(Turns(), list(range(1, 200)) * 2, 200) == 199 + MOST_OTHERS  # a second round without it
    assert stepped(Turns(), list(range(2000)), 2000) == MANY_OTHERS


def test_one_model_after_another_is_no_round() -> None:
    assert stepped(Turns(), [model for model in range(100) for _ in range(10)], 300) < 2 * MOST_OTHERS


def test_its_step_begins_a_new_count() -> None:
    turns = Turns()
    for _ in range(10):
        assert stepped(turns, [1] * (MOST_OTHERS - 1), 2) == 0
        turns.clear()
