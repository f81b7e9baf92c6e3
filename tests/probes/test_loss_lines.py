"""Losses are told apart by the line that goes backward from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.probes.watched import events, line_of, read, run_script

GAN = """
import json, torch
import torch.nn.functional as F
torch.manual_seed(0)
G = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8))
D = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
g_optimizer = torch.optim.Adam(G.parameters(), 1e-3)
d_optimizer = torch.optim.Adam(D.parameters(), 1e-3)
measured = {"real": [], "fake": [], "generator": []}
real, ones, zeros = torch.randn(16, 8), torch.ones(16, 1), torch.zeros(16, 1)
for step in range(6):
    d_optimizer.zero_grad()
    fake = G(torch.randn(16, 4))
    loss_real = F.binary_cross_entropy_with_logits(D(real), ones)
    loss_real.backward()
    loss_fake = F.binary_cross_entropy_with_logits(D(fake.detach()), zeros)
    loss_fake.backward()
    d_optimizer.step()
    g_optimizer.zero_grad()
    loss_generator = F.binary_cross_entropy_with_logits(D(fake), ones)
    loss_generator.backward()
    g_optimizer.step()
    for name, loss in ("real", loss_real), ("fake", loss_fake), ("generator", loss_generator):
        measured[name].append(loss.item())
json.dump(measured, open("measured.json", "w"))
"""


def test_each_line_of_a_gan_has_its_series(tmp_path: Path) -> None:
    run_script(GAN, tmp_path)
    chunk = read(tmp_path)
    own = json.loads((tmp_path / "measured.json").read_text())
    lines = {name: line_of(GAN, f"loss_{name}.backward()") for name in own}
    assert [(e["name"], e["where"]["line"]) for e in events(chunk, "loss")] == [
        (f"loss (train.py:{line})", line) for line in lines.values()
    ]
    for name, line in lines.items():
        rows = np.load(tmp_path / "run" / "rank-0" / "metrics" / f"loss%20%28train.py%3A{line}%29.npy")
        # The first loss of a run was alone until the second line showed.
        assert rows["value"] == pytest.approx(own[name][-len(rows) :], rel=1e-6)
        assert len(rows) >= 5


ONE_LINE = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Linear(8, 3)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
x, y = torch.randn(32, 8), torch.randint(0, 3, (32,))
for step in range(5):
    optimizer.zero_grad()
    for part in range(2):
        (F.cross_entropy(model(x[16 * part : 16 * part + 16]), y[16 * part : 16 * part + 16]) / 2).backward()
    optimizer.step()
"""


def test_a_loop_with_one_line_has_the_loss_alone(tmp_path: Path) -> None:
    run_script(ONE_LINE, tmp_path)
    assert [e["where"]["line"] for e in events(read(tmp_path), "loss")] == [line_of(ONE_LINE, ".backward()")]
    assert not list((tmp_path / "run" / "rank-0" / "metrics").glob("loss*"))


LATER = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
first, second = torch.nn.Linear(8, 3), torch.nn.Linear(8, 3)
optimizers = [torch.optim.SGD(model.parameters(), 0.01) for model in (first, second)]
x, y = torch.randn(16, 8), torch.randint(0, 3, (16,))
def train(one, loss):
    optimizers[one].zero_grad()
    loss.backward()
    optimizers[one].step()
def train_second():
    optimizers[1].zero_grad()
    F.cross_entropy(second(x), y).backward()  # the second
    optimizers[1].step()
for step in range(FIRST_ALONE + 40):
    train(0, F.cross_entropy(first(x), y))
    if step >= FIRST_ALONE:
        train_second()
"""


@pytest.mark.parametrize("first_alone", [100, 101])
def test_a_second_line_that_comes_when_one_is_long_known_is_seen_too(tmp_path: Path, first_alone: int) -> None:
    """Whichever of the two takes its turn at even and at odd counts."""
    script = LATER.replace("FIRST_ALONE", str(first_alone))
    run_script(script, tmp_path, budget=0.0)
    assert [e["where"]["line"] for e in events(read(tmp_path), "loss")][1:] == [line_of(script, "# the second")]
