"""What the loop hands to a logger is recorded under its own name: any logger, any kind of value, seldom or often, no wait for a GPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.probes.logging_script import COMMON, metrics, own_numbers, steps_of, values_of
from tests.probes.watched import events, line_of, read, run_script

LOGGERS = (
    COMMON
    + """
os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", MLFLOW_TRACKING_URI="file:" + os.getcwd() + "/mlruns")
os.environ.update(MLFLOW_ALLOW_FILE_STORE="true")
import mlflow, numpy, wandb
from torch.utils.tensorboard import SummaryWriter
def main():
    board, run = SummaryWriter("board"), wandb.init(project="p", settings=wandb.Settings(console="off", x_disable_stats=True))
    log = mlflow.log_metric  # bound before anything is observed
    for epoch in range(4):
        for _ in range(5):
            wandb.log({"train": {"loss": step()}, "note": "text", "flag": True, "picture": wandb.Histogram([1, 2])})
        result = validate()
        board.add_scalar("val/loss", torch.tensor(result, dtype=torch.float64), epoch)
        board.add_scalars("val", {"acc": own["acc"][-1], "share": 0.25}, epoch)
        log("f1", numpy.float64(result / 2), step=epoch)
        mlflow.log_metrics({"val_mse": result, "lr": 0.05}, step=epoch)
        run.log({"val/loss": result, "epoch": epoch})
    run.finish()
main()
save()
"""
)


def test_tensorboard_wandb_and_mlflow(tmp_path: Path) -> None:
    run_script(LOGGERS, tmp_path)
    chunk, own, said = read(tmp_path), own_numbers(tmp_path), metrics(read(tmp_path))
    epochs = [5, 10, 15, 20]
    assert (steps_of(chunk, "train.loss"), values_of(chunk, "train.loss")) == (list(range(1, 21)), own["train"])
    for name, source, expected in (
        ("val/loss", "tensorboard", own["val"]),
        ("val/acc", "tensorboard", own["acc"]),
        ("val/share", "tensorboard", [0.25] * 4),
        ("f1", "mlflow", [value / 2 for value in own["val"]]),
        ("val_mse", "mlflow", own["val"]),
        ("lr", "mlflow", [0.05] * 4),
        ("val/loss (wandb)", "wandb", own["val"]),
        ("epoch", "wandb", [0, 1, 2, 3]),
    ):
        assert (steps_of(chunk, name), values_of(chunk, name)) == (epochs, expected), name
        assert said[name]["source"] == source
    directions = {name: event["better"] for name, event in said.items() if event["source"] != "local"}
    assert directions == {
        "train.loss": "lower",
        "val/loss": "lower",
        "val/loss (wandb)": "lower",
        "val_mse": "lower",
        "val/acc": "higher",
        "f1": "higher",
        "val/share": None,
        "lr": None,
        "epoch": None,
    }
    assert said["f1"]["where"]["line"] == line_of(LOGGERS, 'log("f1"')
    # The pass is one, under the first of its names, though three loggers were told of it.
    evaluations = events(chunk, "evaluation")
    assert [(e["metric"], e["step"], e["value"]) for e in evaluations] == [
        ("val/loss", step, value) for step, value in zip(epochs, own["val"], strict=True)
    ]
    assert [e["epoch"] for e in evaluations] == [0, 1, 2, 3]
    assert [e["train_loss"] for e in evaluations] == pytest.approx(np.reshape(own["train"], (4, 5)).mean(1), rel=1e-6)
    seen = {(e["batches"], e["samples"], e["training"], e["grad_enabled"]) for e in evaluations}
    assert seen == {(1, 32, False, False)}
    assert evaluations[0]["where"]["line"] == line_of(LOGGERS, 'board.add_scalar("val/loss"')


SELDOM = (
    COMMON
    + """
import time
from torch.utils.tensorboard import SummaryWriter
board, asleep = SummaryWriter("board"), 0
for count in range(600):
    step()
    board.add_scalar("train/loss", own["train"][-1], count)
    time.sleep(0.001)
    if count % 7 == 6:
        board.add_scalar("of the epoch", count, count)
    if count % 100 == 99:
        own["val"].append(own["train"][-1] / 2)
        board.add_scalar("val/loss", own["val"][-1], count)
    probes = sys.modules.get("_forgemon_probe")
    asleep += probes is not None and probes.session.guard.mode == 0
