"""The modules of a model that behave differently in training and in evaluation mode, and the mode each is in."""

from __future__ import annotations

import weakref
from typing import NamedTuple

import torch

from .modules import children, named_modules, own_attributes

WRAPPERS = frozenset({"DistributedDataParallel", "DataParallel", "OptimizedModule", "FullyShardedDataParallel"})
"""Their own mode says nothing: `wrapper.module.eval()` leaves the wrapper's as it was."""
MOST_NAMES = 4

Counter = tuple["weakref.ref[torch.Tensor]", int]
"""A `num_batches_tracked` and how often it had been written."""


class Modes(NamedTuple):
    """What of a model was in training mode at one moment."""

    training: bool
    "The model itself."
    dropouts: int
    "Modules that draw random numbers, in training mode."
    batch_norms: int
    "Modules that follow their batches with running statistics, in training mode."
    total: int
    "Mode-dependent modules, in either mode."
    names: tuple[str, ...]
    "Of the first ones in training mode."

    @property
    def wrong_for_validation(self) -> bool:
        """Dropout switched on by itself under a model in evaluation mode is on purpose (Monte Carlo dropout)."""
        return self.batch_norms > 0 or (self.training and self.dropouts > 0)


class ModelModes:
    """The mode-dependent modules of one root module, looked up anew at the 1st, 2nd, 4th, 8th … question."""

    def __init__(self) -> None:
        self._asked = 0
        self._found: list[tuple[str, weakref.ref[torch.nn.Module], bool]] = []

    def now(self, root: torch.nn.Module) -> Modes:
        self._look(root)
        dropouts = batch_norms = total = 0
        names: list[str] = []
        for name, reference, is_batch_norm in self._found:
            module = reference()
            if module is None or not _depends(module, is_batch_norm):
                continue
            total += 1
            if module.training:
                batch_norms += is_batch_norm
                dropouts += not is_batch_norm
                if len(names) < MOST_NAMES:
                    names.append(name)
        return Modes(unwrapped(root).training, dropouts, batch_norms, total, tuple(names))

    def counter(self, root: torch.nn.Module) -> Counter | None:
        """The first `num_batches_tracked` and how often it was written: no read of a number, so no wait for a GPU."""
        if not self._asked:
            self._look(root)
        for _, reference, is_batch_norm in self._found:
            module = reference() if is_batch_norm else None
            if module is not None and module.training:
                counter = own_attributes(module)["_buffers"].get("num_batches_tracked")
                if type(counter) is torch.Tensor and not counter.is_inference():
                    return weakref.ref(counter), counter._version
        return None

    def _look(self, root: torch.nn.Module) -> None:
        self._asked += 1
        if self._asked & (self._asked - 1) == 0:
            self._found = _find(root)


def unwrapped(root: torch.nn.Module) -> torch.nn.Module:
    """The program's own model within the wrappers of torch.compile, DDP and FSDP."""
    while type(root).__name__ in WRAPPERS:
        inner = next((child for _, child in children(root)), None)
        if inner is None:
            break
        root = inner
    return root


def has_advanced(since: Counter | None, until: Counter | None) -> bool | None:
    """Whether it was written between the two moments, or until now; None where it cannot be known."""
    tensor = since[0]() if since is not None else None
    if since is None or tensor is None:
        return None
    written = tensor._version if until is None else until[1] if until[0]() is tensor else since[1]
    return written > since[1]


def _find(root: torch.nn.Module) -> list[tuple[str, weakref.ref[torch.nn.Module], bool]]:
    found: list[tuple[str, weakref.ref[torch.nn.Module], bool]] = []
    for name, module in named_modules(unwrapped(root)):
        if isinstance(module, (*_BATCH_NORMS, *_DROPOUTS)):
            reference: weakref.ref[torch.nn.Module] = weakref.ref(module)
            found.append((name or type(module).__name__, reference, isinstance(module, _BATCH_NORMS)))
    return found


_BATCH_NORMS = (torch.nn.modules.batchnorm._BatchNorm, torch.nn.modules.instancenorm._InstanceNorm)
_DROPOUTS = (
    torch.nn.modules.dropout._DropoutNd,
    torch.nn.RNNBase,
    torch.nn.MultiheadAttention,
    torch.nn.RReLU,
)


def _depends(module: torch.nn.Module, is_batch_norm: bool) -> bool:
    """Whether its mode makes a difference as it is set now."""
    own = own_attributes(module)
    if is_batch_norm:
        return bool(own.get("track_running_stats")) and own["_buffers"].get("running_mean") is not None
    if isinstance(module, torch.nn.RReLU):
        return True
    share = own.get("p", own.get("dropout", 0.0))
    if isinstance(module, torch.nn.RNNBase) and own.get("num_layers", 1) < 2:
        return False
    return isinstance(share, (int, float)) and share > 0
