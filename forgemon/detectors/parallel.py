"""How the ranks of a run work together, by the classes that wrap their models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from forgemon.journal import text

Parallel = Literal["replicated", "sharded", "unknown"]

REPLICATED = ("DistributedDataParallel",)
SHARDED = ("FSDP", "FullyShardedDataParallel", "DeepSpeed", "Megatron", "PipelineParallel", "Bagua", "Fairscale")


def parallel_kind(info: Mapping[str, Any]) -> Parallel:
    """replicated: every rank holds the whole model, and the same gradients after the reduction. Of sharded ones each has its part."""
    models = info.get("models")
    names = (
        [f"{text(m, 'class')} {text(m, 'name')}" for m in models if isinstance(m, Mapping)] if isinstance(models, list) else []
    )
    if any(mark in name for name in names for mark in SHARDED):
        return "sharded"
    return "replicated" if any(mark in name for name in names for mark in REPLICATED) else "unknown"
