"""A training loop that does a little of everything a probe watches; `train()` returns a digest of all that it ended with.

Put before a script. A watched run of it ends as an unwatched one, whatever becomes of the probes in it.
"""

import copy
import hashlib
import io
import math
import os
import random
import sys
import types
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

EPOCHS = 9


class Run:
    """Stands in for wandb's."""

    def log(self, data: dict[str, Any]) -> None:
        self.newest = data


class TrainerState:
    """Stands in for transformers'."""

    def save_to_json(self, path: str) -> None:
        self.path = path


def _atomic_save(checkpoint: dict[str, Any], path: str) -> None: ...


def save(state: dict[str, Any], *, checkpoint_id: str | None = None, storage_writer: object = None) -> None: ...


def async_save(state: dict[str, Any], *, checkpoint_id: str | None = None, storage_writer: object = None) -> None: ...


for _module, _names in {
    "wandb.sdk.wandb_run": ["Run"],
    "transformers.trainer_callback": ["TrainerState"],
    "lightning.fabric.utilities.cloud_io": ["_atomic_save"],
    "torch.distributed.checkpoint.state_dict_saver": ["save", "async_save"],
}.items():
    sys.modules[_module] = types.ModuleType(_module)
    for _name in _names:
        setattr(sys.modules[_module], _name, globals()[_name])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.body(inputs))
        return out


def digest(*values: Any) -> str:
    found = hashlib.sha256()
    todo = list(values)
    while todo:
        value = todo.pop()
        if isinstance(value, torch.Tensor):
            found.update(f"{value.dtype} {tuple(value.shape)} {value._version}".encode())
            found.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            todo += value
        else:
            found.update(repr(value).encode())
    return found.hexdigest()


def mixed_precision(x: torch.Tensor, y: torch.Tensor, device: str = "cpu") -> list[Any]:
    """Loaders, two optimizers under one scaler, accumulation, a schedule, validation, logging, and checkpoints of every kind."""
    model = Net().to(device)
    body, head = torch.optim.SGD(model.body.parameters(), lr=0.05, momentum=0.9), torch.optim.AdamW(model.head.parameters())
    scheduler = torch.optim.lr_scheduler.StepLR(body, 3)
    scaler = torch.amp.GradScaler(device, init_scale=2.0**127, growth_interval=4)
    data, pin = TensorDataset(x, y), device != "cpu"
    # Three samples of the training data are among those of the validation.
    train_loader = DataLoader(Subset(data, range(16)), batch_size=4, shuffle=True, pin_memory=pin)
    val_loader = DataLoader(Subset(data, range(13, 24)), batch_size=4, pin_memory=pin)
    run, results = Run(), []
    for epoch in range(EPOCHS):
        model.train()
        for number, (inputs, targets) in enumerate(train_loader):
            inputs, targets = inputs.to(device, non_blocking=pin), targets.to(device, non_blocking=pin)
            if number % 2 == 0:
                body.zero_grad(set_to_none=epoch % 2 == 0)
                model.zero_grad(set_to_none=False)
            with torch.autocast(device, dtype=torch.bfloat16, enabled=epoch % 3 == 0):
                loss = F.cross_entropy(model(inputs).float(), targets) / 2
            scaler.scale(loss).backward()
            if number % 2:
                if epoch % 3 != 2:  # else the clip is of scaled gradients
                    scaler.unscale_(body)
                nn.utils.clip_grad_norm_(model.body.parameters(), 1.0)
                nn.utils.clip_grad_value_(model.head.parameters(), 100.0)
                scaler.step(body)
                scaler.step(head)
                scaler.update()
                scheduler.step()
        run.log({"train_loss": loss.detach(), "epoch": epoch})
        if epoch % 2:
            results.append(validate(model, val_loader, device))
        run.log({"val": {"loss": results[-1] if results else math.inf}})
        save_everywhere(model, body, epoch)
    return [model.state_dict(), body.state_dict(), head.state_dict(), scaler.state_dict(), scheduler.state_dict(), results]


def validate(model: nn.Module, loader: Any, device: str) -> torch.Tensor:
    """Once as it should be, then in training mode and with a graph."""
    model.eval()
    with torch.no_grad():
        val_loss = sum(F.cross_entropy(model(a.to(device)), b.to(device)) for a, b in loader) / len(loader)
    with torch.inference_mode():
        F.mse_loss(model(loader.dataset.dataset.tensors[0].to(device)), torch.zeros(24, 3, device=device), reduction="sum")
    model.train()
    for a, b in loader:
        F.cross_entropy(model(a.to(device)), b.to(device))
    assert isinstance(val_loss, torch.Tensor)
    return val_loss


