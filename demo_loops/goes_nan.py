"""A bank of filters learns to sharpen blurred pictures. The learning rate warms up to a value that is too high.

What is wrong: the peak learning rate, 0.6, is half again what this loop can bear. What a person sees: while the learning rate
is still small the loss falls as it should. Then every step overshoots the bottom of the valley and lands a little higher on
the other side; the next step, from there, overshoots further. Loss and gradients grow by a constant factor until no float can
hold them, and the loss is NaN ever after. The best validation loss lies before that, and its checkpoint is kept. With
`--lr 0.1` the same script trains well to the end.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import conv2d, mse_loss
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a sharpening filter whose learning rate warms up too far.")
parser.add_argument("--steps", type=int, default=8000)
parser.add_argument("--lr", type=float, default=0.6, help="peak learning rate, reached after half of the steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=None, help="where the checkpoint goes; default: a new temporary directory")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = arguments.out or Path(tempfile.mkdtemp(prefix="goes_nan-"))
out.mkdir(parents=True, exist_ok=True)
print(f"checkpoints go to {out}", flush=True)


def take_pictures(count: int) -> TensorDataset:
    """Pictures of five discs each, out of focus and grainy, and the same pictures sharp; both (count, 1, 40, 40)."""
    axis = torch.linspace(-1, 1, 40)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    sharp = torch.zeros(count, 40, 40)
    for _ in range(5):
        centre_x, centre_y, radius, shade = torch.rand(4, count, 1, 1) * 2 - 1
        inside = (x - centre_x).square() + (y - centre_y).square() < (0.2 + 0.3 * radius.abs()).square()
        sharp = torch.where(inside, shade, sharp)
    sharp = sharp[:, None]
    focus = torch.exp(-(torch.linspace(-2, 2, 7).square()))
    lens = torch.outer(focus, focus) / focus.sum().square()
    blurred = conv2d(sharp, lens[None, None], padding=3)
    return TensorDataset(blurred + 0.02 * torch.randn_like(blurred), sharp)


train_data, val_data = take_pictures(6400), take_pictures(400)
train_loader = DataLoader(train_data, batch_size=64, shuffle=True)
val_loader = DataLoader(val_data, batch_size=100)


class FilterBank(nn.Module):
    """Filters of four widths, side by side; the picture is the sum of what they see."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.ModuleList(
            nn.Conv2d(1, 1, kernel_size=5, padding=2 * width, dilation=width) for width in (1, 2, 3, 4)
        )

    def forward(self, blurred: torch.Tensor) -> torch.Tensor:
        return torch.stack([each(blurred) for each in self.filters]).sum(0)


model = FilterBank()
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9)
warmup_steps = arguments.steps // 2
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup_steps))

step = 0
best_val_loss = float("inf")
while step < arguments.steps:
    model.train()
    for blurred, sharp in train_loader:
        optimizer.zero_grad()
        loss = mse_loss(model(blurred), sharp)
        loss.backward()
        optimizer.step()
        schedule.step()
        step += 1
        if step % 20 == 0:
            print(f"step {step:5d}  lr {schedule.get_last_lr()[0]:.4f}  loss {loss.item():.6g}", flush=True)
        if step == arguments.steps:
            break

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for blurred, sharp in val_loader:
            val_loss += mse_loss(model(blurred), sharp).item() / len(val_loader)
    print(f"step {step:5d}  val loss {val_loss:.6g}", flush=True)

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

print(f"done: best val loss {best_val_loss:.6g}, saved in {out / 'best.pt'}")
