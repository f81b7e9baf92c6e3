"""checkpoint-incomplete: whether what is saved at one step is enough to go on from, and to judge."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from .checkpoints import tells_progress
from .facts import Facts

FACT = "checkpoint-incomplete"


@dataclass
class _Folder:
    """What the files of one folder and step hold together: one checkpoint."""

    path: str
    where: Any
    weights: bool = False
    optimizer: bool = False
    progress: bool = False
    "A step, an epoch or a metric."
    unknown: bool = False
    "There is a file of which it is not known what it holds."

    def add(self, path: str, event: dict[str, Any]) -> None:
        if event["has_weights"]:
            self.weights, self.path, self.where = True, path, event["where"]
        self.optimizer |= bool(event["has_optimizer"])
        self.progress |= tells_progress(event["scalars"], event["keys"])
        self.unknown |= event["has_weights"] is None and event["has_optimizer"] is None

    @property
    def is_complete(self) -> bool:
        return self.weights and self.optimizer and self.progress

    @property
    def lacks_something(self) -> bool:
        return self.weights and not self.is_complete and not self.unknown


class WholeCheckpoints:
    """Told of the saves in their order. The fact is said as long as no checkpoint was complete."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._folders: dict[str, _Folder] = {}
        "Of the saves since the last step."
        self._complete = False
        self._incomplete = 0

    def add(self, path: str, event: dict[str, Any]) -> None:
        """`event` is what is said of the file; see checkpoints.contents_of()."""
        self._folders.setdefault(os.path.dirname(path), _Folder(path, event["where"])).add(path, event)

    def judge(self) -> None:
        """No more files come to those saved so far: the loop goes on, or has ended."""
        if not self._folders:
            return
        folders, self._folders = list(self._folders.values()), {}
        if any(folder.is_complete for folder in folders):
            self._complete = True
            self._facts.gone(FACT)
        if self._complete:
            return
        for folder in folders:
            if folder.lacks_something:
                self._incomplete += 1
                self._say(folder)

    def _say(self, folder: _Folder) -> None:
        self._facts.seen(
            FACT,
            where=folder.where,
            path=folder.path,
            has_optimizer=folder.optimizer,
            has_progress=folder.progress,
            checkpoints=self._incomplete,
        )
