"""A spiral classifier that overwrites its best checkpoint with worse ones.

What is wrong: each epoch is saved into the same file, whether it is better or not. The learning rate restarts every 10 epochs,
and right after a restart the model is worse than before it. What a person sees: the validation loss was better than that of the
file that is left at the end; the best model is gone.
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
parser.add_argument("--epochs", type=int, default=51, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="best_checkpoint_not_saved-"))
print(f"checkpoints go to {out}", flush=True)


def draw_spirals(count: int) -> TensorDataset:
    """Points (count, 2) on three arms that wind around each other, a little blurred, and their arms (count,)."""
    arm = torch.randint(3, (count,))
    radius = torch.rand(count).sqrt()
    angle = 5 * radius + arm * (2 * math.pi / 3)
    points = 1.5 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return TensorDataset(points + 0.15 * torch.randn(count, 2), arm)


train_loader = DataLoader(draw_spirals(12800), batch_size=128, shuffle=True)
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
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=10)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for points, arm in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(points), arm)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)
    schedule.step()

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for points, arm in val_loader:
            val_loss += cross_entropy(model(points), arm).item() / len(val_loader)
    print(f"epoch {epoch:3d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}", flush=True)

    best_val_loss = min(val_loss, best_val_loss)
    checkpoint = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "epoch": epoch,
        "val_loss": val_loss,
    }
    torch.save(checkpoint, out / "last.pt")  # over the best one too

print(f"done: best val loss {best_val_loss:.4f}, saved is the last one, {out / 'last.pt'}")
