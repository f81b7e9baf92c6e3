"""A recurrent network learns to sum up ever longer rows of numbers. Its gradients grow with them.

What is wrong: backward() multiplies a gradient by the recurrent weights once for each number of a row. With five numbers all is
well; from the sixth epoch on there are forty, and nothing in the network keeps what is passed on at its size. What a person sees:
the gradient norm rises from 1 to thousands and millions; the loss jumps up and does not come back to where it began.
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

parser = argparse.ArgumentParser(description="Train a network to add.")
parser.add_argument("--epochs", type=int, default=15, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="exploding_gradients-"))
print(f"checkpoints go to {out}", flush=True)


def draw_rows(count: int, length: int) -> TensorDataset:
    """Rows of numbers (count, length, 1) and their sums (count, 1)."""
    numbers = torch.rand(count, length, 1) - 0.5
    return TensorDataset(numbers, numbers.sum(1))


class Adder(nn.Module):
    """Rows (N, length, 1) to sums (N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
        self.total = nn.Linear(32, 1)
        nn.init.eye_(self.memory.all_weights[0][1])  # at first it forgets nothing

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.total(self.memory(numbers)[0][:, -1])
        return total


model = Adder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
    length = 5 if epoch <= 5 else 40
    train_loader = DataLoader(draw_rows(6400, length), batch_size=64, shuffle=True)
    val_loader = DataLoader(draw_rows(1000, length), batch_size=250)
    model.train()
    train_loss = 0.0
    for numbers, total in train_loader:
        optimizer.zero_grad()
        loss = mse_loss(model(numbers), total)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for numbers, total in val_loader:
            val_loss += mse_loss(model(numbers), total).item() / len(val_loader)
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
