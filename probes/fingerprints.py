"""A few numbers of the weights at each validation pass: by them a copy of those weights is known when it is saved later."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TypeGuard

import torch

from .checkpoints import own_name, weights_in
from .modules import named_parameters
from .transfer import Transfer

PARAMETERS, ENTRIES = 4, 4
"""Of a model, evenly spread, and values of each: the weights of a layer that rests are no sign of a step."""
MOST_STEPS = 2_000
MOST_LAYOUTS = 64

Fingerprint = tuple[float, ...]
Layout = tuple[str, ...]
"""Names of those parameters."""


class Fingerprints:
    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._steps: dict[Fingerprint, int] = {}
        self._layouts: dict[Layout, weakref.ref[torch.nn.Module]] = {}
        "With the newest model of each, for a copy that outlives it."
        self._noted = -1

    def is_new(self, step: int) -> bool:
        return step != self._noted

    def note(self, step: int, roots: Sequence[torch.nn.Module]) -> None:
        """`roots` have the weights of `step` now. Does not wait for a device: the numbers arrive later."""
        for root in roots:
            self._noted = step
            self._note(step, root)

    def _note(self, step: int, root: torch.nn.Module) -> None:
        chosen = _chosen(root)

        def deliver(numbers: list[float]) -> None:
            self._steps.pop(tuple(numbers), None)
            self._steps[tuple(numbers)] = step
            if len(self._steps) > MOST_STEPS:
                del self._steps[next(iter(self._steps))]

        if chosen:
            self._know_layout(_layout(chosen), root)
            self._transfer.submit([_few(parameter) for _, parameter in chosen], deliver, rare=True)

    def _know_layout(self, layout: Layout, root: torch.nn.Module) -> None:
        self._layouts.pop(layout, None)
        self._layouts[layout] = weakref.ref(root)
        if len(self._layouts) > MOST_LAYOUTS:
            del self._layouts[next(iter(self._layouts))]

    def step_of(self, saved: object, root: torch.nn.Module | None) -> int | None:
        """The step of the pass whose weights are in what was saved; None for others, and for those on a device. `root` is the model
        that was trained last: what it trained before (and has frozen since) tells nothing of the step."""
        now = [_layout(_chosen(root))] if root is not None else []
        layouts = now + [layout for layout, of in reversed(self._layouts.items()) if root is None or of() is not root]
        for weights in weights_in(saved) if self._steps else ():
            for layout in layouts:
                tensors = [tensor for name in layout if _is_at_hand(tensor := weights.get(name))]
                step = self._steps.get(tuple(value for tensor in tensors for value in _few(tensor).tolist()))
                if step is not None:
                    return step
        return None


def _layout(chosen: list[tuple[str, torch.Tensor]]) -> Layout:
    return tuple(name for name, _ in chosen)


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
    """A sharded one (DTensor) is not: to read of it may be a collective."""
    if not isinstance(tensor, torch.Tensor) or type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return False
    return tensor.dim() > 0 and tensor.numel() > 1 and tensor.is_cpu and not tensor.is_sparse
