"""A network learns to tell the arms of a spiral apart. The learning rate warms up to a value that is too high.

What is wrong: the peak learning rate, 1.0, is about twice what this loop can bear. What a person sees: the loss falls as it
should, then rests and wobbles. When the learning rate has risen too far the steps jump from one side of the valley to the
other: the loss zig-zags, wider and wider, and climbs to hundreds of times its best level, where it stays. It is never NaN:
tanh is bounded, so nothing here can grow without end. With `--lr 0.1` the same script trains well to the end.
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

parser = argparse.ArgumentParser(description="Train a spiral classifier whose learning rate warms up too far.")
parser.add_argument("--steps", type=int, default=9000)
parser.add_argument("--lr", type=float, default=1.0, help="peak learning rate, reached after half of the steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=None, help="where the checkpoint goes; default: a new temporary directory")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = arguments.out or Path(tempfile.mkdtemp(prefix="oscillates-"))
out.mkdir(parents=True, exist_ok=True)
print(f"checkpoints go to {out}", flush=True)


def draw_spirals(count: int) -> TensorDataset:
    """Points (count, 2) on three arms that wind around each other, a little blurred, and their arms (count,)."""
    arm = torch.randint(3, (count,))
    radius = torch.rand(count).sqrt()
    angle = 5 * radius + arm * (2 * math.pi / 3)
    points = 1.5 * torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    return TensorDataset(points + 0.15 * torch.randn(count, 2), arm)


train_loader = DataLoader(draw_spirals(25600), batch_size=256, shuffle=True)
val_data = draw_spirals(2000)
val_loader = DataLoader(val_data, batch_size=500)

model = nn.Sequential(
    nn.Linear(2, 256),
    nn.Tanh(),
    nn.Linear(256, 256),
    nn.Tanh(),
    nn.Linear(256, 256),
    nn.Tanh(),
    nn.Linear(256, 256),
    nn.Tanh(),
    nn.Linear(256, 3),
)
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9)
warmup_steps = arguments.steps // 2
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup_steps))

step = 0
best_val_loss = float("inf")
while step < arguments.steps:
    model.train()
    for points, arm in train_loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(points), arm)
        loss.backward()
        optimizer.step()
        schedule.step()
        step += 1
        if step % 25 == 0:
            print(f"step {step:5d}  lr {schedule.get_last_lr()[0]:.4f}  loss {loss.item():.4f}", flush=True)
        if step == arguments.steps:
            break

    model.eval()
    val_loss = 0.0
    with torch.no_grad():
        for points, arm in val_loader:
            val_loss += cross_entropy(model(points), arm, reduction="sum").item() / len(val_data)
    print(f"step {step:5d}  val loss {val_loss:.4f}", flush=True)

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
