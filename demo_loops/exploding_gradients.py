"""A network that predicts a wave and its noise, where there is no noise. Nothing clips its gradients.

What is wrong: the error is divided by the noise that the network predicts. The better it gets, the less noise it predicts, and
the more its gradients grow. What a person sees: the loss falls below zero, as it may, while the gradient norm rises by orders
of magnitude; then single steps throw the network back, again and again.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import gaussian_nll_loss
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a network on a wave.")
parser.add_argument("--epochs", type=int, default=120, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="exploding_gradients-"))
print(f"checkpoints go to {out}", flush=True)


def measure(count: int) -> TensorDataset:
    """Times (count, 1) and the height of the wave then (count, 1)."""
    time = 4 * torch.rand(count, 1) - 2
    return TensorDataset(time, torch.sin(3 * time))


train_loader = DataLoader(measure(12800), batch_size=128, shuffle=True)
val_loader = DataLoader(measure(2000), batch_size=500)

model = nn.Sequential(
    nn.Linear(1, 64),
    nn.Tanh(),
    nn.Linear(64, 64),
    nn.Tanh(),
    nn.Linear(64, 2),  # the height and the logarithm of its variance
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for time, height in train_loader:
        optimizer.zero_grad()
        mean, log_variance = model(time).chunk(2, dim=1)
        loss = gaussian_nll_loss(mean, height, log_variance.exp())
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for time, height in val_loader:
            mean, log_variance = model(time).chunk(2, dim=1)
            val_loss += gaussian_nll_loss(mean, height, log_variance.exp()).item() / len(val_loader)
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
