"""Probes that live inside a PyTorch process and record its training loop in a run directory. Stdlib and torch only."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["watch"]


def __getattr__(name: str) -> object:
    # Late, so that `import probes` loads no torch and the viewer may take probes.record alone.
    if name == "watch":
        from .api import watch

        return watch
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
