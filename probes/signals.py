"""What could be seen of this loop so far, and what could not."""

from __future__ import annotations

from collections.abc import Callable

from .probe import Probes

NAMES = (
    "loss",
    "learning rate",
    "gradients",
    "gradient reuse",
    "gradient clipping",
    "training mode",
    "batch size",
    "data time",
    "forward time",
    "backward time",
    "optimizer time",
    "validation loss",
    "checkpoints",
    "epochs",
)
"""Besides those of the probes; each is `not visible` until it was seen once."""


class Signals:
    """`emit` queues an event."""

    def __init__(self, probes: Probes, emit: Callable[..., None]) -> None:
        self._probes = probes
        self._emit = emit
        self._seen: set[str] = set()
        self._said = 0

    def seen(self, *names: str) -> None:
        self._seen.update(names)

    def all(self) -> dict[str, str]:
        """Each by its name: `seen` or `not visible`."""
        names = [*NAMES, *(name for probe in self._probes.all for name in probe.signals)]
        return {**dict.fromkeys(names, "not visible"), **dict.fromkeys(self._seen, "seen")}

    def say(self) -> None:
        """If more has been seen since they were said last."""
        if len(self._seen) != self._said:
            self._said = len(self._seen)
            self._emit("signals", signals=self.all())
