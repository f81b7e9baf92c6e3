"""CUDA graphs. While a loop captures one, nothing runs: what is asked of the GPU is recorded, and runs at every replay.

Ours is not to be recorded, so that all callbacks are silent meanwhile: see Guard.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def asks_for_captures() -> Callable[[], bool] | None:
    """What tells whether the current stream of the calling thread is being captured; it initialises no CUDA. None where torch is built
    without CUDA."""
    return torch.cuda.is_current_stream_capturing if torch.backends.cuda.is_built() else None
