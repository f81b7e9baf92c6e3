"""Gradient accumulation without division: several backward passes to one step, each on the undivided mean of its own micro-batch.

A criterion's output carries a note in its graph node; a division or multiplication makes a new node without it. What was meant to be
summed is told apart by where it comes from: several losses are taken at different places, or from one forward or one batch.
"""

from __future__ import annotations

import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import torch

from .known import Known, Observation
from .losses import SCALING_NODES, plain_tensor, scale_of
from .observe import parameter_names
from .owners import Owners, gradient_marks
from .probe import QUIET, Probe
from .where import Line

if TYPE_CHECKING:
    from .session import Session

FACT = "accumulation-not-scaled"
IN_A_ROW = 3
NOTE = "forgemon mean"
MEANS = ("mean", "batchmean")
BY_ROWS = "sum / rows"
"""What divides by as many rows as there are passes may divide by the passes."""
DEEPEST = 60
ENOUGH_SINGLES = 16
"""Windows of a single backward pass in a row after which the passes are only counted, until there are several to a step again."""
SCALE_FREE = (
    "Adam AdamW NAdam RAdam Adamax SparseAdam Adagrad Adadelta RMSprop Rprop Adafactor Lion Adam8bit AdamW8bit PagedAdamW8bit "
    "FusedAdam DeepSpeedCPUAdam LAMB Sophia"
).split()
"""Optimizers whose step does not depend on the scale of the gradients."""


class Window:
    """The backward passes since an optimizer's last step or since its gradients were cleared."""

    def __init__(self) -> None:
        self.in_a_row = 0
        self.renew(whole=False)

    def renew(self, whole: bool) -> None:
        self.whole = whole
        self.clipped = False
        self.now: Observation | None = None
        "Of the step under way."
        self.clear()

    def clear(self) -> None:
        self.passes = 0
        self.is_plain = True
        "Each pass so far began at the undivided mean of a batch of its own, at the same place."
        self.place: tuple[int, str] | None = None
        self.where: Line | None = None
        self.marks: list[tuple[int, int]] = []


