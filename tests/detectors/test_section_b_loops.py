"""Section B in real loops: from the script through the probes and the log to the finding, with the user's line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from forgemon.check import RunCheck
from forgemon.diagnosis import Report
from forgemon.findings import Finding
from tests.probes.watched import line_of, run_script

COMMON = """
import copy, torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
torch.set_num_threads(1)
x, y = torch.randn(160, 8), torch.randint(0, 3, (160,))
train_set, val_set = TensorDataset(x[:96], y[:96]), TensorDataset(x[96:], y[96:])
train_loader, val_loader = DataLoader(train_set, batch_size=16, shuffle=True), DataLoader(val_set, batch_size=16)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
"""

LOOP: Mapping[str, str] = {
    "setup": "pass",
    "train": "model.train()",
    "forward": "loss = F.cross_entropy(model(inputs), targets)",
    "update": "optimizer.zero_grad(); loss.backward(); optimizer.step()",
    "eval": "model.eval()",
    "grad": "torch.no_grad()",
    "validation": "val_loss = F.cross_entropy(model(inputs), targets).item()",
    "epochs": "3",
}


def script(**parts: str) -> str:
    p = {**LOOP, **parts}
    update = p["update"].replace("\n", "\n        ")
    return f"""{COMMON}{p["setup"]}
for epoch in range({p["epochs"]}):
    {p["train"]}
    for number, (inputs, targets) in enumerate(train_loader):
        {p["forward"]}
        {update}
    {p["eval"]}
    with {p["grad"]}:
        for inputs, targets in val_loader:
            {p["validation"]}
"""


def report_of(source: str, folder: Path) -> Report:
    run_script(source, folder)
    check = RunCheck(folder / "run")
    check.read()
    return check.checked().report


def findings(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.symptom != "ended"]


CLIP = "torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)"
FAULTS: dict[str, tuple[dict[str, str], str, str, int]] = {
    "gradients-discarded": (
        {"update": "loss.backward()\noptimizer.zero_grad()\noptimizer.step()"},
        "optimizer.zero_grad()",
        "found no gradient to apply",
        4,
    ),
    "optimizer-mismatch": (
        {"setup": "before, model = model, copy.deepcopy(model)"},
        "optimizer.step()",
        "none of the 6 parameters that SGD holds had a gradient",
        4,
    ),
    "clip-before-backward": (
        {"update": f"optimizer.zero_grad()\n{CLIP}\nloss.backward()\noptimizer.step()"},
        CLIP,
        "clipped to 0.1 before backward() had made them",
        3,
    ),
    "clip-scaled-gradients": (
        {"update": f"optimizer.zero_grad()\nscaler.scale(loss).backward()\n{CLIP}\nscaler.step(optimizer); scaler.update()"},
        CLIP,
        "still multiplied by the loss scale 1024",
        3,
    ),
    "accumulation-not-scaled": (
        {"update": "loss.backward()\nif number % 2:\n    optimizer.step(); optimizer.zero_grad()", "epochs": "4"},
        "loss.backward()",
        "used the sum of 2 gradients, each of the undivided mean of cross_entropy",
        4,
    ),
    "eval-in-train-mode": ({"eval": "pass"}, "val_loss =", "(4 batches, cross_entropy) ran with 1 Dropout and 1 BatchNorm", 6),
    "train-in-eval-mode": ({"train": "pass"}, "model.eval()", "Since step 7 SGD trains with model.training False", 7),
    "eval-with-grad": ({"grad": "torch.enable_grad()"}, "val_loss =", "built a graph for each of its 4 batches", 6),
    "loss-graph-retained": (
        {"setup": "total = 0", "forward": LOOP["forward"] + "; total = total + loss", "epochs": "8"},
        ".backward()",
        "old losses were still alive with their graphs, in a running sum, the oldest from step 0",
        0,
    ),
    "softmax-before-cross-entropy": (
        {"setup": "model.append(nn.Softmax(1))"},
        "loss = F",
        "With 3 classes its loss cannot fall below 0.551. The model ends in a softmax (4).",
        3,
    ),
    "val-uses-train-data": (
        {"setup": "val_loader = DataLoader(train_set, batch_size=16)  # no split"},
        "# no split",
        "read what training reads: 96 of 96 checked samples",
        6,
    ),
}


CHECKLIST = {
    "gradients-discarded": {"gradients-zeroed"},
    "eval-in-train-mode": {"eval-mode"},
    "train-in-eval-mode": {"train-mode"},
    "eval-with-grad": {"no-grad-validation"},
    "val-uses-train-data": {"data-apart"},
}


@pytest.mark.parametrize("symptom", FAULTS)
def test_one_fault_is_one_alarm_on_its_line_and_one_no_of_the_checklist(symptom: str, tmp_path: Path) -> None:
    parts, line, said, first_step = FAULTS[symptom]
    source = script(**parts)
    report = report_of(source, tmp_path)
    (found,) = findings(report)
    assert (found.symptom, found.cause, found.level, found.first_step) == (symptom, symptom, "alarm", first_step)
    assert said in found.summary
    assert found.where is not None and found.where.file == str(tmp_path / "train.py")
    assert found.where.line == line_of(source, line)
    no = {check.id: check.detail for check in report.checklist if check.answer == "no"}
    assert no.keys() == CHECKLIST.get(symptom, set()) and set(no.values()) <= {found.summary}


LAST_ONLY = """
import torch, torch.nn.functional as F
one, held_out, far = torch.ones(4, 2), torch.ones(4, 2), torch.full((4, 1), 100.0)
model = torch.nn.Linear(2, 1, bias=False)
torch.nn.init.zeros_(model.weight)
optimizer = torch.optim.SGD(model.parameters(), lr=1 / 6)
for epoch in range(6):
    for _ in range(3):  # the output rises by 1 in all
        optimizer.zero_grad()
        F.l1_loss(model(one), far).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        loss = F.mse_loss(model(held_out), torch.full((4, 1), 3.2)).item()
    model.train()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}, NAME)
"""


def test_the_best_result_that_the_last_one_overwrote(tmp_path: Path) -> None:
    source = LAST_ONLY.replace("NAME", '"last.pt"')
    report = report_of(source, tmp_path)
    (found,) = findings(report)
    assert (found.symptom, found.level, found.first_step) == ("best-checkpoint-not-saved", "alarm", 9)
    assert "The best mse_loss, 0.04 of step 9, is in no file; a worse state replaced the one that held it." in found.summary
    assert found.where is not None and found.where.line == line_of(source, "torch.save(")
    assert {check.id for check in report.checklist if check.answer == "no"} == {"best-checkpoint"}


def test_a_file_for_each_epoch_holds_the_best(tmp_path: Path) -> None:
    report = report_of(LAST_ONLY.replace("NAME", 'f"{epoch}.pt"'), tmp_path)
    assert findings(report) == []
    assert {check.id: check.answer for check in report.checklist}["best-checkpoint"] == "yes"


def test_a_healthy_loop_is_silent_and_trusted(tmp_path: Path) -> None:
    report = report_of(script(), tmp_path)
    assert findings(report) == []
    answers = {check.id: check.answer for check in report.checklist}
    assert answers.pop("best-checkpoint") == "not visible"
    assert set(answers.values()) == {"yes"}
