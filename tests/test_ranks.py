"""forgemon check and the dashboard read all ranks: two gloo ranks, one of which has a slow loader and then leaves the reduction out."""

from __future__ import annotations

from pathlib import Path

from forgemon.check import RunCheck
from tests.probes.ranks import run_ranks
from tests.tui.runs import frame_of

TRAINING = """
import datetime
import torch, torch.distributed as dist
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
rank = dist.get_rank()

class Samples(Dataset):
    def __len__(self):
        return 2000

    def __getitem__(self, i):
        work = torch.ones(128, 128)
        for _ in range(12 if rank == 1 else 0):
            work = torch.tanh(work @ work)
        x = torch.sin(torch.arange(8.0) * (i + 1))
        return x, (x.sum() > 0).long()

torch.manual_seed(0)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
chosen = list(range(rank, 2000, 2))
for step, (x, y) in enumerate(DataLoader(Samples(), batch_size=4, sampler=chosen)):
    if step == 240:
        break
    optimizer.zero_grad()
    F.cross_entropy((model if step < 230 else model.module)(x), y).backward()
    optimizer.step()
dist.barrier()
dist.destroy_process_group()
"""


def test_a_late_rank_and_a_reduction_that_is_left_out(tmp_path: Path) -> None:
    run_ranks(TRAINING, tmp_path)
    check = RunCheck(tmp_path / "run")
    check.read()
    checked = check.checked()
    found = {finding.symptom: finding for finding in checked.report.findings}
    assert checked.rank_count == 2
    assert found["straggler"].evidence["rank"] == 1 and found["straggler"].level == "watch"
    apart = found["ranks-diverged"]
    assert (apart.level, apart.first_step, apart.last_step) == ("alarm", 231, 240)
    assert {f.symptom for f in checked.report.findings if f.level == "alarm"} == {"ranks-diverged"}
    on_screen = frame_of(tmp_path / "run").report.findings
    assert on_screen == checked.report.findings
    before = frame_of(tmp_path / "run", step=200).report.findings
    assert "straggler" in [f.symptom for f in before] and "ranks-diverged" not in [f.symptom for f in before]
