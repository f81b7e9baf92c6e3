"""run.json: who, where, which versions, models and optimizers."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from . import discover
from .modules import named_modules, parameters
from .record import FORMAT
from .where import absolute_path, working_directory


def rank() -> int:
    """Of this process among its run's; 0 when it runs alone."""
    return _integer("RANK", 0)


def world_size() -> int:
    return _integer("WORLD_SIZE", 1)


def _integer(name: str, default: int) -> int:
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default


def run_info(
    config: Mapping[str, Any], optimizers: Sequence[torch.optim.Optimizer], roots: Sequence[torch.nn.Module]
) -> dict[str, Any]:
    """The fields of RUN_FIELDS."""
    return {
        "format": FORMAT,
        "run": os.path.basename(os.path.normpath(config["run_dir"])),
        "mode": config.get("mode"),
        "created": time.time(),
        "host": socket.gethostname(),
        "user": _user(),
        "pid": config.get("host_pid", os.getpid()),
        "process_started": _process_started(),
        "argv": list(getattr(sys, "orig_argv", sys.argv)),
        "script": _script(),
        "cwd": working_directory(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "devices": _devices(roots),
        "world_size": world_size(),
        "git": config.get("git"),
        "models": [_model(root) for root in roots[:20]],
        "optimizers": [
            {
                "class": type(o).__name__,
                "learning_rate": discover.learning_rate(o),
                "hyperparameters": discover.hyperparameters(o),
            }
            for o in optimizers[:20]
        ],
        "forgemon": config.get("forgemon"),
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def _script() -> str | None:
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return absolute_path(file) if isinstance(file, str) else None


def _process_started() -> float:
    """Unix time, from the clock ticks since boot in /proc (field 22 of stat); NaN elsewhere than on Linux."""
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rsplit(b") ", 1)[1].split()[19])
        with open("/proc/stat", "rb") as file:
            boot = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return float("nan")


def _model(root: torch.nn.Module) -> dict[str, Any]:
    return {
        "name": type(root).__name__,
        "class": f"{type(root).__module__}.{type(root).__qualname__}",
        "parameters": sum(p.numel() for p in parameters(root)),
        "modules": sum(1 for _ in named_modules(root)),
    }


def _devices(roots: Sequence[torch.nn.Module]) -> list[str]:
    return sorted({str(p.device) for root in roots for p in parameters(root)})
