"""A recurrent network learns to sum up forty numbers. Nothing clips its gradients.

What is wrong: backward() multiplies a gradient by the recurrent weights forty times, and nothing limits what comes of it. What
a person sees: the more the network remembers, the larger its gradients get. Some are a hundred times as large as those before,
then one is a thousand times as large, and the step it makes throws the weights so far that nothing is learnt any more.
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
parser.add_argument("--epochs", type=int, default=120, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = Path(tempfile.mkdtemp(prefix="exploding_gradients-"))
print(f"checkpoints go to {out}", flush=True)


def draw_numbers(count: int) -> TensorDataset:
    """Sequences (count, 40, 1) and their sums (count, 1)."""
    numbers = torch.rand(count, 40, 1) - 0.5
    return TensorDataset(numbers, numbers.sum(1))


train_loader = DataLoader(draw_numbers(6400), batch_size=64, shuffle=True)
val_loader = DataLoader(draw_numbers(1000), batch_size=250)


class Adder(nn.Module):
    """Sequences (N, length, 1) to (N, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
        self.total = nn.Linear(32, 1)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = self.total(self.memory(numbers)[0][:, -1])
        return total


model = Adder()
optimizer = torch.optim.SGD(model.parameters(), lr=3e-3, momentum=0.9)

best_val_loss = math.inf
for epoch in range(1, arguments.epochs + 1):
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
