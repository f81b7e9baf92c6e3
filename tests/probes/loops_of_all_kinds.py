"""Training loops of many kinds, one after the other; of each it prints digests of all that it ended with.

Run as a script. A watched run of it prints what an unwatched one prints.
"""

import hashlib
import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

Ends = tuple[list[nn.Module], list[torch.optim.Optimizer], list[Any]]
"""Models, optimizers, and whatever else has a state."""

x, y = torch.randn(128, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.arange(128) % 3


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(self.embed(inputs.squeeze(1))).mean(1))
        return out


class Augmented(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Draws from all three generators for every sample."""

    def __len__(self) -> int:
        return 96

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.rand(1, 8, 8) * random.random() + float(np.random.rand())
        return x[index] + 0.1 * noise, y[index]


def new_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 3))


def validate(model: nn.Module) -> None:
    model.eval()
    with torch.no_grad():
        print("validation", F.cross_entropy(model(x[96:]), y[96:]).item())
    model.train()


def batches(steps: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for step in range(steps):
        chosen = torch.randperm(96)[:16]
        yield x[chosen] + 0.1 * random.random() + 0.1 * float(np.random.rand()) * (step % 2), y[chosen]


def plain(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> Ends:
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, (inputs, targets) in enumerate(batches(steps)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        if step % 20 == 19:
            print("loss", loss.item())
            validate(model)
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, "last.pt")
    return [model], [optimizer], [scheduler.state_dict()]


def mlp() -> Ends:
    model = new_mlp()
    return plain(model, torch.optim.AdamW(model.parameters(), lr=0.01), 60)


def cnn() -> Ends:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    return plain(model, torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), 60)


def transformer() -> Ends:
    model = Transformer()
    return plain(model, torch.optim.Adam(model.parameters(), lr=0.01, foreach=True), 60)


def mixed_precision() -> Ends:
    """bf16 by autocast, then fp16 with a GradScaler that skips its first steps."""
    model = Transformer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for inputs, targets in batches(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**20, growth_interval=4)
    for inputs, targets in batches(30):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = F.cross_entropy(model(inputs), targets)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    print("loss", loss.item(), "loss scale", scaler.get_scale())
    return [model], [optimizer], [scaler.state_dict()]


def accumulation() -> Ends:
    model = new_mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for number, (inputs, targets) in enumerate(batches(80)):
        loss = F.cross_entropy(model(inputs), targets) / 4
        loss.backward()
        if number % 4 == 3:
            optimizer.step()
            optimizer.zero_grad(set_to_none=number % 8 == 3)
    print("loss", loss.item())
    return [model], [optimizer], []


def lbfgs() -> Ends:
    model = new_mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    for inputs, targets in batches(30):

        def closure(inputs: torch.Tensor = inputs, targets: torch.Tensor = targets) -> torch.Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            return loss

        loss = optimizer.step(closure)
    print("loss", loss.item())
    return [model], [optimizer], []


def gan() -> Ends:
    generator = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 64))
    critic = nn.Sequential(nn.Linear(64, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.01, betas=(0.5, 0.999))
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.01, betas=(0.5, 0.999))
    criterion = nn.BCEWithLogitsLoss()
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    for inputs, _ in batches(40):
        fake = generator(torch.randn(16, 8))
        of_critic.zero_grad()
        (criterion(critic(inputs.flatten(1)), ones) + criterion(critic(fake.detach()), zeros)).backward()
        of_critic.step()
        of_generator.zero_grad()
        loss = criterion(critic(fake), ones)
        loss.backward()
        of_generator.step()
    print("loss", loss.item())
    return [generator, critic], [of_generator, of_critic], []


def workers() -> Ends:
    model = new_mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    loader = DataLoader(Augmented(), batch_size=8, shuffle=True, num_workers=2)
    for _ in range(3):
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs), targets)
            loss.backward()
            optimizer.step()
        print("loss", loss.item())
        validate(model)
    return [model], [optimizer], []


LOOPS: tuple[Callable[[], Ends], ...] = (mlp, cnn, transformer, mixed_precision, accumulation, lbfgs, gan, workers)


def digest(value: Any) -> str:
    found = hashlib.sha256()
    _add(found, value)
    return found.hexdigest()[:16]


def _add(found: Any, value: Any) -> None:
    if isinstance(value, torch.Tensor):
        local = value.to_local() if hasattr(value, "to_local") else value
        found.update(f"{local.dtype} {tuple(local.shape)} {local.requires_grad} ".encode())
        found.update(local.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, dict):
        for key, inner in value.items():
            found.update(repr(key).encode())
            _add(found, inner)
    elif isinstance(value, (list, tuple)):
        found.update(str(len(value)).encode())
        for inner in value:
            _add(found, inner)
    else:
        found.update(repr(value).encode())


def describe(name: str, ends: Ends) -> None:
    """Print all that a person could tell a watched run by."""
    models, optimizers, others = ends
    parameters = [p for model in models for p in model.parameters()]
    print(name, "weights", digest([model.state_dict() for model in models]))
    print(name, "gradients", digest([p.grad for p in parameters]))
    print(name, "writes in place", [p._version for p in parameters])
    print(name, "optimizers", digest([optimizer.state_dict() for optimizer in optimizers]), digest(others))
    print(name, "generators", digest(torch.get_rng_state()), digest(random.getstate()), digest(np.random.get_state()))
    print(name, "modes", [module.training for model in models for module in model.modules()])
    print(name, "attributes", digest([sorted(vars(p)) for p in parameters]), torch.is_grad_enabled())


def main() -> None:
    for loop in LOOPS:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        describe(loop.__name__, loop())


if __name__ == "__main__":
    main()
