"""Where a program clears gradients by hand (`p.grad = None`, `p.grad.zero_()`), which no call shows."""

from __future__ import annotations

import dis
import types
from collections.abc import Sequence

from .program import only_line
from .where import Line

CLEARING = frozenset(("zero_", "fill_"))


def cleared_by_hand(frames: Sequence[types.FrameType]) -> Line | None:
    """`frames`: the program's own. The only line of their files that writes a gradient; None where there is none or are several."""
    return only_line(frames, _writes_a_gradient)


def _writes_a_gradient(instructions: Sequence[dis.Instruction]) -> bool:
    loaded = {i.argval for i in instructions if i.opname in ("LOAD_ATTR", "LOAD_METHOD")}
    stored = {i.argval for i in instructions if i.opname == "STORE_ATTR"}
    return "grad" in stored or ("grad" in loaded and not CLEARING.isdisjoint(loaded))
