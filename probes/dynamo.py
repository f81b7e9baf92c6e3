"""Keep torch.compile out of our own code: a compiled region calls us as we are, and does not compile what we do."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import torch

_eval_frame: Any = getattr(getattr(torch._C, "_dynamo", None), "eval_frame", None)
_set_compiler: Any = getattr(_eval_frame, "set_eval_frame", None)
"""Sets what looks at each frame of this thread (None, False or dynamo's callback) and returns what did before."""
compiler: Any = getattr(_eval_frame, "get_eval_frame_callback", lambda: _set_compiler and _set_compiler(None))
"""What looks at them now, None where nothing does; in a torch that cannot tell, taken away to be told."""


def skip(codes: Iterable[types.CodeType]) -> None:
    """Have dynamo run these code objects unseen. Does not import dynamo."""
    # Some versions of torch have the one; in others (2.13) a code object has a strategy.
    skip_code = getattr(_eval_frame, "skip_code", None)
    set_strategy = getattr(_eval_frame, "set_code_exec_strategy", None)
    for code in codes:
        if skip_code is not None:
            skip_code(code)
        elif set_strategy is not None:
            actions = _eval_frame._FrameAction
            set_strategy(code, _eval_frame._FrameExecStrategy(actions.SKIP, actions.DEFAULT))


def uncompiled(before: Any, function: Callable[..., object], *values: Any) -> None:
    """Call `function` while no compiler looks at the frames of this thread; `before`: what `compiler()` returned just now. An interrupt
    may fall between any two of these calls."""
    try:
        _set_compiler(None)
        function(*values)
    finally:
        _set_compiler(before)


def has_compiled_frames() -> bool:
    """Whether dynamo has compiled anything in this process."""
    convert = sys.modules.get("torch._dynamo.convert_frame")
    return bool(getattr(convert, "FRAME_COUNTER", 0)) if convert is not None else False


skip([uncompiled.__code__])
