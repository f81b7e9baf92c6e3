"""A picture classifier whose DataLoader workers hand over more than /dev/shm can hold.

What is wrong: worker processes pass their batches on through shared memory. Two workers with four batches of 10 MB each on their
way want 77 MB, and a container that was started without --shm-size has 64. What a person sees: sooner or later a worker dies, of
a bus error or with "No space left on device". On a machine with a larger /dev/shm nothing is wrong here, and nothing is found.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description="Train a picture classifier.")
parser.add_argument("--epochs", type=int, default=10, help="one epoch is 25 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="shm_too_small-"))
print(f"checkpoints go to {out}", flush=True)


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """Grainy pictures (3, 224, 224), one quarter of each a little brighter, and which quarter that is."""

    def __init__(self, count: int, first: int) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        generator = torch.Generator().manual_seed(self.first + index)
        picture, quarter = torch.rand(3, 224, 224, generator=generator), index % 4
        top, left = 112 * (quarter // 2), 112 * (quarter % 2)
        picture[:, top : top + 112, left : left + 112] += 0.1
        return picture, quarter


train_loader = DataLoader(Pictures(400, 0), batch_size=16, shuffle=True, num_workers=2, prefetch_factor=4)  # 8 batches wait
val_loader = DataLoader(Pictures(200, 400), batch_size=50)

model = nn.Sequential(nn.AdaptiveAvgPool2d(14), nn.Conv2d(3, 16, kernel_size=3), nn.ReLU(), nn.Flatten(), nn.Linear(2304, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for pictures, quarter in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(pictures), quarter)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for pictures, quarter in val_loader:
            val_loss += cross_entropy(model(pictures), quarter).item() / len(val_loader)
    print(f"epoch {epoch:3d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}", flush=True)

    if val_loss < best_val_loss:
        best_val_loss = val_loss
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "epoch": epoch,
            "val_loss": val_loss,
        }
        torch.save(checkpoint, out / "best.pt")

print(f"done: best val loss {best_val_loss:.4f}, saved in {out / 'best.pt'}")
