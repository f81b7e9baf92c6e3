"""A network learns how far a thrown ball flies. The learning rate warms up to a value that is too high.

What is wrong: the peak learning rate, 2.0, is far beyond what this loop can bear. What a person sees: while the learning
rate is still small the loss falls as it should, and wobbles a little as the learning rate rises. Then one step overshoots
the valley it is in, the next one overshoots further, and within a few dozen steps the loss has grown past anything a float
can hold and is NaN ever after. The best validation loss lies before that, and its checkpoint is kept. With `--lr 0.2` the
same script trains well to the end.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser(description="Train a regression whose learning rate warms up too far.")
parser.add_argument("--steps", type=int, default=8000)
parser.add_argument("--lr", type=float, default=2.0, help="peak learning rate, reached after half of the steps")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", type=Path, default=None, help="where the checkpoint goes; default: a new temporary directory")
arguments = parser.parse_args()

torch.manual_seed(arguments.seed)
torch.set_num_threads(1)
out = arguments.out or Path(tempfile.mkdtemp(prefix="goes_nan-"))
out.mkdir(parents=True, exist_ok=True)
print(f"checkpoints go to {out}", flush=True)


def throw_balls(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Throws (count, 4) as speed, angle, air drag and wind, each within -1 to 1, and how far each ball flew (count, 1)."""
    throws = torch.rand(count, 4) * 2 - 1
    speed = 20 + 10 * throws[:, 0]  # m/s
    angle = 0.8 + 0.5 * throws[:, 1]  # radians
    drag = 0.01 + 0.01 * throws[:, 2]  # 1/m
    wind = 8 * throws[:, 3]  # m/s, from behind
    x, y = torch.zeros(count), torch.full((count,), 1.5)
    vx, vy = speed * angle.cos(), speed * angle.sin()
    for _ in range(250):  # 5 seconds in steps of 20 ms
        flying = (y > 0).float()
        through_air = torch.hypot(vx - wind, vy)
        vx = vx - 0.02 * drag * through_air * (vx - wind)
        vy = vy - 0.02 * (drag * through_air * vy + 9.81)
        x, y = x + 0.02 * vx * flying, y + 0.02 * vy * flying
    measured = x + 0.5 * torch.randn(count)  # the tape measure is half a metre off
    return throws, (measured[:, None] - 25) / 15


train_data = TensorDataset(*throw_balls(20000))
val_data = TensorDataset(*throw_balls(2000))
train_loader = DataLoader(train_data, batch_size=512, shuffle=True, drop_last=True)
val_loader = DataLoader(val_data, batch_size=500)

model = nn.Sequential(
    nn.Linear(4, 256),
    nn.SiLU(),
    nn.Linear(256, 256),
    nn.SiLU(),
    nn.Linear(256, 256),
    nn.SiLU(),
    nn.Linear(256, 1),
)
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9)
warmup_steps = arguments.steps // 2
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup_steps))

step = 0
best_val_loss = float("inf")
while step < arguments.steps:
    model.train()
    for throws, distance in train_loader:
        optimizer.zero_grad()
        loss = mse_loss(model(throws), distance)
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
        for throws, distance in val_loader:
            val_loss += mse_loss(model(throws), distance, reduction="sum").item() / len(val_data)
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
