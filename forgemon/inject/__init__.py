"""Gets the probes into a process that is already running, and out again."""

from __future__ import annotations

from forgemon.inject.attachment import PendingAttachment, attach_process, begin_attach
from forgemon.inject.detachment import detach_process
from forgemon.inject.errors import AlreadyWatched, AttachError, NotYetAttached

__all__ = [
    "AlreadyWatched",
    "AttachError",
    "NotYetAttached",
    "PendingAttachment",
    "attach_process",
    "begin_attach",
    "detach_process",
]
