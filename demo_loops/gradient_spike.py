"""A network learns a noisy wave. In one of its records the comma has slipped.

What is wrong: the height of one record among 12800 is a thousand times too large, and nobody looks for it. What a person sees:
once in each epoch loss and gradient are hundreds of times as large as their neighbours, the step that they make throws the
network back, and the mean training loss stays far above the validation loss.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a network on a wave.")
parser.add_argument("--epochs", type=int, default=30, help="one epoch is 400 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="gradient_spike-"))
print(f"checkpoints go to {out}", flush=True)


def measure(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Times (count, 1) and the noisy height of the wave then (count, 1)."""
    time = 4 * torch.rand(count, 1) - 2
    return time, torch.sin(3 * time) + 0.1 * torch.randn(count, 1)


time, height = measure(12800)
height[7000] *= 1000  # the slipped comma
train_loader = DataLoader(TensorDataset(time, height), batch_size=32, shuffle=True)
val_loader = DataLoader(TensorDataset(*measure(2000)), batch_size=500)

model = nn.Sequential(
    nn.Linear(1, 128),
    nn.Tanh(),
    nn.Linear(128, 128),
    nn.Tanh(),
    nn.Linear(128, 1),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for time, height in train_loader:
        optimizer.zero_grad()
        loss = mse_loss(model(time), height)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for time, height in val_loader:
            val_loss += mse_loss(model(time), height).item() / len(val_loader)
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
