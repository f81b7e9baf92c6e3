"""CUDA graphs. While a loop captures one, nothing runs: what is asked of the GPU is recorded, and runs at every replay.

Ours is not to be recorded, so that all callbacks are silent meanwhile: see Guard.
"""

from __future__ import annotations

import torch

from .dynamo import skip

CAN_CAPTURE: bool = torch.backends.cuda.is_built()


def is_capturing() -> bool:
    """Whether the calling thread's current stream is being captured. Initialises no CUDA, and asks nothing of it where the program has
    not: a torch that is built for it may be on a machine without a driver, where every question is an error."""
    if not torch.cuda.is_initialized():
        return False
    try:
        return torch.cuda.is_current_stream_capturing()
    except RuntimeError:  # the program's CUDA has failed for good: nothing more is to be asked of it
        return True


skip([is_capturing.__code__])
