"""Which probes a session has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .probe import Probe

if TYPE_CHECKING:
    from .session import Session

KINDS: tuple[type[Probe], ...] = ()


def new_probes(session: Session) -> list[Probe]:
    """One of each kind, in the order in which they are told."""
    return [kind(session) for kind in KINDS]