class Accumulation(Probe):
    """Rests in a loop that steps after each backward pass."""

    told_at_rest = ("step_begins",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._windows = Owners(Window)
        self._old_style: dict[str, tuple[int, ...]] = {}
        self._input: weakref.ref[torch.Tensor] | None = None
        self._rows: int | None = None
        "Of the newest batch; None where a division by them would be none."
        self._new_forward = False
        self._new_data = False
        self._singles = 0
        "Windows of a single backward pass, in a row."

    def awoke(self) -> None:
        for window in self._windows.all():
            window.renew(whole=False)

    # Whether a loss is a mean of its own

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        self._new_data = True

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._new_forward = True
        tensor = _first_tensor(inputs)
        if tensor is not None and (self._input is None or self._input() is not tensor):
            self._new_data = True
            self._input = weakref.ref(tensor)
            self._rows = tensor.shape[0] if tensor.dim() and tensor.shape[0] > 1 else None

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        if reduction in MEANS and plain_tensor(output) and output.grad_fn is not None and output.dim() == 0:
            old_style = self._old_style.get(name)
            if old_style is None:
                names = parameter_names(getattr(torch.nn.functional, name))
                old_style = self._old_style[name] = tuple(names.index(n) for n in ("size_average", "reduce") if n in names)
            if all(values[position] is None for position in old_style):
                output.grad_fn.metadata[NOTE] = name

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        if scaled is not output and plain_tensor(output) and plain_tensor(scaled) and output.grad_fn and scaled.grad_fn:
            name = output.grad_fn.metadata.get(NOTE) or _mean_by_hand(output.grad_fn, self._rows)
            if name is not None:
                scaled.grad_fn.metadata[NOTE] = name

    # Windows

    def backward_begins(self, root: Any) -> None:
        if isinstance(root, (tuple, list)):
            root = root[0] if len(root) == 1 else None
        node = root.grad_fn if root is not None and plain_tensor(root) else None
        name = None
        if node is not None and self._new_forward and self._new_data:
            name = node.metadata.get(NOTE) or _mean_by_hand(node, self._rows)
        self._new_forward = self._new_data = False
        if self._singles >= ENOUGH_SINGLES:
            name = None
        place = (_call_path(), name) if name is not None else None
        for window in self._windows.all():
            window.passes += 1
            if window.passes == 1:
                window.place = place
            elif window.passes == 2:
                window.where = self.session.user_line()
            window.is_plain = window.is_plain and place is not None and place == window.place

    def backward_ended(self, root: Any) -> None:
        for known, window in self._windows.items():
            window.marks = gradient_marks(known) if window.is_plain else []

    def zeroed(self, optimizer: torch.optim.Optimizer | None, module: torch.nn.Module | None) -> None:
        for known, window in self._windows.items():
            if optimizer is None or known.optimizer() is optimizer:
                window.clear()

    def clipped(self, parameters: Any, limit: Any, norm: Any) -> None:
        for known, window in self._windows.items():
            if window.is_plain and window.passes:
                window.clipped = True
                self._expect_writes(known, window, 2 if norm is None else 1)

    def unscaled(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        for known, window in self._windows.items():
            if known.optimizer() is optimizer and window.is_plain:
                window.marks = gradient_marks(known)

    def _expect_writes(self, known: Known, window: Window, most: int) -> None:
        """Whoever writes the gradients by hand may divide them there."""
        now = gradient_marks(known)
        pairs = zip(now, window.marks, strict=False)
        window.is_plain = len(now) == len(window.marks) and all(
            identity == before and version - written <= most for (identity, version), (before, written) in pairs
        )
        window.marks = now

    # Steps

    def step_begins(self, known: Known) -> None:
        if self.rests:
            seen = known.now.window
            if seen is None or seen.backwards == 1:
                return
            self.resume()
        window = self._windows.of(known)
        window.now = known.now
        if window.is_plain and window.passes > 1:
            self._expect_writes(known, window, 0)

    def step_ended(self, known: Known) -> None:
        window = self._windows.of(known)
        self._singles = self._singles + 1 if window.passes == 1 else 0
        if window.whole and window.passes and window.now is not None and not window.now.closure:
            self._judge(known, window)
        window.renew(whole=True)
        if self._singles >= QUIET:
            self.rest()

    def _judge(self, known: Known, window: Window) -> None:
        by_passes = window.place is not None and window.place[1] == BY_ROWS and window.passes == self._rows
        if window.passes < 2 or not window.is_plain or window.place is None or by_passes:
            window.in_a_row = 0
            self.session.facts.absent(FACT, known.index)
            return
        window.in_a_row += 1
        if window.in_a_row < IN_A_ROW:
            return
        optimizer = type(known.optimizer()).__name__
        self.session.facts.seen(
            FACT,
            known.index,
            where=window.where,
            micro_batches=window.passes,
            criterion=window.place[1],
            optimizer=optimizer,
            clipped=window.clipped,
            scale_free=optimizer in SCALE_FREE,
        )


def _mean_by_hand(node: Any, rows: int | None) -> str | None:
    """`mean()` where the loop takes the mean of all elements itself, and neither it nor the elements are scaled by a constant; or
    a sum divided by the number of `rows` of the batch, once."""
    if rows is not None and _divisor(node) == rows:
        divided = node.next_functions[0][0]
        is_mean = divided is None or NOTE in divided.metadata or _mean_by_hand(divided, None) is not None
        return None if is_mean or _divisor(divided) is not None else BY_ROWS
    if type(node).__name__ == "NegBackward0":
        node = node.next_functions[0][0]
    if type(node).__name__ != "MeanBackward0":
        return None
    elements = node.next_functions[0][0]
    if type(elements).__name__ in SCALING_NODES:
        inputs = [before for before, _ in elements.next_functions if before is not None]
        return "mean()" if len(inputs) > 1 else None
    return "mean()"


def _divisor(node: Any) -> float | None:
    """The number by which this node divides; None where it is no division, or by what would have to be waited for."""
    scale = scale_of(node) if type(node).__name__ == "DivBackward0" else None
    return round(1 / scale, 6) if scale else None


def _call_path() -> int:
    """A number for the calls on the stack: the same for two passes of one loop, another where the calls differ anywhere."""
    frame: types.FrameType | None = sys._getframe(1)
    path: list[tuple[int, int]] = []
    while frame is not None and len(path) < DEEPEST:
        path.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return hash(tuple(path))


def _first_tensor(inputs: tuple[Any, ...]) -> torch.Tensor | None:
    for value in inputs:
        for one in value.values() if type(value) is dict else value if type(value) in (list, tuple) else (value,):
            if type(one) is torch.Tensor:
                return one
    return None
