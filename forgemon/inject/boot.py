"""Makes the source that is injected: it starts the probes in the target, and cannot fail there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def boot_source(config: Mapping[str, Any], bootstrap: str) -> str:
    """Source that calls `boot` of in_target.py. `bootstrap`: path of the probes' bootstrap.py, as the target sees it.

    It runs in `__main__`, where it must bind no name, and where the user may have called anything anything.
    """
    facts = json.loads(json.dumps(config))  # nothing but what has a plain literal
    return cannot_fail(f"{_in_target()}\nboot({facts!r}, {bootstrap!r})\n")


def detach_source() -> str:
    """Source that asks a probe to leave where its control file cannot be made: the disk is full, or the run directory gone."""
    return cannot_fail("import sys\nsys.modules['_forgemon_probe'].session.request_detach()\n")


def cannot_fail(source: str) -> str:
    """`source` wrapped so that nothing it does reaches the loop it interrupts, and compiled here before it is there."""
    compile(source, "<forgemon>", "exec")
    wrapped = (
        "try:\n"
        f" __import__('builtins').exec({source!r}, {{'__name__': '_forgemon_boot'}})\n"
        "except:\n"  # a name here could be one the user has taken
        " pass\n"
    )
    compile(wrapped, "<forgemon>", "exec")
    if "\0" in wrapped:
        raise ValueError("a null byte would end the source early")
    return wrapped


def _in_target() -> str:
    return Path(__file__).with_name("in_target.py").read_text(encoding="utf-8")