own["asleep"] = [asleep]
save()
"""
)


def test_between_observed_steps_what_is_logged_seldom_is_never_lost(tmp_path: Path) -> None:
    run_script(SELDOM, tmp_path, budget=0.002)
    chunk, own = read(tmp_path), own_numbers(tmp_path)
    assert own["asleep"][0] > 300
    assert (steps_of(chunk, "val/loss"), values_of(chunk, "val/loss")) == ([100, 200, 300, 400, 500, 600], own["val"])
    assert steps_of(chunk, "of the epoch") == list(range(7, 601, 7))
    thinned = steps_of(chunk, "train/loss")
    assert len(thinned) < 300 and thinned[-1] == 600
    assert values_of(chunk, "train/loss") == [own["train"][step - 1] for step in thinned]
    assert [e["step"] for e in events(chunk, "evaluation")] == [100, 200, 300, 400, 500, 600]


MANY = (
    COMMON
    + """
class SummaryWriter:
    def add_scalar(self, tag, scalar_value, global_step=None): ...
import types
module = types.ModuleType("tensorboardX.writer")
module.SummaryWriter = SummaryWriter
sys.modules["tensorboardX.writer"] = module
step(), step()
for number in range(450):
    SummaryWriter().add_scalar("name %d" % number, float(number))
for number in range(2):
    for batch in range(3):
        SummaryWriter().add_scalar("val/loss", float(batch))  # of each batch: the first may be of a pass, the others are not
    step()
for name in ("odd/../name", "", "." * 300, "\\u00fc \\n", 7, None, b"bytes"):
    SummaryWriter().add_scalar(name, 1.0)
class Number(float):
    def __float__(self): raise SystemExit("code of the program's ran")
    __eq__ = __hash__ = __lt__ = __float__
for value in (Number(1.0), True, "1.0", None, 1j, [1.0], torch.zeros(2), torch.tensor(1j), 10 ** 400, float("nan"),
              torch.tensor(1.0, device="meta")):
    SummaryWriter().add_scalar("name 0", value)
probes = sys.modules["_forgemon_probe"].session
for round in range(2):
    assert probes.writer.flush(10.0)
    opened = [os.readlink(file.path) for file in os.scandir("/proc/self/fd") if os.path.lexists(file.path)]
    assert not [path for path in opened if "/metrics/" in path], opened
    SummaryWriter().add_scalar("name 1", 2.0 + round)
save()
"""
)


def test_names_and_values_of_every_kind(tmp_path: Path) -> None:
    run_script(MANY, tmp_path)
    chunk = read(tmp_path)
    assert len([name for name in chunk.metrics if name.startswith("name ")]) == 300
    assert values_of(chunk, "name 0")[0] == 0.0 and np.isnan(values_of(chunk, "name 0")[-1])
    assert len(chunk.metrics["name 0"]) == 2
    assert values_of(chunk, "name 1") == [1.0, 2.0, 3.0]
    assert sum(event["rows"] for event in events(chunk, "dropped")) == 1  # that of a device whose values cannot be had
    assert [(e["metric"], e["step"]) for e in events(chunk, "evaluation")] == [("val/loss", 2)]


ON_A_GPU = (
    COMMON
    + """
from torch.utils.tensorboard import SummaryWriter
class Board(SummaryWriter):  # whose own work, which waits for the GPU, is left out
    def __init__(self): ...
    def _get_file_writer(self): return self
    def add_summary(self, *values): ...
import torch.utils.tensorboard.writer
torch.utils.tensorboard.writer.scalar = lambda *values, **more: None
board = Board()
model.cuda()
x, y = x.cuda(), y.cuda()
kept = []
torch.cuda.set_sync_debug_mode("error")
for epoch in range(5):
    for count in range(4):
        optimizer.zero_grad()
        loss = squared(slice(0, 64))
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        val_loss = squared(slice(64, 96))
    board.add_scalar("val/loss", val_loss, epoch)
    kept.append(val_loss)
torch.cuda.set_sync_debug_mode("default")
own["val"] = [value.item() for value in kept]
save()
"""
)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_tensors_on_a_gpu_are_not_waited_for(tmp_path: Path) -> None:
    run_script(ON_A_GPU, tmp_path)
    chunk, own = read(tmp_path), own_numbers(tmp_path)
    assert values_of(chunk, "val/loss") == pytest.approx(own["val"], rel=1e-6)
    assert [(e["metric"], e["step"]) for e in events(chunk, "evaluation")] == [("val/loss", 4 * n) for n in range(1, 6)]
    assert "val_loss" not in chunk.metrics  # in a variable it would have to be waited for
