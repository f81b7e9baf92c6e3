"""Clipping at the wrong place: before backward() made the gradients, after step() used them, or while they carry the loss scale."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch

from .known import Known
from .losses import plain_tensor
from .owners import Owners, gradient_marks, listed_parameters
from .probe import QUIET, Probe
from .where import Line

if TYPE_CHECKING:
    from .instruments import Instruments
    from .session import Session

IN_A_ROW = 2
NOTE = "forgemon scaler"
BEFORE, AFTER, SCALED = "clip-before-backward", "clip-after-step", "clip-scaled-gradients"


class Clip:
    """A call of clip_grad_norm_ or clip_grad_value_."""

    __slots__ = ("limit", "norm", "of", "where")

    def __init__(self, norm: torch.Tensor | None, limit: Any, where: Line | None, of: frozenset[int]) -> None:
        self.norm = norm
        self.limit = float(limit) if type(limit) in (int, float) else None
        self.where = where
        self.of = of
        "ids of the clipped parameters; empty where they are not known."


class Since:
    """What happened since an optimizer's last step."""

    def __init__(self) -> None:
        self.times = {BEFORE: 0, AFTER: 0, SCALED: 0}
        "Windows in a row in which it was so."
        self.renew(whole=False)

    def renew(self, whole: bool) -> None:
        """The optimizer has stepped (`whole`: what follows is seen from its beginning), or calls may have been missed."""
        self.whole = whole
        self.backwards = 0
        self.next_began = False
        "A batch, a forward or a zero_grad() came since the step."
        self.misplaced: dict[str, Clip] = {}
        self.clipped = False
        self.unscaled = False
        self.scaler: weakref.ref[torch.amp.GradScaler] | None = None
        self.all_scaled = True
        self.marks: list[tuple[int, int]] = []


