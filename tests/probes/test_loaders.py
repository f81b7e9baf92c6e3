"""DataLoaders: what is said of each, and which of them validate on shuffled, dropped or training samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from forgemon.chunk import Chunk
from tests.probes.watched import events, line_of, read, run_script

COMMON = """
import os, sys, torch
import torch.nn.functional as F
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, SubsetRandomSampler, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(400, 8), torch.randint(0, 3, (400,))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
class Rows(Dataset):
    def __init__(self, x, y): self.x, self.y = x, y
    def __len__(self): raise SystemExit("code of the program's was run")
    def __getitem__(self, i): return self.x[i], self.y[i]
class CountedRows(Rows):
    def __len__(self): return len(self.y)
def train(loader):
    model.train()
    for inputs, targets in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
@torch.no_grad()
def evaluate(loader):
    model.eval()
    for inputs, targets in loader:
        F.cross_entropy(model(inputs), targets)
def run(train_loader, *others, epochs=2):
    for epoch in range(epochs):
        train(train_loader)
        for other in others:
            evaluate(other)
    train(train_loader)
"""


def facts(chunk: Chunk, name: str) -> dict[int, Mapping[str, Any]]:
    """The first fact of each loader."""
    found: dict[int, Mapping[str, Any]] = {}
    for fact in events(chunk, "fact"):
        if fact["fact"] == name:
            found.setdefault(fact["loader"], fact)
    return found


def loaders(chunk: Chunk, role: str | None) -> list[dict[str, Any]]:
    return [event for event in events(chunk, "loader") if event["role"] == role]


ORDER = (
    COMMON
    + """
class Own:
    def __iter__(self): return iter([[0, 1], [2, 3], [9, 8]])
    def __len__(self): raise SystemExit("code of the program's was run")
train_loader = DataLoader(TensorDataset(x[:200], y[:200]), batch_size=20, shuffle=True, drop_last=True)
rest = x[200:], y[200:]
run(
    train_loader,
    DataLoader(TensorDataset(*rest), batch_size=32, shuffle=True),  # shuffled
    DataLoader(TensorDataset(*rest), batch_size=32),  # in order
    DataLoader(TensorDataset(*rest), batch_size=32, drop_last=True),  # drops
    DataLoader(TensorDataset(*rest), batch_size=20, drop_last=True),  # has nothing to drop
    DataLoader(Subset(TensorDataset(*rest), range(100)), batch_size=10, sampler=SubsetRandomSampler(range(50))),  # drawn
    DataLoader(CountedRows(*rest), batch_sampler=Own()),  # own order
    train_loader,
)
"""
)


def test_validation_loaders_that_shuffle_or_drop(tmp_path: Path) -> None:
    run_script(ORDER, tmp_path)
    chunk = read(tmp_path)
    (training,) = loaders(chunk, "training")
    expected = {"batch_size": 20, "workers": 0, "shuffled": True, "sampler": "RandomSampler", "drop_last": True, "length": 200}
    assert {name: training[name] for name in expected} == expected
    assert training["dataset"] == "TensorDataset" and training["where"]["line"] == line_of(ORDER, "train_loader = DataLoader")
    validation = {event["where"]["line"] - line_of(ORDER, "# shuffled"): event for event in loaders(chunk, "validation")}
    assert [event["shuffled"] for event in validation.values()] == [True, False, False, False, True, None, True]
    assert [event["length"] for event in validation.values()] == [200, 200, 200, 200, 100, None, 200]
    found = facts(chunk, "val-loader-shuffled")
    assert {fact["where"]["line"] - line_of(ORDER, "# shuffled") for fact in found.values()} == {0, 2, 4}
    dropping = next(fact for fact in found.values() if fact["drop_last"])
    assert dropping["samples_dropped"] == 200 % 32 and dropping["shuffled"] is False and dropping["step"] == 10


SAME = (
    COMMON
    + """
data = TensorDataset(x, y)
run(DataLoader(data, batch_size=40, shuffle=True), DataLoader(data, batch_size=40))
"""
)


def test_the_same_dataset_for_both(tmp_path: Path) -> None:
    run_script(SAME, tmp_path)
    chunk = read(tmp_path)
    (fact,) = facts(chunk, "val-uses-train-data").values()
    assert fact["on_purpose"] is False and fact["share"] == 1.0 and fact["step"] == 10
    assert (fact["samples_in_common"], fact["examples"]) == (400, [0, 1, 2, 3, 4])
    assert fact["where"]["line"] == line_of(SAME, "run(DataLoader(")
    assert not facts(chunk, "val-loader-shuffled")


PARTLY = (
    COMMON
    + """
