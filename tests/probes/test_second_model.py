"""What is said of a model that is trained when another one has been, and lives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.probes.watched import column, events, read, run_script

TEACHER_AND_STUDENT = """
import copy, torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
def new_model(): return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
def train(model, loss, name):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for step in range(60):
        optimizer.zero_grad()
        loss(model(x[:48])).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad(): F.cross_entropy(model(x[48:]), y[48:])
    torch.save({"model": copy.deepcopy(model.state_dict()), "optimizer": optimizer.state_dict(), "epoch": 0}, name)
    return optimizer
teacher, student = new_model(), new_model()
kept = train(teacher, lambda out: F.cross_entropy(out, y[:48]), "teacher.pt")
with torch.no_grad(): soft = teacher(x[:48]).softmax(1)
train(student, lambda out: F.kl_div(out.log_softmax(1), soft, reduction="batchmean"), "student.pt")
"""


def test_a_student_is_not_taken_for_its_teacher(tmp_path: Path) -> None:
    for made_later in (False, True):
        folder = tmp_path / str(made_later)
        folder.mkdir()
        source = TEACHER_AND_STUDENT
        if made_later:
            source = source.replace("teacher, student = new_model(), new_model()", "teacher = new_model()")
            source = source.replace("train(student,", "student = new_model()\ntrain(student,")
        run_script(source, folder)
        chunk = read(folder)
        assert 0.0 not in column(chunk, "training")  # NaN, at most, at the first step of a model that nobody knew
        assert [e["holds_step"] for e in events(chunk, "checkpoint")] == [60, 120]


FOLDS = """
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(400, 8), torch.randint(0, 3, (400,))
data, folds = TensorDataset(x, y), torch.arange(400).reshape(4, 100).tolist()
kept = []
def train(model, optimizer, fold, leak=()):
    train_rows = [i for rows in folds[:fold] + folds[fold + 1 :] for i in rows]
    train_loader = DataLoader(Subset(data, [*train_rows, *leak]), batch_size=50, shuffle=True)
    val_loader = DataLoader(Subset(data, folds[fold]), batch_size=50)
    kept.append((train_loader, val_loader) if KEEP else None)
    for epoch in range(3):
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), targets).backward()
            optimizer.step()
        with torch.no_grad():
            for inputs, targets in val_loader: F.cross_entropy(model(inputs), targets)
def new_model(): return torch.nn.Linear(8, 3)
def new_optimizer(model): return torch.optim.SGD(model.parameters(), lr=0.1)
"""

HEALTHY = """
for fold in range(4):
    model = new_model()
    train(model, new_optimizer(model), fold)
"""
LEAKS = """
for fold in range(2):
    model = new_model()
    train(model, new_optimizer(model), fold, leak=folds[1])
"""
ONE_MODEL = """
model = new_model()
for fold in range(2): train(model, new_optimizer(model), fold)
"""


def leaks(tmp_path: Path, source: str, keep: bool = False) -> list[int]:
    """Steps at which validation was said to read training data for the first time, by a loader each."""
    run_script(FOLDS.replace("KEEP", str(keep)) + source, tmp_path)
    found = [e for e in events(read(tmp_path), "fact") if e["fact"] == "val-uses-train-data" and e["times"] == 1]
    return [int(e["step"]) for e in found]


@pytest.mark.parametrize("keep", [False, True])
def test_the_folds_of_a_cross_validation_are_apart(tmp_path: Path, keep: bool) -> None:
    assert leaks(tmp_path, HEALTHY, keep) == []


def test_a_leak_within_one_fold_is_seen(tmp_path: Path) -> None:
    assert leaks(tmp_path, LEAKS) == [32]  # 8 steps an epoch; in the second fold its rows are there twice


def test_what_the_same_model_was_trained_on_before_still_counts(tmp_path: Path) -> None:
    assert leaks(tmp_path, ONE_MODEL) == [24]


TWO_AT_A_TIME = """
first, second = new_model(), None
kept_optimizer = new_optimizer(first)
for fold in range(4):
    train(first, kept_optimizer, fold)
    second = second or new_model()
    train(second, new_optimizer(second), fold)
"""
KEPT = """
models = []
for fold in range(4):
    models.append(new_model())
    models.append(new_optimizer(models[-1]))
    train(*models[-2:], fold)
"""


ACCUMULATED = """
def train(model, optimizer, fold):
    rows = [i for others in folds[:fold] + folds[fold + 1 :] for i in others]
    train_loader = DataLoader(Subset(data, rows), batch_size=25, shuffle=True)
    val_loader = DataLoader(Subset(data, folds[fold]), batch_size=50)
    for epoch in range(3):
        model.train()
        for index, (inputs, targets) in enumerate(train_loader):
            (F.cross_entropy(model(inputs), targets) / 4).backward()
            if index % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
        model.eval()
        with torch.no_grad():
            for inputs, targets in val_loader: F.cross_entropy(model(inputs), targets)
