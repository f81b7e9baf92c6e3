"""A few numbers of the weights at each validation pass: by them a copy of those weights is known when it is saved later."""

from __future__ import annotations

from typing import TypeGuard

import torch

from .checkpoints import own_name, weights_in
from .modules import named_parameters
from .transfer import Transfer

PARAMETERS, ENTRIES = 4, 4
"""Of a model, evenly spread, and values of each: the weights of a layer that rests are no sign of a step."""
MOST_STEPS = 2_000

Fingerprint = tuple[float, ...]


class Fingerprints:
    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._steps: dict[Fingerprint, int] = {}
        self._noted = -1

    def note(self, step: int, root: torch.nn.Module | None) -> None:
        """`root` has the weights of `step` now. Does not wait for a device: the numbers arrive later."""
        if root is None or step == self._noted:
            return
        self._noted = step
        values = [_few(parameter) for _, parameter in _chosen(root)]

        def deliver(numbers: list[float]) -> None:
            self._steps.pop(tuple(numbers), None)
            self._steps[tuple(numbers)] = step
            if len(self._steps) > MOST_STEPS:
                del self._steps[next(iter(self._steps))]

        if values:
            self._transfer.submit(values, deliver, rare=True)

    def step_of(self, saved: object, root: torch.nn.Module | None) -> int | None:
        """The step of the pass whose weights are in what was saved; None for others, and for those on a device."""
        names = [name for name, _ in _chosen(root)] if root is not None else []
        for weights in weights_in(saved) if names else ():
            tensors = [tensor for name in names if _is_at_hand(tensor := weights.get(name))]
            step = self._steps.get(tuple(value for tensor in tensors for value in _few(tensor).tolist()))
            if step is not None:
                return step
        return None


def _chosen(root: torch.nn.Module) -> list[tuple[str, torch.Tensor]]:
    """With the names that they have in a state_dict of the program's own model, whatever wraps it."""
    trained = [(name, p) for name, p in named_parameters(root) if p.requires_grad and p.numel() > 1]
    plain = [(name, p) for name, p in trained if p.is_floating_point() and type(p.data) is torch.Tensor]
    last = len(plain) - 1
    places = sorted({round(i * last / (PARAMETERS - 1)) for i in range(PARAMETERS)}) if plain else []
    return [(own_name(plain[place][0]), plain[place][1]) for place in places]


@torch.no_grad()
def _few(tensor: torch.Tensor) -> torch.Tensor:
    """Values of the first row, or of all of it where it has one dimension: no copy of the whole."""
    row = tensor.detach()[(0,) * (tensor.dim() - 1)]
    return row[:: max(1, row.numel() // ENTRIES)][:ENTRIES]


def _is_at_hand(tensor: object) -> TypeGuard[torch.Tensor]:
    return (
        isinstance(tensor, torch.Tensor) and tensor.dim() > 0 and tensor.numel() > 1 and tensor.is_cpu and not tensor.is_sparse
    )
