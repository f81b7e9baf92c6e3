"""ranks-diverged and straggler on built logs: replicas must agree, parts of a model need not, and who waits is not who is late."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from forgemon.chunk import Chunk
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.parallel import parallel_kind
from forgemon.detectors.ranks_diverged import RanksDiverged
from forgemon.detectors.straggler import Straggler
from tests.detectors.runs import Values, chunk, event, gradient_rows, split, step_rows, update_rows


def info(name: str, mode: str = "run") -> Mapping[str, Any]:
    return {"mode": mode, "models": [{"name": name, "class": f"torch.nn.parallel.{name}"}]}


DDP = info("DistributedDataParallel")
NORMS = np.exp(np.random.default_rng(0).normal(0, 0.3, 60))


def rank_rows(norms: Values, steps: Any = None, names: tuple[str, ...] = ("a.weight",), **columns: Any) -> Chunk:
    rows = step_rows([1.0] * len(norms), steps, gradient_norm=norms, **columns)
    counted: dict[str, Any] = {"class": "SGD", "counted_from": "attach", "index": 0}
    return chunk(rows, [event("optimizer", 0, **counted)], [gradient_rows([1], [[1.0] * len(names)], names)])


def diverged(*ranks: Chunk, how: Mapping[str, Any] = DDP, pieces: int = 1) -> list[Candidate]:
    detector = RanksDiverged()
    parts = [split(whole, rank, pieces) for rank, whole in enumerate(ranks)]
    for turn in range(pieces):
        for rank in range(len(ranks)):
            detector.feed(rank, parts[rank][turn])
    return detector.candidates(how)


APART = np.where(np.arange(60) < 30, NORMS, 1.2 * NORMS)


@pytest.mark.parametrize("pieces", [1, 4])
def test_replicas_with_other_gradients_are_an_alarm(pieces: int) -> None:
    (found,) = diverged(rank_rows(NORMS), rank_rows(NORMS), rank_rows(APART), pieces=pieces)
    assert (found.symptom, found.level, found.first_step, found.last_step) == ("ranks-diverged", "alarm", 31, 60)
    assert found.evidence["rank"] == 2 and "apart on 30 of 60 steps seen on both" in found.summary


def test_replicas_that_agree_but_for_rounding_are_none() -> None:
    assert diverged(rank_rows(NORMS), rank_rows(NORMS * (1 + 1e-6))) == []


def test_sparse_rows_are_compared_where_both_were_looked_at() -> None:
    steps = np.arange(1, 61)
    one, other = np.flatnonzero(steps % 3 != 0), np.flatnonzero(steps % 3 != 1)
    (found,) = diverged(rank_rows(NORMS[one], steps[one]), rank_rows(APART[other], steps[other]))
    assert found.first_step == 32 and found.evidence["steps_compared"] == 20
    assert diverged(rank_rows(NORMS[one], steps[one]), rank_rows(NORMS[other], steps[other])) == []


def test_three_steps_and_numbers_that_are_missing_are_none() -> None:
    few = np.where((np.arange(60) >= 30) & (np.arange(60) < 33), 2 * NORMS, NORMS)
    assert diverged(rank_rows(NORMS), rank_rows(few)) == []
    assert diverged(rank_rows(NORMS), rank_rows(np.full(60, np.nan))) == []


@pytest.mark.parametrize("name", ["FSDPSequential", "FullyShardedDataParallel", "DeepSpeedEngine"])
def test_parts_of_a_model_differ_by_right(name: str) -> None:
    assert diverged(rank_rows(NORMS), rank_rows(APART), how=info(name)) == []


def test_an_optimizer_that_is_divided_among_ranks_is_none() -> None:
    assert diverged(rank_rows(NORMS), rank_rows(APART, names=("b.weight", "c.weight"))) == []
    divided: dict[str, Any] = {"class": "ZeroRedundancyOptimizer"}
    other = rank_rows(APART)
    assert diverged(rank_rows(NORMS), chunk(other.steps, [event("optimizer", 0, **divided)], other.gradients)) == []


def test_without_a_wrapper_it_is_only_worth_knowing() -> None:
    (found,) = diverged(rank_rows(NORMS), rank_rows(APART), how=info("Net"))
    assert found.level == "info" and "No DistributedDataParallel was seen" in found.summary


def test_ranks_attached_one_after_the_other_do_not_count_alike() -> None:
    assert diverged(rank_rows(NORMS), rank_rows(APART), how=info("DistributedDataParallel", "attach")) == []


def test_each_optimizer_is_compared_with_its_own() -> None:
    both = np.arange(60) % 2
    steps = np.repeat(np.arange(1, 31), 2)
    assert diverged(rank_rows(NORMS, steps, optimizer=both), rank_rows(NORMS, steps, optimizer=both)) == []


def test_weights_that_are_not_the_same_are_seen_though_the_gradients_are() -> None:
    def with_weights(norm: float) -> Chunk:
        whole = rank_rows(NORMS)
        updates = update_rows(list(range(1, 11)), [[norm]] * 10, [[0.1]] * 10, ["a.weight"])
        return chunk(whole.steps, whole.events, whole.gradients, updates=[updates])

    (found,) = diverged(with_weights(1.0), with_weights(1.5))
    assert (found.first_step, found.last_step, found.evidence["what"]) == (1, 10, "weights")
    assert "norm of the weights was 1 on rank 0 and 1.5 on rank 1" in found.summary
    assert diverged(with_weights(1.0), with_weights(1.0)) == []


def test_ranks_that_agree_again_say_until_when() -> None:
    (found,) = diverged(rank_rows(NORMS), rank_rows(np.where(np.arange(60) < 50, APART, NORMS)))
    assert (found.level, found.stands, found.last_step) == ("watch", False, 50)


def times(
    data: float = 0.01, forward: float = 0.02, backward: float = 0.05, optimizer: float = 0.005, step: float = 0.1
) -> Chunk:
    """Of 300 steps, seconds each with some noise."""
    chance = np.random.default_rng(0)
    means = {"data_s": data, "forward_s": forward, "backward_s": backward, "optimizer_s": optimizer, "step_s": step}
    columns: dict[str, Any] = {name: mean * chance.uniform(0.9, 1.1, 300) for name, mean in means.items()}
    return chunk(step_rows([1.0] * 300, **columns))


def late(*ranks: Chunk, how: Mapping[str, Any] = DDP) -> list[Candidate]:
    detector = Straggler()
    for rank, whole in enumerate(ranks):
        for piece in split(whole, rank, 7):
            detector.feed(rank, piece)
    return detector.candidates(how)


def test_a_rank_with_a_slow_loader_is_late() -> None:
    (found,) = late(times(), times(), times(data=0.06, backward=0.01), times())
    assert (found.symptom, found.level, found.evidence["rank"]) == ("straggler", "watch", 2)
    assert "Rank 2 needs 50" in found.summary and (found.first_step, found.last_step) == (101, 300)


def test_a_rank_that_computes_slowly_is_late() -> None:
    (found,) = late(times(), times(forward=0.06, backward=0.01))
    assert found.evidence["rank"] == 1


def test_a_forward_pass_that_waits_for_the_other_rank_is_not_late() -> None:
    """Buffers come from rank 0, which is late for another reason; both are as long in backward."""
    assert late(times(), times(forward=0.06)) == []


def test_equal_ranks_and_small_differences_are_none() -> None:
    assert late(times(), times()) == []
    assert late(times(), times(data=0.02, backward=0.04)) == []
    assert late(times(step=0.0005, data=0.0001), times(step=0.0005, data=0.0004)) == []


def test_ranks_that_are_not_known_to_wait_for_each_other_are_none() -> None:
    assert late(times(), times(data=0.06, backward=0.01), how=info("Net")) == []
    assert len(late(times(), times(data=0.06, backward=0.01), how=info("FSDPSequential"))) == 1


def test_a_rank_that_was_slow_for_a_while_is_none() -> None:
    slow, usual = times(data=0.06, backward=0.01).steps, times().steps
    assert late(times(), chunk(np.concatenate([slow[:200], usual[200:]]))) == []


@pytest.mark.parametrize("broken", [{}, {"models": None}, {"models": [3, {"class": 7}]}])
def test_a_description_that_says_nothing(broken: Mapping[str, Any]) -> None:
    assert parallel_kind(broken) == "unknown"
