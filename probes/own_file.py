"""A file of ours that is still ours: a program may close all descriptors that it does not know, and open files of its own under the same
numbers."""

from __future__ import annotations

import os

CLOSED = -1


class OwnFile:
    """An open file. Methods raise OSError as the disk does."""

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._flags = flags
        self._fd = CLOSED
        self._identity = (0, 0)

    def open(self, more_flags: int = 0) -> None:
        self._fd = os.open(self._path, self._flags | more_flags, 0o644)
        found = os.fstat(self._fd)
        self._identity = (found.st_dev, found.st_ino)

    def descriptor(self) -> int:
        """To be used at once; opened anew where it is no longer ours."""
        if self._fd != CLOSED and not self._is_ours():
            self._fd = CLOSED  # and not closed: it is the program's
        if self._fd == CLOSED:
            self.open()
        return self._fd

    def _is_ours(self) -> bool:
        try:
            found = os.fstat(self._fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def close(self) -> None:
        ours = self._fd != CLOSED and self._is_ours()
        fd, self._fd = self._fd, CLOSED
        if ours:
            os.close(fd)
