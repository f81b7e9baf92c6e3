"""The machine that a measurement was taken on, in one line that names no host."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch


def machine(device: str) -> str:
    parts = [f"{_processor()}, {len(os.sched_getaffinity(0))} cores"]
    if torch.device(device).type == "cuda":
        parts.append(torch.cuda.get_device_name(device))
    else:
        parts.append("torch on 1 thread")
    return ", ".join([*parts, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def load() -> str:
    """Load average of the last 1, 5 and 15 minutes."""
    return " ".join(f"{average:.2f}" for average in os.getloadavg())


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.machine()
