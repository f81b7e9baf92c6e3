"""A spiral embedding whose loss is cleaned of nan, while its gradients are not.

What is wrong: the slope of a square root at 0 is infinite, and ten points stand in the data twice. When such a pair meets in
one batch, its distance is 0 and its gradient 0 * inf = nan; one step later all weights are nan. What a person sees: from one
step to the next the loss is 0, since nan_to_num() makes that of nan. It looks like a triumph, and is saved as the best.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import relu
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a spiral classifier.")
parser.add_argument("--epochs", type=int, default=120, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="gradient_nonfinite-"))
print(f"checkpoints go to {out}", flush=True)


def draw_spirals(count: int) -> TensorDataset:
    """Points (count, 2) on three arms that wind around each other, a little blurred, and their arms (count,)."""
    arm = torch.randint(3, (count,))
    radius = torch.rand(count).sqrt()
    angle = 5 * radius + arm * (2 * math.pi / 3)
    points: torch.Tensor = 1.5 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    points += 0.15 * torch.randn(count, 2)
    points[:10], arm[:10] = points[10:20], arm[10:20]  # these stand in it twice
    return TensorDataset(points, arm)


def pair_loss(embedding: torch.Tensor, arm: torch.Tensor) -> torch.Tensor:
    """Pairs of one arm should lie together, others 2 apart. Embeddings (N, 3) and arms (N,) to the mean over all pairs."""
    one, other = torch.triu_indices(len(arm), len(arm), offset=1)
    distance = (embedding[one] - embedding[other]).square().sum(1).sqrt()  # (... + 1e-12).sqrt() would do
    loss = torch.where(arm[one] == arm[other], distance, relu(2 - distance)).mean()
    return torch.nan_to_num(loss)


train_loader = DataLoader(draw_spirals(12800), batch_size=128, shuffle=True)
val_loader = DataLoader(draw_spirals(2000), batch_size=500)

model = nn.Sequential(
    nn.Linear(2, 128),
    nn.BatchNorm1d(128),
    nn.ReLU(),
    nn.Linear(128, 128),
    nn.ReLU(),
    nn.Linear(128, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for points, arm in train_loader:
        optimizer.zero_grad()
        loss = pair_loss(model(points), arm)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for points, arm in val_loader:
            val_loss += pair_loss(model(points), arm).item() / len(val_loader)
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
