"""What is recorded equals what the loop itself measured with plain autograd."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from probes.signals import NAMES
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, events, line_of, read, run_script

CLASSIFIER = (
    COMMON
    + """
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
best = float("inf")
for epoch in range(3):
    model.train()
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        note(loss.item())
        optimizer.step()
    model.eval()
    total = 0.0
    with torch.no_grad():
        for inputs, targets in val_loader:
            total += cross_entropy(model(inputs), targets).item() * len(targets)
    measured["val"].append(total / 32)
    if total < best:
        best = total
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, "best.pt")
save()
"""
)


def test_classifier(tmp_path: Path) -> None:
    run_script(CLASSIFIER, tmp_path)
    chunk, own = read(tmp_path), measured(tmp_path)
    assert column(chunk, "step").tolist() == list(range(1, 13))
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    assert column(chunk, "gradient_norm") == pytest.approx(own["total"], rel=1e-5)
    assert (column(chunk, "gradient_norm_before_clip") >= column(chunk, "gradient_norm") - 1e-6).all()
    assert column(chunk, "learning_rate") == pytest.approx(np.full(12, 0.01))
    assert (column(chunk, "batch_size") == 16).all() and (column(chunk, "micro_batches") == 1).all()
    assert (column(chunk, "training")[1:] == 1).all() and (column(chunk, "gradients_reused")[1:] == 0).all()
    assert np.isnan(column(chunk, "loss_scale")).all()
    for name in ("step_s", "data_s", "forward_s", "backward_s", "optimizer_s", "probe_s"):
        assert (column(chunk, name)[1:] > 0).all(), name
    (gradients,) = chunk.gradients
    assert gradients.table.names == ("0.weight", "0.bias", "3.weight", "3.bias")
    assert gradients.table.shapes[0] == (16, 8)
    assert gradients.rows["norm"] == pytest.approx(own["norms"], rel=1e-5)
    evaluations = events(chunk, "evaluation")
    assert [e["value"] for e in evaluations] == pytest.approx(own["val"], rel=1e-6)
    assert [e["step"] for e in evaluations] == [4, 8, 12]
    assert [e["epoch"] for e in evaluations] == [0, 1, 2]
    assert all(e["training"] is False and e["grad_enabled"] is False and e["samples"] == 32 for e in evaluations)
    assert [e["train_loss"] for e in evaluations] == pytest.approx(own["loss"].reshape(3, 4).mean(1), rel=1e-6)
    checkpoints = events(chunk, "checkpoint")
    assert checkpoints and checkpoints[0]["path"] == str(tmp_path / "best.pt")
    assert checkpoints[0]["has_optimizer"] is True and checkpoints[0]["value"] == pytest.approx(own["val"][0], rel=1e-6)
    assert checkpoints[0]["where"]["line"] == line_of(CLASSIFIER, "torch.save(")
    assert "torch.save(" in "".join(checkpoints[0]["where"]["source"])
    modes = [(e["training"], e["where"]["line"]) for e in events(chunk, "mode")]
    assert modes[:2] == [(False, line_of(CLASSIFIER, "model.eval()")), (True, line_of(CLASSIFIER, "model.train()"))]
    assert events(chunk, "exiting") and not events(chunk, "fact") and not events(chunk, "exception")
    signals = events(chunk, "signals")[-1]["signals"]
    assert [name for name in NAMES if signals[name] != "seen"] == []


ACCUMULATION = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for step in range(6):
    optimizer.zero_grad()
    losses = []
    for part in range(4):
        chosen = slice(16 * part, 16 * part + 16)
        loss = F.cross_entropy(model(x[chosen]), y[chosen])
        losses.append(loss.item())
        DIVIDE
    note(sum(losses) / 4)
    optimizer.step()
save()
"""
)


@pytest.mark.parametrize(
    "divide", ["(loss / 4).backward()", "loss /= 4; loss.backward()", "(loss * 0.25).backward()", "loss.backward()"]
)
def test_accumulation_shows_the_criterions_own_value(tmp_path: Path, divide: str) -> None:
    run_script(ACCUMULATION.replace("DIVIDE", divide), tmp_path)
    chunk, own = read(tmp_path), measured(tmp_path)
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    assert (column(chunk, "micro_batches") == 4).all() and (column(chunk, "batch_size") == 64).all()
    assert (column(chunk, "gradients_reused")[1:] == 0).all()
    assert column(chunk, "gradient_norm") == pytest.approx(own["total"], rel=1e-5)


SCALED = (
    COMMON
    + """
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for inputs, targets in train_loader:
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(inputs), targets)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    note(loss.item())
    scaler.step(optimizer)
    scaler.update()
save()
"""
)


def test_loss_and_gradients_without_the_loss_scale(tmp_path: Path) -> None:
    run_script(SCALED, tmp_path)
    chunk, own = read(tmp_path), measured(tmp_path)
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    assert column(chunk, "gradient_norm") == pytest.approx(own["total"], rel=1e-5)


NOT_FINITE = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(4):
    optimizer.zero_grad()
    (F.cross_entropy(model(x), y) * (float("nan") if step == 2 else 1.0)).backward()
    optimizer.step()
"""
)


def test_nan_is_recorded_as_nan(tmp_path: Path) -> None:
    run_script(NOT_FINITE, tmp_path)
    chunk = read(tmp_path)
    assert np.isfinite(column(chunk, "loss")).tolist() == [True, True, False, False]
    assert np.isnan(column(chunk, "gradient_norm")).tolist() == [False, False, True, True]


BETWEEN = (
    COMMON
    + """
import time
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(300):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    BACKWARD
    note(loss.item())
    time.sleep(0.003)
    optimizer.step()
save()
"""
)


@pytest.mark.parametrize(("backward", "factor"), [("loss.backward()", 1.0), ("(loss / 4).backward()", 0.25)])
def test_the_loss_of_steps_that_are_not_observed(tmp_path: Path, backward: str, factor: float) -> None:
    run_script(BETWEEN.replace("BACKWARD", backward), tmp_path, budget=0.03)
    chunk, own = read(tmp_path), measured(tmp_path)
    steps, observed = column(chunk, "step"), column(chunk, "gradients") == 4
    assert 34 <= observed.sum() < 300
    assert column(chunk, "loss") == pytest.approx(factor * own["loss"][steps - 1], rel=1e-6)
    assert (column(chunk, "losses") == 1).all() and (column(chunk, "micro_batches") == 1).all()
    assert np.isnan(column(chunk, "gradient_norm")[~observed]).all()
    assert np.isfinite(column(chunk, "step_s")[1:]).all()
    (gradients,) = chunk.gradients
    assert gradients.rows["step"].tolist() == steps[observed].tolist()
    assert (~observed).sum() > 0
