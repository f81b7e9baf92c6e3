"""What the user can mend: one line on stderr that says what to do next, and an exit code."""

from __future__ import annotations


class UserError(Exception):
    """Raised anywhere; the command line prints it as `forgemon: MESSAGE` and exits with `exit_code`. No traceback."""

    exit_code = 2

    def __init__(self, message: str, exit_code: int = 2) -> None:
        super().__init__(message)
        self.exit_code = exit_code
