"""What is recorded equals what the loop itself measured with plain autograd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probes.instruments import SIGNALS
from tests.probes.watched import column, events, line_of, read, run_script

COMMON = """
import json, sys, torch
import torch.nn.functional as F
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
train_loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(x[64:], y[64:]), batch_size=12)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
measured = {"loss": [], "norms": [], "total": [], "val": []}
def note(loss):
    norms = [p.grad.norm().item() for p in model.parameters()]
    measured["loss"].append(loss); measured["norms"].append(norms)
    measured["total"].append(sum(n * n for n in norms) ** 0.5)
def save():
    json.dump(measured, open("measured.json", "w"))
"""

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


def measured(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {key: np.array(value) for key, value in json.loads((folder / "measured.json").read_text()).items()}


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
    assert [name for name in SIGNALS if signals[name] != "seen"] == []


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


MISSING = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(2):
    for inputs, targets in train_loader:
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
"""
)


def test_missing_zero_grad_names_the_line_of_backward(tmp_path: Path) -> None:
    run_script(MISSING, tmp_path)
    chunk = read(tmp_path)
    reused = column(chunk, "gradients_reused")
    assert np.isnan(reused[0]) and (reused[1:] == 1).all()
    facts = events(chunk, "fact")
    assert [f["step"] for f in facts] == [2, 3, 5]  # the 1st, 2nd and 4th time
    assert {f["fact"] for f in facts} == {"missing-zero-grad"}
    assert facts[0]["where"]["file"] == str(tmp_path / "train.py")
    assert facts[0]["where"]["line"] == line_of(MISSING, "loss.backward()")
    assert facts[0]["parameters_reused"] == facts[0]["parameters_checked"] == 4
    assert facts[0]["parameter"] == "0.weight"


VALIDATION_WITHOUT_CARE = (
    COMMON
    + """
def run(loader, train):
    for inputs, targets in loader:
        loss = F.cross_entropy(model(inputs), targets)
        if train:
            optimizer.zero_grad(); loss.backward(); optimizer.step()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    run(train_loader, True)
    run(val_loader, False)
"""
)


def test_validation_in_training_mode_and_with_graphs_is_still_seen_as_validation(tmp_path: Path) -> None:
    run_script(VALIDATION_WITHOUT_CARE, tmp_path)
    chunk = read(tmp_path)
    evaluations = events(chunk, "evaluation")
    assert [(e["step"], e["batches"], e["samples"]) for e in evaluations] == [(4, 3, 32), (8, 3, 32), (12, 3, 32)]
    assert all(e["training"] is True and e["grad_enabled"] is True for e in evaluations)
    assert len(chunk.steps) == 12 and (column(chunk, "batch_size") == 16).all()


RAISES = COMMON + "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)\nraise RuntimeError('out of luck')\n"


def test_the_exception_that_ends_the_run_is_recorded_and_printed_as_ever(tmp_path: Path) -> None:
    done = run_script(RAISES, tmp_path, check=False)
    plain = run_script(RAISES, tmp_path, check=False, watched=False)
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    (raised,) = events(read(tmp_path), "exception")
    assert (raised["type"], raised["message"]) == ("RuntimeError", "out of luck")
    assert raised["where"]["line"] == line_of(RAISES, "raise RuntimeError")


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


SAFETENSORS = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
F.cross_entropy(model(x), y).backward()
optimizer.step()
from safetensors.torch import save_file
for step in range(2):
    F.cross_entropy(model(x), y).backward()
    optimizer.step()
    save_file(model.state_dict(), "model.safetensors")
"""
)


def test_safetensors(tmp_path: Path) -> None:
    run_script(SAFETENSORS, tmp_path)
    saved = events(read(tmp_path), "checkpoint")
    assert [(e["function"], e["path"]) for e in saved][-1] == (
        "safetensors.torch.save_file",
        str(tmp_path / "model.safetensors"),
    )


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


ADVERSARIAL = (
    COMMON
    + """
critic = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
maker = torch.nn.Linear(4, 8)
for_critic = torch.optim.Adam(critic.parameters(), lr=0.01)
for_maker = torch.optim.Adam(maker.parameters(), lr=0.01)
for step in range(10):
    fake = maker(torch.randn(16, 4))
    for_critic.zero_grad()
    loss = F.binary_cross_entropy_with_logits(critic(x[:16]), torch.ones(16, 1))
    (loss + F.binary_cross_entropy_with_logits(critic(fake.detach()), torch.zeros(16, 1))).backward()
    for_critic.step()
    for_maker.zero_grad()
    F.binary_cross_entropy_with_logits(critic(fake), torch.ones(16, 1)).backward()
    for_maker.step()
"""
)


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


@pytest.mark.parametrize("backward", ["loss.backward()", "(loss / 4).backward()"])
def test_the_loss_of_steps_that_are_not_observed(tmp_path: Path, backward: str) -> None:
    run_script(BETWEEN.replace("BACKWARD", backward), tmp_path, budget=0.03)
    chunk, own = read(tmp_path), measured(tmp_path)
    steps, observed = column(chunk, "step"), column(chunk, "gradients") == 4
    assert 34 <= observed.sum() < 300
    assert column(chunk, "loss") == pytest.approx(own["loss"][steps - 1], rel=1e-6)
    assert (column(chunk, "losses") == 1).all() and (column(chunk, "micro_batches") == 1).all()
    assert np.isnan(column(chunk, "gradient_norm")[~observed]).all()
    assert np.isfinite(column(chunk, "step_s")[1:]).all()
    (gradients,) = chunk.gradients
    assert gradients.rows["step"].tolist() == steps[observed].tolist()
    assert (~observed).sum() > 0
