"""Weight and update norms of each parameter: equal to those of the whole tensors where these are small, near them elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.probes.watched import events, read, run_script

Rows = np.ndarray[Any, Any]

OWN = """
import json, torch
torch.manual_seed(0)
norms = {"weight": [], "update": []}
def total(tensor):
    local = getattr(tensor, "_local_tensor", tensor).detach()
    local = torch.view_as_real(local) if local.is_complex() else local
    return local.double().norm().item()
def stepped(optimizer, parameters):
    before = [p.detach().clone() for p in parameters]
    optimizer.step()
    norms["weight"].append([total(b) for b in before])
    norms["update"].append([total(p.detach().double() - b.double() if not p.is_complex() else p.detach() - b)
                            for p, b in zip(parameters, before)])
def save(**more):
    json.dump({**norms, **more}, open("own.json", "w"))
"""


def recorded(folder: Path, table: int = 0) -> Rows:
    rows: Rows = np.load(folder / "run" / "rank-0" / f"updates-{table}.npy")
    return rows


def own(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "own.json").read_text())
    return values


KINDS = (
    OWN
    + """
small = torch.nn.Parameter(torch.randn(20, 20))
large = torch.nn.Parameter(torch.randn(300, 400))
images = torch.nn.Parameter(torch.randn(32, 16, 5, 5).to(memory_format=torch.channels_last))
half = torch.nn.Parameter(torch.randn(400, 7).bfloat16())
wide = torch.nn.Parameter(torch.randn(30, dtype=torch.float64))
turning = torch.nn.Parameter(torch.randn(9, 9, dtype=torch.complex64))
unused = torch.nn.Parameter(torch.randn(5))
one = torch.nn.Parameter(torch.tensor(3.0))
gaps = torch.nn.Parameter(torch.randn(40, 40)[:, ::2])
empty = torch.nn.Parameter(torch.empty(0, 3))
parameters = [small, large, images, half, wide, turning, unused, one, gaps, empty]
optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)
for step in range(8):
    optimizer.zero_grad()
    loss = sum((p.abs() ** 2).float().sum() for p in parameters if p is not unused) / 2
    if step == 3:
        loss = loss + unused.sum()
    loss.backward()
    stepped(optimizer, parameters)
save()
"""
)


def test_norms_of_every_kind_of_parameter(tmp_path: Path) -> None:
    run_script(KINDS, tmp_path)
    chunk, rows, truth = read(tmp_path), recorded(tmp_path), own(tmp_path)
    assert rows["step"].tolist() == list(range(1, 9))
    signals = events(chunk, "signals")[-1]["signals"]
    assert signals["update ratio"] == "seen"
    weight, update = np.array(truth["weight"]), np.array(truth["update"])
    whole, sampled, unused, hidden = [0, 4, 5, 7], [1, 2, 3], 6, [8, 9]
    assert rows["weight_norm"][:, whole] == pytest.approx(weight[:, whole], rel=1e-5)
    assert rows["update_norm"][:, whole] == pytest.approx(update[:, whole], rel=1e-4)
    assert rows["weight_norm"][:, sampled] == pytest.approx(weight[:, sampled], rel=0.12)
    assert rows["update_norm"][:, sampled] == pytest.approx(update[:, sampled], rel=0.12)
    assert (np.isfinite(rows["update_norm"][:, unused]) == (np.arange(8) == 3)).all()  # no gradient: absent, not zero
    assert np.isnan(rows["weight_norm"][:, hidden]).all() and np.isnan(rows["update_norm"][:, hidden]).all()


UNEVEN = (
    OWN
    + """
scales = torch.logspace(-3, 3, 500)
weight = torch.nn.Parameter(torch.randn(1023, 500) * scales)  # columns of very different size
table = torch.nn.Embedding(4000, 16, sparse=True)
first, second = torch.optim.SGD([weight], lr=0.1), torch.optim.SparseAdam(table.parameters(), lr=0.1)
for step in range(4):
    first.zero_grad(); second.zero_grad()
    ((weight ** 2).sum() / 2 + table(torch.arange(0, 4000, 2)).sum()).backward()
    stepped(first, [weight])
    stepped(second, [table.weight])