class Clipping(Probe):
    """Judges whole windows, from one step of an optimizer to its next, two in a row. Rests in a loop that clips nothing."""

    told_at_rest = ("clipped",)

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._since = Owners(Since)
        self._seen_at_its_start = False
        self._steps_without = 0
        "In a row, of any optimizer."
        self._scale: torch.Tensor | None = None
        "The loss scale that the newest clip found on the gradients; until that clip has returned."

    def install(self, instruments: Instruments) -> None:
        # It is given the parameters as a list; clip_grad_norm_ itself mostly gets a generator, which only its owner may read.
        function = getattr(torch.nn.utils.clip_grad, "_clip_grads_with_norm_", None)
        if function is not None:
            instruments.watch(function, self._clip_begins)

    def awoke(self) -> None:
        for since in self._since.all():
            since.renew(whole=False)

    # From one step to the next

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        self._next_begins()

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        self._next_begins()

    def zeroed(self, optimizer: torch.optim.Optimizer | None, module: torch.nn.Module | None) -> None:
        self._next_begins()

    def _next_begins(self) -> None:
        for since in self._since.all():
            since.next_began = True

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        if scaled is not output and plain_tensor(scaled) and scaled.grad_fn is not None:
            scaled.grad_fn.metadata[NOTE] = weakref.ref(scaler)

    def backward_begins(self, root: Any) -> None:
        if isinstance(root, (tuple, list)):
            root = root[0] if len(root) == 1 else None
        node = root.grad_fn if root is not None and plain_tensor(root) else None
        scaler = node.metadata.get(NOTE) if node is not None else None
        for since in self._since.all():
            since.backwards += 1
            since.all_scaled = since.all_scaled and scaler is not None
            since.scaler = scaler

    def backward_ended(self, root: Any) -> None:
        for known, since in self._since.items():
            since.marks = gradient_marks(known) if since.all_scaled else []

    def unscaled(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        for known, since in self._since.items():
            if known.optimizer() is optimizer:
                since.unscaled = True

    # Clips

    def _clip_begins(self, values: tuple[Any, ...]) -> None:
        self._seen_at_its_start = True
        self._clip(values[0], values[1], values[2], 0)

    def clipped(self, parameters: Any, limit: Any, norm: Any) -> None:
        if not self._seen_at_its_start:
            self._clip(parameters, limit, norm, 1 if norm is not None else 2)
        self._seen_at_its_start = False
        if self._scale is not None and plain_tensor(norm):
            # Where the gradients carry the loss scale, so does their norm.
            self.session.loop.window.unscale_clipped(self._scale)
        self._scale = None

    def _clip(self, parameters: Any, limit: Any, norm: Any, writes: int) -> None:
        """`writes`: how often the clip has already written each gradient."""
        self._steps_without = 0
        if self.rests:
            self.resume()
        listed = listed_parameters(parameters)
        nothing = listed is not None and all(p.grad is None for p in listed)
        for known, since in self._since.of_parameters(parameters):
            clip_norm = norm if isinstance(norm, torch.Tensor) and norm.dim() == 0 else None
            if since.backwards and not nothing:
                since.clipped = True
                scale = _scale_of(since)
                if scale is not None and _unwritten(known, since, writes):
                    self._scale = scale
                    self._clip_scaled(scale, known, since, Clip(clip_norm, limit, self.session.user_line(), frozenset()))
                else:
                    since.times[SCALED] = 0
                    self.session.facts.absent(SCALED, known.index)
            elif since.whole:
                kind = BEFORE if since.next_began else AFTER
                of = frozenset(map(id, listed)) if listed is not None else frozenset()
                since.misplaced.setdefault(kind, Clip(clip_norm, limit, self.session.user_line(), of))

    def _clip_scaled(self, scale: torch.Tensor, known: Known, since: Since, clip: Clip) -> None:
        step, index = known.steps + 1, known.index

        def deliver(values: list[float]) -> None:
            if values[0] == 1.0:
                return
            since.times[SCALED] += 1
            if since.times[SCALED] >= IN_A_ROW:
                norm = values[1] if len(values) > 1 else None
                self.session.facts.seen(
                    SCALED, index, where=clip.where, at_step=step, norm=norm, limit=clip.limit, loss_scale=values[0]
                )

        self.session.transfer.submit([scale] if clip.norm is None else [scale, clip.norm], deliver)

    # Steps

    def step_begins(self, known: Known) -> None:
        since = self._since.of(known)
        stepped = {id(known.parameters[index]) for index in known.now.indices} if since.misplaced else set()
        for kind, clip in list(since.misplaced.items()):
            if clip.of and not clip.of & stepped:
                del since.misplaced[kind]  # of a part that gets no gradients at all

    def step_ended(self, known: Known) -> None:
        since = self._since.of(known)
        if since.whole and since.backwards:
            for kind in (BEFORE, AFTER):
                self._judge(known, since, kind)
        since.renew(whole=True)
        self._steps_without += 1
        if self._steps_without >= QUIET:
            self.rest()

    def _judge(self, known: Known, since: Since, kind: str) -> None:
        clip = None if since.clipped else since.misplaced.get(kind)
        if clip is None:
            since.times[kind] = 0
            self.session.facts.absent(kind, known.index)
            return
        since.times[kind] += 1
        if since.times[kind] < IN_A_ROW:
            return
        step, index = known.steps, known.index

        def deliver(values: list[float]) -> None:
            norm = values[0] if values else None
            self.session.facts.seen(kind, index, where=clip.where, at_step=step, norm=norm, limit=clip.limit)

        if clip.norm is None:
            deliver([])
        else:
            self.session.transfer.submit([clip.norm], deliver)


def _scale_of(since: Since) -> torch.Tensor | None:
    """The loss scale that the gradients still carry."""
    if not since.backwards or not since.all_scaled or since.unscaled:
        return None
    scaler = since.scaler() if since.scaler is not None else None
    scale = getattr(scaler, "_scale", None)
    return scale if isinstance(scale, torch.Tensor) else None


def _unwritten(known: Known, since: Since, writes: int) -> bool:
    """Whether the gradients are those that backward() left: somebody may have divided them by hand."""
    now = gradient_marks(known)
    return len(now) == len(since.marks) and all(
        identity == before and version - written in (0, writes)
        for (identity, version), (before, written) in zip(now, since.marks, strict=True)
    )