data = TensorDataset(x[:300], y[:300])
class Copies(CountedRows): pass
run(
    DataLoader(Subset(data, range(200)), batch_size=40, shuffle=True),
    DataLoader(Subset(data, list(range(190, 300))), batch_size=40),  # 10 by index
    DataLoader(data, batch_size=40, sampler=SubsetRandomSampler(torch.arange(170, 300))),  # 30 by sampler
    DataLoader(TensorDataset(x[195:400], y[195:400]), batch_size=40),  # 5 by storage
    DataLoader(Copies(x[140:340].clone(), y[140:340].clone()), batch_size=16),  # 60 by value
    DataLoader(Subset(data, list(range(200, 300))), batch_size=40),  # none
)
"""
)


def test_samples_in_common_by_index_by_storage_and_by_value(tmp_path: Path) -> None:
    run_script(PARTLY, tmp_path)
    chunk = read(tmp_path)
    found = facts(chunk, "val-uses-train-data")
    first = line_of(PARTLY, "# 10 by index")
    by_line = {fact["where"]["line"] - first: fact for fact in found.values()}
    assert sorted(by_line) == [0, 1, 2, 3] and not any(fact["on_purpose"] for fact in by_line.values())
    assert [by_line[i]["samples_in_common"] for i in range(3)] == [10, 30, 5]
    assert by_line[0]["share"] == pytest.approx(10 / 110) and by_line[0]["examples"] == [190, 191, 192, 193, 194]
    by_value = by_line[3]
    assert by_value["how"] == "equal rows" and by_value["samples_in_common"] >= 20
    assert 0.15 < by_value["share"] < 0.6 and all(place < 60 for place in by_value["examples"])


APART = (
    COMMON
    + """
data, constant = TensorDataset(x[:200], y[:200]), torch.zeros(100, 8)
inputs, targets = torch.cat([x[:100], constant]), torch.cat([y[:100], torch.zeros(100, dtype=torch.long)])
few = torch.randint(0, 2, (400, 8)).float()
few_targets = few[:, 0].long()
run(
    DataLoader(ConcatDataset([Subset(data, range(100)), CountedRows(inputs, targets),
        CountedRows(few[:200], few_targets[:200])]), batch_size=40, shuffle=True),
    DataLoader(Subset(data, range(100, 200)), batch_size=40),
    DataLoader(data, batch_size=40, sampler=SubsetRandomSampler(range(150, 200))),
    DataLoader(TensorDataset(x[200:300], y[200:300]), batch_size=40),
    DataLoader(CountedRows(constant.clone(), torch.zeros(100, dtype=torch.long)), batch_size=40),
    DataLoader(CountedRows(few[200:].clone(), few_targets[200:].clone()), batch_size=40),
)
"""
)


def test_disjoint_subsets_repeated_constants_and_chance_are_no_leak(tmp_path: Path) -> None:
    run_script(APART, tmp_path)
    chunk = read(tmp_path)
    assert len(loaders(chunk, "validation")) == 5 and events(chunk, "evaluation")
    assert not facts(chunk, "val-uses-train-data")


ON_PURPOSE = (
    COMMON
    + """
data = TensorDataset(x[:200], y[:200])
train_loader = DataLoader(data, batch_size=40, shuffle=True)
run(train_loader, DataLoader(Subset(data, range(100)), batch_size=40), DataLoader(TensorDataset(x[200:], y[200:]), batch_size=40))
"""
)


def test_an_evaluation_on_training_data_beside_the_validation_is_on_purpose(tmp_path: Path) -> None:
    run_script(ON_PURPOSE, tmp_path)
    (fact,) = facts(read(tmp_path), "val-uses-train-data").values()
    assert fact["on_purpose"] is True and fact["key"] == "train-eval 1"


SPLIT = (
    COMMON
    + """
class Split(CountedRows):
    def set_split(self, name): self.offset = 200 if name == "val" else 0
    def __len__(self): return 200
    def __getitem__(self, i): return self.x[self.offset + i], self.y[self.offset + i]
