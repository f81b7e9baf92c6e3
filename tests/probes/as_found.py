"""Put before a script: what a process looks like before we come, and what is not as it was when we have left."""

import gc
import os
import signal
import sys
import threading
import types
from typing import Any

import torch
import torch.nn.modules.module as module_hooks
import torch.optim.optimizer as optimizer_hooks


def functions() -> dict[types.FunctionType, types.CodeType]:
    """Every Python function there is, and its code."""
    return {found: found.__code__ for found in gc.get_objects() if type(found) is types.FunctionType}


def settings() -> dict[str, Any]:
    """All that a program, or a probe, may hang something on."""
    tools = getattr(sys, "monitoring", None)
    return {
        "modules": {name for name in sys.modules if name.startswith("_forgemon")},
        "excepthooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace(), list(gc.callbacks), gc.get_threshold()),
        "monitoring": [tools.get_tool(number) for number in range(6)] if tools is not None else [],
        "threads": (len(os.listdir("/proc/self/task")), threading.active_count()),
        "files": sorted(_open_files()),
        "places": (os.getcwd(), list(sys.path), dict(os.environ), sys.getswitchinterval()),
        "torch": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.get_default_dtype(),
            torch._C._len_torch_dispatch_stack(),
            torch._C._autograd._top_saved_tensors_default_hooks(True),
        ),
        **{
            name: dict(hooks)
            for place in (optimizer_hooks, module_hooks)
            for name, hooks in vars(place).items()
            if name.startswith("_global_") and isinstance(hooks, dict)
        },
    }


def _open_files() -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:
            continue  # the one by which we looked
    return [path for path in found if not path.startswith("/proc/")]


def not_as_found(
    before: dict[str, Any], functions_before: dict[types.FunctionType, types.CodeType], *models: torch.nn.Module
) -> list[str]:
    """What is different, in words."""
    now = settings()
    found = [f"{name}: {before[name]!r} is now {now[name]!r}" for name in before if now[name] != before[name]]
    found += [f"code of {f.__qualname__}" for f, code in functions_before.items() if f.__code__ is not code]
    found += [f"method {f.__qualname__}" for f in functions() if str(f.__module__).startswith("_forgemon_probe")]
    for model in models:
        for module in model.modules():
            found += [name for name, hooks in vars(module).items() if name.endswith("_hooks") and hooks]
        found += ["tensor hook" for p in model.parameters() if p._backward_hooks or p._post_accumulate_grad_hooks]
    return found
