"""Samples that training and validation have in common by value: which rows are hashed, and when equal ones are too many for chance."""

from __future__ import annotations

import random
import weakref
from collections import UserDict
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from probes.loader_roles import TRAINING
from probes.row_hashes import MOST_ROWS_A_BATCH, hash_rows
from probes.same_samples import Common
from probes.sample_overlap import TrainingRows, ValidationRows
from probes.watched_loader import FIRST_BATCHES, WatchedLoader

torch.set_num_threads(1)


def batch(rows: int, width: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, width, generator=generator), torch.arange(rows)]


def values(data: Any) -> set[int]:
    return {value for _, value in hash_rows(data)[1]}


def test_the_same_rows_are_chosen_in_any_order_and_nesting() -> None:
    inputs, targets = batch(500, 20)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(1))
    count, rows = hash_rows([inputs, targets])
    assert count == 500 and len(rows) == MOST_ROWS_A_BATCH
    assert values({"a": {"b": inputs[order]}, "c": (targets[order], "name", torch.tensor(1.0))}) == {v for _, v in rows}
    assert values(UserDict(a=inputs, c=targets)) == {v for _, v in rows}
    assert not values([inputs, targets + 1]) & {v for _, v in rows}  # the input and the target together


def test_rows_that_say_nothing_are_left_out() -> None:
    assert values([torch.zeros(8, 20), torch.arange(8)]) == set()
    sparse = torch.zeros(4, 1_000_000, dtype=torch.uint8)
    sparse[:, 0] = torch.arange(1, 5)
    assert values([sparse, torch.arange(4)]) == set()
    assert len(values([sparse[:, :1000], torch.arange(4)])) == 4  # whole rows can be told apart


def test_rows_that_cannot_be_read_are_not_visible() -> None:
    assert hash_rows([torch.empty(8, 4, device="meta"), torch.arange(8)]) == (0, [])
    assert hash_rows(["a", "b"]) == (0, []) == hash_rows([torch.tensor(1.0)])
    assert hash_rows([torch.eye(8).to_sparse(), torch.arange(8)]) == (0, [])


def test_the_random_state_stays() -> None:
    before = torch.get_rng_state()
    hash_rows(batch(500, 20))
    assert torch.equal(before, torch.get_rng_state())


def test_where_nothing_new_comes_few_batches_are_hashed() -> None:
    iterator = iter(DataLoader(TensorDataset(torch.arange(40.0)), batch_size=4))
    loader, training = WatchedLoader(0, iterator, weakref.ref(iterator), None), TrainingRows()

    def hashed(batches: int, values: range) -> int:
        chosen = 0
        for number in range(batches):
            if loader.chooses_batch():
                chosen += 1
                loader.wait(4, [(0, values[number % len(values)])])
                loader.settle(TRAINING, training)
        return chosen

    assert hashed(FIRST_BATCHES, range(1000)) == FIRST_BATCHES
    always_new = hashed(640, range(1000, 2000))
    assert 60 <= always_new <= 100  # one in eight
    hashed(400, range(1))
    assert hashed(640, range(1)) <= 0.3 * always_new
    hashed(200, range(5000, 6000))  # other data: the first of them that is chosen is new
    assert hashed(256, range(7000, 8000)) >= 0.1 * 256 / 2


def common(training: list[int], validation: list[int], seen: float = 1.0) -> Common | None:
    trained, evaluated = TrainingRows(), ValidationRows()
    trained.add(list(enumerate(training)), len(training))
    evaluated.add(list(enumerate(validation)), len(validation))
    return evaluated.common(trained, seen)


def test_enough_rows_in_common() -> None:
    found = common(list(range(1000)), list(range(900, 1300)))
    assert found is not None and (found.found, found.checked, found.share) == (100, 400, 0.25)
    assert found.examples == [0, 1, 2, 3, 4]
    assert common(list(range(1000)), list(range(981, 1100))) is None  # 19 rows
    assert common(list(range(1000)), list(range(975, 1600))) is None  # 4 % of them


def test_the_share_allows_for_rows_not_looked_at() -> None:
    found = common(list(range(1000)), list(range(960, 1960)), seen=0.5)
    assert found is not None and found.share == 0.08
    assert common(list(range(1000)), list(range(960, 1960))) is None


def test_rows_of_few_values_are_equal_by_chance() -> None:
    draw = random.Random(0)
    validation = [draw.randrange(300) for _ in range(1000)]
    once = [value for value in validation if validation.count(value) == 1]
    assert len(once) >= 20 and common(list(range(300)), validation) is None


def overlap(train: torch.Tensor, validation: torch.Tensor, of: int | None) -> Common | None:
    trained, evaluated = TrainingRows(), ValidationRows()
    for part in train.split(128):
        count, rows = hash_rows([part, part])
        trained.add(rows, count, of)
    for part in validation.split(128):
        count, rows = hash_rows([part, part])
        evaluated.add(rows, count)
    return evaluated.common(trained, 1.0)


def drawn_of_few_bits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Training and validation rows of one skewed distribution over 24 bits. None of the few validation rows that are hashed equals
    another, for seeds 18, 37 and 45, and yet a third of them come in training."""
    torch.manual_seed(seed)
    mixing = 2 * torch.randn(4, 24)
    train, validation = (torch.bernoulli(torch.sigmoid(torch.randn(count, 4) @ mixing)) for count in (10240, 512))
    return train[torch.randperm(10240)][:8192], validation


@pytest.mark.parametrize("of", [0, None], ids=["each sample once", "no telling"])
def test_rows_of_few_bits_are_equal_by_chance(of: int | None) -> None:
    assert [seed for seed in range(75) if overlap(*drawn_of_few_bits(seed), of) is not None] == []


def test_copied_rows_beside_few_that_are_equal_by_chance() -> None:
    torch.manual_seed(0)
    rows = torch.randint(0, 2, (5632, 24)).float()
    train, validation = rows[:5120], rows[5120:].clone()
    assert overlap(train, validation, of=0) is None
    validation[::2] = train[:256]
    found = overlap(train, validation, of=0)
    assert found is not None and found.share > 0.3


def test_rows_repeated_within_the_validation_are_not_counted() -> None:
    doubled, others = list(range(30)) * 2, list(range(1000, 1400))
    assert common(list(range(30)), doubled + others) is None
    assert common(list(range(30)), list(range(30)) + others) is not None


def test_a_second_pass_over_the_same_rows_is_no_repetition() -> None:
    trained, evaluated = TrainingRows(), ValidationRows()
    trained.add(list(enumerate(range(100))), 100)
    for _ in range(2):
        evaluated.add(list(enumerate(range(50))), 50)
        evaluated.pass_ended()
    found = evaluated.common(trained, 1.0)
    assert found is not None and found.found == 50
