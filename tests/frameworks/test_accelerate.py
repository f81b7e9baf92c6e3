"""A loop with Accelerate, unmodified: it wraps model, optimizer and loaders, and accumulates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.frameworks.both import Runs, run_all
from tests.probes.watched import column, events

SOURCE = """
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
measured = {"loss": [], "norms": [], "val": []}
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
model, optimizer, train_loader, val_loader = accelerator.prepare(
    model, optimizer, DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16, shuffle=True),
    DataLoader(TensorDataset(x[64:], y[64:]), batch_size=12),
)
for epoch in range(3):
    model.train()
    losses = []
    for inputs, targets in train_loader:
        with accelerator.accumulate(model):
            loss = cross_entropy(model(inputs), targets)
            losses.append(loss.item())
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 0.4)
                measured["norms"].append([p.grad.norm().item() for p in model.parameters()])
            optimizer.step()
            optimizer.zero_grad()
    measured["loss"] += [sum(losses[:2]) / 2, sum(losses[2:]) / 2]
    model.eval()
    total = 0.0
    with torch.no_grad():
        for inputs, targets in val_loader:
            total += cross_entropy(model(inputs), targets).item() * len(targets)
    measured["val"].append(total / 32)
    accelerator.save_state("kept/last")
json.dump(measured, open("measured.json", "w"))
print(digest(model.state_dict()), measured)
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return run_all(SOURCE, tmp_path_factory.mktemp("accelerate"))


def test_the_run_is_the_same_watched_or_not(runs: Runs) -> None:
    assert runs.printed[0] == runs.printed[1] == runs.printed[2] != ""


def test_steps(runs: Runs) -> None:
    chunk = runs.chunk
    assert column(chunk, "step").tolist() == list(range(1, 7))
    assert column(chunk, "loss") == pytest.approx(runs.own["loss"], rel=1e-5)
    assert (column(chunk, "micro_batches") == 2).all() and (column(chunk, "batch_size") == 32).all()
    (gradients,) = chunk.gradients
    assert gradients.table.names == ("0.weight", "0.bias", "3.weight", "3.bias")
    assert gradients.rows["norm"] == pytest.approx(np.array(runs.own["norms"]), rel=1e-5)
    assert np.isfinite(column(chunk, "gradient_norm_before_clip")).all()
    assert (column(chunk, "training")[1:] == 1).all() and (column(chunk, "gradients_reused")[1:] == 0).all()


def test_modes_and_epochs(runs: Runs) -> None:
    modes = [(e["training"], e["where"]["line"]) for e in runs.events("mode")]
    assert modes[:2] == [(False, runs.line("model.eval()")), (True, runs.line("model.train()"))]
    assert [e["epoch"] for e in runs.events("epoch")] == [1, 2]


def test_validation(runs: Runs) -> None:
    evaluations = runs.events("evaluation")
    assert [e["step"] for e in evaluations] == [2, 4, 6]
    assert [e["value"] for e in evaluations] == pytest.approx(runs.own["val"], rel=1e-6)
    assert all(e["training"] is False and e["grad_enabled"] is False and e["samples"] == 32 for e in evaluations)
    assert {e["where"]["line"] for e in evaluations} == {runs.line("total += cross_entropy")}


def test_save_state_is_one_checkpoint_that_can_resume(runs: Runs) -> None:
    saved = [e for e in runs.events("checkpoint") if e["step"] == 4]
    found = {Path(e["path"]).name: (e["has_weights"], e["has_optimizer"], e["overwrites"]) for e in saved}
    assert found["model.safetensors"] == (True, False, 2) and found["optimizer.bin"] == (False, True, 2)
    assert {e["where"]["line"] for e in saved} == {runs.line("accelerator.save_state")}
    assert [e for e in runs.events("fact") if e["fact"] == "checkpoint-incomplete"] == []


def test_with_the_default_budget(runs: Runs) -> None:
    steps, losses = column(runs.default, "step"), column(runs.default, "loss")
    seen = np.isfinite(losses)
    assert seen.any() and losses[seen] == pytest.approx(np.array(runs.own["loss"])[steps[seen] - 1], rel=1e-5)
    (gradients,) = runs.default.gradients
    assert gradients.rows["norm"] == pytest.approx(np.array(runs.own["norms"])[gradients.rows["step"] - 1], rel=1e-5)
    assert len(events(runs.default, "checkpoint")) == len(runs.events("checkpoint"))
