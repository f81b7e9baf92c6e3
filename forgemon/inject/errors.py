"""Why a process could not be attached to: one line each, with what to do next."""

from __future__ import annotations

from forgemon.errors import UserError


class AttachError(UserError):
    """Nothing was changed in the target."""


class AlreadyWatched(AttachError):
    """Not always a failure: whoever wanted to look at the process can open the run it is recorded to."""

    def __init__(self, pid: int, run: str, rank: int) -> None:
        super().__init__(f"PID {pid} is already watched; its run is {run}. Open it with: forgemon attach {pid}")
        self.run = run
        self.rank = rank


class NotYetAttached(AttachError):
    """The target was told to attach and will, but has not in the time given. Exit code 3."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=3)


def gone(pid: int) -> AttachError:
    return AttachError(f"PID {pid} exited before it could be attached to. List the training processes with: forgemon attach")