data = Split(x, y)
for epoch in range(3):
    data.set_split("train")
    train(DataLoader(data, batch_size=40, shuffle=True))
    data.set_split("val")
    evaluate(DataLoader(data, batch_size=40, shuffle=True))
"""
)


def test_one_dataset_object_that_changes_its_split(tmp_path: Path) -> None:
    run_script(SPLIT, tmp_path)
    chunk = read(tmp_path)
    assert not facts(chunk, "val-uses-train-data")
    (shuffled,) = facts(chunk, "val-loader-shuffled").values()  # it was judged, although it was gone after each pass
    assert shuffled["times"] == 1 and shuffled["loader"] == 1
    assert [(e["role"], e["index"]) for e in events(chunk, "loader")] == [("training", 0), ("validation", 1)]


RARELY_AWAKE = (
    COMMON
    + """
x, y = torch.randn(3000, 8), torch.randint(0, 3, (3000,))
run(
    DataLoader(CountedRows(x, y), batch_size=30, shuffle=True),
    DataLoader(CountedRows(x.clone(), y.clone()), batch_size=100),
    epochs=4,
)
"""
)


def test_equal_rows_show_although_few_steps_are_observed(tmp_path: Path) -> None:
    run_script(RARELY_AWAKE, tmp_path, budget=0.01)
    chunk = read(tmp_path)
    assert len(chunk.steps) < 500
    (fact,) = facts(chunk, "val-uses-train-data").values()
    assert fact["how"] == "equal rows" and fact["share"] > 0.2


SHARED_MEMORY = (
    COMMON
    + """
import torch.multiprocessing
class Found: f_frsize, f_bavail, f_blocks = 4096, int(os.environ.get("FREE", 300)), 16384
os.statvfs = lambda path: Found if path == "/dev/shm" else 1 / 0
large, targets = torch.zeros(64, 1000), y[:64]
model = torch.nn.Sequential(torch.nn.LazyLinear(3))
model(large[:1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
if __name__ == "__main__":
    train(DataLoader(TensorDataset(large, targets), batch_size=64, num_workers=2))  # too large
    train(DataLoader(TensorDataset(large, targets), batch_size=8, num_workers=2))  # small batches
    train(DataLoader(TensorDataset(large, targets), batch_size=64))  # no workers
    torch.multiprocessing.set_sharing_strategy("file_system")
    train(DataLoader(TensorDataset(large, targets), batch_size=64, num_workers=2))  # by files
"""
)


def test_shared_memory_smaller_than_the_batches_that_wait_in_it(tmp_path: Path) -> None:
    run_script(SHARED_MEMORY, tmp_path)
    chunk = read(tmp_path)
    (fact,) = facts(chunk, "shm-too-small").values()
    assert fact["where"]["line"] == line_of(SHARED_MEMORY, "# too large")
    assert fact["batch_bytes"] == 64 * (1000 * 4 + 8) and fact["needed_bytes"] == int(1.5 * 2 * 2 * fact["batch_bytes"])
    assert fact["free_bytes"] == 300 * 4096 and fact["total_bytes"] == 64 << 20
    assert (fact["workers"], fact["prefetch_factor"]) == (2, 2)
    assert [event["workers"] for event in loaders(chunk, "training")] == [2, 2, 0, 2]


ON_THE_CPU = (
    COMMON
    + """
listdir = os.listdir
os.listdir = lambda path=".": ["null", "nvidiactl", "nvidia3"] if path == "/dev" else listdir(path)
run(DataLoader(TensorDataset(x, y), batch_size=100), epochs=1)
"""
)


@pytest.mark.parametrize("hidden", ["", "os.environ['CUDA_VISIBLE_DEVICES'] = ''"])
def test_training_on_the_cpu_beside_a_gpu(tmp_path: Path, hidden: str) -> None:
    run_script(ON_THE_CPU.replace("listdir = os.listdir", f"listdir = os.listdir; {hidden}", 1), tmp_path)
    (fact,) = events(read(tmp_path), "fact")
    assert fact["fact"] == "cpu-fallback" and fact["step"] == 0 and fact["device_files"] == 1
    assert fact["parameter_devices"] == {"cpu": 4} and fact["on_purpose"] is bool(hidden)
    assert fact["where"]["line"] == line_of(ON_THE_CPU, "optimizer.step()")
