"""A small convolutional network learns to read drawn digits. Nothing is wrong here.

The other demo loops are measured against this one. What a person sees: the training loss falls quickly and then ever more
slowly, the validation loss follows it all the way down, and each better validation loss is saved. The training loss stays
above the validation loss, because only training images are shifted and pass through dropout.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, max_pool2d, relu
from torch.utils.data import DataLoader, TensorDataset, random_split

parser = argparse.ArgumentParser(description="Train a small digit classifier.")
parser.add_argument("--epochs", type=int, default=70, help="one epoch is 100 steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=None, help="where the checkpoint goes; default: a new temporary directory")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = arguments.out or Path(tempfile.mkdtemp(prefix="healthy_classifier-"))
out.mkdir(parents=True, exist_ok=True)
print(f"checkpoints go to {out}", flush=True)

# The data: digits of a pocket calculator. Each is a set of strokes between the six corners of an 8, and each image has
# its own size, slant and place, then noise.
CORNERS = torch.tensor([[-0.5, -1.0], [0.5, -1.0], [-0.5, 0.0], [0.5, 0.0], [-0.5, 1.0], [0.5, 1.0]])
STROKES = torch.tensor([[0, 1], [1, 3], [3, 5], [4, 5], [2, 4], [0, 2], [2, 3]])
LIT = ["012345", "12", "01643", "01236", "1256", "02356", "023456", "012", "0123456", "012356"]
IMAGE = 20  # pixels a side


def draw_digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, IMAGE, IMAGE) and their digits (count,)."""
    digits = torch.randint(10, (count,))
    lit = torch.tensor([[str(stroke) in digit for stroke in range(7)] for digit in LIT])[digits]
    size = torch.empty(count, 1, 2).uniform_(0.45, 0.75)
    slant = torch.empty(count, 1).uniform_(-0.5, 0.5)
    place = torch.empty(count, 1, 2).uniform_(-0.2, 0.2)
    corners = CORNERS * size + place
    corners[..., 0] += slant * corners[..., 1]
    start, end = corners[:, STROKES[:, 0]], corners[:, STROKES[:, 1]]

    # Ink is where the nearest point of a lit stroke is closer than a pen's width.
    axis = torch.linspace(-1, 1, IMAGE)
    pixels = torch.cartesian_prod(axis, axis).flip(-1)
    images = torch.zeros(count, IMAGE * IMAGE)
    for stroke in range(7):
        along = (end - start)[:, stroke, None]
        offset = pixels - start[:, stroke, None]
        share = ((offset * along).sum(-1) / along.square().sum(-1)).clamp(0, 1)
        distance = (offset - share[..., None] * along).norm(dim=-1)
        ink = torch.sigmoid((0.1 - distance) * 40) * lit[:, stroke, None]
        images = torch.maximum(images, ink)
    images += 0.5 * torch.randn_like(images)
    return images.view(count, 1, IMAGE, IMAGE), digits


images, digits = draw_digits(8000)
train_data, val_data = random_split(TensorDataset(images, digits), [6400, 1600])
train_loader = DataLoader(train_data, batch_size=64, shuffle=True)
val_loader = DataLoader(val_data, batch_size=200)


class DigitClassifier(nn.Module):
    """Images (N, 1, IMAGE, IMAGE) to logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, kernel_size=3, padding=1)
        self.norm1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, kernel_size=3, padding=1)
        self.norm2 = nn.BatchNorm2d(32)
        self.hidden = nn.Linear(32 * 5 * 5, 64)
        self.dropout = nn.Dropout(0.3)
        self.digit = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = max_pool2d(relu(self.norm1(self.conv1(images))), 2)
        x = max_pool2d(relu(self.norm2(self.conv2(x))), 2)
        x = relu(self.hidden(x.flatten(1)))
        logits: torch.Tensor = self.digit(self.dropout(x))
        return logits


model = DigitClassifier()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=arguments.epochs)

step = 0
best_val_loss = float("inf")
for epoch in range(1, arguments.epochs + 1):
    model.train()
    train_loss = 0.0
    for batch, target in train_loader:
        # Shift the whole batch by up to two pixels, so that the same image is never quite seen twice.
        dy, dx = torch.randint(-2, 3, (2,)).tolist()
        batch = torch.roll(batch, (dy, dx), dims=(2, 3))

        optimizer.zero_grad()
        loss = cross_entropy(model(batch), target)
        loss.backward()
        optimizer.step()

        train_loss += loss.item() / len(train_loader)
        step += 1
    schedule.step()

    model.eval()
    val_loss, correct = 0.0, 0
    with torch.no_grad():
        for batch, target in val_loader:
            logits = model(batch)
            val_loss += cross_entropy(logits, target, reduction="sum").item() / len(val_data)
            correct += int((logits.argmax(1) == target).sum())

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
            "schedule": schedule.state_dict(),
            "step": step,
            "val_loss": val_loss,
        }
        torch.save(checkpoint, out / "best.pt")

print(f"done: best val loss {best_val_loss:.4f}, saved in {out / 'best.pt'}")
