"""CUDA graphs. While a loop captures one, nothing runs: what is asked of the GPU is recorded, and runs at every replay.

Ours is not to be recorded, so that all callbacks are silent meanwhile: see Guard.
"""

from __future__ import annotations

import torch

CAN_CAPTURE: bool = torch.backends.cuda.is_built()


def is_capturing() -> bool:
    """Whether the calling thread's current stream is being captured. Initialises no CUDA."""
    return CAN_CAPTURE and torch.cuda.is_current_stream_capturing()
