"""What happens in a loop is recorded with its step and its line: a mistake, a validation, a checkpoint, the exception at its end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forgemon.exceptions import exception_line
from tests.probes.common_script import COMMON
from tests.probes.watched import column, events, line_of, read, run_script

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


RAISES_IN_A_WORKER = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
class Rows(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, index):
        if index == 40:
            raise ValueError("row 40 has 3 columns" + " or more" * COUNT)
        return torch.ones(2), index % 2
model = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for inputs, targets in DataLoader(Rows(), 8, num_workers=1):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
"""


@pytest.mark.parametrize("count", [0, 300])
def test_the_line_of_an_exception_in_a_worker_is_that_of_the_dataset(tmp_path: Path, count: int) -> None:
    source = RAISES_IN_A_WORKER.replace("COUNT", str(count))
    done = run_script(source, tmp_path, check=False)
    assert "ValueError: row 40 has 3 columns" in done.stderr
    (raised,) = events(read(tmp_path), "exception")
    assert (raised["where"]["line"], raised["where"]["function"]) == (line_of(source, "raise ValueError"), "__getitem__")
    assert len(raised["message"]) < 2100
    said = exception_line(raised["type"], raised["message"])
    assert said.endswith("(in DataLoader worker process 0)") and ("row 40 has 3 columns" in said or count)
    assert any(frame.startswith("<module>") for frame in raised["traceback"])


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
