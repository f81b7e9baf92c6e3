"""A spiral classifier that keeps the loss tensor of every step in a list.

What is wrong: `losses.append(loss)` keeps not a number but a tensor, and with it the graph that made it. What a person sees:
memory grows with each step, until the process is killed or the GPU is out of memory, hours after all looked well.
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
out = Path(tempfile.mkdtemp(prefix="loss_graph_retained-"))
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
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

losses: list[torch.Tensor] = []
best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    for points, arm in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(points), arm)
        loss.backward()
        optimizer.step()
        losses.append(loss)  # the tensor, not its number

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for points, arm in val_loader:
            val_loss += cross_entropy(model(points), arm).item() / len(val_loader)
    print(f"epoch {epoch:3d}  train loss {torch.stack(losses[-100:]).mean():.4f}  val loss {val_loss:.4f}", flush=True)

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
