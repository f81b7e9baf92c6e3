"""Validation passes as they are found: from mode, grad mode, the absence of backward and the data that is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from probes.evaluations import Batch, BatchLoss, EvaluationPass
from probes.transfer import Transfer
from tests.probes.common_script import COMMON, measured
from tests.probes.watched import column, events, read, run_script

START = (
    COMMON
    + """
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def step(inputs, targets):
    optimizer.zero_grad()
    loss = cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
def validate(loader):
    total = count = 0
    for inputs, targets in loader:
        loss = cross_entropy(model(inputs), targets)
        total, count = total + loss.item() * len(targets), count + len(targets)
    measured["val"].append(total / count)
train_x, train_y, val_x, val_y = x[:64], y[:64], x[64:], y[64:]
"""
)


def evaluations(body: str, folder: Path) -> list[dict[str, Any]]:
    run_script(START + body + "\nsave()\n", folder)
    return events(read(folder), "evaluation")


def shape(found: list[dict[str, Any]]) -> list[tuple[int, str, int, int]]:
    return [(e["step"], e["metric"], e["batches"], e["samples"]) for e in found]


WITH_OWN_VALUES = {
    "without a loader": (
        """
for _ in range(12):
    model.train()
    step(train_x, train_y)
    if _ % 4 == 3:
        model.eval()
        with torch.no_grad():
            validate([(val_x, val_y)])
""",
        [(4, 1), (8, 1), (12, 1)],
    ),
    "without a loader, at every step": (
        """
for _ in range(4):
    model.train()
    step(train_x, train_y)
    model.eval()
    with torch.no_grad():
        validate([(val_x, val_y)])
""",
        [(1, 1), (2, 1), (3, 1), (4, 1)],
    ),
    "without eval() and without no_grad": (
        """
for epoch in range(3):
    for batch in train_loader: step(*batch)
    validate(val_loader)
""",
        [(4, 3), (8, 3), (12, 3)],
    ),
    "in the middle of an epoch": (
        """
for epoch in range(2):
    for number, batch in enumerate(train_loader):
        model.train()
        step(*batch)
        if number % 2:
            model.eval()
            with torch.no_grad(): validate(val_loader)
""",
        [(2, 3), (4, 3), (6, 3), (8, 3)],
    ),
    "in the middle of an epoch, by tensors beside a loader": (
        """
for epoch in range(2):
    for number, batch in enumerate(train_loader):
        model.train()
        step(*batch)
        if number % 2:
            model.eval()
            with torch.no_grad(): validate([(val_x, val_y)])
""",
        [(2, 1), (4, 1), (6, 1), (8, 1)],
    ),
    "before the first step": (
        """
model.eval()
with torch.no_grad(): validate(val_loader)
for epoch in range(2):
    model.train()
    for batch in train_loader: step(*batch)
    model.eval()
    with torch.no_grad(): validate(val_loader)
""",
        [(0, 3), (4, 3), (8, 3)],
    ),
}


@pytest.mark.parametrize("name", WITH_OWN_VALUES)
def test_passes_and_their_values(tmp_path: Path, name: str) -> None:
    body, expected = WITH_OWN_VALUES[name]
    found = evaluations(body, tmp_path)
    assert shape(found) == [(step, "cross_entropy", batches, 32) for step, batches in expected]
    assert [e["value"] for e in found] == pytest.approx(measured(tmp_path)["val"].tolist(), rel=1e-6)


def test_two_loaders_have_a_name_each(tmp_path: Path) -> None:
    body = """
other_loader = DataLoader(TensorDataset(x[64:80], y[64:80]), batch_size=8)
for epoch in range(2):
    model.train()
    for batch in train_loader: step(*batch)
    model.eval()
    with torch.no_grad():
        validate(val_loader)
        validate(other_loader)
"""
    found = evaluations(body, tmp_path)
    first, second = ("cross_entropy", 3, 32), ("cross_entropy #2", 2, 16)
    assert shape(found) == [(4, *first), (4, *second), (8, *first), (8, *second)]
    assert [e["value"] for e in found] == pytest.approx(measured(tmp_path)["val"].tolist(), rel=1e-6)


def test_the_epoch_of_each_pass_is_looked_for_once(tmp_path: Path) -> None:
    """It takes a look through the variables of the program's frames."""
    body = """
session = sys.modules["_forgemon_probe"].session
validation, asked = session.steps.validation, []
look = validation.epoch
validation.epoch = lambda: asked.append(1) or look()
for epoch in range(5, 8):
    model.train()
    for inputs, targets in train_loader: step(inputs, targets)
    model.eval()
    before = len(asked)
    with torch.no_grad(): validate(val_loader)
    measured["total"].append(len(asked) - before)
"""
    found = evaluations(body, tmp_path)
    assert [(e["epoch"], e["batches"]) for e in found] == [(5, 3), (6, 3), (7, 3)]
    assert measured(tmp_path)["total"].tolist() == [1, 1, 1]


