"""A plain training script as a person writes it; it knows nothing of forgemon. Trains until a file says stop, or for --steps."""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import time

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--stop-file", default="")
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = torch.randn(640, 16), torch.randint(0, 4, (640,))
    train_loader = DataLoader(TensorDataset(x[:512], y[:512]), batch_size=32, shuffle=True)
    val_loader = DataLoader(TensorDataset(x[512:], y[512:]), batch_size=64)
    model = nn.Sequential(nn.Linear(16, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    print("ready", flush=True)
    step, best, epoch = 0, float("inf"), 0
    while True:
        model.train()
        for inputs, targets in train_loader:
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
            step += 1
            if options.pause:
                time.sleep(options.pause)
        model.eval()
        total = 0.0
        with torch.no_grad():
            for inputs, targets in val_loader:
                total += cross_entropy(model(inputs), targets, reduction="sum").item()
        if total < best:
            best = total
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, "best.pt")
        epoch += 1
        if epoch % 10 == 0:
            print(f"epoch {epoch} loss {loss.item()!r} val {total / 128!r}", flush=True)
        if os.path.exists(options.stop_file) or step == options.steps:
            break
    state = io.BytesIO()
    torch.save((list(model.state_dict().items()), optimizer.state_dict(), torch.get_rng_state()), state)
    print(f"{step} steps, {hashlib.sha256(state.getvalue()).hexdigest()}", flush=True)


if __name__ == "__main__":
    main()
