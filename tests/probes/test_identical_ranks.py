"""Two gloo ranks under DDP, then FSDP2, end watched as they end unwatched, at any budget and while we come and go in each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.probes.ranks import RANKS, read_rank, run_ranks
from tests.probes.watched import PROBES, column

HERE = Path(__file__).parent
COME_AND_GO = (HERE / "come_and_go.py").read_text()
TRAINING = (
    (HERE / "loops_of_all_kinds.py").read_text().partition('if __name__ == "__main__"')[0]
    + """
import datetime, os
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank = dist.get_rank()

def sharded(model):
    fully_shard(model.layer)
    return fully_shard(model)

for wrap in (torch.nn.parallel.DistributedDataParallel, sharded):
    torch.manual_seed(0)
    model = wrap(Transformer())
    for generator in (torch.manual_seed, random.seed, np.random.seed):
        generator(rank)
    describe(wrap.__name__, plain(model, torch.optim.AdamW(model.parameters(), lr=0.01), 40))
dist.barrier()
dist.destroy_process_group()
"""
).replace('"last.pt"', "f\"last-{os.environ['RANK']}.pt\"")


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    printed = run_ranks(TRAINING, tmp_path_factory.mktemp("unwatched"), watched=(False, False))
    for rank in range(RANKS):
        assert "DistributedDataParallel weights" in printed[rank] and "sharded weights" in printed[rank]
    return printed


@pytest.mark.parametrize("budget", [0.0, 0.01])
def test_watched(tmp_path: Path, unwatched: list[str], budget: float) -> None:
    assert run_ranks(TRAINING, tmp_path, budget=budget) == unwatched
    for rank in range(RANKS):
        chunk = read_rank(tmp_path, rank)
        assert len(chunk.steps) == 80 if budget == 0 else 32 <= len(chunk.steps) < 80
        observed = column(chunk, "gradients") > 0
        # Before clipping, of what this rank has: the whole gradient under DDP, its shards under FSDP2.
        before, after = column(chunk, "gradient_norm_before_clip")[observed], column(chunk, "gradient_norm")[observed]
        assert (before > 0).all() and (after <= before * 1.001).all()


def test_attached_and_detached_at_random_moments(tmp_path: Path, unwatched: list[str]) -> None:
    config = {"bootstrap": str(PROBES / "bootstrap.py"), "runs": str(tmp_path / "runs"), "seed": 1}
    # The ranks come and go each at moments of its own.
    source = COME_AND_GO.replace('config["seed"]', 'int(__import__("os").environ["RANK"])').replace(
        "sys.argv[1]", repr(json.dumps(config))
    )
    source = source.replace("len(sys.argv) > 1", "True")
    assert run_ranks(source + TRAINING, tmp_path, watched=(False, False)) == unwatched
    for rank in range(RANKS):
        runs = list((tmp_path / "runs").glob(f"*/rank-{rank}/events.jsonl"))
        assert len(runs) >= 3
        for run in runs:
            kinds = [json.loads(line)["kind"] for line in run.read_text().splitlines()]
            assert kinds.count("attached") == kinds.count("detached") == 1
            assert "probe_error" not in kinds
