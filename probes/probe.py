"""One thing that is observed, as a class of its own; and how the session tells all of them what the loop did."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .evaluations import Batch, EvaluationPass
    from .instruments import Instruments
    from .known import Known, Observation
    from .session import Session


class Probe:
    """Told what the loop does, in the order in which it does it, on the thread that does it.

    Only while the probes are awake (around observed steps, and while an evaluation runs); between two awake stretches nothing is
    seen, and the next one begins with `awoke`. A method may raise: the guard swallows and records it, and the other probes are
    told all the same. No method may wait for a device, draw random numbers or change anything of the loop's.
    """

    signals: tuple[str, ...] = ()
    "Names of what this probe can see: each is `not visible` until `session.signals.seen(name)`."
    told_at_rest: tuple[str, ...] = ()
    "Events that call it back: the only ones that it is told while it rests."

    def __init__(self, session: Session) -> None:
        self.session = session
        self.rests = False

    def rest(self) -> None:
        """Be told no more than `told_at_rest`: nothing can come of the rest, until one of those says otherwise."""
        self.rests = True
        self.session.probes.arrange(self)

    def resume(self) -> None:
        """Be told everything again; what came meanwhile was missed."""
        self.rests = False
        self.session.probes.arrange(self)
        self.awoke()

    def install(self, instruments: Instruments) -> None:
        """Have further functions observed: `instruments.watch(function, start, end)` or `instruments.always(…)`."""

    def late_modules(self, instruments: Instruments) -> None:
        """The program may have imported more (see sys.modules): have functions of those observed. After MODULES_EVERY observed
        steps at most."""

    def awoke(self) -> None:
        """Calls since the last one we were told of may have been missed."""

    def loader_began(self, iterator: Any) -> None:
        """A DataLoader's iterator is about to give its first batch."""

    def batch_fetched(self, iterator: Any, data: Any) -> None:
        """A DataLoader gave a batch."""

    def forward_began(self, root: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """A root module's forward, the outermost call."""

    def forward_ended(self, root: torch.nn.Module, output: Any) -> None: ...

    def criterion(self, name: str, reduction: str, values: tuple[Any, ...], output: Any) -> None:
        """A function of torch.nn.functional that is a loss returned `output`; `values` are its arguments in their order."""

    def backward_begins(self, root: Any) -> None:
        """backward() of a tensor or of several."""

    def backward_ended(self, root: Any) -> None: ...

    def zeroed(self, optimizer: torch.optim.Optimizer | None, module: torch.nn.Module | None) -> None:
        """zero_grad() of one of the two, just before it works."""

    def scaled(self, scaler: torch.amp.GradScaler, output: Any, scaled: Any) -> None:
        """GradScaler.scale() returned."""

    def unscaled(self, scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
        """GradScaler.unscale_() returned."""

    def clipped(self, parameters: Any, limit: Any, norm: Any) -> None:
        """clip_grad_norm_ (`norm` is the total before) or clip_grad_value_ (None) returned."""

    def step_begins(self, known: Known) -> None:
        """An optimizer's step(), gradients as it is about to use them; see known.parameters and session.loop.window."""

    def step_ended(self, known: Known) -> None: ...

    def columns(self) -> dict[str, float]:
        """Numbers of ours for the row of the step that has just ended, by the names of STEP_COLUMNS."""
        return {}

    def measured(self, now: Observation, step: int, values: list[float]) -> None:
        """The numbers of a step's row are on the host: the norms of `now`, those of its losses, the norm before clipping. On the
        CPU that is just after `step_ended`, from a GPU some steps later. `now` is empty for a row with the loss alone."""

    def another_model(self) -> None:
        """An optimizer was made that holds nothing of what was trained before. Told between awake stretches too."""

    def without_gradients(self, known: Known) -> None:
        """A step of `known` found no gradient or nothing but zeros. Told as `measured` is, just before it."""

    def mode_changed(self, root: torch.nn.Module, training: bool) -> None:
        """train() or eval() is about to change a root module's mode. Told between awake stretches too."""

    def evaluation_batch(self, batch: Batch) -> None:
        """A batch turned out to belong to a validation pass."""

    def evaluated(self, finished: EvaluationPass, metric: str, value: float) -> None:
        """A validation pass ended, and its mean loss is on the host."""

    def saved(self, function: str, path: str, saved: Any, event: dict[str, Any]) -> None:
        """A checkpoint was written; `event` is what will be said of it and may be added to. Told between awake stretches too."""

    def buffered(self, saved: Any) -> None:
        """torch.save() into memory, or into a file without a name. Told between awake stretches too."""

    def exiting(self) -> None:
        """The program ends or the probes leave: the last moment to say something."""


MODULES_EVERY = 16
"""Observed steps after which imports are looked for, though there are as many modules as before: one may have been half done."""
QUIET = 128
"""Observed steps in a row without anything to look into, after which a probe may rest."""

_NO_EVENTS = ("install", "columns", "rest", "resume")
EVENTS = tuple(
    name
    for name, value in vars(Probe).items()
    if isinstance(value, types.FunctionType) and name[0] != "_" and name not in _NO_EVENTS
)


class Probes:
    """All probes of a session."""

    def __init__(self, probes: list[Probe], swallow: Callable[..., None]) -> None:
        self.all = probes
        self._swallow = swallow
        self._with_columns = [probe for probe in probes if type(probe).columns is not Probe.columns]
        self._listeners = {
            event: [(probe, getattr(probe, event)) for probe in probes if _has(probe, event)] for event in EVENTS
        }
        self._heard: dict[str, tuple[Callable[..., None], ...]] = {}
        for event in EVENTS:
            self._arrange(event)

    def arrange(self, changed: Probe) -> None:
        """It rests or works again. Whatever is being told just now is told to those of before."""
        for event in EVENTS:
            if _has(changed, event):
                self._arrange(event)

    def _arrange(self, event: str) -> None:
        told = [hear for probe, hear in self._listeners[event] if not probe.rests or event in probe.told_at_rest]
        self._heard[event] = tuple(told)

    def columns(self) -> dict[str, float]:
        """All that the probes have for the row of the step that has just ended."""
        found: dict[str, float] = {}
        for probe in self._with_columns:
            try:
                found.update(probe.columns())
            except Exception as error:
                self._swallow(probe.columns, error)
        return found

    def tell(self, event: str, *values: Any) -> None:
        """Call `event` of every probe that has it."""
        for hear in self._heard[event]:
            try:  # and not protected(): some seventy of these make up a step
                hear(*values)
            except Exception as error:
                self._swallow(hear, error)


def _has(probe: Probe, event: str) -> bool:
    return getattr(type(probe), event) is not getattr(Probe, event)
