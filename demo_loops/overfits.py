"""A network learns to tell twelve kinds of noisy measurements apart. They are too few and it is too large.

What is wrong: 400 training samples, one in seven of them with a wrong label, and a million weights with nothing that
holds them back: no dropout, no weight decay, no early stop. What a person sees: the training loss falls to nothing, since the
network learns every sample by heart. The validation loss falls with it at first, turns within a few seconds, and then climbs
for the rest of the run. The checkpoint of the best validation loss is saved as it should be: only the overfitting is wrong.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a large network on few samples.")
parser.add_argument("--epochs", type=int, default=250, help="one epoch is 25 steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=None, help="where the checkpoint goes; default: a new temporary directory")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = arguments.out or Path(tempfile.mkdtemp(prefix="overfits-"))
out.mkdir(parents=True, exist_ok=True)
print(f"checkpoints go to {out}", flush=True)

KINDS, FEATURES = 12, 40
centres = 0.5 * torch.randn(KINDS, FEATURES)


def measure(count: int) -> TensorDataset:
    """Noisy measurements (count, FEATURES) around the centre of their kind, and that kind (count,), sometimes misread."""
    kind = torch.randint(KINDS, (count,))
    measurements = centres[kind] + torch.randn(count, FEATURES)
    misread = torch.rand(count) < 0.15
    return TensorDataset(measurements, torch.where(misread, torch.randint(KINDS, (count,)), kind))


train_loader = DataLoader(measure(400), batch_size=16, shuffle=True)
val_data = measure(2000)
val_loader = DataLoader(val_data, batch_size=500)

model = nn.Sequential(
    nn.Linear(FEATURES, 768),
    nn.ReLU(),
    nn.Linear(768, 768),
    nn.ReLU(),
    nn.Linear(768, 768),
    nn.ReLU(),
    nn.Linear(768, KINDS),
)
optimizer = torch.optim.Adam(model.parameters(), lr=6e-5)

step = 0
best_val_loss = float("inf")
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for measurements, kind in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(measurements), kind)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() / len(train_loader)
        step += 1

    model.eval()
    val_loss, correct = 0.0, 0
    with torch.no_grad():
        for measurements, kind in val_loader:
            logits = model(measurements)
            val_loss += cross_entropy(logits, kind, reduction="sum").item() / len(val_data)
            correct += int((logits.argmax(1) == kind).sum())

    print(
        f"epoch {epoch:3d}  step {step:5d}  train loss {train_loss:.4f}  val loss {val_loss:.4f}  "
        f"val accuracy {correct / len(val_data):.3f}",
        flush=True,
    )

    if val_loss < best_val_loss:
        best_val_loss = val_loss
        checkpoint = {
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "step": step,
            "val_loss": val_loss,
        }
        torch.save(checkpoint, out / "best.pt")

print(f"done: best val loss {best_val_loss:.4f}, saved in {out / 'best.pt'}")
