"""What the loop keeps in variables is recorded; a validation loss that no criterion shows is an evaluation, and none is reported twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.probes.logging_script import COMMON, metrics, own_numbers, steps_of, values_of
from tests.probes.watched import ATTACH, attach_argument, events, read, run_script

KEPT = (
    COMMON
    + """
import time
def train(epoch):
    started = time.perf_counter()
    running = 0.0
    for i in range(5):
        running += step()
        if i == 1:
            held = torch.randn(3)
            dies = weakref.ref(held)
            optimizer.step()  # here the probes look at this frame
            del held
            assert dies() is None, "a tensor is kept alive"
        elif i == 2:
            own_view = locals()
            later = 1
            optimizer.step()
            assert "later" not in own_view, "the program's own locals() changed"
            own_view = None
    return running / 5
def main():
    best, constant, flag = float("inf"), 0.125, False
    for epoch in range(4):
        train_loss = train(epoch)
        val_loss = validate()
        val_acc = torch.tensor(own["acc"][-1], dtype=torch.float64)
        best_val_loss = best = min(best, val_loss)
        global_step = epoch
        flag = not flag
        _hidden = val_loss * 2
    train(epoch)
main()
save()
"""
)


def test_variables_that_the_loop_keeps(tmp_path: Path) -> None:
    run_script(KEPT, tmp_path)
    chunk, own, said = read(tmp_path), own_numbers(tmp_path), metrics(read(tmp_path))
    epochs = [7, 14, 21, 28]
    assert (steps_of(chunk, "val_loss"), values_of(chunk, "val_loss")) == (epochs, own["val"])
    assert (steps_of(chunk, "val_acc"), values_of(chunk, "val_acc")) == (epochs, own["acc"])
    assert values_of(chunk, "train_loss") == pytest.approx(np.reshape(own["train"], (5, 5)).mean(1)[:4])
    assert (said["val_loss"]["better"], said["val_acc"]["better"]) == ("lower", "higher")
    assert said["val_loss"]["where"]["function"] == "main"
    assert {"epoch", "constant", "flag", "_hidden", "started", "i", "global_step"}.isdisjoint(chunk.metrics)
    evaluations = events(chunk, "evaluation")
    assert [(e["metric"], e["step"], e["value"], e["epoch"]) for e in evaluations] == [
        ("val_loss", step, value, epoch) for epoch, (step, value) in enumerate(zip(epochs, own["val"], strict=True))
    ]
    assert events(chunk, "signals")[-1]["signals"]["validation loss"] == "seen"


SHOWN_BY_A_CRITERION = (
    COMMON
    + """
from torch.utils.tensorboard import SummaryWriter
board = SummaryWriter("board")
contexts = [torch.no_grad, torch.enable_grad, torch.no_grad, torch.enable_grad]
for epoch in range(4):
    for global_step in range(5 * epoch, 5 * epoch + 5):
        step()
        board.add_scalar("val_of_rate", 0.5 + global_step)
        board.add_scalar("train/loss", own["train"][-1], global_step)
    model.eval()
    with contexts[epoch]():
        val_loss = F.mse_loss(model(x[64:]), y[64:]).item()
    model.train()
    own["val"].append(val_loss)
    board.add_scalar("val/loss", val_loss, epoch)
save()
"""
)


def test_a_pass_that_a_criterion_shows_is_reported_once(tmp_path: Path) -> None:
    run_script(SHOWN_BY_A_CRITERION, tmp_path)
    chunk, own, said = read(tmp_path), own_numbers(tmp_path), metrics(read(tmp_path))
    assert [(e["metric"], e["step"]) for e in events(chunk, "evaluation")] == [("mse_loss", step) for step in (5, 10, 15, 20)]
    assert values_of(chunk, "val/loss") == own["val"]
    assert (said["mse_loss"]["source"], said["mse_loss"]["better"]) == ("criterion", "lower")
    (count,) = events(chunk, "loop_count")
    assert (count["name"], count["value"] - count["step"]) == ("global_step", -1)


OVERFITS = (
    COMMON
    + """
