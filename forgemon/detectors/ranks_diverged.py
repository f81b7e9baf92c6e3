"""ranks-diverged: ranks that hold the same model have other gradients after the reduction, or other weights, at the same step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from forgemon.chunk import Chunk, Event
from forgemon.detectors.candidate import Candidate, figure
from forgemon.detectors.parallel import parallel_kind
from forgemon.findings import Level
from forgemon.journal import text
from forgemon.symptom import UNKNOWN

FIRST = 0
"""The rank that the others are compared with."""
APART = 1e-3
"""Relative difference: what a reduction hands out is the same to the bit, and other GPUs round a norm by 1e-6."""
IN_A_ROW = 4
"""Steps seen on both ranks, all of them apart."""
MOST_WAITING = 100_000
"""Rows of a rank that wait for the other one."""
OPTIMIZERS = 64
DIVIDED = frozenset({"ZeroRedundancyOptimizer", "DeepSpeedZeroOptimizer", "DistributedOptimizer"})
"""Each rank steps its own part of the parameters."""
Keys = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]
WHAT = {"gradients": "gradient norm", "weights": "norm of the weights"}


@dataclass(frozen=True)
class _Apart:
    first_step: int
    last_step: int
    steps: int
    mine: float
    theirs: float


class _Pair:
    """One number by step, of the first rank and of another: which steps both have, and on which they differ."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Keys, Values]] = [(np.zeros(0, np.int64), np.zeros(0))] * 2
        self.compared = 0
        self.newest_apart = False
        self.found: _Apart | None = None
        self._in_a_row: list[tuple[int, float, float]] = []

    def feed(self, side: int, keys: Keys, values: Values) -> None:
        known = np.isfinite(values)
        old_keys, old_values = self._waiting[side]
        keys, values = np.concatenate([old_keys, keys[known]]), np.concatenate([old_values, values[known]])
        self._waiting[side] = keys[-MOST_WAITING:], values[-MOST_WAITING:]
        (mine, my_values), (theirs, their_values) = self._waiting
        common, at, there = np.intersect1d(mine, theirs, return_indices=True)
        for key, one, other in zip(common.tolist(), my_values[at].tolist(), their_values[there].tolist(), strict=True):
            self._compare(key // OPTIMIZERS, one, other)
        # What both have passed comes no more.
        passed = min((int(keys[-1]) if len(keys) else -1) for keys, _ in self._waiting)
        self._waiting = [(keys[keys > passed], values[keys > passed]) for keys, values in self._waiting]

    def _compare(self, step: int, mine: float, theirs: float) -> None:
        self.compared += 1
        self.newest_apart = abs(mine - theirs) > APART * max(abs(mine), abs(theirs))
        if not self.newest_apart:
            self._in_a_row = []
            return
        self._in_a_row = [*self._in_a_row, (step, mine, theirs)][-IN_A_ROW:]
        if self.found is not None:
            self.found = _Apart(self.found.first_step, step, self.found.steps + 1, self.found.mine, self.found.theirs)
        elif len(self._in_a_row) == IN_A_ROW:
            first = self._in_a_row[0]
            self.found = _Apart(first[0], step, IN_A_ROW, first[1], first[2])


class RanksDiverged:
    """Exact, of ranks that are known to be replicas. Losses differ by right; of sharded models each rank has its own part."""

    symptoms: ClassVar[tuple[str, ...]] = ("ranks-diverged",)

    def __init__(self) -> None:
        self._pairs: dict[tuple[str, int], _Pair] = {}
        self._early: dict[str, list[tuple[Keys, Values]]] = {}
        "Of the first rank, before another one was seen."
        self._tables: dict[int, tuple[object, ...]] = {}
        "Names and shapes of each rank's first table of parameters: of an optimizer that is divided among ranks they differ."
        self._divided = False
        self._counted_from_attach = False
        self._optimizers: set[int] = set()

    def feed(self, rank: int, chunk: Chunk) -> None:
        for event in chunk.events:
            self._see(event)
        for gradients in chunk.gradients:
            self._tables.setdefault(rank, (gradients.table.names, gradients.table.shapes))
        rows = chunk.steps
        self._optimizers.update(np.unique(rows["optimizer"]).tolist() if len(self._optimizers) < 2 else ())
        keys: Keys = rows["step"] * OPTIMIZERS + rows["optimizer"].astype(np.int64) % OPTIMIZERS
        self._add(rank, "gradients", keys, rows["gradient_norm"].astype(np.float64))
        for updates in chunk.updates:
            norms = updates.rows["weight_norm"].astype(np.float64)
            total = np.sqrt(np.nansum(norms**2, axis=1)) if len(norms) else np.zeros(0)
            # Several tables or optimizers have rows of their own at one step: told apart by how many numbers a row has.
            own = updates.rows["step"] * OPTIMIZERS + np.isfinite(norms).sum(axis=1) % OPTIMIZERS
            order = np.argsort(own, kind="stable")
            self._add(rank, f"weights {updates.table.table}", own[order], total[order])

    def _see(self, event: Event) -> None:
        if event["kind"] == "optimizer":
            self._counted_from_attach = self._counted_from_attach or text(event, "counted_from") == "attach"
            self._divided = self._divided or text(event, "class") in DIVIDED

    def _add(self, rank: int, what: str, keys: Keys, values: Values) -> None:
        if not len(keys):
            return
        if rank != FIRST:
            if (what, rank) not in self._pairs:
                pair = self._pairs[what, rank] = _Pair()
                for early in self._early.get(what, []):
                    pair.feed(0, *early)
            self._pairs[what, rank].feed(1, keys, values)
            return
        self._early[what] = [*self._early.get(what, []), (keys, values)][-4:]
        for (name, _), pair in self._pairs.items():
            if name == what:
                pair.feed(0, keys, values)

    def candidates(self, info: Mapping[str, Any]) -> list[Candidate]:
        kind = parallel_kind(info)
        # Ranks that are attached to one after the other do not count from the same step.
        unaligned = text(info, "mode") == "attach" and (self._counted_from_attach or len(self._optimizers) > 1)
        apart = {key: pair for key, pair in self._pairs.items() if pair.found is not None}
        apart = {key: pair for key, pair in apart.items() if self._tables.get(key[1]) == self._tables.get(FIRST)}
        if kind == "sharded" or self._divided or unaligned or not apart:
            return []
        (what, rank), pair = min(apart.items(), key=lambda item: (item[1].found or _NEVER).first_step)
        return [_candidate(what.split()[0], rank, pair, sorted({r for _, r in apart}), kind == "replicated")]


_NEVER = _Apart(2**53, 0, 0, 0.0, 0.0)


def _candidate(what: str, rank: int, pair: _Pair, ranks: list[int], replicated: bool) -> Candidate:
    found, stands = pair.found or _NEVER, pair.newest_apart
    level: Level = "alarm" if replicated and stands else "watch" if replicated else "info"
    others = (
        f" Of the ranks compared with rank {FIRST}, these are apart: {', '.join(map(str, ranks[:8]))}."
        if len(ranks) > 1
        else ""
    )
    meant = (
        " They are replicas (DistributedDataParallel), so after the reduction both must be the same."
        if replicated
        else " No DistributedDataParallel was seen: if they are meant to train one model, nothing makes them agree."
    )
    until = "" if stands else f" It stood until step {found.last_step}."
    return Candidate(
        symptom="ranks-diverged",
        cause=UNKNOWN,
        level=level,
        first_step=found.first_step,
        last_step=found.last_step,
        summary=f"At step {found.first_step} the {WHAT[what]} was {figure(found.mine)} on rank {FIRST} and {figure(found.theirs)} on rank "
        f"{rank}, and apart on {found.steps} of {pair.compared} steps seen on both.{meant}{others}{until}",
        refute="Equal norms at the same step; ranks that are meant to differ (parts of a model, local steps between averages).",
        evidence={
            "what": what,
            "rank": rank,
            f"on_rank_{FIRST}": found.mine,
            f"on_rank_{rank}": found.theirs,
            "steps_apart": found.steps,
            "steps_compared": pair.compared,
        },
        stands=stands,
    )
