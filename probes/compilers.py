"""torch.compile reads the code of what it compiles and of what that calls, mostly at the first call and again for other shapes. What it
finds there shall be the program's own."""

from __future__ import annotations

import inspect
import os
import sys
import types
from typing import Any

import torch

TORCH = os.path.dirname(torch.__file__) + os.sep

READ_BY_COMPILERS = (
    torch.nn.Module.train,
    torch.nn.Module.zero_grad,
    torch.nn.Module.load_state_dict,
    torch.nn.utils.clip_grad_norm_,
    torch.nn.utils.clip_grad_value_,
    getattr(torch.nn.utils.clip_grad, "_clip_grads_with_norm_", None),
)
"""Functions that we observe and whose code a compiler reads where what it compiles calls them; others it calls as they are."""


def frame_compiler() -> Any:
    """The function of dynamo that is given each frame to be compiled; None while dynamo is not loaded, or in a torch that has none."""
    return getattr(sys.modules.get("torch._dynamo.convert_frame"), "_compile", None)


def is_of_a_loop(values: tuple[Any, ...]) -> bool:
    """Whether `frame_compiler()`, given `values`, compiles a function of the program's that is no method of a model, so that it may
    call what a loop calls."""
    code, variables = values[0], values[2]
    if not isinstance(code, types.CodeType) or code.co_filename.startswith(TORCH):
        return False
    first = variables.get(code.co_varnames[0]) if code.co_varnames and isinstance(variables, dict) else None
    method = inspect.getattr_static(type(first), code.co_name, None)
    is_of_a_model = issubclass(type(first), torch.nn.Module) and getattr(method, "__code__", None) is code
    return not is_of_a_model and "_in_forward_" not in code.co_name  # as dynamo calls what goes on behind a break in the graph
