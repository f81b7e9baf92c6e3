"""Modes of the program's or of torch's that see what torch's functions are asked to do (a default device, a counter of operations, a
compiler's fake tensors), and classes of tensors that do. They are to see nothing of ours, which is to do what it does without them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .dynamo import compiler, skip, uncompiled

_C: Any = torch._C
_dispatch_modes, _function_modes = _C._len_torch_dispatch_stack, _C._len_torch_function_stack
_with_grads = torch.is_grad_enabled
_WithoutClasses = _C.DisableTorchFunctionSubclass


def apart(function: Callable[..., object], values: tuple[object, ...]) -> None:
    """Call `function`: no compiler looks at its frames, and neither a mode, where one is active on this thread, nor a class of tensors
    of the program's sees what torch's functions are asked to do. Each context is entered and left in one call of C, into which no
    interrupt falls."""
    grads, compiles = _with_grads(), compiler()
    try:
        if compiles is not None:
            uncompiled(compiles, _unseen, function, values)
        elif _dispatch_modes() or _function_modes():
            _unseen(function, values)
        else:
            with _WithoutClasses():
                function(*values)
    finally:
        if _with_grads() != grads:
            _set_grads(grads)


def _unseen(function: Callable[..., object], values: tuple[object, ...]) -> None:
    if _dispatch_modes() or _function_modes():
        with _C.DisableTorchFunction(), _C._DisableTorchDispatch():
            function(*values)
    else:
        with _WithoutClasses():
            function(*values)


def _set_grads(enabled: bool) -> None:
    """As it was: no_grad() is left by a call of Python, and an interrupt of the program's that falls into one of ours would leave it on
    for good."""
    with _C.DisableTorchFunction():
        _C._set_grad_enabled(enabled)


skip((apart.__code__, _set_grads.__code__))


@contextlib.contextmanager
def out_of_modes() -> Iterator[None]:
    """In here torch's functions do what they do without any mode."""
    grads = _with_grads()
    with contextlib.ExitStack() as stack:
        stack.callback(_set_grads, grads)
        stack.enter_context(_C.DisableTorchFunction())
        stack.enter_context(_C._DisableTorchDispatch())
        if _C._meta_in_tls_dispatch_include():  # inside a kernel of fake tensors, where all of torch works on shapes alone
            usual = _C.DispatchKeySet(_C.DispatchKey.BackendSelect) | _C.DispatchKeySet(_C.DispatchKey.ADInplaceOrView)
            stack.enter_context(_C._ForceDispatchKeyGuard(usual, _C._dispatch_tls_local_exclude_set()))
        yield
