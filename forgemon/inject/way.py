"""The ways into a process, and which one to take: decided before the process is touched, never as a second try."""

from __future__ import annotations

import os
from typing import Protocol

from forgemon.inject.elf import X86_64
from forgemon.inject.errors import AttachError
from forgemon.inject.python import PythonProcess


class Way(Protocol):
    """Makes a process run Python source between two bytecodes of its main thread."""

    name: str

    def inject(self, source: str) -> None:
        """Hand over `source` and return; it runs as soon as the main thread is back in Python. AttachError.

        `source` must not raise: it would end the loop it runs in.
        """


def choose_way(target: PythonProcess) -> Way:
    """The best way into `target` from this machine. AttachError where there is none."""
    if target.machine != X86_64 or os.uname().machine != "x86_64":
        raise AttachError(
            f"PID {target.pid} is no x86-64 program, and attaching to a running process works for those alone so far. "
            "Start it with: forgemon run -- COMMAND"
        )
    from forgemon.inject.native import NativeWay

    return NativeWay(target)