save()
"""
)


def test_columns_of_different_size_and_sparse_gradients(tmp_path: Path) -> None:
    run_script(UNEVEN, tmp_path)
    read(tmp_path)
    rows, truth = recorded(tmp_path, 1), own(tmp_path)
    update = np.array(truth["update"])[:, 0].reshape(4, 2)
    known = np.isfinite(rows["update_norm"])
    assert (known.sum(axis=1) == 1).all() and (known.sum(axis=0) >= 3).all()  # each optimizer writes its own columns
    found = rows["update_norm"]
    assert found[known[:, 0], 0] == pytest.approx(update[-known[:, 0].sum() :, 0], rel=0.4)
    assert found[known[:, 1], 1] == pytest.approx(update[-known[:, 1].sum() :, 1], rel=0.25)


MANY = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(4)])
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for step in range(200):
    if step == 100:
        model.append(torch.nn.Linear(8, 8))
        optimizer.add_param_group({"params": model[-1].parameters()})
    if step == 150:
        for p in model.parameters():
            p.data = torch.randn(4 * p.shape[0], *p.shape[1:])[::4].clone()
    optimizer.zero_grad()
    model(torch.randn(4, 8)).square().mean().backward()
    optimizer.step()
"""


def test_sampled_at_the_first_steps_and_then_ever_so_often(tmp_path: Path) -> None:
    run_script(MANY, tmp_path)
    chunk = read(tmp_path)
    before, after = recorded(tmp_path), recorded(tmp_path, 1)
    assert before["update_norm"].shape[1] == 8 and after["update_norm"].shape[1] == 10
    steps = [*before["step"].tolist(), *after["step"].tolist()]
    assert steps[:10] == list(range(1, 11))
    assert steps[10:] == list(range(30, 201, 20))  # the same in every run
    assert len(chunk.steps) == 200


CLOSURES = (
    OWN
    + """
weight, unused = torch.nn.Parameter(torch.randn(8, 8)), torch.nn.Parameter(torch.randn(3))
optimizer = torch.optim.SGD([weight, unused], lr=0.25)
def closure():
    optimizer.zero_grad()
    loss = (weight ** 2).sum()
    loss.backward()
    return loss
for step in range(3):
    norms["weight"].append(total(weight))
    optimizer.step(closure)
save()
"""
)


def test_a_closure_that_goes_backward_inside_the_step(tmp_path: Path) -> None:
    run_script(CLOSURES, tmp_path)
    read(tmp_path)
    rows, truth = recorded(tmp_path), own(tmp_path)
    assert rows["step"].tolist() == [1, 2, 3]
    assert rows["weight_norm"][:, 0] == pytest.approx(truth["weight"], rel=1e-5)
    assert rows["update_norm"][:, 0] == pytest.approx(np.array(truth["weight"]) / 2, rel=1e-5)
    assert np.isnan(rows["update_norm"][:, 1]).all()


SHARDED = (
    OWN
    + """
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
dist.init_process_group("gloo", init_method="file://" + __import__("os").getcwd() + "/meeting", rank=0, world_size=1)
mesh = init_device_mesh("cpu", (1,))
weight = torch.nn.Parameter(distribute_tensor(torch.randn(16, 8), mesh, [Shard(0)]))
optimizer = torch.optim.SGD([weight], lr=0.5)
for step in range(3):
    optimizer.zero_grad()
    (weight ** 2).sum().backward()
    norms["weight"].append([total(weight)])
    optimizer.step()
save()
dist.destroy_process_group()
"""
)


def test_a_sharded_parameter_gives_its_local_shards_norms(tmp_path: Path) -> None:
    run_script(SHARDED, tmp_path)
    read(tmp_path)
    rows, truth = recorded(tmp_path), own(tmp_path)
    assert rows["weight_norm"] == pytest.approx(np.array(truth["weight"]), rel=1e-5)
    assert rows["update_norm"] == pytest.approx(np.array(truth["weight"]), rel=1e-5)  # lr 0.5 on w ** 2 takes all of it


def test_training_is_bit_for_bit_as_without_us(tmp_path: Path) -> None:
    shown = {}
    for name, watched in (("with", True), ("without", False)):
        folder = tmp_path / name
        folder.mkdir()
        run_script(KINDS, folder, watched=watched)
        shown[name] = own(folder)
    assert shown["with"] == shown["without"]
