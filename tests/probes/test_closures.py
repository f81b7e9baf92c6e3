"""Steps that run forward and backward inside themselves show the gradients they used, as other steps do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.probes.watched import column, events, read, run_script

CLOSURE = """
import json, torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
optimizer = OPTIMIZER
measured = {"loss": [], "norms": []}
for step in range(8):
    evaluations = []
    def closure():
        ZERO
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        evaluations.append(loss.item())
        return loss
    optimizer.step(closure)
    measured["loss"].append(evaluations[0])
    measured["norms"].append([p.grad.norm().item() for p in model.parameters()])
json.dump(measured, open("measured.json", "w"))
"""


def run(folder: Path, optimizer: str, zero: str = "optimizer.zero_grad()") -> tuple[Any, dict[str, np.ndarray[Any, Any]]]:
    run_script(CLOSURE.replace("OPTIMIZER", optimizer).replace("ZERO", zero), folder)
    return read(folder), {k: np.array(v) for k, v in json.loads((folder / "measured.json").read_text()).items()}


@pytest.mark.parametrize(
    "optimizer",
    ["torch.optim.SGD(model.parameters(), lr=0.1)", "torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)"],
)
def test_the_row_of_a_step_with_a_closure(tmp_path: Path, optimizer: str) -> None:
    chunk, own = run(tmp_path, optimizer)
    assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
    (gradients,) = chunk.gradients
    assert gradients.rows["norm"] == pytest.approx(own["norms"], rel=1e-5)
    assert (column(chunk, "micro_batches") == 1).all() and (column(chunk, "batch_size") == 64).all()
    assert events(chunk, "fact") == []
    assert (column(chunk, "gradients_reused")[1:] == 0).all()


def test_a_closure_that_never_clears_is_missing_zero_grad(tmp_path: Path) -> None:
    chunk, _ = run(tmp_path, "torch.optim.SGD(model.parameters(), lr=0.1)", zero="pass")
    facts = [event for event in events(chunk, "fact") if event["fact"] == "missing-zero-grad"]
    assert facts and facts[0]["step"] == 2
    assert "loss.backward()" in "".join(facts[0]["where"]["source"])


def test_a_clip_inside_a_closure_is_seen(tmp_path: Path) -> None:
    clipped = "evaluations.append(loss.item())", "evaluations.append(clip_grad_norm_(model.parameters(), 0.01).item())"
    source = CLOSURE.replace("OPTIMIZER", "torch.optim.SGD(model.parameters(), lr=0.1)").replace(
        "ZERO", "optimizer.zero_grad()"
    )
    run_script("from torch.nn.utils import clip_grad_norm_\n" + source.replace(*clipped), tmp_path)
    chunk = read(tmp_path)
    own = json.loads((tmp_path / "measured.json").read_text())["loss"]
    assert column(chunk, "gradient_norm_before_clip") == pytest.approx(own, rel=1e-5)
    assert events(chunk, "signals")[-1]["signals"]["gradient clipping"] == "seen"
