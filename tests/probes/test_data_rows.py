"""Batch size, time waiting for data and epochs, however the loop gets its batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forgemon.chunk import Chunk
from tests.probes.watched import column, events, read, run_script

COMMON = """
import itertools, torch
from collections import UserDict
import torch.nn.functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
torch.manual_seed(0)
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = TensorDataset(x, y)
def step(inputs, targets):
    optimizer.zero_grad()
    F.cross_entropy(model(inputs), targets).backward()
    optimizer.step()
"""

LOOPS = {
    "workers": """
if __name__ == "__main__":
    loader = DataLoader(data, batch_size=16, num_workers=2, persistent_workers=True)
    for epoch in range(3):
        for inputs, targets in loader: step(inputs, targets)
""",
    "stream": """
class Stream(IterableDataset):
    def __iter__(self): return iter(zip(x, y))
loader = DataLoader(Stream(), batch_size=16)
for epoch in range(3):
    for inputs, targets in loader: step(inputs, targets)
""",
    "nested": """
rows = [{"name": str(i), "inputs": {"ids": x[i]}, "targets": [y[i]]} for i in range(64)]
loader = DataLoader(rows, batch_size=16)
for epoch in range(3):
    for batch in loader: step(batch["inputs"]["ids"], batch["targets"][0])
""",
    "encoding": """
class BatchEncoding(UserDict): pass
collate = lambda rows: BatchEncoding(ids=torch.stack([r[0] for r in rows]), labels=torch.stack([r[1] for r in rows]))
loader = DataLoader(data, batch_size=16, collate_fn=collate)
for epoch in range(3):
    for batch in loader: step(batch["ids"], batch["labels"])
""",
    "islice": """
loader = DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(4):
    for inputs, targets in itertools.islice(loader, 3): step(inputs, targets)
""",
    "one batch": """
loader = DataLoader(data, batch_size=64)
for epoch in range(12):
    for inputs, targets in loader: step(inputs, targets)
""",
}

SEVERAL = """
one, two = DataLoader(data, batch_size=16), DataLoader(data, batch_size=16, shuffle=True)
for epoch in range(3):
    for (inputs, targets), (more, labels) in zip(one, two):
        LOSS
"""

ZIPPED = {
    "one forward": "step(torch.cat([inputs, more]), torch.cat([targets, labels]))",
    "two forwards": """optimizer.zero_grad()
        (F.cross_entropy(model(inputs), targets) + F.cross_entropy(model(more), labels)).backward()
        optimizer.step()""",
}

OWN = """
for epoch in range(3):
    for first in range(0, 64, 16): step(x[first : first + 16], y[first : first + 16])
"""

OWN_VALIDATION = """
loader = DataLoader(data, batch_size=16)
for epoch in range(3):
    for inputs, targets in loader: step(inputs, targets)
    with torch.no_grad(): F.cross_entropy(model(torch.randn(24, 8)), torch.randint(0, 3, (24,)))
"""

REBUILT = """
kept = []
for epoch in range(3):
    kept.append(DataLoader(data, batch_size=16))
    for inputs, targets in kept[-1]: step(inputs, targets)
"""


def recorded(tmp_path: Path, loop: str) -> Chunk:
    run_script(COMMON + loop, tmp_path)
    return read(tmp_path)


@pytest.mark.parametrize("name", LOOPS)
def test_batches_from_a_loader(tmp_path: Path, name: str) -> None:
    chunk = recorded(tmp_path, LOOPS[name])
    assert len(chunk.steps) == 12 and not events(chunk, "evaluation")
    assert (column(chunk, "data_s") > 0).all()
    assert (column(chunk, "batch_size") == (64 if name == "one batch" else 16)).all()
    passes = {"islice": 4, "one batch": 12}.get(name, 3)
    assert [event["epoch"] for event in events(chunk, "epoch")] == list(range(1, passes))


TWICE = """
loader = DataLoader(data, batch_size=16)
for epoch in range(3):
    for inputs, targets in loader:
        optimizer.zero_grad()
        (F.cross_entropy(model(inputs), targets) + F.cross_entropy(model(inputs + 0.1), targets)).backward()
        optimizer.step()
"""


@pytest.mark.parametrize("name", ["one forward", "two forwards"])
def test_two_loaders_side_by_side_both_train(tmp_path: Path, name: str) -> None:
    chunk = recorded(tmp_path, SEVERAL.replace("LOSS", ZIPPED[name]))
    assert len(chunk.steps) == 12 and not events(chunk, "evaluation")
    assert (column(chunk, "data_s") > 0).all()
    assert [(event["index"], event["role"]) for event in events(chunk, "loader")] == [(1, "training"), (0, "training")]


def test_one_batch_that_goes_forward_twice(tmp_path: Path) -> None:
    chunk = recorded(tmp_path, TWICE)
    assert len(chunk.steps) == 12 and not events(chunk, "evaluation")
    assert (column(chunk, "batch_size") == 16).all()


def test_batches_cut_by_the_loop_itself(tmp_path: Path) -> None:
    chunk = recorded(tmp_path, OWN)
    assert len(chunk.steps) == 12 and (column(chunk, "batch_size") == 16).all()
    assert np.isnan(column(chunk, "data_s")).all()
    signals = events(chunk, "signals")[-1]["signals"]
    assert (signals["data time"], signals["batch size"], signals["data loaders"]) == ("not visible", "seen", "not visible")
    assert not events(chunk, "epoch") and not events(chunk, "loader")


def test_validation_on_tensors_beside_a_training_loader(tmp_path: Path) -> None:
    evaluations = events(recorded(tmp_path, OWN_VALIDATION), "evaluation")
    assert [(event["metric"], event["samples"], event["batches"]) for event in evaluations] == [("cross_entropy", 24, 1)] * 3


def test_a_loader_built_anew_for_every_epoch(tmp_path: Path) -> None:
    chunk = recorded(tmp_path, REBUILT)
    assert (column(chunk, "data_s") > 0).all()
    assert [event["epoch"] for event in events(chunk, "epoch")] == [1, 2]


BY_HAND = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.01)
for step in range(4):
    optimizer.zero_grad()
    ((model(torch.randn(16, 4)) - 1) ** 2).mean().backward()
    optimizer.step()
"""


def test_the_first_forward_is_seen_of_a_model_that_has_an_optimizer(tmp_path: Path) -> None:
    run_script(BY_HAND, tmp_path)
    chunk = read(tmp_path)
    assert column(chunk, "batch_size").tolist() == [16.0] * 4
    assert (column(chunk, "forward_s") > 0).all()


COMPILED = BY_HAND.replace(
    "optimizer = ",
    """own = [torch.nn.Sequential.forward.__code__, torch._dynamo.eval_frame.OptimizedModule.__call__.__code__]
model = torch.compile(model, backend="eager")
optimizer = """,
).replace(
    "for step",
    """assert own == [torch.nn.Sequential.forward.__code__, torch._dynamo.eval_frame.OptimizedModule.__call__.__code__]
for step""",
)


def test_what_a_compiler_will_read_is_the_programs_own_before_the_first_step(tmp_path: Path) -> None:
    run_script(COMPILED.replace("import torch\n", "import torch, torch._dynamo.eval_frame\n"), tmp_path)
    assert column(read(tmp_path), "batch_size").tolist()[1:] == [16.0] * 3
