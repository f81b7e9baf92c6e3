"""The run directory of this process: claimed when an optimizer steps, and told of in run.json."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from .record import rank_directory, write_json_once
from .writer import Writer


class RunFolder:
    """`info(path)` is what run.json says of the run that is kept there. Only rank 0 writes that file."""

    def __init__(self, path: str, rank: int, writer: Writer, info: Callable[[str], Mapping[str, Any]]) -> None:
        self.path = path
        self._rank = rank
        self._writer = writer
        self._info = info
        self._told = False

    @property
    def is_anothers(self) -> bool:
        """Whether a process that is not this one records this rank: that of a launcher whose child trains."""
        return not self._writer.started and os.path.exists(self._writer.directory)

    def claim(self) -> None:
        """Take the rank's folder for this process alone; a second one of the same rank gets a run directory of its own."""
        if self._writer.started:
            return
        os.makedirs(self.path, exist_ok=True)
        try:
            os.mkdir(self._writer.directory)
        except FileExistsError:
            self.path = f"{self.path}-{os.getpid()}"
            self._writer.directory = rank_directory(self.path, self._rank)
        self._writer.start()

    def write_info(self) -> None:
        """run.json, once, as soon as there is an optimizer to tell of."""
        if self._rank or self._told:
            return
        self._told = True
        info = self._info(self.path)
        self._writer.file(os.path.join("..", "run.json"), lambda path: write_json_once(os.path.normpath(path), info))
