"""Rows of loops in which more goes backward than a step uses, whose losses are scaled on purpose, or whose models are asked before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from probes.updates import _entries
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, events, read, run_script

START = COMMON + "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
EPOCHS = """for epoch in range(3):
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    model.eval()
"""


@pytest.mark.parametrize(
    "loss", ["F.cross_entropy(model(x), y, reduction='sum') / len(x)", "0.5 * F.cross_entropy(model(x), y)"]
)
def test_a_factor_that_is_no_accumulation_stays(tmp_path: Path, loss: str) -> None:
    run_script(
        f"""{START}
for _ in range(6):
    optimizer.zero_grad()
    loss = {loss}
    loss.backward()
    measured["loss"].append(loss.item())
    optimizer.step()
save()
""",
        tmp_path,
    )
    assert column(read(tmp_path), "loss") == pytest.approx(measured(tmp_path)["loss"], rel=1e-6)


@pytest.mark.parametrize("budget", [0.0, 0.03])
@pytest.mark.parametrize("clear", ["optimizer.zero_grad()", "model.zero_grad()"])
def test_what_went_backward_before_the_gradients_were_cleared_is_no_part_of_the_step(
    tmp_path: Path, budget: float, clear: str
) -> None:
    """An adversarial attack by the gradient of the inputs."""
    run_script(
        f"""{START}
import itertools, time
rows = sys.modules["_forgemon_probe"].session.steps._rows
alone, submit = [], rows.submit_loss
def counted(*values):
    alone.append(values)
    submit(*values)
rows.submit_loss = counted
for step, (inputs, targets) in enumerate(itertools.cycle(list(train_loader))):
    if step >= 160 and (len(alone) > 4 or not {budget} or step > 20_000):
        break
    attacked = inputs.clone()
    for _ in range(3):
        attacked.requires_grad_(True)
        F.cross_entropy(model(attacked), targets).backward()
        attacked = (attacked + 0.1 * attacked.grad.sign()).detach()
    {clear}
    loss = F.cross_entropy(model(attacked), targets)
    loss.backward()
    measured["loss"].append(loss.item())
    optimizer.step()
    time.sleep(0.002)
save()
""",
        tmp_path,
        budget=budget,
    )
    chunk = read(tmp_path)
    steps = column(chunk, "step")
    assert column(chunk, "loss") == pytest.approx(measured(tmp_path)["loss"][steps - 1], rel=1e-6)
    seen = np.isfinite(column(chunk, "gradient_norm"))
    assert (column(chunk, "batch_size")[seen] == 16).all() and (column(chunk, "micro_batches")[seen] == 1).all()
    assert len(steps) == 160 if not budget else (~seen).sum() >= 4


def test_what_a_scaler_skipped_is_no_part_of_the_next_row(tmp_path: Path) -> None:
    run_script(
        f"""{START}
scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
for step in range(8):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y) * (float("inf") if step in (3, 4) else 1.0)
    scaler.scale(loss).backward()
    if step not in (3, 4):
        measured["loss"].append(loss.item())
    scaler.step(optimizer)
    scaler.update()
save()
""",
        tmp_path,
    )
    chunk = read(tmp_path)
    assert column(chunk, "loss") == pytest.approx(measured(tmp_path)["loss"], rel=1e-6)
    assert column(chunk, "batch_size").tolist() == [96.0] * 6 and column(chunk, "skipped_steps").tolist() == [0, 0, 0, 2, 0, 0]


def test_the_batch_is_that_of_the_training_and_not_what_an_agent_asks_first(tmp_path: Path) -> None:
    run_script(
        f"""{START}
for step in range(6):
    with torch.no_grad():
        model(x[step : step + 1])
    optimizer.zero_grad()
    F.cross_entropy(model(x[:32]), y[:32]).backward()
    optimizer.step()
""",
        tmp_path,
    )
    assert column(read(tmp_path), "batch_size").tolist() == [32.0] * 6


def test_two_passes_over_one_loader_are_two_results(tmp_path: Path) -> None:
    run_script(
        f"""{START}
other = torch.nn.Linear(8, 3)
{EPOCHS}    for one in (model, other):
        total = 0.0
        with torch.no_grad():
            for inputs, targets in val_loader:
                total += F.cross_entropy(one(inputs), targets).item() * len(targets)
        measured["val"].append(total / 32)
save()
""",
        tmp_path,
    )
    found = events(read(tmp_path), "evaluation")
    assert [event["value"] for event in found] == pytest.approx(measured(tmp_path)["val"], rel=1e-6)
    assert [event["metric"] for event in found] == ["cross_entropy", "cross_entropy #2"] * 3


def test_padding_does_not_count_in_a_validation_loss(tmp_path: Path) -> None:
    run_script(
        f"""{START}
padded = y.clone()
padded[70:84] = -100
{EPOCHS}    with torch.no_grad():
        for start in range(64, 96, 8):
            F.cross_entropy(model(x[start : start + 8]), padded[start : start + 8])
    counted = torch.cat([torch.arange(64, 70), torch.arange(84, 96)])
    scores = torch.nn.Sequential.forward(model, x[counted]).log_softmax(1)
    measured["val"].append(-scores[torch.arange(18), y[counted]].mean().item())
save()
""",
        tmp_path,
    )
    found = [event["value"] for event in events(read(tmp_path), "evaluation")]
    assert found == pytest.approx(measured(tmp_path)["val"], rel=1e-6)


CLIPS = {
    "clip(model.parameters(), 0.5)": True,
    "clip(model[0].parameters(), 0.5); clip(model[3].parameters(), 0.5)": False,
    "clip(model.parameters(), 0.5, norm_type=float('inf'))": False,
    "torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)": False,
}


@pytest.mark.parametrize("clip", CLIPS)
def test_the_norm_before_clipping_is_a_total_or_nothing(tmp_path: Path, clip: str) -> None:
    run_script(
        f"""{START}
from torch.nn.utils import clip_grad_norm_ as clip
for _ in range(4):
    optimizer.zero_grad()
    F.cross_entropy(model(x), y).backward()
    note(0.0)
    {clip}
    optimizer.step()
save()
""",
        tmp_path,
    )
    found = column(read(tmp_path), "gradient_norm_before_clip")
    if CLIPS[clip]:
        assert found == pytest.approx(measured(tmp_path)["total"], rel=1e-5)
    else:
        assert np.isnan(found).all()


@pytest.mark.parametrize("shape", [(30, 102), (64, 27), (30, 30), (128, 16), (60, 51), (1000, 1000), (7,), (2310, 13)])
def test_a_sample_of_weights_runs_through_all_of_them(shape: tuple[int, ...]) -> None:
    choice = _entries(0, torch.zeros(shape), 512, sharded=False)
    assert choice is not None
    (sampled,), (stride,) = choice.sampled, choice.stride
    assert sampled <= 512 and (sampled - 1) * stride < choice.entries <= sampled * stride
