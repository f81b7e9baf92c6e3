"""Reads the other ranks of a run beside rank 0, in step with it, and compares them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forgemon.chunk import Chunk
from forgemon.detectors.candidate import Candidate
from forgemon.detectors.ranks_diverged import RanksDiverged
from forgemon.detectors.straggler import Straggler
from forgemon.journal import whole
from forgemon.reader import RunReader, read_all

MOST_RANKS = 64
"""Compared; what holds for so many holds for the rest."""


class Ranks:
    """Each rank is read once more for two rows of the symptom table; of a run of one rank no file is read twice."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._readers: dict[int, RunReader] = {}
        self._diverged = RanksDiverged()
        self._straggler = Straggler()

    def feed(self, chunk: Chunk, first: RunReader) -> None:
        """The next chunk of rank 0, whose reader this is; the others are read as far."""
        if whole(first.info, "world_size") == 1:
            return
        self._take(first.rank, chunk)
        self._find(first)
        for rank, reader in self._readers.items():
            self._take(rank, reader.read())

    def read(self, first: RunReader) -> None:
        """All that stands there of the other ranks."""
        self._find(first)
        for rank, reader in self._readers.items():
            read_all(reader, lambda chunk, rank=rank: self._take(rank, chunk))  # type: ignore[misc]

    def read_more(self, first: RunReader) -> bool:
        """Of each other rank the next chunk, for who must not wait for all; whether there was any."""
        self._find(first)
        chunks = [(rank, reader.read()) for rank, reader in self._readers.items()]
        for rank, chunk in chunks:
            self._take(rank, chunk)
        return any(not chunk.empty for _, chunk in chunks)

    def candidates(self, info: Mapping[str, Any]) -> list[Candidate]:
        if not self._readers:
            return []
        return [*self._diverged.candidates(info), *self._straggler.candidates(info)]

    def _find(self, first: RunReader) -> None:
        for rank in first.ranks[:MOST_RANKS]:
            if rank != first.rank and rank not in self._readers:
                self._readers[rank] = RunReader(self._run, rank)

    def _take(self, rank: int, chunk: Chunk) -> None:
        self._diverged.feed(rank, chunk)
        self._straggler.feed(rank, chunk)
