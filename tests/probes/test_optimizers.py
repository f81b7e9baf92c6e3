"""Several optimizers in one run, in turn or one after another: each has its own series, and the steps count on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probes.schedule import FIRST_STEPS
from tests.probes.common_script import ADVERSARIAL, COMMON
from tests.probes.watched import column, events, read, run_script

REBUILT = (
    COMMON
    + """
import gc
for phase in range(3):
    model = torch.nn.Sequential(torch.nn.Linear(8, 16 + phase), torch.nn.Linear(16 + phase, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    del optimizer
    gc.collect()
"""
)


@pytest.mark.parametrize("budget", [0.0, 0.2])
def test_models_and_optimizers_that_are_rebuilt_count_on(tmp_path: Path, budget: float) -> None:
    run_script(REBUILT, tmp_path, budget=budget)
    chunk = read(tmp_path)
    steps = column(chunk, "step")
    assert (steps[1:] > steps[:-1]).all()
    assert set(column(chunk, "optimizer")) == {0, 1, 2}
    assert [gradients.table.shapes[0] for gradients in chunk.gradients] == [(16, 8), (17, 8), (18, 8)]
    assert events(chunk, "exiting")[0]["step"] == 180
    if budget == 0.0:
        assert steps.tolist() == list(range(1, 181))


def test_two_optimizers_each_have_their_series_and_no_false_fact(tmp_path: Path) -> None:
    run_script(ADVERSARIAL, tmp_path)
    chunk = read(tmp_path)
    assert column(chunk, "optimizer").tolist() == [0, 1] * 10
    assert column(chunk, "step").tolist() == [step for step in range(1, 11) for _ in range(2)]
    assert not events(chunk, "fact") and not events(chunk, "evaluation")
    names = chunk.gradients[-1].table.names
    assert names == (
        "Sequential.0.weight",
        "Sequential.0.bias",
        "Sequential.2.weight",
        "Sequential.2.bias",
        "Linear.weight",
        "Linear.bias",
    )
    norms = chunk.gradients[-1].rows["norm"]
    assert np.isfinite(norms[1::2, :4]).all() and np.isnan(norms[1::2, 4:]).all()  # the critic's rows
    assert np.isfinite(norms[0::2, 4:]).all() and np.isnan(norms[0::2, :4]).all()


MANY = (
    COMMON
    + """
model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(30)])
optimizers = [torch.optim.SGD([parameter], lr=0.01) for parameter in model.parameters()]
for _ in range(100):
    F.mse_loss(model(x), x).backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
"""
)


def test_where_more_optimizers_take_turns_than_rest_steps_are_slept_through_all_the_same(tmp_path: Path) -> None:
    run_script(MANY, tmp_path, budget=0.01)
    chunk = read(tmp_path)
    assert set(column(chunk, "optimizer")) == set(range(60))
    assert len(column(chunk, "step")) < 60 * (FIRST_STEPS + 30)
    assert events(chunk, "exiting")[0]["step"] == 100


ONE_AFTER_ANOTHER = (
    COMMON
    + """
kept = []
for _ in range(150):
    model = torch.nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    kept.append((model, optimizer) if KEEPS else None)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_search_that_trains_many_models_one_after_another_is_mostly_slept_through(tmp_path: Path, keeps: bool) -> None:
    run_script(ONE_AFTER_ANOTHER.replace("KEEPS", str(keeps)), tmp_path, budget=0.01)
    chunk = read(tmp_path)
    steps = column(chunk, "step")
    assert events(chunk, "exiting")[0]["step"] == 150 * 40
    assert (steps[1:] > steps[:-1]).all()
    late = steps[steps > 3000]  # the first models are looked at whatever the budget
    assert 0 < len(late) < 0.1 * 3000
    costs = column(chunk, "probe_s")[steps > 3000]  # of a burst the first stands for the steps before it, whoever took them
    assert np.isfinite(costs[:2]).all() and costs[0] < 0.1 * costs[1]
