"""Probabilities given to cross_entropy, which applies softmax itself: the loss cannot fall below ln(1 + (C - 1) / e)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from .losses import plain_tensor
from .modules import named_modules
from .probe import Probe
from .where import Line

if TYPE_CHECKING:
    from .session import Session

FACT = "softmax-before-cross-entropy"
IN_A_ROW, IN_A_ROW_EVALUATED = 3, 5
"""Calls that are looked at first, one after the other; then at doubling distances. More where nothing is trained: the training loop's
line is the one to be named."""
ALL_CALLS, CALLS_A_LOOK = 64, 7
"""The first calls are all counted, later one in so many of those with a graph; odd, for loops with several criteria."""
ROWS = 64
PIXELS = 8
"""Rows of a batch and positions along each further dimension that are looked at."""
TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-3, torch.bfloat16: 2e-2}
"""How far the sum of a row of probabilities may be from 1, by how its entries are rounded."""
PROBABILITIES_OF = ("SoftmaxBackward0", "SigmoidBackward0", "DivBackward0", "ExpBackward0")
"""Graph nodes that may have made them, worth naming."""


MOST_SITES = 64


class Site:
    """A line that calls cross_entropy."""

    def __init__(self) -> None:
        self.calls = 0
        self.next = 1
        self.in_a_row = 0


class SoftmaxInput(Probe):
    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._sites: dict[Line | None, Site] = {}
        self._calls = 0

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if name != "cross_entropy":
            return
        self._calls += 1
        if self._calls > ALL_CALLS and self._calls % CALLS_A_LOOK and torch.is_grad_enabled():
            return  # by now it is known what every line of the training loop gives; to find the line takes long
        if not plain_tensor(values[0]):
            return
        where = self.session.user_line()
        site = self._sites.get(where)
        if site is None:
            if len(self._sites) >= MOST_SITES:
                return
            site = self._sites[where] = Site()
        site.calls += 1
        if site.calls >= site.next:
            self._look(values[0], site, where)

    def _look(self, logits: torch.Tensor, site: Site, where: Line | None) -> None:
        classes = logits.shape[min(1, logits.dim() - 1)] if logits.dim() else 1
        if classes < 2 or logits.dtype not in TOLERANCES or not logits.numel():
            return
        needed = IN_A_ROW if torch.is_grad_enabled() else IN_A_ROW_EVALUATED
        site.next = site.calls + 1 if site.calls < needed else 2 * site.calls
        node = type(logits.grad_fn).__name__ if logits.grad_fn is not None else None
        step, index = self.session.step_now() + 1, list(self._sites).index(where)

        def deliver(found: list[float]) -> None:
            if not found[0]:
                site.in_a_row = 0
                self.session.facts.absent(FACT, index)
                return
            site.in_a_row += 1
            if site.in_a_row >= needed:
                self._say(index, int(classes), node, where, step)

        self.session.transfer.submit([_are_probabilities(logits.detach())], deliver)

    def _say(self, index: int, classes: int, node: str | None, where: Line | None, step: int) -> None:
        self.session.facts.seen(
            FACT,
            index,
            where=where,
            at_step=step,
            classes=classes,
            loss_floor=math.log(1 + (classes - 1) / math.e),
            made_by=node if node in PROBABILITIES_OF else None,
            modules=self._softmax_modules(),
        )

    def _softmax_modules(self) -> list[str]:
        """Names of the model's softmax modules."""
        root = self.session.steps.main_root()
        if root is None:
            return []
        kinds = (torch.nn.Softmax, torch.nn.Softmax2d)
        return [name for name, module in named_modules(root) if type(module) in kinds][:4]


@torch.no_grad()
def _are_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """A 0-dim flag, on the device of `logits`: all in [0, 1], every row sums to 1, and they are not just zeros and ones."""
    dimension, tolerance = min(1, logits.dim() - 1), TOLERANCES[logits.dtype]
    if dimension:
        logits = logits[:ROWS]
    for further in range(2, logits.dim()):
        logits = logits.narrow(further, 0, min(PIXELS, logits.shape[further]))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    inside = ((logits >= 0) & (logits <= 1)).all()
    sums = ((logits.sum(dimension) - 1).abs() < tolerance).all()
    return (inside & sums & ((logits > 0) & (logits < 1)).any()).to(torch.float32)