"""


def test_the_first_batches_of_another_model_are_no_validation_of_the_one_before(tmp_path: Path) -> None:
    run_script(FOLDS.replace("KEEP", "False") + ACCUMULATED + KEPT, tmp_path)
    chunk = read(tmp_path)
    passes = [(e["metric"], e["samples"]) for e in events(chunk, "evaluation")]
    assert passes == [("cross_entropy", 100)] * 12
    assert column(chunk, "micro_batches").tolist() == [4] * 36 and 0.0 not in column(chunk, "training")
    assert not [e for e in events(chunk, "fact") if e["fact"] == "val-uses-train-data"]


MADE_BEFORE = """
models = [new_model() for fold in range(4)]
optimizers = [new_optimizer(model) for model in models]
for fold in range(4): train(models[fold], optimizers[fold], fold)
"""


@pytest.mark.parametrize(
    ("source", "models"),
    [
        (HEALTHY, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        (KEPT, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        (MADE_BEFORE, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]),
        (ONE_MODEL, [0] * 6),
        (TWO_AT_A_TIME, [0] * 3 + [1] * 21),  # the first trains on, so that none takes the place of what was before
    ],
)
@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_an_evaluation_says_which_model_it_judges(tmp_path: Path, source: str, models: list[int], budget: float) -> None:
    run_script(FOLDS.replace("KEEP", "False") + source, tmp_path, budget=budget)
    chunk = read(tmp_path)
    assert [e["model"] for e in events(chunk, "evaluation")] == models
    assert [e["new_weights"] for e in events(chunk, "optimizer")][: models[-1] + 1] == [False] + [True] * models[-1]


GAN = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
x = torch.randn(64, 8)
held_out = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 8)), 16)
generator, critic, of_critic = torch.nn.Linear(8, 8), None, None
of_generator = torch.optim.SGD(generator.parameters(), lr=0.01)
for step in range(40):
    if step == 5:
        critic = torch.nn.Linear(8, 1)
        of_critic = torch.optim.SGD(critic.parameters(), lr=0.01)
    for net, optimizer in ((generator, of_generator), (critic, of_critic)):
        if net is not None:
            optimizer.zero_grad()
            F.mse_loss(net(x), torch.zeros(64, net.out_features)).backward()
            optimizer.step()
    if step % 4 == 3:
        with torch.no_grad():
            for (inputs,) in held_out: F.mse_loss(generator(inputs), torch.zeros(16, 8))
"""


def test_a_model_that_is_trained_beside_another_takes_the_place_of_none(tmp_path: Path) -> None:
    made_before = GAN.replace("step == 5", "False").replace(
        "critic, of_critic = torch.nn.Linear(8, 8), None, None", "critic = torch.nn.Linear(8, 8), torch.nn.Linear(8, 1)"
    )
    made_before = made_before.replace(
        "of_generator =", "of_critic, of_generator = torch.optim.SGD(critic.parameters(), lr=0.01),"
    )
    taking_turns = made_before.replace("if net is not None", "if net is generator or step % 4 == 3")
    for source in (GAN, made_before, taking_turns):
        folder = tmp_path / str(len(source))
        folder.mkdir()
        run_script(source, folder)
        assert {e["model"] for e in events(read(folder), "evaluation")} == {0}


SEARCH = """
import copy, torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(300, 8), torch.randint(0, 3, (300,))
y[x[:, 0] > 0] = 0
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x[200:], y[200:]), batch_size=50)
kept = []
def train(width, lr):
    model = torch.nn.Sequential(torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Linear(width, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    kept.append((model, optimizer) if KEEP else None)
    best, state = float("inf"), None
    for epoch in range(3):
        for i in range(0, 200, 50):
            optimizer.zero_grad()
            F.cross_entropy(model(x[i : i + 50]), y[i : i + 50]).backward()
            optimizer.step()
        with torch.no_grad(): loss = sum(F.cross_entropy(model(a), b).item() for a, b in loader)
        if loss < best: best, state = loss, copy.deepcopy(model.state_dict())
    return best, state
found = [train(WIDTHS[trial], (0.1, 0.5, 0.02, 0.01)[trial]) for trial in range(4)]
trial = min(range(4), key=lambda trial: found[trial][0])
assert trial == 1
torch.save({"model": found[trial][1], "trial": trial}, "best.pt")
"""


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("widths", [(16,) * 4, (16, 8, 32, 64)])
def test_the_best_of_a_search_is_known_when_it_is_saved_at_the_end(tmp_path: Path, keep: bool, widths: tuple[int, ...]) -> None:
    run_script(SEARCH.replace("KEEP", str(keep)).replace("WIDTHS", str(widths)), tmp_path)
    chunk = read(tmp_path)
    found = [e for e in events(chunk, "evaluation") if e["model"] == 1]
    best = min(found, key=lambda e: e["value"])
    assert [e["holds_step"] for e in events(chunk, "checkpoint")] == [best["step"]]
    assert "best-checkpoint-not-saved" not in {e["fact"] for e in events(chunk, "fact")}


def test_each_row_says_what_the_probes_took_since_the_row_before(tmp_path: Path) -> None:
    run_script(TEACHER_AND_STUDENT, tmp_path)
    costs = column(read(tmp_path), "probe_s")
    student = costs[70:105]  # its first rows come while the other optimizer is still taken for the main one
    assert (np.diff(student) < 0).any()  # as no sum since the same row could


INSIDE = """
import torch
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
class Task(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
    def step(self, part): return F.cross_entropy(self.net(x[part]), y[part])
def train(task):
    optimizer = torch.optim.SGD(task.parameters(), lr=0.1)
    for epoch in range(4):
        task.train()
        for i in range(0, 48, 16):
            optimizer.zero_grad()
            task.step(slice(i, i + 16)).backward()
            optimizer.step()
        task.eval()
        with torch.no_grad(): task.step(slice(48, 64))
    task.train()
    return task, optimizer
kept = [train(Task()), train(Task())]
"""


def test_the_mode_is_that_of_the_model_in_training_where_nobody_sees_it_called(tmp_path: Path) -> None:
    run_script(INSIDE, tmp_path)
    found = events(read(tmp_path), "evaluation")
    assert [(event["step"], event["model"], event["training"]) for event in found] == [
        (3 * pas, model, False) for pas, model in zip(range(1, 9), [0] * 4 + [1] * 4, strict=True)
    ]
