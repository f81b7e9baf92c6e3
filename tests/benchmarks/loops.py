"""The training loops whose steps are timed: plain PyTorch, one step at a time, batches from a DataLoader, an epoch about a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.benchmarks.gpt import GPT


class TrainingLoop:
    """A model, its optimizer and an endless stream of batches."""

    def __init__(
        self,
        model: nn.Module,
        data: TensorDataset,
        batch_size: int,
        device: torch.device,
        adam: bool = True,
        bf16: bool = False,
    ) -> None:
        self.model = model.to(device)
        self.device = device
        parameters = self.model.parameters()
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(parameters, lr=1e-4) if adam else torch.optim.SGD(parameters, lr=1e-4)
        )
        self._bf16 = bf16
        self._loader = DataLoader(data, batch_size, shuffle=True, drop_last=True, pin_memory=device.type == "cuda")
        self._batches: Iterator[Any] = iter(self._loader)
        self.epochs = 1
        "Begun."

    def step(self) -> None:
        batch = next(self._batches, None)
        if batch is None:
            self._batches = iter(self._loader)
            self.epochs += 1
            batch = next(self._batches)
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._bf16):
            scores = self.model(inputs)
            loss = F.cross_entropy(scores.flatten(0, -2), targets.flatten())
        loss.backward()
        self.optimizer.step()

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def tiny(device: torch.device) -> TrainingLoop:
    """A step with next to nothing in it: far more than 3,000 a second."""
    loop = TrainingLoop(nn.Linear(2, 2), TensorDataset(torch.randn(1, 2), torch.zeros(1).long()), 1, device, adam=False)
    inputs, targets = torch.randn(4, 2, device=device), torch.zeros(4, dtype=torch.long, device=device)
    model, optimizer = loop.model, loop.optimizer

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    loop.step = step  # type: ignore[method-assign]
    return loop


def mlp(device: torch.device) -> TrainingLoop:
    """About 1 ms a step on one core."""
    model = nn.Sequential(
        nn.Linear(64, 192), nn.BatchNorm1d(192), nn.ReLU(), nn.Dropout(0.1), nn.Linear(192, 192), nn.ReLU(), nn.Linear(192, 10)
    )
    return TrainingLoop(model, TensorDataset(torch.randn(2**16, 64), torch.randint(0, 10, (2**16,))), 64, device)


def cnn(device: torch.device) -> TrainingLoop:
    """About 10 ms a step on one core."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]

    model = nn.Sequential(
        *block(3, 16), nn.MaxPool2d(2), *block(16, 32), nn.MaxPool2d(2), *block(32, 64),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    return TrainingLoop(model, TensorDataset(torch.randn(2400, 3, 32, 32), torch.randint(0, 10, (2400,))), 24, device)


class Transformer(nn.Module):
    """Twelve encoder layers over characters; 150 parameter tensors."""

    def __init__(self, width: int = 64, length: int = 32, characters: int = 64) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, batch_first=True, norm_first=True)
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Embedding(length, width)
        self.layers = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.scores = nn.Linear(width, characters)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        seen: torch.Tensor = self.characters(text) + self.positions.weight
        scores: torch.Tensor = self.scores(self.norm(self.layers(seen)))
        return scores


def transformer(device: torch.device) -> TrainingLoop:
    text = torch.randint(0, 64, (1024, 33))
    return TrainingLoop(Transformer(), TensorDataset(text[:, :-1], text[:, 1:]), 4, device)


def gpt(device: torch.device) -> TrainingLoop:
    """GPT-2's smallest, 124 million parameters, bfloat16: 8 texts of 1,024 tokens a step."""
    return _gpt(GPT(vocabulary=50257, length=1024, width=768, heads=12, layers=12), 8, device)


def gpt_small(device: torch.device) -> TrainingLoop:
    """The same in miniature, so that its code also runs where no GPU is."""
    return _gpt(GPT(vocabulary=97, length=16, width=32, heads=4, layers=2), 2, device)


def _gpt(model: GPT, texts: int, device: torch.device) -> TrainingLoop:
    tokens = torch.randint(0, model.vocabulary, (32 * texts, model.length + 1))
    return TrainingLoop(model, TensorDataset(tokens[:, :-1], tokens[:, 1:]), texts, device, bf16=True)


LOOPS: dict[str, Callable[[torch.device], TrainingLoop]] = {
    "mlp": mlp,
    "cnn": cnn,
    "transformer": transformer,
    "gpt": gpt,
    "gpt-small": gpt_small,
    "tiny": tiny,
}
