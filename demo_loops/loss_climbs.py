"""A spiral classifier that reads a new file of samples in each epoch; from the eleventh on they are wrong.

What is wrong: whoever made the later files mixed up their lines, so that points and arms no longer belong together. What a
person sees: the loss falls as it should for ten epochs. Then, from one step to the next, it leaves its best level and climbs
back to that of a guess, at an unchanged learning rate.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a spiral classifier.")
parser.add_argument("--epochs", type=int, default=120, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="loss_climbs-"))
print(f"checkpoints go to {out}", flush=True)


def draw_spirals(count: int, mixed_up: bool = False) -> TensorDataset:
    """Points (count, 2) on three arms that wind around each other, a little blurred, and their arms (count,)."""
    arm = torch.randint(3, (count,))
    radius = torch.rand(count).sqrt()
    angle = 5 * radius + arm * (2 * math.pi / 3)
    points: torch.Tensor = 1.5 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    points += 0.15 * torch.randn(count, 2)
    return TensorDataset(points, arm[torch.randperm(count)] if mixed_up else arm)


val_loader = DataLoader(draw_spirals(2000), batch_size=500)

model = nn.Sequential(
    nn.Linear(2, 128),
    nn.BatchNorm1d(128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Dropout(0.1),
    nn.Linear(128, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    train_loader = DataLoader(draw_spirals(12800, mixed_up=epoch > 10), batch_size=128, shuffle=True)
    model.train()
    train_loss = 0.0
    for points, arm in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(points), arm)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for points, arm in val_loader:
            val_loss += cross_entropy(model(points), arm).item() / len(val_loader)
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