NONE = {
    "train accuracy at each step": """
for batch in train_loader:
    step(*batch)
    with torch.no_grad(): accuracy = (model(batch[0]).argmax(1) == batch[1]).float().mean().item()
""",
    "a metric of the training batch by a criterion": """
for inputs, targets in train_loader:
    optimizer.zero_grad()
    outputs = model(inputs)
    loss = cross_entropy(outputs, targets)
    with torch.no_grad(): error = F.l1_loss(outputs.softmax(1), F.one_hot(targets, 3).float())
    loss.backward()
    optimizer.step()
""",
    "the loss of the training batch once more": """
for batch in train_loader:
    step(*batch)
    with torch.no_grad(): cross_entropy(model(batch[0]), batch[1])
""",
    "metrics alone": """
for epoch in range(2):
    model.train()
    for batch in train_loader: step(*batch)
    model.eval()
    with torch.no_grad(): right = sum((model(a).argmax(1) == b).sum().item() for a, b in val_loader)
""",
    "a criterion written by hand": """
for epoch in range(2):
    model.train()
    for batch in train_loader: step(*batch)
    model.eval()
    with torch.no_grad(): error = sum(((model(a) - F.one_hot(b, 3)) ** 2).mean().item() for a, b in val_loader)
""",
    "two losses from two loaders in one backward": """
other_loader = DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16)
for (a, b), (c, d) in zip(train_loader, other_loader):
    optimizer.zero_grad()
    (cross_entropy(model(a), b) + 0.5 * cross_entropy(model(c), d)).backward()
    optimizer.step()
""",
    "two losses, the second batch fetched after the first loss": """
other = iter(DataLoader(TensorDataset(x[:64], y[:64]), batch_size=16))
for a, b in train_loader:
    optimizer.zero_grad()
    loss = cross_entropy(model(a), b)
    c, d = next(other)
    (loss + 0.5 * cross_entropy(model(c), d)).backward()
    optimizer.step()
""",
    "distillation": """
teacher = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3)).eval()
model.train()
for epoch in range(2):
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        with torch.no_grad(): wanted = teacher(inputs).softmax(1)
        outputs = model(inputs)
        (cross_entropy(outputs, targets) + F.kl_div(outputs.log_softmax(1), wanted, reduction="batchmean")).backward()
        optimizer.step()
""",
    "a teacher's own loss": """
teacher = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3)).eval()
model.train()
for epoch in range(2):
    for inputs, targets in train_loader:
        optimizer.zero_grad()
        with torch.no_grad(): its_loss = cross_entropy(teacher(inputs), targets)
        (cross_entropy(model(inputs), targets) + its_loss).backward()
        optimizer.step()
""",
    "closures": """
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
for inputs, targets in train_loader:
    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        return loss
    optimizer.step(closure)
""",
    "closures that ask without a gradient": """
step(train_x, train_y)
for inputs, targets in train_loader:
    def closure():
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        if torch.is_grad_enabled(): loss.backward()
        return loss
    with torch.no_grad(): closure()
    optimizer.step(closure)
""",
    "a gan": """
critic = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1))
maker = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
for_critic, for_maker = (torch.optim.Adam(m.parameters(), lr=0.01) for m in (critic, maker))
bce = F.binary_cross_entropy_with_logits
for inputs, _ in train_loader:
    with torch.no_grad(): fake = maker(torch.randn(16, 4))
    for_critic.zero_grad()
    (bce(critic(inputs), torch.ones(16, 1)) + bce(critic(fake), torch.zeros(16, 1))).backward()
    for_critic.step()
    for_maker.zero_grad()
    bce(critic(maker(torch.randn(16, 4))), torch.ones(16, 1)).backward()
    for_maker.step()
""",
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_validation(tmp_path: Path, name: str) -> None:
    run_script(START + NONE[name], tmp_path)
    chunk = read(tmp_path)
    assert [e for e in events(chunk, "evaluation") if "(training data)" not in e["metric"]] == []
    assert events(chunk, "fact") == []
    signals = events(chunk, "signals")[-1]["signals"]
    assert signals["validation loss"] == ("not visible" if not events(chunk, "evaluation") else "seen")
    if name not in ("closures", "closures that ask without a gradient", "a gan"):
        assert np.isfinite(column(chunk, "loss")).all()
        assert set(column(chunk, "batch_size")[1:]) <= {16.0, 32.0}


def test_a_loss_that_cannot_be_read_without_waiting_gives_no_result() -> None:
    """Of a device that is neither the CPU nor CUDA."""
    batch = Batch(0.0)
    told: list[float] = []
    batch.losses.append(BatchLoss("mse_loss", torch.zeros((), device="meta"), "mean", 4))
    found = EvaluationPass(batch, step=1)
    found.add(batch)
    found.deliver(Transfer(), told.append)
    assert (found.batches, found.items, told) == (1, 4, [])