x = torch.randn(96, 8)
y = x[:, :1] + torch.randn(96, 1)  # something to be learned, and noise
model = torch.nn.Sequential(torch.nn.Linear(8, 256), torch.nn.Tanh(), torch.nn.Linear(256, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
def main():
    for epoch in range(30):
        for _ in range(10):
            step()
        val_loss = validate()
        torch.save(model.state_dict(), "model-%d.pt" % epoch)
main()
save()
"""
)


def test_check_takes_a_loss_written_by_hand_as_validation(tmp_path: Path) -> None:
    run_script(OVERFITS, tmp_path)
    own = own_numbers(tmp_path)
    best = int(np.argmin(own["val"]))
    assert own["val"][-1] > 1.2 * own["val"][best]
    checked = subprocess.run(
        [sys.executable, "-m", "forgemon", "check", str(tmp_path / "run"), "--json"], capture_output=True, text=True, timeout=60
    )
    report = json.loads(checked.stdout)
    (finding,) = [f for f in report["findings"] if f["symptom"] == "train-val-divergence"]
    assert finding["evidence"]["metric"] == "val_loss" and finding["evidence"]["best_step"] == 10 * (best + 1)
    assert report["best_checkpoint"]["metric"] == "val_loss"
    assert report["best_checkpoint"]["value"] == pytest.approx(own["val"][best])
    assert report["best_checkpoint"]["path"] == str(tmp_path / f"model-{best}.pt")


PLAIN = (
    ATTACH
    + COMMON
    + """
attach()
for epoch in range(4):
    for i in range(5):
        step()
    val_loss = validate()
save()
"""
)


def test_the_last_result_of_a_script_is_recorded_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PLAIN)
    subprocess.run([sys.executable, "train.py", attach_argument(tmp_path)], cwd=tmp_path, timeout=120, check=True)
    found = [event for event in events(read(tmp_path), "evaluation") if event["metric"] == "val_loss"]
    assert [event["step"] for event in found] == [5, 10, 15, 20]
    assert [event["value"] for event in found] == own_numbers(tmp_path)["val"]


TRAINED = """
import torch
def main():
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(1))
    by_hand = torch.zeros((), requires_grad=True)
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    optimizer = torch.optim.SGD([p, by_hand], lr=0.1)
    for step in range(12):
        optimizer.zero_grad()
        loss = ((p + by_hand - 3) ** 2).sum()
        loss.backward()
        optimizer.step()
        frozen.data.add_(1)
        if step % 3 == 2:
            with torch.no_grad():
                distance = (p - 3).abs().sum()
main()
"""


def test_parameters_are_no_metrics(tmp_path: Path) -> None:
    run_script(TRAINED, tmp_path)
    chunk = read(tmp_path)
    assert {"loss", "distance"} <= set(chunk.metrics)
    assert set(chunk.metrics).isdisjoint({"p", "by_hand", "frozen"})
    assert {event["metric"] for event in events(chunk, "evaluation")}.isdisjoint({"p", "by_hand", "frozen"})


EVER_NEW = """
import torch
import torch.nn.functional as F
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
x = torch.randn(8, 2)
progress = 0.0
for step in range(600):
    optimizer.zero_grad()
    loss = F.mse_loss(model(x), x[:, :1])
    BACKWARD
    optimizer.step()
    progress += 0.5
"""
BY_HAND = """for p, g in zip(model.parameters(), torch.autograd.grad(loss, tuple(model.parameters()))):
        p.grad = g"""


@pytest.mark.parametrize(("backward", "last"), [("loss.backward()", 16), (BY_HAND, 4)])
def test_variables_are_looked_at_more_rarely_where_the_loss_shows(backward: str, last: int, tmp_path: Path) -> None:
    run_script(EVER_NEW.replace("BACKWARD", backward), tmp_path)
    steps = np.array(steps_of(read(tmp_path), "progress"))
    gaps = np.diff(steps)
    early, late = (steps[1:] > 80) & (steps[1:] < 440), (steps[1:] > 470) & (steps[1:] < 590)
    assert early.any() and set(gaps[early]) == {4}
    assert late.any() and set(gaps[late]) == {last}
