"""straggler: one rank needs longer for its own part of the step than the others, which wait for it in the reduction.

What counts is waiting for data, the forward pass and the optimizer. A forward pass may itself wait for rank 0 (buffers are sent
round in it), so it counts only as far as the others wait in backward meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from forgemon.chunk import Chunk, Rows
from forgemon.detectors.blocks import finite_median
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.parallel import parallel_kind
from forgemon.symptom import UNKNOWN

ROWS = 25
RECENT = 8
"""Blocks of a rank that are compared."""
MOSTLY = 7
"""Of them that must show it."""
MOST_BLOCKS = 64
SHARE = 0.2
"""Of a step that the rank must need longer."""
LEAST_S = 0.001
TIMES = ("data_s", "forward_s", "backward_s", "optimizer_s", "step_s")


@dataclass(frozen=True)
class _Block:
    first_step: int
    last_step: int
    data_s: float
    forward_s: float
    backward_s: float
    optimizer_s: float
    step_s: float


class Straggler:
    """Statistical: watch. Of ranks whose models are wrapped for training together; on a GPU only what the host waits for is seen."""

    symptoms: ClassVar[tuple[str, ...]] = ("straggler",)

    def __init__(self) -> None:
        self._pending: dict[int, Rows] = {}
        self._blocks: dict[int, list[_Block]] = {}

    def feed(self, rank: int, chunk: Chunk) -> None:
        rows = chunk.steps
        rows = rows[np.isfinite(rows["step_s"]) & np.isfinite(rows["optimizer_s"]) & (rows["optimizer"] == 0)]
        pending = self._pending.get(rank)
        rows = rows if pending is None else np.concatenate([pending, rows])
        count = len(rows) // ROWS
        self._pending[rank] = rows[count * ROWS :].copy()
        self._blocks[rank] = [*self._blocks.get(rank, []), *_blocks(rows[: count * ROWS], count)][-MOST_BLOCKS:]

    def candidates(self, info: Mapping[str, Any]) -> list[Candidate]:
        if parallel_kind(info) == "unknown" or sum(bool(blocks) for blocks in self._blocks.values()) < 2:
            return []
        found = []
        for rank, blocks in self._blocks.items():
            newest = blocks[1:][-RECENT:]  # the first one holds the start
            late = [
                (block, excess)
                for block in newest
                if (excess := self._excess(rank, block)) > max(LEAST_S, SHARE * block.step_s)
            ]
            if len(newest) == RECENT and len(late) >= MOSTLY:
                found.append((float(np.median([excess for _, excess in late])), rank, late))
        if not found:
            return []
        excess, rank, late = max(found)
        return [self._candidate(rank, [block for block, _ in late], excess)]

    def _excess(self, rank: int, block: _Block) -> float:
        """Seconds of a step that the rank needs for itself beyond what the others need at about that step."""
        middle = (block.first_step + block.last_step) / 2
        others = [
            min(blocks, key=lambda b: abs((b.first_step + b.last_step) / 2 - middle))
            for other, blocks in self._blocks.items()
            if other != rank and blocks
        ]
        usual = {name: float(np.median([getattr(other, name) for other in others])) for name in TIMES}
        own = block.data_s - usual["data_s"] + block.optimizer_s - usual["optimizer_s"]
        with_forward = own + block.forward_s - usual["forward_s"]
        return max(own, min(with_forward, usual["backward_s"] - block.backward_s))

    def _candidate(self, rank: int, late: list[_Block], excess: float) -> Candidate:
        step_s = float(np.median([block.step_s for block in late]))
        data_s = float(np.median([block.data_s for block in late]))
        return Candidate(
            symptom="straggler",
            cause=UNKNOWN,
            level="watch",
            first_step=late[0].first_step,
            last_step=late[-1].last_step,
            summary=f"Rank {rank} needs {1000 * excess:.3g} ms longer than the others for its own part of a step of "
            f"{1000 * step_s:.3g} ms, in {len(late)} of its newest {RECENT} blocks of {ROWS} rows; the others wait for it. "
            f"It waits {1000 * data_s:.3g} ms for its loader.",
            refute="The same times on another host, or with the ranks' data exchanged.",
            evidence={"rank": rank, "longer_s": excess, "step_s": step_s, "data_s": data_s},
        )


def _blocks(rows: Rows, count: int) -> list[_Block]:
    if not count:
        return []
    steps = rows["step"].reshape(count, ROWS)
    times = [np.nan_to_num(finite_median(rows[name].astype(np.float64).reshape(count, ROWS))) for name in TIMES]
    columns = [steps[:, 0], steps[:, -1], *times]
    return [_Block(*values) for values in zip(*(c.tolist() for c in columns), strict=True)]
