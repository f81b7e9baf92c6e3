"""What an exception that ended a run says, on one line. The sidecar needs it too: nothing large is imported here."""

from __future__ import annotations

import re
from collections.abc import Sequence

ORIGINAL = "Original Traceback"
"""What torch puts before the traceback of another process, a worker of a DataLoader mostly."""
_CAUGHT = re.compile(r"^Caught \w+ in (.+?)\.?$")
_NO_ROOM = re.compile(
    r"out of shared memory|insufficient shared memory|shared memory ?\(shm\).*No space left|file </torch_.*No space left"
)


def exception_line(kind: str, message: str, traceback: Sequence[str] = ()) -> str:
    """`ValueError: bad batch`; where another process raised it, what that one said, and which it was."""
    message = message.strip()
    lines = (message or "".join(traceback[-1:]).strip()).splitlines()
    caught = _CAUGHT.match(lines[0]) if ORIGINAL in message else None
    if caught is not None:
        return f"{lines[-1]} (in {caught[1]})"
    return ": ".join(part for part in (kind, lines[0] if lines else "") if part) or "an exception"


def found_no_shared_memory(message: str) -> bool:
    """Whether torch said that /dev/shm did not hold a batch of a worker."""
    return _NO_ROOM.search(message) is not None
