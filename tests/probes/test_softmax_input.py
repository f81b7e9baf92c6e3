"""Probabilities given to cross_entropy are seen by their rows; what is right or harmless is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.probes.common_script import COMMON
from tests.probes.watched import events, line_of, read, run_script

WRONG = (
    COMMON
    + """
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3), torch.nn.Softmax(dim=1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
for step in range(24):
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
"""
)


def test_softmax_twice(tmp_path: Path) -> None:
    run_script(WRONG, tmp_path)
    found = [event for event in events(read(tmp_path), "fact") if event["fact"] == "softmax-before-cross-entropy"]
    assert [event["step"] for event in found] == [3, 6, 24]  # the third call; at doubling distances the 2nd time and the 4th
    assert found[0]["where"]["line"] == line_of(WRONG, "loss = criterion")
    assert found[0]["classes"] == 3 and found[0]["loss_floor"] == pytest.approx(math.log(1 + 2 / math.e))
    assert found[0]["made_by"] == "SoftmaxBackward0" and found[0]["modules"] == ["3"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_softmax_twice_in_half_precision(tmp_path: Path, dtype: str) -> None:
    source = WRONG.replace("criterion(model(x), y)", f"criterion(model(x).to(torch.{dtype}), y)")
    run_script(source, tmp_path)
    found = [event for event in events(read(tmp_path), "fact") if event["fact"] == "softmax-before-cross-entropy"]
    assert [event["step"] for event in found] == [3, 6, 24] and found[0]["where"]["line"] == line_of(source, "loss = criterion")


RIGHT = [
    "F.cross_entropy(torch.sigmoid(model(x)).bfloat16(), y)",
    "F.cross_entropy(torch.rand_like(model(x)).mul(2 / 3).bfloat16() + 0 * model(x).bfloat16(), y)",  # sums near 1 now and then
    "F.cross_entropy(model(x), y)",
    "F.cross_entropy(F.log_softmax(model(x), 1), y)",
    "F.nll_loss(F.log_softmax(model(x), 1), y)",
    "F.binary_cross_entropy(torch.softmax(model(x), 1), F.one_hot(y, 3).float())",
    "F.cross_entropy(torch.sigmoid(model(x)), y)",  # in [0, 1], but no rows that sum to 1
    "F.cross_entropy(model(x).softmax(1)[:, :1], torch.zeros_like(y))",  # one class
    "F.cross_entropy(F.one_hot(y, 3).float() + 0 * model(x), y)",  # zeros and ones
    "F.cross_entropy(model(x), torch.softmax(torch.randn(96, 3), 1))",  # the target may be probabilities
    "F.cross_entropy((model(x).softmax(1) if step % 4 == 3 else model(x)), y)",  # not in a row
]


def test_what_looks_like_it(tmp_path: Path) -> None:
    """Each on a line of its own in one run."""
    loops = [COMMON, "optimizer = torch.optim.SGD(model.parameters(), lr=0.01)"]
    for loss in RIGHT:
        loops.append(f"for step in range(12):\n    optimizer.zero_grad()\n    {loss}.backward()\n    optimizer.step()")
    run_script("\n".join(loops), tmp_path)
    chunk = read(tmp_path)
    assert len(chunk.steps) == 12 * len(RIGHT)
    assert [event["where"]["source"] for event in events(chunk, "fact")] == []


IMAGES = """
import torch, torch.nn.functional as F
torch.manual_seed(0)
model = torch.nn.Conv2d(3, 5, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(5):
    optimizer.zero_grad()
    F.cross_entropy(torch.softmax(model(torch.randn(4, 3, 16, 16)), dim=1), torch.randint(0, 5, (4, 16, 16))).backward()
    optimizer.step()
"""


def test_classes_of_each_pixel(tmp_path: Path) -> None:
    run_script(IMAGES, tmp_path)
    (found,) = events(read(tmp_path), "fact")
    assert (found["fact"], found["classes"], found["modules"]) == ("softmax-before-cross-entropy", 5, [])