def save_everywhere(model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
    torch.save(state, "last.pt")
    torch.save(state["model"], io.BytesIO())
    safetensors.torch.save_file({name: value.clone() for name, value in model.state_dict().items()}, "last.safetensors")
    for module, name in (
        ("lightning.fabric.utilities.cloud_io", "_atomic_save"),
        ("torch.distributed.checkpoint.state_dict_saver", "save"),
        ("torch.distributed.checkpoint.state_dict_saver", "async_save"),
    ):
        function = getattr(sys.modules[module], name)
        function(state, "last.ckpt") if name == "_atomic_save" else function(state, checkpoint_id=os.path.abspath(name))
    state_of_trainer = TrainerState()
    state_of_trainer.save_to_json("trainer_state.json")
    model.load_state_dict(copy.deepcopy(model.state_dict()))


def not_finite(x: torch.Tensor, y: torch.Tensor, device: str = "cpu") -> list[Any]:
    """A loss that is NaN now and then, of a model whose weights are put back each time; a GAN's two losses; probabilities."""
    model, critic = Net().to(device), nn.Linear(3, 1).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    of_critic = torch.optim.Adam([*critic.parameters(), nn.Parameter(torch.ones(2, device=device))], lr=0.01)
    outside = nn.Linear(4, 3).to(device)
    healthy = copy.deepcopy(model.state_dict())
    x, y = x[:8].to(device), y[:8].to(device)
    for step in range(3 * EPOCHS):
        optimizer.zero_grad()
        spoiled = x + (math.nan if step % 3 == 0 else 0.0)
        F.cross_entropy((model(spoiled) + outside(x)).softmax(1), y).backward()
        optimizer.step()
        (penalty,) = torch.autograd.grad(critic(model(x)).sum(), model.head.weight)
        of_critic.zero_grad()
        F.binary_cross_entropy_with_logits(critic(model(x).detach()), torch.ones(8, 1, device=device)).backward()
        of_critic.step()
        if step % 3 == 0:
            model.load_state_dict(healthy)
    return [model.state_dict(), optimizer.state_dict(), critic.state_dict(), of_critic.state_dict(), penalty]


def closures(x: torch.Tensor, y: torch.Tensor, device: str = "cpu") -> list[Any]:
    model = Net().to(device)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    x, y = x.to(device), y.to(device)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    for _ in range(EPOCHS):
        optimizer.step(closure)
    return [model.state_dict(), optimizer.state_dict()]


def sparse(x: torch.Tensor, y: torch.Tensor, device: str = "cpu") -> list[Any]:
    """Sparse gradients, data that is on the device already, and a loss kept under its name."""
    words = nn.Embedding(8, 3, sparse=True).to(device)
    optimizer = torch.optim.SparseAdam(words.parameters(), lr=0.01)
    loader = DataLoader(TensorDataset((y * 2).to(device), y.to(device)), batch_size=8)
    for _ in range(EPOCHS // 2):
        for inputs, targets in loader:
            optimizer.zero_grad()
            train_loss = F.cross_entropy(words(inputs), targets)
            train_loss.backward()
            optimizer.step()
        with torch.no_grad():
            for inputs, targets in DataLoader(loader.dataset, batch_size=12):
                valid_loss = F.cross_entropy(words(inputs), targets)
    return [words.state_dict(), optimizer.state_dict(), train_loss, valid_loss]


def train(device: str = "cpu") -> str:
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    x, y = torch.randn(24, 4), torch.arange(24) % 3
    ends = [loop(x, y, device) for loop in (mixed_precision, not_finite, closures, sparse)]
    for _ in range(EPOCHS):
        torch.compile(len)
    generators = [torch.get_rng_state(), random.getstate(), repr(np.random.get_state())]
    if device != "cpu":
        generators.append(torch.cuda.get_rng_state())
    return digest(_on_host(ends), generators)


def _on_host(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_host(inner) for key, inner in value.items()}
    return [_on_host(inner) for inner in value] if isinstance(value, (list, tuple)) else value
