"""Two gloo ranks: each records what is its own, without a collective, and ends as it would have unwatched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.probes.ranks import RANKS, read_rank, run_ranks
from tests.probes.watched import column, events

TRAINING = """
import datetime, hashlib, io, json, os
import torch, torch.distributed as dist
import torch.nn.functional as F
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank = dist.get_rank()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.1), torch.nn.Linear(16, 3))
x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
WRAP
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
torch.manual_seed(rank)
norms, losses = [], []
def local(tensor):
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor
for step in range(24):  # a parameter counts as frozen after 20
    model.train()
    chosen = slice(rank * 32 + step % 16, rank * 32 + step % 16 + 16)
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x[chosen]), y[chosen])
    loss.backward()
    losses.append(loss.item())
    norms.append([float("nan") if p.grad is None else local(p.grad).norm().item() for p in model.parameters()])
    optimizer.step()
    if step % 12 == 11:
        model.eval()
        with torch.no_grad():
            F.cross_entropy(model(x[:16]), y[:16])
json.dump({"loss": losses, "norms": norms}, open(f"measured-{rank}.json", "w"))
buffer = io.BytesIO()
torch.save([[local(t) for t in model.state_dict().values()], losses, torch.get_rng_state()], buffer)
print(hashlib.sha256(buffer.getvalue()).hexdigest())
for state in optimizer.state_dict()["state"].values():
    print([hashlib.sha256(local(v).numpy().tobytes()).hexdigest() for v in state.values()])
dist.barrier()
dist.destroy_process_group()
"""
WRAPPED = {
    "ddp": "model = torch.nn.parallel.DistributedDataParallel(model)",
    "fsdp2": "from torch.distributed.fsdp import fully_shard\nfully_shard(model[0]); fully_shard(model)",
    "fsdp1": "from torch.distributed.fsdp import FullyShardedDataParallel\n"
    "model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device('cpu'))",
}
NAMES = ("0.weight", "0.bias", "1.weight", "1.bias", "3.weight", "3.bias")


@pytest.mark.parametrize("wrapped", WRAPPED)
def test_each_rank_records_its_own_and_ends_as_unwatched(tmp_path: Path, wrapped: str) -> None:
    source = TRAINING.replace("WRAP", WRAPPED[wrapped])
    printed = run_ranks(source, tmp_path)
    for rank in range(RANKS):
        chunk = read_rank(tmp_path, rank)
        own = json.loads((tmp_path / f"measured-{rank}.json").read_text())
        assert column(chunk, "step").tolist() == list(range(1, 25))
        assert column(chunk, "loss") == pytest.approx(own["loss"], rel=1e-6)
        (gradients,) = chunk.gradients
        assert gradients.table.names == NAMES
        assert gradients.rows["norm"] == pytest.approx(np.array(own["norms"]), rel=1e-5, nan_ok=True)
        (attached,) = events(chunk, "attached")
        assert (attached["rank"], attached["world_size"]) == (rank, RANKS)
        for name in ("step_s", "forward_s", "backward_s", "optimizer_s"):
            assert (column(chunk, name)[1:] > 0).all(), name
        assert (column(chunk, "training") == 1).all() and (column(chunk, "gradients_reused")[1:] == 0).all()
        assert len(events(chunk, "evaluation")) == 2 and not events(chunk, "fact")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["world_size"] == RANKS
    assert run_ranks(source, tmp_path, watched=(False, False)) == printed


def test_no_collective_of_ours(tmp_path: Path) -> None:
    """A collective that one rank alone takes part in would never end, or give both ranks wrong numbers."""
    source = TRAINING.replace("WRAP", WRAPPED["fsdp2"])
    assert run_ranks(source, tmp_path, watched=(True, False)) == run_ranks(source, tmp_path, watched=(False, False))


VALIDATED_TOGETHER = """
import datetime, json, os
import torch, torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank = dist.get_rank()
torch.manual_seed(0)
x, y = torch.randn(96, 8), torch.randint(0, 3, (96,))
model = DistributedDataParallel(torch.nn.Linear(8, 3))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
own, best = {"val": [], "share": []}, float("inf")
for epoch in range(5):
    model.train()
    for first in range(rank * 16, 64, 32):
        optimizer.zero_grad()
        F.cross_entropy(model(x[first : first + 16]), y[first : first + 16]).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        share = F.cross_entropy(model(x[64 + rank * 16 : 80 + rank * 16]), y[64 + rank * 16 : 80 + rank * 16])
    own["share"].append(share.item())
    dist.all_reduce(share)
    val_loss = share.item() / 2
    own["val"].append(val_loss)
    if val_loss < best:
        best = val_loss
        if rank == 0: torch.save({"model": model.module.state_dict(), "optimizer": optimizer.state_dict(), "best": best}, "best.pt")
    model.train()
json.dump(own, open(f"own-{rank}.json", "w"))
dist.destroy_process_group()
"""


def test_the_validation_loss_of_ranks_is_the_one_that_the_loop_makes_of_theirs(tmp_path: Path) -> None:
    run_ranks(VALIDATED_TOGETHER, tmp_path)
    for rank in range(RANKS):
        chunk, own = read_rank(tmp_path, rank), json.loads((tmp_path / f"own-{rank}.json").read_text())
        values: dict[str, list[float]] = {}
        for event in events(chunk, "evaluation"):
            values.setdefault(event["metric"], []).append(event["value"])
        assert values["val_loss"] == own["val"]
        assert values["cross_entropy (share of this rank)"] == pytest.approx(own["share"], rel=1e-6)
        assert {event["metric"] for event in events(chunk, "checkpoint")} <= {"val_loss"}
