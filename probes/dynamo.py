"""Keep torch.compile out of our own code: a compiled region calls us as we are, and does not compile what we do."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch

_eval_frame: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)

Compiler = Any
"""What dynamo has installed to look at each frame: None, False or a callback."""


def skip(codes: Iterable[types.CodeType]) -> None:
    """Have dynamo run these code objects unseen. Does not import dynamo."""
    skip_code = getattr(_eval_frame, "skip_code", None)
    if skip_code is not None:
        for code in codes:
            skip_code(code)


def switch() -> Callable[[Compiler], Compiler] | None:
    """The function that sets the compiler of this thread's frames and returns the one before; None where torch has none."""
    return getattr(_eval_frame, "set_eval_frame", None)


def has_compiled_frames() -> bool:
    """Whether dynamo has compiled anything in this process."""
    convert = sys.modules.get("torch._dynamo.convert_frame")
    return bool(getattr(convert, "FRAME_COUNTER", 0)) if convert is not None else False
