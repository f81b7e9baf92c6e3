"""What a loop hides is listed as not visible, and nothing is written in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from forgemon.check import RunCheck
from forgemon.report import as_json
from tests.probes.watched import column, events, read, run_script

HIDES = """
import torch
torch.manual_seed(0)
weight, bias = torch.randn(4, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
optimizer = torch.optim.SGD([weight, bias], lr=0.1)
x, y = torch.randn(32, 4), torch.randn(32, 3)
for _ in range(40):
    difference = (x @ weight + bias - y).square().mean()
    for parameter, gradient in zip((weight, bias), torch.autograd.grad(difference, (weight, bias))):
        parameter.grad = gradient
    optimizer.step()
"""

SHOWS = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def loader(shuffle):
    return DataLoader(TensorDataset(torch.randn(64, 4), torch.randint(0, 3, (64,))), 8, shuffle=shuffle)
train, held_out = loader(True), loader(False)
for epoch in range(5):
    model.train()
    for x, y in train:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for x, y in held_out:
            F.cross_entropy(model(x), y)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{epoch}.pt")
"""

COLUMNS = {
    "loss": "loss",
    "gradient clipping": "gradient_norm_before_clip",
    "training mode": "training",
    "batch size": "batch_size",
    "data time": "data_s",
    "forward time": "forward_s",
    "backward time": "backward_s",
}
EVENTS = {"validation loss": "evaluation", "checkpoints": "checkpoint", "epochs": "epoch", "data loaders": "loader"}


def check_json(run: Path) -> dict[str, Any]:
    check = RunCheck(run)
    check.read()
    return as_json(check.checked())


def test_nothing_is_guessed_of_what_a_loop_hides(tmp_path: Path) -> None:
    run_script(HIDES, tmp_path)
    chunk = read(tmp_path)
    checked = check_json(tmp_path / "run")
    hidden = {signal for signal, state in checked["signals"].items() if state == "not visible"}
    seen = {signal for signal, state in checked["signals"].items() if state == "seen"}
    assert {"gradients", "learning rate", "optimizer time", "order of calls"} <= seen
    assert {*COLUMNS, *EVENTS} <= hidden
    for signal, name in COLUMNS.items():
        assert not np.isfinite(column(chunk, name)).any(), signal
    for signal, kind in EVENTS.items():
        assert not events(chunk, kind), signal
    assert not events(chunk, "fact")
    assert list(chunk.metrics) == ["difference"]  # a variable of the loop's, by its own name, and no loss
    assert checked["findings"] == [] or {finding["symptom"] for finding in checked["findings"]} == {"ended"}
    answers = {check["id"]: check["answer"] for check in checked["checklist"]}
    assert answers.pop("gradients-zeroed") == "yes"
    assert set(answers.values()) == {"not visible"}
    assert checked["best_checkpoint"] is None
    assert "training loss none was seen; no validation loss was seen" in checked["loop_note"]


def test_what_a_loop_shows_is_seen(tmp_path: Path) -> None:
    run_script(SHOWS, tmp_path)
    chunk = read(tmp_path)
    checked = check_json(tmp_path / "run")
    for signal in (*COLUMNS, *EVENTS):
        assert checked["signals"][signal] == "seen", signal
    for name in COLUMNS.values():
        assert np.isfinite(column(chunk, name)).any(), name
    assert checked["order_of_calls"] == ["fetch", "zero_grad", "forward", "backward", "clip", "step"]
